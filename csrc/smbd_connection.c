/*
 * States, messages, keepalive, close. In the order of a connection's life:
 *
 *   1. create      buffers, one receive for the negotiation, accept
 *   2. completions what the queue pair tells: messages in, credits, slots and transfers back
 *   3. requests    what the channel asks: send, rdma, expose, revoke, consumed
 *   4. pump        what may be posted now is posted, in one chain
 *   5. time        negotiation, silence, keepalive, stalls
 *   6. close       make dead, drain, remove
 *
 * Every entry from outside holds the pump, does its work, and lets go; the pump then runs once. So the answers to all
 * messages of one batch of completions leave in one chain, and a callback may call back without recursion.
 */
#include "smbd_connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smbd_state.h"
#include "trace.h"

static void pump(struct smbd_connection *connection, nanoseconds now);

static void hold(struct smbd_connection *connection)
{
	connection->held++;
}

static void let_go(struct smbd_connection *connection, nanoseconds now)
{
	connection->held--;
	if (connection->held == 0)
		pump(connection, now);
}

void smbd_enter(struct smbd_connection *connection, enum smbd_state state)
{
	trace_point(TRACE_POINT_SMBD_STATE, connection, connection->state, state);
	connection->state = state;
}

/* 1. Create. */

enum {
	SIZE_MAX_DEFAULT = 8192,        /* bytes of a segment: what Windows receives */
	SIZE_MAX_LIMIT = 65536,         /* bytes: 255 slots each way are 32 MiB then */
	FRAGMENTED_DEFAULT = 1 << 20,   /* bytes: Windows' */
	FRAGMENTED_LIMIT = 0xFFFFFF,    /* bytes: a channel's frame has 24 bits of length */
	READ_WRITE_DEFAULT = 8 << 20,   /* bytes: ksmbd's, and the most that an SMB server offers */
	CREDITS_DEFAULT = 255,
	CREDITS_LIMIT = 255,            /* of each kind: one slot is set aside for every one */
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
		.receive_credit_max = (uint16_t)bounded(config->receive_credit_max, CREDITS_DEFAULT, SMBD_CREDITS_MIN,
							CREDITS_LIMIT),
		.send_credit_target = (uint16_t)bounded(config->send_credit_target, CREDITS_DEFAULT, SMBD_CREDITS_MIN,
							CREDITS_LIMIT),
		.max_send_size =
			bounded(config->max_send_size, SIZE_MAX_DEFAULT, SMBD_RECEIVE_SIZE_MIN, SIZE_MAX_LIMIT),
		.max_receive_size =
			bounded(config->max_receive_size, SIZE_MAX_DEFAULT, SMBD_RECEIVE_SIZE_MIN, SIZE_MAX_LIMIT),
		.max_fragmented_size = bounded(config->max_fragmented_size, FRAGMENTED_DEFAULT,
					       SMBD_FRAGMENTED_SIZE_MIN, FRAGMENTED_LIMIT),
		.max_read_write_size = bounded(config->max_read_write_size, READ_WRITE_DEFAULT, 1, UINT32_MAX),
		.read_depth = bounded(config->read_depth, READ_DEPTH_DEFAULT, 1, SMBD_READ_DEPTH_MAX),
		.negotiate_timeout = time_or(config->negotiate_timeout, 10 * SECOND),
		.idle_timeout = time_or(config->idle_timeout, 360 * SECOND),
		.keepalive_interval = time_or(config->keepalive_interval, 120 * SECOND),
		.keepalive_timeout = time_or(config->keepalive_timeout, 30 * SECOND),
		.send_timeout = time_or(config->send_timeout, 60 * SECOND),
	};
}

/* `config` is complete. */
static void parameters_of(const struct smbd_config *config, enum fabric_transport transport, uint8_t blob[8],
			  struct fabric_parameters *ret)
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

