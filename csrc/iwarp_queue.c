/*
 * Work requests in, completions out, and the end of a queue pair.
 *
 *   1. iwarp_post, iwarp_post_receive   checked and queued; nothing happens inside the call
 *   2. the queue pair's task            at the end of the turn: iwarp_transmit, then
 *   3. iwarp_deliver                    completions in batches, `established` before them
 *   4. iwarp_end                        from anywhere: the socket is dead; the task flushes
 *                                       what is outstanding and tells the owner last of all
 *
 * A Send or Write is complete when the kernel has taken its last byte, a Read when its last byte
 * has come. Room for the completion is reserved when the request is posted.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "iwarp.h"

enum {
	RECEIVES_FIRST = 32,	/* posted receives that there is room for at first; it doubles */
	COMPLETIONS_FIRST = 64, /* likewise */
};

/* Queues and pools of messages */

void iwarp_queue_push(struct iwarp_queue *queue, struct iwarp_work *work)
{
	work->next = NULL;
	if (!queue->first)
		queue->last = &queue->first;
	*queue->last = work;
	queue->last = &work->next;
}

struct iwarp_work *iwarp_queue_pop(struct iwarp_queue *queue)
{
	struct iwarp_work *work = queue->first;

	if (work)
		queue->first = work->next;
	return work;
}

static int pool_create(struct iwarp_pool *pool, uint32_t count, uint32_t pieces)
{
	pool->stride = sizeof(struct iwarp_work) + pieces * sizeof(struct iovec);
	pool->count = count;
	pool->memory = malloc(count * pool->stride);
	return pool->memory ? 0 : -ENOMEM;
}

struct iwarp_work *iwarp_pool_take(struct iwarp_pool *pool)
{
	struct iwarp_work *work = pool->free;

	if (work)
		pool->free = work->next;
	else if (pool->fresh < pool->count)
		work = (struct iwarp_work *)(pool->memory + pool->stride * pool->fresh++);
	else
		return NULL;
	pool->used++;
	memset(work, 0, sizeof(*work));
	return work;
}

void iwarp_pool_give(struct iwarp_pool *pool, struct iwarp_work *work)
{
	work->next = pool->free;
	pool->free = work;
	pool->used--;
}

int iwarp_queue_create(struct iwarp_qp *qp)
{
	const struct fabric_limits *limits = &qp->base.limits;
	int result = pool_create(&qp->works, limits->send_queue, limits->send_sges);

	if (result == 0)
		result = pool_create(&qp->responses, limits->responder_depth, 1);
	return result;
}

void iwarp_queue_destroy(struct iwarp_qp *qp)
{
	free(qp->works.memory);
	free(qp->responses.memory);
	free(qp->receives);
	free(qp->completions);
}

/* Step 1: requests */

static bool may_post(const struct iwarp_qp *qp)
{
	return qp->state == IWARP_ACCEPTED || qp->state == IWARP_ESTABLISHED ||
	       qp->state == IWARP_ENDED;
}

int iwarp_post_receive(struct fabric_qp *base, uint64_t id, const struct fabric_sge *sge)
{
	struct iwarp_qp *qp = iwarp_qp(base);
	int result;

	if (qp->state == IWARP_CLOSED || qp->state == IWARP_REQUEST_AWAITED)
		return -ENOTCONN;
	if (!fabric_region_holds(sge->region, sge->address, sge->length))
		return -EINVAL;
	if (qp->receive_count >= base->limits.receive_queue)
		return -ENOSPC;
	result = iwarp_completions_reserve(qp, 1);
	if (result < 0)
		return result;
	if (qp->receive_count == qp->receive_room) {
		uint32_t room = qp->receive_room ? qp->receive_room * 2 : RECEIVES_FIRST;
		struct iwarp_posted_receive *receives =
			realloc(qp->receives, room * sizeof(*receives));

		if (!receives)
			return -ENOMEM;
		qp->receives = receives;
		qp->receive_room = room;
	}
	qp->receives[qp->receive_count++] = (struct iwarp_posted_receive){
		.id = id, .address = sge->address, .length = sge->length};
	if (qp->state == IWARP_ENDED)
		iwarp_schedule(qp);
	return 0;
}

static enum rdmap_opcode opcode_of(enum fabric_opcode opcode)
{
	static const enum rdmap_opcode opcodes[] = {
		[FABRIC_SEND] = RDMAP_SEND,
		[FABRIC_SEND_INVALIDATE] = RDMAP_SEND_INVALIDATE,
		[FABRIC_WRITE] = RDMAP_WRITE,
		[FABRIC_READ] = RDMAP_READ_REQUEST,
	};

	return opcodes[opcode];
}

