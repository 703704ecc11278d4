/*
 * The work of the in-process fabric: posted, carried out or played by the test, handed over one step at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fabric_memory_parts.h"

enum {
	TOKEN_KEY_BITS = 8,    /* the low byte of a token, as everywhere */
	OFFSET_BIAS = 1 << 20, /* remote offsets are opaque: not the address, not zero-based */
};

/* Posting. */

int memory_post_receive(struct fabric_qp *base, uint64_t id, const struct fabric_sge *sge)
{
	struct memory_qp *qp = memory_of(base);
	int error = memory_refused(base->fabric);

	if (error)
		return error;
	if (qp->state >= STATE_ENDING)
		return 0; /* flushed: the owner learns of the end soon */
	if (!fabric_region_holds(sge->region, sge->address, sge->length))
		return -EFAULT;
	if (qp->receive_count == base->limits.receive_queue)
		return -ENOSPC;
	qp->receives[(qp->receive_first + qp->receive_count++) % qp->receive_size] =
		(struct receive){.id = id, .sge = *sge};
	return 0;
}

/* The whole chain is checked before any of it is taken. */
static int check(const struct memory_qp *qp, const struct fabric_work *first)
{
	const struct fabric_limits *limits = &qp->base.limits;
	uint32_t used = qp->used, reads = qp->reads;

	for (const struct fabric_work *work = first; work; work = work->next) {
		bool read = work->opcode == FABRIC_READ;
		uint64_t length = 0;

		reads += read;
		if (++used > limits->send_queue || reads > limits->initiator_depth)
			return -ENOSPC;
		if (work->sge_count > (read ? limits->read_sges : limits->send_sges) ||
		    (read && !work->signalled))
			return -EINVAL;
		for (uint32_t i = 0; i < work->sge_count; i++) {
			if (!fabric_region_holds(work->sges[i].region, work->sges[i].address,
						 work->sges[i].length))
				return -EFAULT;
			length += work->sges[i].length;
		}
		if (length > limits->transfer_bytes && (read || work->opcode == FABRIC_WRITE))
			return -EINVAL;
	}
	return 0;
}

static void take(struct memory_qp *qp, const struct fabric_work *work)
{
	struct fabric_memory_work *copy = calloc(1, sizeof(*copy)), **place = &qp->posted;

	if (!copy)
		abort();
	*copy = (struct fabric_memory_work){
		.number = ++qp->works,
		.call = qp->calls,
		.id = work->id,
		.opcode = work->opcode,
		.signalled = work->signalled,
		.remote_offset = work->remote_offset,
		.remote_token = work->remote_token,
		.sge_count = work->sge_count,
		.sges = calloc(work->sge_count ? work->sge_count : 1, sizeof(*work->sges)),
	};
	if (!copy->sges)
		abort();
	for (uint32_t i = 0; i < work->sge_count; i++) {
		copy->sges[i] = work->sges[i];
		copy->length += work->sges[i].length;
	}
	qp->used++;
	qp->reads += work->opcode == FABRIC_READ;
	while (*place)
		place = &(*place)->next;
	*place = copy;
}

int memory_post(struct fabric_qp *base, const struct fabric_work *first)
{
	struct memory_qp *qp = memory_of(base);
	int error = memory_refused(base->fabric);

	if (error || qp->state >= STATE_ENDING)
		return error; /* ended: flushed, the owner learns of it soon */
	error = check(qp, first);
	if (error)
		return error;
	qp->calls++;
	for (const struct fabric_work *work = first; work; work = work->next)
		take(qp, work);
	return 0;
}

int memory_expose(struct fabric_qp *base, struct fabric_region *region, void *address,
		  size_t length, unsigned access, uint64_t id, struct fabric_window **ret)
{
	struct memory_qp *qp = memory_of(base);
	struct fabric_completion completion = {.id = id, .opcode = FABRIC_EXPOSE};
	int error = memory_refused(base->fabric);
	struct window *window;

	if (error)
		return error;
	if (!fabric_region_holds(region, address, length))
		return -EFAULT;
	if (qp->used == base->limits.send_queue && qp->state < STATE_ENDING)
		return -ENOSPC;
	window = calloc(1, sizeof(*window));
	if (!window)
		return -ENOMEM;
	window->base = (struct fabric_window){
		.qp = base,
		.token = ++memory(base->fabric)->next_token << TOKEN_KEY_BITS | 0x5A,
		.offset = (uint64_t)(uintptr_t)address + OFFSET_BIAS,
		.length = length,
	};
	window->address = address;
	window->access = access;
	window->valid = true;
	window->next = qp->windows;
	qp->windows = window;
	qp->used++;
	*ret = &window->base;
	if (qp->state == STATE_ESTABLISHED)
		memory_add_result(qp, &completion, 1);
	return 0;
}