void smbd_client_parameters(const struct smbd_config *config, enum fabric_transport transport, uint8_t blob[8],
			    struct fabric_parameters *parameters)
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
		const struct smbd_events *events, void *owner, nanoseconds now, struct smbd_connection **ret)
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
	free(connection);
}

/* 2. Completions. */

int smbd_post_receive(struct smbd_connection *connection)
{
	struct smbd_slots *slots = &connection->buffers.receive;
	uint32_t slot = smbd_slots_take(slots);
	struct fabric_sge sge = {
		.address = smbd_slot(slots, slot), .length = slots->size, .region = connection->buffers.region};
	int error = fabric_post_receive(connection->qp, smbd_id(SMBD_TAG_RECEIVE, slot), &sge);

	if (error)
		smbd_slots_give(slots, slot);
	return error;
}

/* A reader that lags behind gets no more: the peer's credits run out, and its messages stay with it. */
void smbd_post_receives(struct smbd_connection *connection)
{
	struct smbd_credits *credits = &connection->credits;
	bool wanted = smbd_credits_missing(credits) > 0 && connection->buffers.receive.free > 0;
	bool stalled = wanted && connection->unconsumed > SMBD_UNCONSUMED_MAX;

	if (stalled && !connection->stalled_unconsumed) {
		connection->counted.stalls_unconsumed++;
		trace_count(TRACE_SMBD_STALLS_UNCONSUMED);
	}
	connection->stalled_unconsumed = stalled;
	while (!stalled && smbd_credits_missing(credits) > 0 && connection->buffers.receive.free > 0) {
		int error = smbd_post_receive(connection);

		if (error) {
			smbd_refused(connection, error, "the queue pair refused a receive");
			return;
		}
		smbd_credits_posted(credits);
	}
}

/* A queue pair that has ended by itself takes nothing, and says why with `disconnected`. */
void smbd_refused(struct smbd_connection *connection, int error, const char *words)
{
	if (error != -ENOTCONN)
		smbd_make_dead(connection, CLOSE_LIMIT, words);
}

static void broken(struct smbd_connection *connection, const char *words)
{
	trace_count(TRACE_SMBD_PROTOCOL_ERRORS);
	smbd_make_dead(connection, CLOSE_PROTOCOL_ERROR, words);
}

static void deliver(struct smbd_connection *connection, struct smbd_message *message, nanoseconds now)
{
	connection->counted.messages_received++;
	trace_point(TRACE_POINT_MESSAGE_RECEIVED, connection, message->length, 0);
	if (connection->state != SMBD_ESTABLISHED) {
		smbd_message_destroy(message); /* closing: nobody reads any more */
		return;
	}
	message->done = 0;
	connection->unconsumed += smbd_message_cost(message);
	connection->events->message(connection->owner, message, now);
}

static void take_payload(struct smbd_connection *connection, const struct smbd_data_transfer *header,
			 const uint8_t *payload, nanoseconds now)
{
	struct smbd_message *message;
	const char *words = smbd_incoming_add(&connection->incoming, header, payload, &message);

	if (words && connection->incoming.out_of_memory) {
		smbd_make_dead(connection, CLOSE_LIMIT, words);
	} else if (words) {
		broken(connection, words);
	} else {
		connection->counted.bytes_received += header->length;
		if (message)
			deliver(connection, message, now);
	}
}

/* A data transfer message; [MS-SMBD] 3.1.5.8. */
static void receive_transfer(struct smbd_connection *connection, const uint8_t *bytes, uint32_t length,
			     nanoseconds now)
{
	struct smbd_credits *credits = &connection->credits;
	struct smbd_data_transfer header;
	const uint8_t *payload;
	const char *words = smbd_data_transfer_parse(bytes, length, &header, &payload);

	if (!words && length > connection->max_receive_size)
		words = "a message is longer than our MaxReceiveSize";
	if (!words && !smbd_credits_used(credits))
		words = "the peer sent a message without a credit";
	if (!words && !smbd_credits_granted(credits, header.credits_granted))
		words = "the peer granted more credits than receives can be posted";
	if (words) {
		broken(connection, words);
		return;
	}
	credits->receive_target = header.credits_requested;
	connection->received = now;
	if (header.credits_granted > 0 && connection->waiting)
		connection->waiting = now;
	/* Some answer a ping with a flag of their own: it is an answer, and needs none. */
	if (header.flags & SMBD_RESPONSE_REQUESTED && connection->ping != SMBD_PING_SENT)
		connection->answer_due = true;
	connection->ping = SMBD_PING_NONE;
	if (payload)
		take_payload(connection, &header, payload, now);
}