static enum fabric_opcode fabric_opcode_of(enum rdmap_opcode opcode)
{
	static const enum fabric_opcode opcodes[] = {
		[RDMAP_WRITE] = FABRIC_WRITE,
		[RDMAP_READ_REQUEST] = FABRIC_READ,
		[RDMAP_SEND] = FABRIC_SEND,
		[RDMAP_SEND_INVALIDATE] = FABRIC_SEND_INVALIDATE,
	};

	return opcodes[opcode];
}

static int works_check(struct iwarp_qp *qp, const struct fabric_work *first)
{
	uint32_t count = 0, reads = 0;

	for (const struct fabric_work *work = first; work; work = work->next) {
		int result = fabric_work_check(&qp->base, work);

		if (result < 0)
			return result;
		count++;
		reads += work->opcode == FABRIC_READ;
		if (count > qp->works.count - qp->works.used ||
		    (reads && reads + qp->send.read_count > qp->base.limits.initiator_depth))
			return -ENOSPC;
	}
	return iwarp_completions_reserve(qp, count);
}

/*
 * The sink STag holds the work's slot and a key from its message number: a late response fits
 * nothing.
 */
static uint32_t sink_stag(const struct iwarp_qp *qp, const struct iwarp_work *work)
{
	uint32_t slot = (uint32_t)(((const uint8_t *)work - qp->works.memory) / qp->works.stride);

	return (slot + 1) << 8 | (uint8_t)work->msn;
}

static void work_queue(struct iwarp_qp *qp, const struct fabric_work *request)
{
	struct iwarp_work *work = iwarp_pool_take(&qp->works);

	work->id = request->id;
	work->opcode = opcode_of(request->opcode);
	work->signalled = request->signalled || request->opcode == FABRIC_READ;
	work->to = request->remote_offset;
	work->stag = request->remote_token;
	work->piece_count = request->sge_count;
	for (uint32_t i = 0; i < request->sge_count; i++) {
		work->pieces[i] = (struct iovec){request->sges[i].address, request->sges[i].length};
		work->length += request->sges[i].length;
	}
	if (work->opcode == RDMAP_READ_REQUEST) {
		work->msn = qp->send.msn[DDP_QUEUE_READ_REQUEST]++;
		work->sink = sink_stag(qp, work);
		qp->send.read_count++;
	} else if (work->opcode != RDMAP_WRITE) {
		work->msn = qp->send.msn[DDP_QUEUE_SEND]++;
		work->stag = work->opcode == RDMAP_SEND_INVALIDATE ? work->stag : 0;
	}
	iwarp_queue_push(&qp->send.works, work);
}

int iwarp_post(struct fabric_qp *base, const struct fabric_work *first)
{
	struct iwarp_qp *qp = iwarp_qp(base);
	int result;

	if (!may_post(qp))
		return -ENOTCONN;
	result = works_check(qp, first);
	if (result < 0)
		return result;
	for (; first; first = first->next)
		work_queue(qp, first);
	iwarp_schedule(qp);
	return 0;
}

/* Step 3: completions */

int iwarp_completions_reserve(struct iwarp_qp *qp, uint32_t more)
{
	uint32_t need = qp->completion_count + qp->works.used + qp->receive_count + 1 + more;
	uint32_t room = qp->completion_room ? qp->completion_room : COMPLETIONS_FIRST;
	struct fabric_completion *completions;

	if (need <= qp->completion_room)
		return 0;
	while (room < need)
		room *= 2;
	completions = realloc(qp->completions, room * sizeof(*completions));
	if (!completions)
		return -ENOMEM;
	qp->completions = completions;
	qp->completion_room = room;
	return 0;
}

void iwarp_complete(struct iwarp_qp *qp, const struct fabric_completion *completion)
{
	qp->completions[qp->completion_count++] = *completion;
	iwarp_schedule(qp);
}

/* A receive is being filled, or is full and its owner has not heard of it. */
bool iwarp_may_discard(const struct fabric_qp *base)
{
	const struct iwarp_qp *qp = (const struct iwarp_qp *)base;

	return !qp->receive.message_open && qp->completion_head == qp->completion_count;
}

void iwarp_complete_work(struct iwarp_qp *qp, struct iwarp_work *work, enum fabric_status status)
{
	struct fabric_completion completion = {
		.id = work->id,
		.opcode = fabric_opcode_of(work->opcode),
		.status = status,
		.bytes = status == FABRIC_OK ? work->length : 0,
	};

	if (work->opcode == RDMAP_READ_REQUEST)
		qp->send.read_count--;
	if (work->signalled || status != FABRIC_OK)
		iwarp_complete(qp, &completion);
	iwarp_pool_give(&qp->works, work);
}

static bool deliver_established(struct iwarp_qp *qp)
{
	bool alive = true;

	qp->established_due = false;
	trace_point(TRACE_POINT_QP_ESTABLISHED, qp, 0, 0);
	qp->alive = &alive;
	qp->base.events->established(&qp->base, loop_now(qp->base.fabric->loop));
	if (alive)
		qp->alive = NULL;
	return alive;
}

