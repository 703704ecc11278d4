/*
 * A connection's life, and what its owner asks of it:
 *
 *   1. create      buffers, one receive for the negotiation, accept; smbd_negotiation.c goes on
 *   2. requests    send, rdma, expose, revoke, consumed; smbd_posting.c posts, smbd_completions.c hears of the end
 *   3. close       make dead, drain, remove; smbd_timers.c may be the reason
 */
#include "smbd_connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "smbd_state.h"
#include "trace.h"

void smbd_enter(struct smbd_connection *connection, enum smbd_state state)
{
	trace_point(TRACE_POINT_SMBD_STATE, connection, connection->state, state);
	connection->state = state;
}

/* 1. Create. */

enum {
	SIZE_MAX_DEFAULT = 8192,      /* bytes of a segment: what Windows receives */
	SIZE_MAX_LIMIT = 65536,	      /* bytes: 255 slots each way are 32 MiB then */
	FRAGMENTED_DEFAULT = 1 << 20, /* bytes: Windows' */
	FRAGMENTED_LIMIT = 0xFFFFFF,  /* bytes: a channel's frame has 24 bits of length */
	READ_WRITE_DEFAULT = 8 << 20, /* bytes: ksmbd's, and the most that an SMB server offers */
	RECEIVE_CREDITS_DEFAULT = 255,
	/*
	 * Fewer than cifs.ko 6.1 posts at a time: between refills it holds more than we ask for. Asked for all, it posts
	 * and sends anew while its queue pair is drained, and may wait for ever for what comes of that.
	 */
	SEND_CREDITS_DEFAULT = 200,
	CREDITS_LIMIT = 255, /* of each kind: one slot is set aside for every one */
	READ_DEPTH_DEFAULT = 32,
};

static uint32_t bounded(uint32_t value, uint32_t otherwise, uint32_t least, uint32_t most)
{
	if (value == 0)
		value = otherwise;
	return value < least ? least : value > most ? most : value;
}

static nanoseconds time_or(nanoseconds value, nanoseconds otherwise)
{
	return value ? value : otherwise;
}

static struct smbd_config complete(const struct smbd_config *config)
{
	return (struct smbd_config){
		.receive_credit_max =
			(uint16_t)bounded(config->receive_credit_max, RECEIVE_CREDITS_DEFAULT,
					  SMBD_CREDITS_MIN, CREDITS_LIMIT),
		.send_credit_target =
			(uint16_t)bounded(config->send_credit_target, SEND_CREDITS_DEFAULT,
					  SMBD_CREDITS_MIN, CREDITS_LIMIT),
		.max_send_size = bounded(config->max_send_size, SIZE_MAX_DEFAULT,
					 SMBD_RECEIVE_SIZE_MIN, SIZE_MAX_LIMIT),
		.max_receive_size = bounded(config->max_receive_size, SIZE_MAX_DEFAULT,
					    SMBD_RECEIVE_SIZE_MIN, SIZE_MAX_LIMIT),
		.max_fragmented_size = bounded(config->max_fragmented_size, FRAGMENTED_DEFAULT,
					       SMBD_FRAGMENTED_SIZE_MIN, FRAGMENTED_LIMIT),
		.max_read_write_size =
			bounded(config->max_read_write_size, READ_WRITE_DEFAULT, 1, UINT32_MAX),
		.read_depth =
			bounded(config->read_depth, READ_DEPTH_DEFAULT, 1, SMBD_READ_DEPTH_MAX),
		.negotiate_timeout = time_or(config->negotiate_timeout, 10 * SECOND),
		.idle_timeout = time_or(config->idle_timeout, 360 * SECOND),
		.keepalive_interval = time_or(config->keepalive_interval, 120 * SECOND),
		.keepalive_timeout = time_or(config->keepalive_timeout, 30 * SECOND),
		.send_timeout = time_or(config->send_timeout, 60 * SECOND),
	};
}