/* The queue pair ends by itself after an error; it is only a matter of knowing the reason first. */
static void note_failure(struct smbd_connection *connection, enum fabric_status status)
{
	if (status == FABRIC_REMOTE_ACCESS) {
		trace_count(TRACE_SMBD_REMOTE_ACCESS_ERRORS);
		smbd_make_dead(connection, CLOSE_REMOTE_ACCESS, "the peer refused an RDMA Read or Write");
	} else if (status == FABRIC_LOCAL_ERROR) {
		smbd_make_dead(connection, CLOSE_LIMIT, "the device failed a work request");
	} else if (status == FABRIC_TRANSPORT_ERROR) {
		smbd_make_dead(connection, CLOSE_PEER_LOST, "the transport failed");
	}
}

static void on_receive(struct smbd_connection *connection, const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_slots *slots = &connection->buffers.receive;
	uint64_t slot = smbd_id_index(completion->id);
	const uint8_t *bytes;

	if (completion->status != FABRIC_OK) {
		note_failure(connection, completion->status);
		return;
	}
	if (slot >= slots->count || completion->bytes > slots->size || connection->state >= SMBD_DEAD)
		return;
	/* Free from here on, but not posted before the message was parsed and its payload copied. */
	smbd_slots_give(slots, (uint32_t)slot);
	bytes = smbd_slot(slots, (uint32_t)slot);
	if (connection->state <= SMBD_NEGOTIATING)
		smbd_negotiation_receive(connection, bytes, completion->bytes, now);
	else
		receive_transfer(connection, bytes, completion->bytes, now);
}

static void report(struct smbd_connection *connection, struct smbd_rdma_transfer *transfer, nanoseconds now)
{
	trace_point(TRACE_POINT_TRANSFER_DONE, connection, transfer->request.operation, transfer->status);
	connection->events->transferred(connection->owner, transfer->request.operation, transfer->status,
					transfer->moved, now);
	free(transfer);
}

/* A Send or Write completed, and with it all Sends and Writes posted before it. */
static void on_ordered(struct smbd_connection *connection, const struct fabric_completion *completion, nanoseconds now)
{
	uint64_t number = smbd_id_index(completion->id);
	struct smbd_rdma_transfer *finished;
	struct smbd_ordered ordered;

	if (completion->status != FABRIC_OK) {
		if (completion->status != FABRIC_FLUSHED && number >= connection->queue.first &&
		    number < connection->queue.next &&
		    connection->queue.ring[number % SMBD_SEND_QUEUE].transfer)
			connection->queue.ring[number % SMBD_SEND_QUEUE].transfer->status = completion->status;
		note_failure(connection, completion->status);
		return;
	}
	while (smbd_queue_retire(&connection->queue, number, &ordered)) {
		if (!ordered.transfer) {
			smbd_slots_give(&connection->buffers.send, ordered.slot);
			continue;
		}
		finished = smbd_rdma_written(&connection->rdma, ordered.transfer, ordered.bytes);
		if (finished)
			report(connection, finished, now);
	}
}

static void on_read(struct smbd_connection *connection, const struct fabric_completion *completion, nanoseconds now)
{
	uint64_t place = smbd_id_index(completion->id);
	struct smbd_rdma_transfer *finished;

	if (completion->status != FABRIC_OK) {
		smbd_rdma_read_failed(&connection->rdma, place, completion->status);
		note_failure(connection, completion->status);
		return;
	}
	smbd_queue_finish(&connection->queue);
	finished = smbd_rdma_read(&connection->rdma, place);
	if (finished)
		report(connection, finished, now);
}

