/*
 * What the queue pair tells: messages of the peer, and what became of our work requests.
 *
 *   receive          -> header, credits, keepalive -> segment -> message -> owner      [MS-SMBD] 3.1.5.8
 *   Send or Write    -> all posted before it are vouched for: slots, transfers
 *   Read             -> its transfer
 *   expose, revoke   -> its window
 *
 * Nothing is posted from here: the connection is held until the whole batch is handled.
 */
#include <errno.h>
#include <stdlib.h>

#include "capture.h"
#include "smbd_state.h"
#include "trace.h"

static void broken(struct smbd_connection *connection, const char *words)
{
	trace_count(TRACE_SMBD_PROTOCOL_ERRORS);
	smbd_make_dead(connection, CLOSE_PROTOCOL_ERROR, words);
}

static void deliver(struct smbd_connection *connection, struct smbd_message *message,
		    nanoseconds now)
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

static void take_payload(struct smbd_connection *connection,
			 const struct smbd_data_transfer *header, const uint8_t *payload,
			 nanoseconds now)
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
static void receive_transfer(struct smbd_connection *connection, const uint8_t *bytes,
			     uint32_t length, nanoseconds now)
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
		smbd_make_dead(connection, CLOSE_REMOTE_ACCESS,
			       "the peer refused an RDMA Read or Write");
	} else if (status == FABRIC_LOCAL_ERROR) {
		smbd_make_dead(connection, CLOSE_LIMIT, "the device failed a work request");
	} else if (status == FABRIC_TRANSPORT_ERROR) {
		smbd_make_dead(connection, CLOSE_PEER_LOST, "the transport failed");
	}
}

static void on_receive(struct smbd_connection *connection,
		       const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_slots *slots = &connection->buffers.receive;
	uint64_t slot = smbd_id_index(completion->id);
	const uint8_t *bytes;

	if (completion->status != FABRIC_OK) {
		note_failure(connection, completion->status);
		return;
	}
	if (slot >= slots->count || completion->bytes > slots->size ||
	    connection->state >= SMBD_DEAD)
		return;
	if (completion->invalidated && connection->events->invalidated &&
	    smbd_windows_invalidate(&connection->windows, completion->invalidated_token))
		connection->events->invalidated(connection->owner, completion->invalidated_token,
						now);
	/* Free from here on, but not posted before the message was parsed and its payload copied. */
	smbd_slots_give(slots, (uint32_t)slot);
	bytes = smbd_slot(slots, (uint32_t)slot);
	capture_message(connection->qp, completion->invalidated ? CAPTURE_INVALIDATES : 0,
			completion->invalidated_token, bytes, completion->bytes);
	if (connection->state <= SMBD_NEGOTIATING)
		smbd_negotiation_receive(connection, bytes, completion->bytes, now);
	else
		receive_transfer(connection, bytes, completion->bytes, now);
}

void smbd_report(struct smbd_connection *connection, struct smbd_rdma_transfer *transfer,
		 nanoseconds now)
{
	trace_point(TRACE_POINT_TRANSFER_DONE, connection, transfer->request.operation,
		    transfer->status);
	connection->events->transferred(connection->owner, transfer->request.operation,
					transfer->status, transfer->moved, now);
	free(transfer);
}

/* A Send or Write completed, and with it all Sends and Writes posted before it. */
static void on_ordered(struct smbd_connection *connection,
		       const struct fabric_completion *completion, nanoseconds now)
{
	uint64_t number = smbd_id_index(completion->id);
	struct smbd_rdma_transfer *finished;
	struct smbd_ordered ordered;

	if (completion->status != FABRIC_OK) {
		if (completion->status != FABRIC_FLUSHED && number >= connection->queue.first &&
		    number < connection->queue.next &&
		    connection->queue.ring[number % SMBD_SEND_QUEUE].transfer)
			connection->queue.ring[number % SMBD_SEND_QUEUE].transfer->status =
				completion->status;
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
			smbd_report(connection, finished, now);
	}
}

static void on_read(struct smbd_connection *connection, const struct fabric_completion *completion,
		    nanoseconds now)
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
		smbd_report(connection, finished, now);
}

static void on_expose(struct smbd_connection *connection,
		      const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_window *window = smbd_windows_find(
		&connection->windows, smbd_id_index(completion->id), SMBD_WINDOW_EXPOSING);
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
	connection->events->exposed(connection->owner, window->operation, FABRIC_OK, &descriptor,
				    now);
}

static void on_revoke(struct smbd_connection *connection,
		      const struct fabric_completion *completion, nanoseconds now)
{
	struct smbd_window *window = smbd_windows_find(
		&connection->windows, smbd_id_index(completion->id), SMBD_WINDOW_REVOKING);
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

static void on_completion(struct smbd_connection *connection,
			  const struct fabric_completion *completion, nanoseconds now)
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

void smbd_on_completions(struct fabric_qp *qp, const struct fabric_completion *completions,
			 size_t count, nanoseconds now)
{
	struct smbd_connection *connection = qp->owner;

	smbd_hold(connection);
	for (size_t i = 0; i < count; i++)
		on_completion(connection, &completions[i], now);
	smbd_let_go(connection, now);
}