/* `config` is complete. */
static void parameters_of(const struct smbd_config *config, enum fabric_transport transport,
			  uint8_t blob[8], struct fabric_parameters *ret)
{
	struct smbd_private_data data = {.ird = config->read_depth, .ord = config->read_depth};

	*ret = (struct fabric_parameters){
		.limits = {.send_queue = SMBD_SEND_QUEUE,
			   .receive_queue = config->receive_credit_max,
			   .send_sges = 1,
			   .read_sges = 1,
			   .initiator_depth = config->read_depth,
			   .responder_depth = config->read_depth,
			   .transfer_bytes = config->max_read_write_size},
	};
	if (transport != FABRIC_TRANSPORT_IWARP)
		return;
	smbd_private_data_build(&data, blob);
	ret->private_data = blob;
	ret->private_data_length = SMBD_PRIVATE_DATA_SIZE;
}

void smbd_client_parameters(const struct smbd_config *config, enum fabric_transport transport,
			    uint8_t blob[8], struct fabric_parameters *parameters)
{
	struct smbd_config whole = complete(config);

	parameters_of(&whole, transport, blob, parameters);
}

static int accept_qp(struct smbd_connection *connection)
{
	struct fabric_parameters parameters;
	uint8_t blob[SMBD_PRIVATE_DATA_SIZE];

	parameters_of(&connection->config, connection->qp->device->transport, blob, &parameters);
	return fabric_accept(connection->qp, &parameters);
}

static void set_up(struct smbd_connection *connection)
{
	const struct smbd_config *config = &connection->config;

	connection->max_send_size = config->max_send_size;
	connection->max_receive_size = config->max_receive_size;
	connection->max_read_write_size = config->max_read_write_size;
	connection->buffers.send.count = config->send_credit_target;
	connection->buffers.send.size = config->max_send_size;
	connection->buffers.receive.count = config->receive_credit_max;
	connection->buffers.receive.size = config->max_receive_size;
	connection->credits.send_target = config->send_credit_target;
	connection->credits.receive_max = config->receive_credit_max;
	connection->queue.limit = SMBD_SEND_QUEUE;
	connection->incoming.size_max = config->max_fragmented_size;
}

int smbd_create(struct fabric_qp *qp, enum smbd_role role, const struct smbd_config *config,
		const struct smbd_events *events, void *owner, nanoseconds now,
		struct smbd_connection **ret)
{
	struct smbd_connection *connection = calloc(1, sizeof(*connection));
	int error;

	if (!connection)
		return -ENOMEM;
	connection->qp = qp;
	connection->role = role;
	connection->config = complete(config);
	connection->events = events;
	connection->owner = owner;
	connection->created = now;
	set_up(connection);
	qp->events = &smbd_fabric_events;
	qp->owner = connection;
	error = smbd_buffers_create(qp->device, &connection->buffers);
	if (!error)
		error = smbd_post_receive(connection);
	if (!error && role == SMBD_SERVER)
		error = accept_qp(connection);
	if (error) {
		qp->owner = NULL;
		smbd_buffers_destroy(&connection->buffers);
		free(connection);
		return error;
	}
	smbd_spares_hold();
	*ret = connection;
	return 0;
}

void smbd_destroy(struct smbd_connection *connection)
{
	struct smbd_rdma_transfer *transfer;

	if (!connection)
		return;
	fabric_qp_destroy(connection->qp);
	smbd_buffers_destroy(&connection->buffers);
	smbd_outgoing_clear(&connection->outgoing);
	smbd_incoming_clear(&connection->incoming);
	smbd_windows_clear(&connection->windows);
	while ((transfer = smbd_rdma_take(&connection->rdma)))
		free(transfer);
	smbd_spares_release();
	free(connection);
}

/* 2. Requests. */