/* The owner gets a copy: it may destroy the queue pair and still look at its completions. */
static bool deliver_batch(struct iwarp_qp *qp)
{
	struct fabric_completion batch[FABRIC_COMPLETION_BATCH];
	size_t count = qp->completion_count - qp->completion_head;
	bool alive = true;

	if (count > FABRIC_COMPLETION_BATCH)
		count = FABRIC_COMPLETION_BATCH;
	memcpy(batch, qp->completions + qp->completion_head, count * sizeof(batch[0]));
	qp->completion_head += (uint32_t)count;
	if (qp->completion_head == qp->completion_count)
		qp->completion_head = qp->completion_count = 0;
	qp->alive = &alive;
	qp->base.events->completions(&qp->base, batch, count, loop_now(qp->base.fabric->loop));
	if (alive)
		qp->alive = NULL;
	return alive;
}

/* Step 4: the end */

static void flush_queue(struct iwarp_qp *qp, struct iwarp_queue *queue)
{
	struct iwarp_work *work;

	while ((work = iwarp_queue_pop(queue)))
		iwarp_complete_work(qp, work, FABRIC_FLUSHED);
}

static void flush_receive(struct iwarp_qp *qp, const struct iwarp_posted_receive *receive)
{
	iwarp_complete(qp, &(struct fabric_completion){
				   .id = receive->id,
				   .opcode = FABRIC_RECEIVE,
				   .status = FABRIC_FLUSHED,
			   });
}

static void flush(struct iwarp_qp *qp)
{
	struct iwarp_work *response;

	flush_queue(qp, &qp->send.reads);
	flush_queue(qp, &qp->send.works);
	while ((response = iwarp_queue_pop(&qp->send.responses)))
		iwarp_pool_give(&qp->responses, response);
	if (qp->receive.message_open)
		flush_receive(qp, &qp->receive.message);
	qp->receive.message_open = false;
	while (qp->receive_count)
		flush_receive(qp, &qp->receives[--qp->receive_count]);
}

static bool deliver_disconnected(struct iwarp_qp *qp)
{
	bool alive = true;

	qp->state = IWARP_CLOSED;
	trace_point(TRACE_POINT_QP_DISCONNECTED, qp, qp->reason, 0);
	loop_task_cancel(qp->base.fabric->loop, &qp->task);
	qp->alive = &alive;
	qp->base.events->disconnected(&qp->base, qp->reason, qp->words,
				      loop_now(qp->base.fabric->loop));
	if (alive)
		qp->alive = NULL;
	return alive;
}

bool iwarp_deliver(struct iwarp_qp *qp)
{
	if (qp->state == IWARP_CLOSED || qp->alive || !qp->base.events)
		return true;
	if (qp->established_due && !deliver_established(qp))
		return false;
	for (;;) {
		if (qp->state == IWARP_ENDED)
			flush(qp);
		if (qp->completion_head == qp->completion_count)
			break;
		if (!deliver_batch(qp))
			return false;
	}
	return qp->state != IWARP_ENDED || deliver_disconnected(qp);
}

void iwarp_schedule(struct iwarp_qp *qp)
{
	loop_task_add(qp->base.fabric->loop, &qp->task);
}

void iwarp_end(struct iwarp_qp *qp, enum close_reason reason, const char *format, ...)
{
	va_list arguments;

	if (qp->state == IWARP_ENDED || qp->state == IWARP_CLOSED)
		return;
	va_start(arguments, format);
	vsnprintf(qp->words, sizeof(qp->words), format, arguments);
	va_end(arguments);
	qp->reason = reason;
	qp->state = IWARP_ENDED;
	loop_timer_cancel(qp->base.fabric->loop, &qp->timer);
	loop_watch_remove(qp->base.fabric->loop, &qp->watch);
	/*
	 * What the kernel has taken still goes out; what has come is thrown away, or it would
	 * answer with a reset.
	 */
	if (qp->fd >= 0) {
		shutdown(qp->fd, SHUT_WR);
		recv(qp->fd, NULL, IWARP_RECEIVE_BUDGET, MSG_TRUNC | MSG_DONTWAIT);
	}
	iwarp_schedule(qp);
}

void iwarp_terminate(struct iwarp_qp *qp, enum rdmap_error error)
{
	iwarp_send_terminate(qp, error);
	iwarp_end(qp, CLOSE_PROTOCOL_ERROR,
		  "the peer broke the protocol; sent Terminate 0x%04x, %s", error,
		  rdmap_error_words(error));
}

void iwarp_disconnect(struct fabric_qp *base)
{
	iwarp_end(iwarp_qp(base), CLOSE_NONE, "disconnected by this side");
}
