/*
 * The pump: what may be posted now is posted, in one chain.
 *
 *   receives -> exposures, revocations -> Reads -> Writes and messages in their order -> an empty message if one is due
 *
 * Every entry into the engine holds the pump, does its work, and lets go; the pump then runs once. So the answers to
 * all messages of one batch of completions leave in one chain, and a callback may call back without recursion.
 */
#include <errno.h>

#include "smbd_state.h"
#include "trace.h"

int smbd_post_receive(struct smbd_connection *connection)
{
	struct smbd_slots *slots = &connection->buffers.receive;
	uint32_t slot = smbd_slots_take(slots);
	struct fabric_sge sge = {.address = smbd_slot(slots, slot),
				 .length = slots->size,
				 .region = connection->buffers.region};
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
	while (!stalled && smbd_credits_missing(credits) > 0 &&
	       connection->buffers.receive.free > 0) {
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

	while (rdma->reads.first && rdma->outstanding < rdma->depth &&
	       smbd_queue_has_room(&connection->queue))
		smbd_rdma_post_read(rdma, chain);
	note_stall(rdma->reads.first && rdma->outstanding >= rdma->depth,
		   &connection->stalled_read_depth, &connection->counted.stalls_read_depth,
		   TRACE_SMBD_STALLS_READ_DEPTH);
}

/* Fills a header with all that rides on a message besides its payload, and pays for it. */
static void ride(struct smbd_connection *connection, struct smbd_data_transfer *header,
		 nanoseconds now)
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

static void post_segment(struct smbd_connection *connection, struct smbd_chain *chain,
			 nanoseconds now)
{
	const struct smbd_message *first = connection->outgoing.first;
	uint32_t slot = smbd_slots_take(&connection->buffers.send), token = first->token;
	uint8_t *bytes = smbd_slot(&connection->buffers.send, slot);
	bool invalidate = first->invalidate;
	struct smbd_data_transfer header = {0};
	struct smbd_message *sent;

	sent = smbd_outgoing_cut(&connection->outgoing,
				 connection->max_send_size - SMBD_DATA_OFFSET,
				 bytes + SMBD_DATA_OFFSET, &header);
	ride(connection, &header, now);
	smbd_data_transfer_build(&header, bytes);
	smbd_chain_send(chain, slot, bytes, SMBD_DATA_OFFSET + header.length, sent && invalidate,
			token);
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
static void post_ordered(struct smbd_connection *connection, struct smbd_chain *chain,
			 nanoseconds now)
{
	bool no_credit = false, no_room = false;

	while (!no_credit && !no_room &&
	       (connection->outgoing.first || connection->rdma.writes.first)) {
		bool write = write_is_next(connection);

		if (!smbd_queue_has_room(&connection->queue) ||
		    (!write && connection->buffers.send.free == 0))
			no_room = true;
		else if (write)
			smbd_rdma_post_write(&connection->rdma, chain);
		else if (!smbd_credits_may_send(&connection->credits))
			no_credit = true;
		else
			post_segment(connection, chain, now);
	}
	note_stall(no_credit, &connection->stalled_send_credit,
		   &connection->counted.stalls_send_credit, TRACE_SMBD_STALLS_SEND_CREDIT);
	note_stall(no_room, &connection->stalled_send_queue, &connection->counted.stalls_send_queue,
		   TRACE_SMBD_STALLS_SEND_QUEUE);
}

/*
 * An empty message, when something has to be said and no message is there to carry it. One that is there and cannot
 * go lacks what an empty one would lack as well; and nothing may come between its segments.
 */
static void post_empty(struct smbd_connection *connection, struct smbd_chain *chain,
		       nanoseconds now)
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
		smbd_refused(connection, error,
			     "the queue pair refused to expose or to revoke memory");
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
	return connection->outgoing.first || connection->rdma.all.first ||
	       connection->windows.first || connection->queue.used > 0;
}

static void pump(struct smbd_connection *connection, nanoseconds now)
{
	bool emptied = true;

	connection->held++;
	while (emptied &&
	       (connection->state == SMBD_ESTABLISHED || connection->state == SMBD_CLOSING)) {
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

void smbd_hold(struct smbd_connection *connection)
{
	connection->held++;
}

void smbd_let_go(struct smbd_connection *connection, nanoseconds now)
{
	connection->held--;
	if (connection->held == 0)
		pump(connection, now);
}
