/* Two SMB Direct connections joined in one process, and what their owners were told. For C tests of the engine. */
#ifndef SMBD_PAIR_H
#define SMBD_PAIR_H

#include <arpa/inet.h>
#include <string.h>

#include "../../csrc/fabric_memory.h"
#include "../../csrc/smbd_connection.h"
#include "check.h"

/* One owner: counts what it is told, and keeps the last of each. */
struct side {
	struct smbd_connection *connection;
	struct smbd_message *message; /* the last one that was not consumed */
	uint32_t messages, established, transferred, exposed, revoked, writable, closed;
	uint64_t bytes;
	bool keep;  /* do not consume the last message */
	bool reply; /* answer every message with one of the same length */
	enum fabric_status status;
	struct buffer_descriptor descriptor;
	enum close_reason reason;
	char words[256];
};

static const nanoseconds START = 1000 * SECOND;

static struct smbd_message *message_of(uint32_t length, uint8_t first)
{
	struct smbd_message *message = smbd_message_create(length);

	CHECK(message);
	for (uint32_t i = 0; i < length; i++)
		message->data[i] = (uint8_t)(first + i * 7);
	return message;
}

static void on_established(void *owner, nanoseconds now)
{
	(void)now;
	((struct side *)owner)->established++;
}

static void on_message(void *owner, struct smbd_message *message, nanoseconds now)
{
	struct side *side = owner;

	side->messages++;
	side->bytes += message->length;
	if (side->reply)
		smbd_send(side->connection, message_of(message->length, 1), now);
	if (side->keep) {
		struct smbd_message *before = side->message;

		side->message = message;
		message = before;
	}
	if (message)
		smbd_consumed(side->connection, message, now);
}

static void on_transferred(void *owner, uint64_t operation, enum fabric_status status,
			   uint64_t bytes, nanoseconds now)
{
	struct side *side = owner;

	(void)operation, (void)bytes, (void)now;
	side->transferred++;
	side->status = status;
}

static void on_exposed(void *owner, uint64_t operation, enum fabric_status status,
		       const struct buffer_descriptor *descriptor, nanoseconds now)
{
	struct side *side = owner;

	(void)operation, (void)now;
	side->exposed++;
	side->status = status;
	side->descriptor = *descriptor;
}

static void on_revoked(void *owner, uint64_t operation, enum fabric_status status, nanoseconds now)
{
	struct side *side = owner;

	(void)operation, (void)now;
	side->revoked++;
	side->status = status;
}

static void on_writable(void *owner, nanoseconds now)
{
	(void)now;
	((struct side *)owner)->writable++;
}

static void on_closed(void *owner, enum close_reason reason, const char *words, nanoseconds now)
{
	struct side *side = owner;

	(void)now;
	side->closed++;
	side->reason = reason;
	snprintf(side->words, sizeof(side->words), "%s", words);
}

static const struct smbd_events side_events = {
	.established = on_established,
	.message = on_message,
	.transferred = on_transferred,
	.exposed = on_exposed,
	.revoked = on_revoked,
	.writable = on_writable,
	.closed = on_closed,
};

struct pair {
	struct fabric *fabric;
	struct fabric_listener *listener;
	struct smbd_config server_config;
	struct side client, server;
};

static bool pair_request(struct fabric_listener *listener, struct fabric_qp *qp)
{
	struct pair *pair = listener->owner;

	return smbd_create(qp, SMBD_SERVER, &pair->server_config, &side_events, &pair->server,
			   START, &pair->server.connection) == 0;
}

/* Both ends made, nothing moved yet. */
static inline void pair_connect(struct pair *pair, const struct fabric_memory_config *memory,
				const struct smbd_config *client_config,
				const struct smbd_config *server_config)
{
	const struct smbd_config defaults = {0};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(5445)};
	struct fabric_parameters parameters;
	struct fabric_qp *qp;
	uint8_t blob[8];

	*pair = (struct pair){0};
	pair->server_config = server_config ? *server_config : defaults;
	if (!client_config)
		client_config = &defaults;
	CHECK(fabric_memory_create(memory, &pair->fabric) == 0);
	CHECK(fabric_listen(pair->fabric, (struct sockaddr *)&address, sizeof(address),
			    pair_request, pair, &pair->listener) == 0);
	smbd_client_parameters(client_config, FABRIC_TRANSPORT_MEMORY, blob, &parameters);
	CHECK(fabric_connect(pair->fabric, (struct sockaddr *)&address, sizeof(address),
			     &parameters, &smbd_fabric_events, NULL, &qp) == 0);
	CHECK(smbd_create(qp, SMBD_CLIENT, client_config, &side_events, &pair->client, START,
			  &pair->client.connection) == 0);
}

static inline void pair_run(struct pair *pair)
{
	fabric_memory_run(pair->fabric, START + SECOND);
}

static inline void pair_destroy(struct pair *pair)
{
	if (pair->client.message)
		smbd_consumed(pair->client.connection, pair->client.message, START);
	if (pair->server.message)
		smbd_consumed(pair->server.connection, pair->server.message, START);
	smbd_destroy(pair->client.connection);
	smbd_destroy(pair->server.connection);
	CHECK(fabric_memory_device(pair->fabric)->region_count == 0);
	fabric_destroy(pair->fabric);
}

#endif