static void on_expose(struct smbd_connection *connection, const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_window *window = smbd_windows_find(&connection->windows, smbd_id_index(completion->id),
						       SMBD_WINDOW_EXPOSING);
	struct buffer_descriptor descriptor;

	if (completion->status != FABRIC_OK || !window) {
		note_failure(connection, completion->status);
		return;
	}
	smbd_queue_finish(&connection->queue);
	window->state = SMBD_WINDOW_EXPOSED;
	descriptor = (struct buffer_descriptor){.offset = window->window->offset,
						.token = window->window->token,
						.length = (uint32_t)window->length};
	connection->events->exposed(connection->owner, window->operation, FABRIC_OK, &descriptor, now);
}

static void on_revoke(struct smbd_connection *connection, const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_window *window = smbd_windows_find(&connection->windows, smbd_id_index(completion->id),
						       SMBD_WINDOW_REVOKING);
	uint64_t operation;

	if (completion->status != FABRIC_OK || !window) {
		note_failure(connection, completion->status);
		return;
	}
	smbd_queue_finish(&connection->queue);
	operation = window->operation;
	smbd_windows_free(&connection->windows, window);
	connection->events->revoked(connection->owner, operation, FABRIC_OK, now);
}

static void on_completion(struct smbd_connection *connection, const struct fabric_completion *completion,
			  nanoseconds now)
{
	enum smbd_tag tag = smbd_id_tag(completion->id);

	if (tag != SMBD_TAG_RECEIVE && completion->status == FABRIC_OK && connection->waiting)
		connection->waiting = now;
	switch (tag) {
	case SMBD_TAG_RECEIVE:
		on_receive(connection, completion, now);
		break;
	case SMBD_TAG_ORDERED:
		on_ordered(connection, completion, now);
		break;
	case SMBD_TAG_READ:
		on_read(connection, completion, now);
		break;
	case SMBD_TAG_EXPOSE:
		on_expose(connection, completion, now);
		break;
	case SMBD_TAG_REVOKE:
		on_revoke(connection, completion, now);
		break;
	}
}

static void qp_completions(struct fabric_qp *qp, const struct fabric_completion *completions, size_t count,
			   nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;

	hold(connection);
	for (size_t i = 0; i < count; i++)
		on_completion(connection, &completions[i], now);
	let_go(connection, now);
}

static void qp_established(struct fabric_qp *qp, nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;

	if (connection->state != SMBD_CONNECTING)
		return;
	hold(connection);
	smbd_negotiation_begin(connection, now);
	let_go(connection, now);
}

/* 3. Requests. */

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
	hold(connection);
	smbd_outgoing_add(&connection->outgoing, message);
	let_go(connection, now);
	return 0;
}

bool smbd_writable(const struct smbd_connection *connection)
{
	return connection->outgoing.bytes < SMBD_SEND_HIGH_WATER;
}

int smbd_rdma(struct smbd_connection *connection, const struct smbd_transfer *transfer, nanoseconds now)
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
	trace_point(TRACE_POINT_TRANSFER_STARTED, connection, transfer->operation, transfer->length);
	hold(connection);
	let_go(connection, now);
	return 0;
}

int smbd_expose(struct smbd_connection *connection, uint64_t operation, struct fabric_region *region, uint8_t *address,
		uint64_t length, unsigned access, nanoseconds now)
{
	int error = -EPIPE;

	if (connection->state == SMBD_ESTABLISHED)
		error = smbd_windows_expose(&connection->windows, operation, region, address, length, access);
	if (error)
		return error;
	hold(connection);
	let_go(connection, now);
	return 0;
}

int smbd_revoke(struct smbd_connection *connection, uint64_t operation, uint32_t token, nanoseconds now)
{
	int error = -EPIPE;

	if (connection->state == SMBD_ESTABLISHED)
		error = smbd_windows_revoke(&connection->windows, operation, token);
	if (error)
		return error;
	hold(connection);
	let_go(connection, now);
	return 0;
}