int memory_revoke(struct fabric_window *base, uint64_t id)
{
	struct memory_qp *qp = memory_of(base->qp);
	struct window **place = &qp->windows, *window;
	struct fabric_completion completion = {.id = id, .opcode = FABRIC_REVOKE};

	if (qp->used == qp->base.limits.send_queue && qp->state < STATE_ENDING)
		return -ENOSPC;
	while (&(*place)->base != base)
		place = &(*place)->next;
	window = *place;
	*place = window->next;
	free(window);
	qp->used++;
	if (qp->state == STATE_ESTABLISHED)
		memory_add_result(qp, &completion, 1);
	return 0;
}

/* Carrying out. */

static void complete(struct memory_qp *qp, const struct fabric_memory_work *work,
		     enum fabric_status status)
{
	struct fabric_completion completion = {
		.id = work->id, .opcode = work->opcode, .status = status, .bytes = work->length};

	if (work->opcode == FABRIC_READ) {
		memory_add_result(qp, &completion, 1);
	} else if (work->signalled || status != FABRIC_OK) {
		memory_add_result(qp, &completion, qp->quiet + 1);
		qp->quiet = 0;
	} else {
		qp->quiet++;
	}
}

static void fail(struct memory_qp *qp, const struct fabric_memory_work *work,
		 enum fabric_status status)
{
	complete(qp, work, status);
	memory_end(qp, status == FABRIC_REMOTE_ACCESS ? CLOSE_REMOTE_ACCESS : CLOSE_PEER_LOST,
		   "a work request failed");
}

int fabric_memory_arrive(struct fabric_qp *base, const void *bytes, uint32_t length)
{
	struct memory_qp *qp = memory_of(base);
	struct receive *receive = &qp->receives[qp->receive_first];
	struct fabric_completion completion = {.opcode = FABRIC_RECEIVE, .bytes = length};

	if (qp->receive_count == 0)
		return -ENOBUFS;
	if (length > receive->sge.length)
		return -EMSGSIZE;
	if (length > 0)
		memcpy(receive->sge.address, bytes, length);
	completion.id = receive->id;
	qp->receive_first = (qp->receive_first + 1) % qp->receive_size;
	qp->receive_count--;
	memory_add_result(qp, &completion, 0);
	return 0;
}

uint32_t fabric_memory_receives(const struct fabric_qp *qp)
{
	return memory_of(qp)->receive_count;
}

static struct window *find_window(const struct memory_qp *qp, uint32_t token)
{
	struct window *window = qp->windows;

	while (window && window->base.token != token)
		window = window->next;
	return window;
}

int fabric_memory_arrive_invalidating(struct fabric_qp *base, const void *bytes, uint32_t length,
				      uint32_t token)
{
	struct memory_qp *qp = memory_of(base);
	struct window *window = find_window(qp, token);
	struct result **last = qp->results_end;
	int error;

	if (!window)
		return -ENOENT;
	error = fabric_memory_arrive(base, bytes, length);
	if (error < 0)
		return error;
	window->valid = false;
	(*last)->completion.invalidated = true;
	(*last)->completion.invalidated_token = token;
	return 0;
}

static bool carry_out_send(struct memory_qp *qp, const struct fabric_memory_work *work)
{
	struct fabric_qp *peer = &qp->peer->base;
	uint8_t *bytes = malloc(work->length ? work->length : 1);
	int error;

	if (!bytes)
		abort();
	fabric_memory_gather(work, bytes);
	if (work->opcode == FABRIC_SEND)
		error = fabric_memory_arrive(peer, bytes, work->length);
	else
		error = fabric_memory_arrive_invalidating(peer, bytes, work->length,
							  work->remote_token);
	free(bytes);
	return error == 0;
}

/* The peer's memory that a Write or Read names, or NULL. */
static uint8_t *remote(const struct memory_qp *qp, const struct fabric_memory_work *work,
		       unsigned access)
{
	const struct window *window = find_window(qp->peer, work->remote_token);
	uint64_t place;

	if (!window || !window->valid || (window->access & access) != access ||
	    work->remote_offset < window->base.offset)
		return NULL;
	place = work->remote_offset - window->base.offset;
	if (place > window->base.length || work->length > window->base.length - place)
		return NULL;
	return window->address + place;
}

static void carry_out(struct memory_qp *qp, struct fabric_memory_work *work)
{
	uint8_t *there = NULL;

	if (work->opcode == FABRIC_SEND || work->opcode == FABRIC_SEND_INVALIDATE) {
		if (!carry_out_send(qp, work))
			fail(qp, work, FABRIC_TRANSPORT_ERROR);
		else
			complete(qp, work, FABRIC_OK);
		return;
	}
	there = remote(qp, work,
		       work->opcode == FABRIC_READ ? FABRIC_PEER_READS : FABRIC_PEER_WRITES);
	if (!there) {
		fail(qp, work, FABRIC_REMOTE_ACCESS);
		return;
	}
	if (work->opcode == FABRIC_READ)
		memory_scatter(work, there);
	else
		fabric_memory_gather(work, there);
	complete(qp, work, FABRIC_OK);
}