int smbd_send(struct smbd_connection *connection, struct smbd_message *message, nanoseconds now)
{
	int error = 0;

	if (connection->state != SMBD_ESTABLISHED)
		error = -EPIPE;
	else if (message->length == 0)
		error = -EINVAL;
	else if (message->length > connection->max_fragmented_send_size)
		error = -EMSGSIZE;
	if (error) {
		smbd_message_destroy(message);
		return error;
	}
	smbd_hold(connection);
	smbd_outgoing_add(&connection->outgoing, message);
	smbd_let_go(connection, now);
	return 0;
}

bool smbd_writable(const struct smbd_connection *connection)
{
	return connection->outgoing.bytes < SMBD_SEND_HIGH_WATER;
}

int smbd_rdma(struct smbd_connection *connection, const struct smbd_transfer *transfer,
	      nanoseconds now)
{
	int error;

	if (connection->state != SMBD_ESTABLISHED)
		error = -EPIPE;
	else if (transfer->length > connection->max_read_write_size)
		error = -EINVAL;
	else
		error = smbd_rdma_add(&connection->rdma, transfer, connection->outgoing.queued);
	if (error) {
		trace_count(TRACE_SMBD_TRANSFER_REFUSALS);
		return error;
	}
	trace_point(TRACE_POINT_TRANSFER_STARTED, connection, transfer->operation,
		    transfer->length);
	smbd_hold(connection);
	smbd_let_go(connection, now);
	return 0;
}

int smbd_expose(struct smbd_connection *connection, uint64_t operation,
		struct fabric_region *region, uint8_t *address, uint64_t length, unsigned access,
		nanoseconds now)
{
	int error = -EPIPE;

	if (connection->state == SMBD_ESTABLISHED)
		error = smbd_windows_expose(&connection->windows, operation, region, address,
					    length, access);
	if (error)
		return error;
	smbd_hold(connection);
	smbd_let_go(connection, now);
	return 0;
}

int smbd_revoke(struct smbd_connection *connection, uint64_t operation, uint32_t token,
		nanoseconds now)
{
	int error = -EPIPE;

	if (connection->state == SMBD_ESTABLISHED)
		error = smbd_windows_revoke(&connection->windows, operation, token);
	if (error)
		return error;
	smbd_hold(connection);
	smbd_let_go(connection, now);
	return 0;
}

void smbd_consumed(struct smbd_connection *connection, struct smbd_message *message,
		   nanoseconds now)
{
	connection->unconsumed -= smbd_message_cost(message);
	smbd_message_destroy(message);
	smbd_hold(connection);
	smbd_let_go(connection, now);
}

void smbd_cork(struct smbd_connection *connection)
{
	smbd_hold(connection);
}

void smbd_uncork(struct smbd_connection *connection, nanoseconds now)
{
	smbd_let_go(connection, now);
}

/*
 * 3. Close: make dead, drain, remove.
 *
 * Who may still hold something of a connection, and why each lets go:
 *   - The queue pair holds receives, Sends and transfers. After fabric_disconnect it flushes them and calls
 *     `disconnected` once; after that, and after fabric_qp_destroy, it touches none of our memory.
 *   - The send queue's ring and the table of Reads point to transfers. They are read only by completions, of which
 *     none follows `disconnected`; so transfers are freed there, and not before.
 *   - The owner holds delivered messages. They are allocations of their own and may be consumed until smbd_destroy;
 *     after that they are freed with smbd_message_destroy.
 *   - The pump may be on the stack when smbd_make_dead is called (a callback closed the connection). It looks at the
 *     state before every round and posts nothing once dead; nobody frees the connection under it, since smbd_destroy
 *     is for `closed` and later, and `closed` comes from `disconnected` only, which is never inside a call of ours.
 */

void smbd_make_dead(struct smbd_connection *connection, enum close_reason reason, const char *words)
{
	if (connection->state >= SMBD_DEAD)
		return;
	if (connection->reason == CLOSE_NONE) {
		connection->reason = reason;
		snprintf(connection->words, sizeof(connection->words), "%s", words);
	}
	smbd_enter(connection, SMBD_DEAD);
	fabric_disconnect(connection->qp);
}