void smbd_consumed(struct smbd_connection *connection, struct smbd_message *message, nanoseconds now)
{
	connection->unconsumed -= smbd_message_cost(message);
	smbd_message_destroy(message);
	hold(connection);
	let_go(connection, now);
}

void smbd_cork(struct smbd_connection *connection)
{
	hold(connection);
}

void smbd_uncork(struct smbd_connection *connection, nanoseconds now)
{
	let_go(connection, now);
}

/* 4. Pump. */

static void note_stall(bool stalled, bool *before, uint64_t *stalls, enum trace_counter counter)
{
	if (stalled && !*before) {
		++*stalls;
		trace_count(counter);
	}
	*before = stalled;
}

static void post_reads(struct smbd_connection *connection, struct smbd_chain *chain)
{
	struct smbd_rdma *rdma = &connection->rdma;

	while (rdma->reads.first && rdma->outstanding < rdma->depth && smbd_queue_has_room(&connection->queue))
		smbd_rdma_post_read(rdma, chain);
	note_stall(rdma->reads.first && rdma->outstanding >= rdma->depth, &connection->stalled_read_depth,
		   &connection->counted.stalls_read_depth, TRACE_SMBD_STALLS_READ_DEPTH);
}

/* Fills a header with all that rides on a message besides its payload, and pays for it. */
static void ride(struct smbd_connection *connection, struct smbd_data_transfer *header, nanoseconds now)
{
	header->credits_requested = (uint16_t)connection->credits.send_target;
	header->credits_granted = smbd_credits_spend(&connection->credits);
	if (connection->ping == SMBD_PING_DUE) {
		header->flags = SMBD_RESPONSE_REQUESTED;
		connection->ping = SMBD_PING_SENT;
		connection->pinged = now;
	}
	connection->answer_due = false;
	connection->sent = now;
}

static void post_segment(struct smbd_connection *connection, struct smbd_chain *chain, nanoseconds now)
{
	const struct smbd_message *first = connection->outgoing.first;
	uint32_t slot = smbd_slots_take(&connection->buffers.send), token = first->token;
	uint8_t *bytes = smbd_slot(&connection->buffers.send, slot);
	bool invalidate = first->invalidate;
	struct smbd_data_transfer header = {0};
	struct smbd_message *sent;

	sent = smbd_outgoing_cut(&connection->outgoing, connection->max_send_size - SMBD_DATA_OFFSET,
				 bytes + SMBD_DATA_OFFSET, &header);
	ride(connection, &header, now);
	smbd_data_transfer_build(&header, bytes);
	smbd_chain_send(chain, slot, bytes, SMBD_DATA_OFFSET + header.length, sent && invalidate, token);
	connection->counted.bytes_sent += header.length;
	if (!sent)
		return;
	connection->counted.messages_sent++;
	trace_point(TRACE_POINT_MESSAGE_SENT, connection, sent->length, 0);
	smbd_message_destroy(sent);
}

static bool write_is_next(const struct smbd_connection *connection)
{
	const struct smbd_rdma_transfer *write = connection->rdma.writes.first;

	return write && write->messages <= connection->outgoing.sent;
}

/* Writes and messages, in the order in which they were queued, until something is missing. */
static void post_ordered(struct smbd_connection *connection, struct smbd_chain *chain, nanoseconds now)
{
	bool no_credit = false, no_room = false;

	while (!no_credit && !no_room && (connection->outgoing.first || connection->rdma.writes.first)) {
		bool write = write_is_next(connection);

		if (!smbd_queue_has_room(&connection->queue) || (!write && connection->buffers.send.free == 0))
			no_room = true;
		else if (write)
			smbd_rdma_post_write(&connection->rdma, chain);
		else if (!smbd_credits_may_send(&connection->credits))
			no_credit = true;
		else
			post_segment(connection, chain, now);
	}
	note_stall(no_credit, &connection->stalled_send_credit, &connection->counted.stalls_send_credit,
		   TRACE_SMBD_STALLS_SEND_CREDIT);
	note_stall(no_room, &connection->stalled_send_queue, &connection->counted.stalls_send_queue,
		   TRACE_SMBD_STALLS_SEND_QUEUE);
}

