/*
 * Work requests in, completions out.
 *
 *   1. verbs_post, verbs_post_receive   checked as a whole, numbered in a ring, then handed to the device in chains
 *   2. verbs_poll                       poll, arm, poll again, sleep; FABRIC_COMPLETION_BATCH in one turn
 *   3. work_completed, receive_completed   a number says what the device speaks of
 *   4. verbs_flush                      at the end: what is left in the rings
 *
 * wr_id is a tag and a number, never an address. The opcode of a failed completion is undefined, so what a request was
 * stands in the ring. Completions of one send queue come in the order of posting: the number of one vouches for all
 * before it, and those were carried out.
 *
 * Place on the send queue comes back with completions only. So at the latest a quarter of the queue after the last
 * request that completes, another is made to complete, whether its owner wants to hear of it or not.
 */
#include "verbs.h"

#if VERBS_BUILT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum verbs_tag {
	VERBS_TAG_WORK = 1,
	VERBS_TAG_RECEIVE = 2,
};

enum {
	TAG_SHIFT = 56,
	QUIET_SHARE = 4, /* of the send queue: so much of it at most completes silently */
	DUE_FIRST = 8,
};
/*
 * Quirk of rxe, seen with Linux 6.1 and rdma-core 44: the kernel writes its own bits into the user's completion, and its
 * IB_WC_WITH_INVALIDATE is the user's IBV_WC_IP_CSUM_OK. That one means nothing on a connected queue pair, so it is
 * believed when the token that comes with it is that of an exposed window.
 */
#define INVALIDATED_FLAGS (IBV_WC_WITH_INV | IBV_WC_IP_CSUM_OK)
#define NUMBER_MASK	  (((uint64_t)1 << TAG_SHIFT) - 1)
/* From the first flushed request, whose reason is not known yet, to the end. */
#define REASON_TIME ((nanoseconds)50 * MILLISECOND)

static uint64_t wr_id(enum verbs_tag tag, uint64_t number)
{
	return (uint64_t)tag << TAG_SHIFT | number;
}

/* Step 1: requests. */

bool verbs_may_post(const struct verbs_qp *qp)
{
	return qp->state == VERBS_ACCEPTED || qp->state == VERBS_ESTABLISHED;
}