const struct fabric_memory_work *fabric_memory_posted(const struct fabric_qp *qp, uint64_t after)
{
	const struct fabric_memory_work *work = memory_of(qp)->posted;

	while (work && work->number <= after)
		work = work->next;
	return work;
}

void fabric_memory_finish(struct fabric_qp *base, uint64_t number, enum fabric_status status,
			  const void *bytes)
{
	struct memory_qp *qp = memory_of(base);
	const struct fabric_memory_work *before = fabric_memory_posted(base, number - 1);
	struct fabric_memory_work *work;
	bool read = before->opcode == FABRIC_READ;

	for (uint64_t earlier = 0;
	     !read && (before = fabric_memory_posted(base, earlier))->number < number;) {
		earlier = before->number;
		if (before->opcode == FABRIC_READ)
			continue;
		work = memory_unlink_work(qp, earlier);
		complete(qp, work, FABRIC_OK);
		memory_free_work(work);
	}
	work = memory_unlink_work(qp, number);
	if (read && bytes && status == FABRIC_OK)
		memory_scatter(work, bytes);
	if (status == FABRIC_OK)
		complete(qp, work, FABRIC_OK);
	else
		fail(qp, work, status);
	memory_free_work(work);
}

/* Steps. */

/* The next request that may be carried out: with Reads held, the first that is none. */
static struct fabric_memory_work *next_work(const struct memory_qp *qp)
{
	struct fabric_memory_work *work = qp->posted;

	if (qp->state != STATE_ESTABLISHED || !qp->peer || qp->hold & FABRIC_MEMORY_HOLD_WORK)
		return NULL;
	while (work && work->opcode == FABRIC_READ && qp->hold & FABRIC_MEMORY_HOLD_READS)
		work = work->next;
	return work;
}

static bool held(const struct memory_qp *qp, const struct fabric_completion *completion)
{
	if (qp->state >= STATE_ENDING)
		return false;
	if (completion->opcode == FABRIC_RECEIVE)
		return qp->hold & FABRIC_MEMORY_HOLD_RECEIVES;
	if (completion->opcode == FABRIC_READ)
		return qp->hold & FABRIC_MEMORY_HOLD_READS;
	return completion->opcode <= FABRIC_WRITE && qp->hold & FABRIC_MEMORY_HOLD_ORDERED;
}

/* Hands over completions; those that are held stay in their order. */
static bool hand_over(struct memory_qp *qp, nanoseconds now)
{
	struct fabric_completion batch[FABRIC_COMPLETION_BATCH];
	struct result **place = &qp->results;
	size_t count = 0;

	while (*place && count < FABRIC_COMPLETION_BATCH) {
		struct result *result = *place;

		if (held(qp, &result->completion)) {
			place = &result->next;
			continue;
		}
		batch[count++] = result->completion;
		qp->used -= result->releases;
		qp->reads -= result->completion.opcode == FABRIC_READ && result->releases;
		*place = result->next;
		if (!*place)
			qp->results_end = place;
		free(result);
	}
	if (count > 0)
		qp->base.events->completions(&qp->base, batch, count, now);
	return count > 0;
}

static bool request(struct memory_qp *qp)
{
	struct memory_listener *listener = (struct memory_listener *)qp->listener;

	if (!listener)
		return false;
	qp->listener = NULL;
	if (!listener->request(&listener->base, &qp->base))
		fabric_reject(&qp->base);
	return true;
}

/* Both ends are established one after the other, the accepting one first. */
static bool establish(struct memory_qp *qp, nanoseconds now)
{
	if (qp->state != STATE_CONNECTING ||
	    !(qp->accepted || (qp->peer && qp->peer->state == STATE_ESTABLISHED)))
		return false;
	qp->state = STATE_ESTABLISHED;
	qp->base.events->established(&qp->base, now);
	return true;
}

static bool step(struct memory_qp *qp, nanoseconds now)
{
	struct fabric_memory_work *work;

	if (request(qp) || establish(qp, now))
		return true;
	if (qp->state != STATE_NEW && qp->base.events && hand_over(qp, now))
		return true;
	work = next_work(qp);
	if (work) {
		memory_unlink_work(qp, work->number);
		carry_out(qp, work);
		memory_free_work(work);
		return true;
	}
	if (qp->state != STATE_ENDING || !qp->base.events)
		return false;
	qp->state = STATE_DISCONNECTED;
	qp->base.events->disconnected(&qp->base, qp->reason, qp->words, now);
	return true;
}

bool fabric_memory_step(struct fabric *fabric, nanoseconds now)
{
	struct memory_fabric *this = memory(fabric);
	struct memory_qp *qp = this->qps;

	while (qp) {
		struct memory_qp *next = qp->next;

		if (step(qp, now))
			return true;
		qp = next;
	}
	return false;
}

void fabric_memory_run(struct fabric *fabric, nanoseconds now)
{
	while (fabric_memory_step(fabric, now))
		continue;
}

void fabric_memory_hold(struct fabric_qp *qp, unsigned hold)
{
	memory_of(qp)->hold = hold;
}