/*
 * An empty message, when something has to be said and no message is there to carry it. One that is there and cannot
 * go lacks what an empty one would lack as well; and nothing may come between its segments.
 */
static void post_empty(struct smbd_connection *connection, struct smbd_chain *chain, nanoseconds now)
{
	struct smbd_data_transfer header = {0};
	uint32_t slot;
	uint8_t *bytes;

	if (!connection->answer_due && connection->ping != SMBD_PING_DUE &&
	    !smbd_credits_peer_is_low(&connection->credits))
		return;
	if (connection->outgoing.first || !smbd_queue_has_room(&connection->queue) ||
	    connection->buffers.send.free == 0 || !smbd_credits_may_send(&connection->credits))
		return;
	slot = smbd_slots_take(&connection->buffers.send);
	bytes = smbd_slot(&connection->buffers.send, slot);
	ride(connection, &header, now);
	smbd_chain_send(chain, slot, bytes, smbd_data_transfer_build(&header, bytes), false, 0);
}

/* Receives first: a grant is for what is posted. */
static void post_all(struct smbd_connection *connection, nanoseconds now)
{
	struct smbd_chain chain;
	int error;

	smbd_post_receives(connection);
	if (connection->state >= SMBD_DEAD)
		return;
	error = smbd_windows_post(&connection->windows, connection->qp, &connection->queue);
	if (error) {
		smbd_refused(connection, error, "the queue pair refused to expose or to revoke memory");
		return;
	}
	smbd_chain_begin(&chain, connection->qp, &connection->queue, connection->buffers.region);
	post_reads(connection, &chain);
	post_ordered(connection, &chain, now);
	post_empty(connection, &chain, now);
	error = smbd_chain_post(&chain);
	if (error)
		smbd_refused(connection, error, "the queue pair refused a work request");
}

static bool work_waits(const struct smbd_connection *connection)
{
	return connection->outgoing.first || connection->rdma.all.first || connection->windows.first ||
	       connection->queue.used > 0;
}

static void pump(struct smbd_connection *connection, nanoseconds now)
{
	bool emptied = true;

	connection->held++;
	while (emptied && (connection->state == SMBD_ESTABLISHED || connection->state == SMBD_CLOSING)) {
		if (connection->outgoing.bytes >= SMBD_SEND_HIGH_WATER)
			connection->full = true;
		post_all(connection, now);
		emptied = connection->full && connection->outgoing.bytes < SMBD_SEND_LOW_WATER;
		if (emptied) {
			connection->full = false;
			connection->events->writable(connection->owner, now);
		}
	}
	if (!work_waits(connection)) {
		connection->waiting = 0;
		if (connection->state == SMBD_CLOSING)
			smbd_make_dead(connection, connection->reason, connection->words);
	} else if (!connection->waiting) {
		connection->waiting = now;
	}
	connection->held--;
}

/* 5. Time. */

enum { TIMES = 4 };

struct timeout {
	nanoseconds deadline; /* 0: none */
	enum { TIMEOUT_CLOSES, TIMEOUT_PINGS } effect;
	const char *words;
};

static nanoseconds after(nanoseconds since, nanoseconds span)
{
	return since ? since + span : 0;
}