static int receive_hand_over(struct verbs_qp *qp, uint64_t number)
{
	struct ibv_recv_wr request = {
		.wr_id = wr_id(VERBS_TAG_RECEIVE, number),
		.sg_list = &qp->receives[number % qp->receive_ring.room].sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;

	return ibv_post_recv(qp->qp, &request, &bad);
}

int verbs_post_early_receives(struct verbs_qp *qp)
{
	for (uint64_t number = qp->receive_ring.first; number < qp->receive_ring.next; number++) {
		int error = receive_hand_over(qp, number);

		if (error)
			return -error;
	}
	return 0;
}

int verbs_post_receive(struct fabric_qp *base, uint64_t id, const struct fabric_sge *sge)
{
	struct verbs_qp *qp = verbs_qp(base);
	struct verbs_ring *ring = &qp->receive_ring;
	int error;

	if (qp->state >= VERBS_ENDED)
		return -ENOTCONN;
	if (!fabric_region_holds(sge->region, sge->address, sge->length))
		return -EINVAL;
	if (verbs_ring_used(ring) >= base->limits.receive_queue)
		return -ENOSPC;
	qp->receives[ring->next % ring->room] = (struct verbs_receive){
		.id = id,
		.sge = {.addr = (uintptr_t)sge->address,
			.length = sge->length,
			.lkey = ((const struct verbs_region *)sge->region)->mr->lkey},
	};
	ring->next++;
	if (!qp->qp)
		return 0; /* verbs_post_early_receives follows */
	error = receive_hand_over(qp, ring->next - 1);
	if (error)
		verbs_end(qp, CLOSE_LIMIT, "the device refused a receive: %s", strerror(error));
	return 0;
}

static int works_check(const struct verbs_qp *qp, const struct fabric_work *first)
{
	uint32_t used = verbs_ring_used(&qp->work_ring), reads = qp->reads;

	for (const struct fabric_work *work = first; work; work = work->next) {
		bool read = work->opcode == FABRIC_READ;
		int result = fabric_work_check(&qp->base, work);

		if (result < 0)
			return result;
		reads += read;
		if (++used > qp->base.limits.send_queue ||
		    (read && reads > qp->base.limits.initiator_depth))
			return -ENOSPC;
	}
	return 0;
}

struct verbs_work *verbs_work_take(struct verbs_qp *qp, const struct verbs_work *work,
				   uint64_t *ret)
{
	struct verbs_ring *ring = &qp->work_ring;
	struct verbs_work *place = &qp->works[ring->next % ring->room];

	if (verbs_ring_used(ring) >= qp->base.limits.send_queue)
		return NULL;
	*place = *work;
	*ret = wr_id(VERBS_TAG_WORK, ring->next++);
	qp->reads += work->opcode == FABRIC_READ;
	if (work->signalled)
		qp->quiet = 0;
	return place;
}

int verbs_post_one(struct verbs_qp *qp, struct ibv_send_wr *request)
{
	struct ibv_send_wr *bad;
	int error = ibv_post_send(qp->qp, request, &bad);

	/* Part of a chain may be under way: the ring has all of it, and flushes it. */
	if (error)
		verbs_end(qp, CLOSE_LIMIT, "the device refused a work request: %s",
			  strerror(error));
	return 0;
}

static enum ibv_wr_opcode opcode_of(const struct verbs_qp *qp, enum fabric_opcode opcode)
{
	switch (opcode) {
	case FABRIC_WRITE:
		return IBV_WR_RDMA_WRITE;
	case FABRIC_READ:
		return IBV_WR_RDMA_READ;
	case FABRIC_SEND_INVALIDATE:
		/* The peer of an adapter without it invalidates for itself, as it must anyway. */
		return verbs_device_of(qp)->invalidate ? IBV_WR_SEND_WITH_INV : IBV_WR_SEND;
	default:
		return IBV_WR_SEND;
	}
}

static uint32_t sges_fill(struct ibv_sge *sges, const struct fabric_work *work)
{
	uint32_t length = 0;

	for (uint32_t i = 0; i < work->sge_count; i++) {
		const struct fabric_sge *from = &work->sges[i];

		sges[i] = (struct ibv_sge){
			.addr = (uintptr_t)from->address,
			.length = from->length,
			.lkey = ((const struct verbs_region *)from->region)->mr->lkey,
		};
		length += from->length;
	}
	return length;
}

static bool must_complete(struct verbs_qp *qp, const struct fabric_work *work)
{
	if (work->signalled || work->opcode == FABRIC_READ)
		return true;
	return ++qp->quiet >= qp->base.limits.send_queue / QUIET_SHARE;
}

static void request_build(struct verbs_qp *qp, const struct fabric_work *work,
			  struct ibv_send_wr *request, struct ibv_sge *sges)
{
	struct verbs_work place = {
		.id = work->id,
		.opcode = work->opcode,
		.signalled = work->signalled || work->opcode == FABRIC_READ,
	};
	bool completes = must_complete(qp, work);

	*request = (struct ibv_send_wr){
		.sg_list = sges,
		.num_sge = (int)work->sge_count,
		.opcode = opcode_of(qp, work->opcode),
		.send_flags = completes ? IBV_SEND_SIGNALED : 0,
	};
	place.bytes = sges_fill(sges, work);
	if (work->opcode == FABRIC_WRITE || work->opcode == FABRIC_READ) {
		request->wr.rdma.remote_addr = work->remote_offset;
		request->wr.rdma.rkey = work->remote_token;
	} else {
		if (request->opcode == IBV_WR_SEND_WITH_INV)
			request->invalidate_rkey = work->remote_token;
		if (place.bytes <= qp->inline_bytes)
			request->send_flags |= IBV_SEND_INLINE;
	}
	verbs_work_take(qp, &place, &request->wr_id);
	if (completes)
		qp->quiet = 0;
}

/* Writes and the Send behind them reach the device in one call, up to VERBS_CHAIN at a time. */
int verbs_post(struct fabric_qp *base, const struct fabric_work *work)
{
	struct verbs_qp *qp = verbs_qp(base);
	struct verbs_fabric *fabric = verbs_fabric_of(qp);
	int result;

	if (!verbs_may_post(qp))
		return -ENOTCONN;
	result = works_check(qp, work);
	if (result < 0)
		return result;
	while (work) {
		uint32_t count = 0, sges = 0;

		for (; work && count < VERBS_CHAIN && sges < VERBS_CHAIN; work = work->next) {
			request_build(qp, work, &fabric->requests[count], &fabric->sges[sges]);
			if (count > 0)
				fabric->requests[count - 1].next = &fabric->requests[count];
			sges += work->sge_count;
			count++;
		}
		if (qp->state < VERBS_ENDED)
			verbs_post_one(qp, fabric->requests);
	}
	return 0;
}

/* Completions that no request of the device stands for: the owner hears of them from the loop. */
int verbs_due_add(struct verbs_qp *qp, const struct fabric_completion *completion)
{
	uint32_t room = qp->due_room ? 2 * qp->due_room : DUE_FIRST;
	struct fabric_completion *due;

	if (qp->due_count == qp->due_room) {
		due = realloc(qp->due, room * sizeof(*due));
		if (!due)
			return -ENOMEM;
		qp->due = due;
		qp->due_room = room;
	}
	qp->due[qp->due_count++] = *completion;
	verbs_schedule(qp);
	return 0;
}

/* Step 3: what the device speaks of. */

static enum fabric_status status_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_SUCCESS:
		return FABRIC_OK;
	case IBV_WC_WR_FLUSH_ERR:
		return FABRIC_FLUSHED;
	case IBV_WC_REM_ACCESS_ERR:
		return FABRIC_REMOTE_ACCESS;
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_LOC_QP_OP_ERR:
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_ACCESS_ERR:
	case IBV_WC_MW_BIND_ERR:
	case IBV_WC_FATAL_ERR:
		return FABRIC_LOCAL_ERROR;
	default:
		return FABRIC_TRANSPORT_ERROR;
	}
}