void smbd_close(struct smbd_connection *connection, enum close_reason reason, bool graceful,
		nanoseconds now)
{
	if (connection->state >= SMBD_DEAD || (graceful && connection->state == SMBD_CLOSING))
		return;
	if (!graceful || connection->state < SMBD_ESTABLISHED) {
		smbd_make_dead(connection, reason, "closed on this side");
		return;
	}
	connection->reason = reason;
	snprintf(connection->words, sizeof(connection->words), "closed on this side");
	connection->closing = now;
	smbd_enter(connection, SMBD_CLOSING);
	smbd_hold(connection);
	smbd_let_go(connection, now);
}

static void fail_windows(struct smbd_connection *connection, nanoseconds now)
{
	const struct buffer_descriptor none = {0};

	for (uint32_t place = 0; place < connection->windows.size; place++) {
		const struct smbd_window *window = &connection->windows.table[place];

		if (window->state == SMBD_WINDOW_EXPOSE || window->state == SMBD_WINDOW_EXPOSING)
			connection->events->exposed(connection->owner, window->operation,
						    FABRIC_FLUSHED, &none, now);
		else if (window->state == SMBD_WINDOW_REVOKE ||
			 window->state == SMBD_WINDOW_REVOKING)
			connection->events->revoked(connection->owner, window->operation,
						    FABRIC_FLUSHED, now);
	}
	smbd_windows_clear(&connection->windows);
}

static void qp_established(struct fabric_qp *qp, nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;

	if (connection->state != SMBD_CONNECTING)
		return;
	smbd_hold(connection);
	smbd_negotiation_begin(connection, now);
	smbd_let_go(connection, now);
}

static void qp_disconnected(struct fabric_qp *qp, enum close_reason reason, const char *words,
			    nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;
	struct smbd_rdma_transfer *transfer;

	if (connection->reason == CLOSE_NONE) {
		connection->reason = reason;
		snprintf(connection->words, sizeof(connection->words), "%s", words ? words : "");
	}
	smbd_hold(connection);
	smbd_enter(connection, SMBD_CLOSED);
	while ((transfer = smbd_rdma_take(&connection->rdma)))
		smbd_report(connection, transfer, now);
	fail_windows(connection, now);
	smbd_outgoing_clear(&connection->outgoing);
	connection->held--;
	connection->events->closed(connection->owner, connection->reason, connection->words,
				   now); /* may destroy */
}

const struct fabric_events smbd_fabric_events = {
	.established = qp_established,
	.completions = smbd_on_completions,
	.disconnected = qp_disconnected,
};

void smbd_facts(const struct smbd_connection *connection, struct smbd_facts *ret)
{
	*ret = connection->counted;
	ret->role = connection->role;
	ret->max_send_size = connection->max_send_size;
	ret->max_receive_size = connection->max_receive_size;
	ret->max_fragmented_send_size = connection->max_fragmented_send_size;
	ret->max_fragmented_receive_size = connection->config.max_fragmented_size;
	ret->max_read_write_size = connection->max_read_write_size;
	ret->read_depth = connection->rdma.depth;
	ret->send_credits = connection->credits.send;
	ret->receive_credits = connection->credits.receive;
	ret->send_credit_target = connection->credits.send_target;
	ret->receive_credit_target = connection->credits.receive_target;
	ret->rdma_written_bytes = connection->rdma.written_bytes;
	ret->rdma_read_bytes = connection->rdma.read_bytes;
	ret->queued_bytes = connection->outgoing.bytes;
	ret->unconsumed_bytes = connection->unconsumed;
}

struct fabric_qp *smbd_qp(const struct smbd_connection *connection)
{
	return connection->qp;
}