/* All that may happen by itself in the present state; returns how many. */
static size_t timeouts(const struct smbd_connection *connection, struct timeout ret[TIMES])
{
	const struct smbd_config *config = &connection->config;
	size_t count = 0;

	if (connection->state <= SMBD_NEGOTIATING) {
		ret[count++] = (struct timeout){connection->created + config->negotiate_timeout, TIMEOUT_CLOSES,
						"the negotiation took too long"};
		return count;
	}
	if (connection->state == SMBD_CLOSING) {
		ret[count++] = (struct timeout){connection->closing + config->send_timeout, TIMEOUT_CLOSES,
						"what was queued could not be sent in time"};
		return count;
	}
	if (connection->state != SMBD_ESTABLISHED)
		return 0;
	ret[count++] = (struct timeout){connection->received + config->idle_timeout, TIMEOUT_CLOSES,
					"nothing was heard of the peer"};
	ret[count++] = (struct timeout){after(connection->waiting, config->send_timeout), TIMEOUT_CLOSES,
					"the peer gave no credit and completed nothing"};
	if (connection->role == SMBD_CLIENT && connection->ping == SMBD_PING_NONE)
		ret[count++] = (struct timeout){connection->sent + config->keepalive_interval, TIMEOUT_PINGS, NULL};
	if (connection->ping == SMBD_PING_SENT)
		ret[count++] = (struct timeout){connection->pinged + config->keepalive_timeout, TIMEOUT_CLOSES,
						"the peer did not answer a keepalive request"};
	return count;
}

nanoseconds smbd_deadline(const struct smbd_connection *connection)
{
	struct timeout all[TIMES];
	size_t count = timeouts(connection, all);
	nanoseconds first = 0;

	for (size_t i = 0; i < count; i++) {
		if (all[i].deadline && (!first || all[i].deadline < first))
			first = all[i].deadline;
	}
	return first;
}

void smbd_on_time(struct smbd_connection *connection, nanoseconds now)
{
	struct timeout all[TIMES];
	size_t count = timeouts(connection, all);

	hold(connection);
	for (size_t i = 0; i < count && connection->state < SMBD_DEAD; i++) {
		if (!all[i].deadline || all[i].deadline > now)
			continue;
		if (all[i].effect == TIMEOUT_PINGS) {
			connection->ping = SMBD_PING_DUE;
		} else {
			trace_count(TRACE_SMBD_TIMEOUTS);
			smbd_make_dead(connection, CLOSE_TIMEOUT, all[i].words);
		}
	}
	let_go(connection, now);
}

/*
 * 6. Close: make dead, drain, remove.
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

void smbd_close(struct smbd_connection *connection, enum close_reason reason, bool graceful, nanoseconds now)
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
	hold(connection);
	let_go(connection, now);
}

static void fail_windows(struct smbd_connection *connection, nanoseconds now)
{
	const struct buffer_descriptor none = {0};

	for (uint32_t place = 0; place < connection->windows.size; place++) {
		const struct smbd_window *window = &connection->windows.table[place];

		if (window->state == SMBD_WINDOW_EXPOSE || window->state == SMBD_WINDOW_EXPOSING)
			connection->events->exposed(connection->owner, window->operation, FABRIC_FLUSHED, &none, now);
		else if (window->state == SMBD_WINDOW_REVOKE || window->state == SMBD_WINDOW_REVOKING)
			connection->events->revoked(connection->owner, window->operation, FABRIC_FLUSHED, now);
	}
	smbd_windows_clear(&connection->windows);
}

static void qp_disconnected(struct fabric_qp *qp, enum close_reason reason, const char *words, nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;
	struct smbd_rdma_transfer *transfer;

	if (connection->reason == CLOSE_NONE) {
		connection->reason = reason;
		snprintf(connection->words, sizeof(connection->words), "%s", words ? words : "");
	}
	hold(connection);
	smbd_enter(connection, SMBD_CLOSED);
	while ((transfer = smbd_rdma_take(&connection->rdma)))
		report(connection, transfer, now);
	fail_windows(connection, now);
	smbd_outgoing_clear(&connection->outgoing);
	connection->held--;
	connection->events->closed(connection->owner, connection->reason, connection->words, now); /* may destroy */
}

const struct fabric_events smbd_fabric_events = {
	.established = qp_established,
	.completions = qp_completions,
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