static enum close_reason reason_of(enum ibv_wc_status status, bool receive)
{
	if (status == IBV_WC_REM_ACCESS_ERR)
		return CLOSE_REMOTE_ACCESS;
	/* The peer sent more than it was told (rxe calls that a QP operation error), or without a credit. */
	if (status == IBV_WC_RNR_RETRY_EXC_ERR || status == IBV_WC_REM_INV_REQ_ERR ||
	    (receive && (status == IBV_WC_LOC_LEN_ERR || status == IBV_WC_LOC_QP_OP_ERR)))
		return CLOSE_PROTOCOL_ERROR;
	return status_of(status) == FABRIC_LOCAL_ERROR ? CLOSE_LIMIT : CLOSE_PEER_LOST;
}

/*
 * A failed request ends the queue pair. One that was flushed says nothing of the reason: rdma_cm or an event of the
 * device will, in a moment.
 */
static void failed(struct verbs_qp *qp, const struct ibv_wc *wc, bool receive)
{
	struct loop *loop = qp->base.fabric->loop;

	if (wc->status != IBV_WC_WR_FLUSH_ERR)
		verbs_end(qp, reason_of(wc->status, receive), "a %s failed: %s",
			  receive ? "receive" : "work request",
			  verbs_of(qp->base.fabric)->wc_status_str(wc->status));
	else if (qp->state < VERBS_ENDED && !qp->timer.place)
		loop_timer_set(loop, &qp->timer, loop_now(loop) + REASON_TIME);
}

static void work_retire(struct verbs_qp *qp, struct verbs_work *work, enum fabric_status status)
{
	qp->reads -= work->opcode == FABRIC_READ;
	if (status != FABRIC_OK || !work->window)
		return;
	if (work->opcode == FABRIC_EXPOSE)
		verbs_window_bound(work->window);
	else
		verbs_window_unbound(qp, work->window);
}

/* All before `number` were carried out in silence. */
static size_t work_completed(struct verbs_qp *qp, uint64_t number, enum fabric_status status,
			     struct fabric_completion *ret)
{
	struct verbs_ring *ring = &qp->work_ring;
	struct verbs_work *work = NULL;

	if (number < ring->first || number >= ring->next)
		return 0; /* a device that repeats itself finds nothing */
	while (ring->first <= number) {
		work = &qp->works[ring->first % ring->room];
		work_retire(qp, work, ring->first == number ? status : FABRIC_OK);
		ring->first++;
	}
	if (!work->signalled && status == FABRIC_OK)
		return 0;
	*ret = (struct fabric_completion){
		.id = work->id,
		.opcode = work->opcode,
		.status = status,
		.bytes = status == FABRIC_OK ? work->bytes : 0,
	};
	return 1;
}

static size_t receive_completed(struct verbs_qp *qp, const struct ibv_wc *wc, uint64_t number,
				struct fabric_completion *ret)
{
	struct verbs_ring *ring = &qp->receive_ring;

	if (number != ring->first || ring->first == ring->next)
		return 0;
	*ret = (struct fabric_completion){
		.id = qp->receives[number % ring->room].id,
		.opcode = FABRIC_RECEIVE,
		.status = FABRIC_OK,
		.bytes = wc->byte_len,
	};
	ring->first++;
	/* The message overtook rdma_cm's: the peer is there, and the kernel learns of it from us. */
	if (qp->state == VERBS_ACCEPTED) {
		verbs_of(qp->base.fabric)->notify(qp->endpoint.id, IBV_EVENT_COMM_EST);
		verbs_established(qp);
	}
	if (wc->wc_flags & INVALIDATED_FLAGS &&
	    verbs_window_invalidated(qp, wc->invalidated_rkey)) {
		ret->invalidated = true;
		ret->invalidated_token = wc->invalidated_rkey;
	}
	return 1;
}

