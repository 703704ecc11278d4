/*
 * An SMB Direct connection that only notes what it is asked to do, and a fabric that only registers memory: what a
 * channel under test talks to.
 */
#ifndef CHANNEL_PEER_H
#define CHANNEL_PEER_H

#include <stdlib.h>
#include <string.h>

#include "channel.h"

enum {
	PEER_KEPT = 64,		    /* requests of which the details are kept */
	PEER_MESSAGE_MAX = 2 << 20, /* bytes of one message that this peer reassembles */
};

static struct {
	const struct smbd_events *events;
	void *owner;
	struct fabric_qp *qp;
	struct smbd_message *sent, **sent_end;
	uint32_t sent_count, consumed;
	struct smbd_transfer transfers[PEER_KEPT];
	struct buffer_descriptor descriptors[PEER_KEPT][4];
	uint32_t transfer_count, completed;
	char order[PEER_KEPT + 1]; /* what came: m, w, r, e, v */
	uint32_t exposed_access, revoked_token;
	uint64_t last_operation;
	int refusal; /* of transfers, EXPOSE and REVOKE */
	bool full;   /* smbd_writable says no */
	enum close_reason reason;
	bool graceful;
} peer;

static void note(char what)
{
	size_t length = strlen(peer.order);

	if (length < PEER_KEPT)
		peer.order[length] = what;
}

struct smbd_message *smbd_message_create(uint32_t length)
{
	struct smbd_message *message = malloc(sizeof(*message) + length);

	*message = (struct smbd_message){.length = length};
	return message;
}

void smbd_message_destroy(struct smbd_message *message)
{
	free(message);
}

int smbd_create(struct fabric_qp *qp, enum smbd_role role, const struct smbd_config *config,
		const struct smbd_events *events, void *owner, nanoseconds now,
		struct smbd_connection **ret)
{
	(void)role;
	(void)config;
	(void)now;
	memset(&peer, 0, sizeof(peer));
	peer.events = events;
	peer.owner = owner;
	peer.qp = qp;
	peer.sent_end = &peer.sent;
	*ret = (struct smbd_connection *)&peer;
	return 0;
}

void smbd_destroy(struct smbd_connection *connection)
{
	(void)connection;
	while (peer.sent) {
		struct smbd_message *message = peer.sent;

		peer.sent = message->next;
		free(message);
	}
	peer.sent_end = &peer.sent;
}

int smbd_send(struct smbd_connection *connection, struct smbd_message *message, nanoseconds now)
{
	(void)connection;
	(void)now;
	note('m');
	message->next = NULL;
	*peer.sent_end = message;
	peer.sent_end = &message->next;
	peer.sent_count++;
	return 0;
}

bool smbd_writable(const struct smbd_connection *connection)
{
	(void)connection;
	return !peer.full;
}

int smbd_rdma(struct smbd_connection *connection, const struct smbd_transfer *transfer,
	      nanoseconds now)
{
	(void)connection;
	(void)now;
	if (peer.refusal)
		return peer.refusal;
	note(transfer->direction == SMBD_RDMA_WRITE ? 'w' : 'r');
	if (peer.transfer_count < PEER_KEPT) {
		uint32_t count = transfer->descriptor_count < 4 ? transfer->descriptor_count : 4;

		memcpy(peer.descriptors[peer.transfer_count], transfer->descriptors,
		       count * sizeof(struct buffer_descriptor));
		peer.transfers[peer.transfer_count] = *transfer;
	}
	peer.transfer_count++;
	return 0;
}

int smbd_expose(struct smbd_connection *connection, uint64_t operation,
		struct fabric_region *region, uint8_t *address, uint64_t length, unsigned access,
		nanoseconds now)
{
	(void)connection;
	(void)region;
	(void)address;
	(void)length;
	(void)now;
	if (peer.refusal)
		return peer.refusal;
	note('e');
	peer.last_operation = operation;
	peer.exposed_access = access;
	return 0;
}

int smbd_revoke(struct smbd_connection *connection, uint64_t operation, uint32_t token,
		nanoseconds now)
{
	(void)connection;
	(void)now;
	if (peer.refusal)
		return peer.refusal;
	note('v');
	peer.last_operation = operation;
	peer.revoked_token = token;
	return 0;
}

void smbd_consumed(struct smbd_connection *connection, struct smbd_message *message,
		   nanoseconds now)
{
	(void)connection;
	(void)now;
	peer.consumed++;
	free(message);
}

void smbd_close(struct smbd_connection *connection, enum close_reason reason, bool graceful,
		nanoseconds now)
{
	(void)connection;
	(void)now;
	peer.reason = reason;
	peer.graceful = graceful;
}

void smbd_cork(struct smbd_connection *connection)
{
	(void)connection;
}

void smbd_uncork(struct smbd_connection *connection, nanoseconds now)
{
	(void)connection;
	(void)now;
}

nanoseconds smbd_deadline(const struct smbd_connection *connection)
{
	(void)connection;
	return 0;
}

void smbd_on_time(struct smbd_connection *connection, nanoseconds now)
{
	(void)connection;
	(void)now;
}

void smbd_facts(const struct smbd_connection *connection, struct smbd_facts *ret)
{
	(void)connection;
	*ret = (struct smbd_facts){.max_fragmented_send_size = PEER_MESSAGE_MAX};
}

struct fabric_qp *smbd_qp(const struct smbd_connection *connection)
{
	(void)connection;
	return peer.qp;
}

/* A fabric that only registers. */

static int stub_register(struct fabric_device *device, void *base, size_t length,
			 struct fabric_region **ret)
{
	*ret = malloc(sizeof(**ret));
	**ret = (struct fabric_region){.device = device, .base = base, .length = length};
	device->region_count++;
	return 0;
}

static void stub_deregister(struct fabric_region *region)
{
	region->device->region_count--;
	free(region);
}

static const struct fabric_ops stub_ops = {.register_memory = stub_register,
					   .deregister_memory = stub_deregister};
static struct fabric stub_fabric = {.ops = &stub_ops};
static struct fabric_device stub_device = {.fabric = &stub_fabric, .name = "stub"};
static struct fabric_qp stub_qp = {.fabric = &stub_fabric, .device = &stub_device};

#endif