/*
 * Flushed requests stay in the ring: verbs_flush tells of them when the reason is known. So does a receive that failed:
 * nothing came with it, and verbs_end has said why.
 */
static size_t completed(struct verbs_qp *qp, const struct ibv_wc *wc, struct fabric_completion *ret)
{
	bool receive = wc->wr_id >> TAG_SHIFT == VERBS_TAG_RECEIVE;
	enum fabric_status status = status_of(wc->status);
	uint64_t number = wc->wr_id & NUMBER_MASK;

	if (status != FABRIC_OK)
		failed(qp, wc, receive);
	if (status == FABRIC_FLUSHED || (receive && status != FABRIC_OK))
		return 0;
	return receive ? receive_completed(qp, wc, number, ret)
		       : work_completed(qp, number, status, ret);
}

/* Polls once. How many there were, -1: the owner has destroyed the queue pair. */
static int poll_once(struct verbs_qp *qp, int most)
{
	struct fabric_completion batch[FABRIC_COMPLETION_BATCH];
	struct ibv_wc wcs[FABRIC_COMPLETION_BATCH];
	int polled = ibv_poll_cq(qp->cq, most, wcs);
	size_t count = 0;

	if (polled < 0) {
		verbs_end(qp, CLOSE_LIMIT, "the completion queue cannot be polled");
		return 0;
	}
	for (int i = 0; i < polled; i++)
		count += completed(qp, &wcs[i], &batch[count]);
	if (count > 0 && !verbs_hand_over(qp, batch, count))
		return -1;
	return polled;
}

/*
 * Step 2. A completion that comes between the last poll and the arming makes no event, so there is one more poll after
 * it. Armed and empty: sleep. What is beyond the budget waits for the next turn.
 */
void verbs_poll(struct verbs_qp *qp)
{
	int left = FABRIC_COMPLETION_BATCH;

	while (left > 0 && qp->state < VERBS_ENDED) {
		int polled = poll_once(qp, left);

		if (polled < 0)
			return;
		left -= polled;
		if (left == 0 || qp->state >= VERBS_ENDED)
			break;
		if (qp->armed)
			return;
		if (ibv_req_notify_cq(qp->cq, 0)) {
			verbs_end(qp, CLOSE_LIMIT, "the completion queue cannot be armed");
			return;
		}
		qp->armed = true;
	}
	verbs_schedule(qp);
}

/* Step 4: the end. What had completed before it is told as such. */

bool verbs_poll_last(struct verbs_qp *qp)
{
	int polled = 1;

	while (qp->cq && polled > 0) {
		polled = poll_once(qp, FABRIC_COMPLETION_BATCH);
		if (polled < 0)
			return false;
	}
	return true;
}

static size_t works_flush(struct verbs_qp *qp, struct fabric_completion *batch)
{
	struct verbs_ring *ring = &qp->work_ring;
	size_t count = 0;

	for (; ring->first < ring->next && count < FABRIC_COMPLETION_BATCH; ring->first++) {
		struct verbs_work *work = &qp->works[ring->first % ring->room];

		work_retire(qp, work, FABRIC_FLUSHED);
		batch[count++] = (struct fabric_completion){
			.id = work->id, .opcode = work->opcode, .status = FABRIC_FLUSHED};
	}
	return count;
}

static size_t receives_flush(struct verbs_qp *qp, struct fabric_completion *batch)
{
	struct verbs_ring *ring = &qp->receive_ring;
	size_t count = 0;

	for (; ring->first < ring->next && count < FABRIC_COMPLETION_BATCH; ring->first++)
		batch[count++] = (struct fabric_completion){
			.id = qp->receives[ring->first % ring->room].id,
			.opcode = FABRIC_RECEIVE,
			.status = FABRIC_FLUSHED,
		};
	return count;
}

bool verbs_flush(struct verbs_qp *qp)
{
	struct fabric_completion batch[FABRIC_COMPLETION_BATCH];
	size_t count;

	while ((count = works_flush(qp, batch)) || (count = receives_flush(qp, batch))) {
		if (!verbs_hand_over(qp, batch, count))
			return false;
	}
	return true;
}

#endif
