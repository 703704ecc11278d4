/*
 * Verbs: the fabric, and queue pairs from birth to destruction.
 *
 * The end of a queue pair: make dead, drain, remove.
 *   Make dead   verbs_end, from anywhere: the state is ENDED, so nothing is posted any more; rdma_cm tells the peer.
 *   Drain       in the loop: what had completed is delivered as what it was.
 *   Remove      verbs_qp_close: windows, then the queue pair, then its completion queue are destroyed. Then the rings
 *               say what was outstanding: delivered as flushed. `disconnected` is the last call.
 *
 * Who may still touch memory or the queue pair, and why each of them lets go:
 *   - The device. ibv_destroy_qp returns when the adapter has stopped: requests under way are over, later packets find
 *     no queue pair. So flushing does not wait for the device's own flush completions, which a dying device would not
 *     send.
 *   - The peer, through windows: they go first.
 *   - The completion queue: its entries go with it. Events that were taken are acknowledged before, since
 *     ibv_destroy_cq waits for that; events that were not taken, the kernel drops.
 *   - Asynchronous events and events of rdma_cm name the queue pair or the identifier. They are acknowledged before
 *     they are handled, so neither ibv_destroy_qp nor rdma_destroy_id waits for us; those not taken are dropped.
 *   - The owner may be on the stack: verbs_end closes nothing, and `alive` tells the caller of the owner's function
 *     that the queue pair is gone.
 *
 * No process may be forked after the first verbs fabric was made: registered pages and a child do not go together.
 */
#include "verbs.h"

#include <errno.h>
#include <stdio.h>

#if VERBS_BUILT
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	SEND_QUEUE_LEAST = 16, /* a device that gives less cannot carry SMB Direct */
	DEPTH_MOST = 255,      /* rdma_cm has a byte for it */
};
/* A message has 31 bits of length in InfiniBand, and 32 in iWARP. */
#define TRANSFER_MOST ((uint64_t)1 << 30)

static const struct fabric_ops verbs_ops;

/* librdmacm wants a device for it, so that a host may have to wait with it. */
int verbs_channel_open(struct verbs_fabric *fabric)
{
	int error;

	if (fabric->channel)
		return 0;
	fabric->channel = fabric->library.create_event_channel();
	if (!fabric->channel)
		return errno == ENOENT || !errno ? -ENODEV : -errno;
	error = fcntl(fabric->channel->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	fabric->watch = (struct loop_watch){.fd = fabric->channel->fd,
					    .events = EPOLLIN,
					    .ready = verbs_cm_ready,
					    .owner = fabric};
	if (!error)
		error = loop_watch_add(fabric->base.loop, &fabric->watch);
	if (error) {
		fabric->library.destroy_event_channel(fabric->channel);
		fabric->channel = NULL;
	}
	return error;
}

/* Listeners and queue pairs must be gone. */
static void verbs_destroy(struct fabric *base)
{
	struct verbs_fabric *fabric = verbs_fabric(base);

	loop_watch_remove(base->loop, &fabric->kernel_events);
	if (fabric->kernel_events.fd >= 0)
		close(fabric->kernel_events.fd);
	loop_watch_remove(base->loop, &fabric->watch);
	verbs_devices_destroy(fabric);
	if (fabric->channel)
		fabric->library.destroy_event_channel(fabric->channel);
	if (!fabric->config.library)
		verbs_library_close(&fabric->library);
	free(fabric);
}

int fabric_verbs_create(struct loop *loop, const struct fabric_verbs_config *config,
			char words[256], struct fabric **ret)
{
	struct verbs_fabric *fabric = calloc(1, sizeof(*fabric));
	int error = 0;

	if (!fabric) {
		snprintf(words, 256, "no memory for a fabric");
		return -ENOMEM;
	}
	fabric->base = (struct fabric){.ops = &verbs_ops, .loop = loop};
	fabric->config = *config;
	fabric->watch.fd = fabric->kernel_events.fd = -1;
	if (config->library)
		fabric->library = *config->library;
	else
		error = verbs_library_open(&fabric->library, words, 256);
	if (error) {
		verbs_destroy(&fabric->base);
		return error;
	}
	/* Without them an adapter that appears is found a little later, one that goes by its own events. */
	verbs_kernel_events_open(fabric);
	*ret = &fabric->base;
	return 0;
}

/* Birth of a queue pair. */

static void qp_task(struct loop_task *task, nanoseconds now)
{
	struct verbs_qp *qp = task->owner;

	(void)now;
	if (!verbs_deliver(qp))
		return;
	if (qp->cq && qp->state < VERBS_ENDED)
		verbs_poll(qp);
}

static void qp_expired(struct loop_timer *timer, nanoseconds now)
{
	struct verbs_qp *qp = timer->owner;

	(void)now;
	if (qp->state < VERBS_ACCEPTED)
		verbs_end(qp, CLOSE_TIMEOUT, "no answer to the connection request in time");
	else
		verbs_end(qp, CLOSE_PEER_LOST, "the queue pair was flushed by the device");
}

static void device_link(struct verbs_device *device, struct verbs_qp *qp)
{
	qp->base.device = &device->base;
	qp->next = device->qps;
	if (device->qps)
		device->qps->previous = qp;
	device->qps = qp;
}

static void device_unlink(struct verbs_device *device, struct verbs_qp *qp)
{
	if (qp->previous)
		qp->previous->next = qp->next;
	else
		device->qps = qp->next;
	if (qp->next)
		qp->next->previous = qp->previous;
}

int verbs_qp_create(struct verbs_fabric *fabric, struct rdma_cm_id *id, enum verbs_state state,
		    struct verbs_qp **ret)
{
	struct verbs_device *device;
	struct verbs_qp *qp = NULL;
	int error = verbs_device_find(fabric, id, &device);

	if (!error)
		qp = calloc(1, sizeof(*qp));
	if (qp)
		qp->receives = calloc(VERBS_RECEIVES_EARLY, sizeof(*qp->receives));
	if (!qp || !qp->receives) {
		free(qp);
		fabric->library.destroy_id(id);
		return error ? error : -ENOMEM;
	}
	qp->base.fabric = &fabric->base;
	qp->base.invalidation = device->windows;
	qp->base.limits.receive_queue = VERBS_RECEIVES_EARLY;
	qp->receive_ring.room = VERBS_RECEIVES_EARLY;
	qp->state = state;
	qp->endpoint = (struct verbs_endpoint){
		.fabric = fabric, .id = id, .event = verbs_qp_event, .owner = qp};
	id->context = &qp->endpoint;
	qp->task = (struct loop_task){.run = qp_task, .owner = qp};
	qp->timer = (struct loop_timer){.expired = qp_expired, .owner = qp};
	device_link(device, qp);
	*ret = qp;
	return 0;
}

/* Sizes: what is asked for, what the configuration allows, what the device gives. */

static uint32_t least(uint32_t asked, uint32_t allowed, uint32_t device)
{
	uint32_t most = allowed && allowed < device ? allowed : device;

	return asked && asked < most ? asked : most;
}

static void limits_set(struct verbs_qp *qp, const struct fabric_limits *asked)
{
	const struct fabric_limits *most = &verbs_fabric_of(qp)->config.most;
	const struct ibv_device_attr *device = &verbs_device_of(qp)->attributes;
	struct fabric_limits *limits = &qp->base.limits;
	uint32_t sges =
		device->max_sge < VERBS_SGES_MAX ? (uint32_t)device->max_sge : VERBS_SGES_MAX;
	uint32_t half = (uint32_t)device->max_cqe / 2;

	limits->send_queue =
		least(asked->send_queue, most->send_queue, (uint32_t)device->max_qp_wr);
	limits->receive_queue =
		least(asked->receive_queue, most->receive_queue, (uint32_t)device->max_qp_wr);
	if ((uint64_t)limits->send_queue + limits->receive_queue > (uint64_t)device->max_cqe) {
		limits->send_queue = limits->send_queue < half ? limits->send_queue : half;
		limits->receive_queue = limits->receive_queue < half ? limits->receive_queue : half;
	}
	limits->send_sges = least(asked->send_sges ? asked->send_sges : 1, most->send_sges, sges);
	if (qp->base.device->transport == FABRIC_TRANSPORT_IWARP)
		sges = device->max_sge_rd > 0 && (uint32_t)device->max_sge_rd < sges
			       ? (uint32_t)device->max_sge_rd
			       : 1;
	limits->read_sges = least(asked->read_sges ? asked->read_sges : 1, most->read_sges, sges);
	limits->initiator_depth =
		least(asked->initiator_depth, most->initiator_depth,
		      least(DEPTH_MOST, 0, (uint32_t)device->max_qp_init_rd_atom));
	limits->responder_depth = least(asked->responder_depth, most->responder_depth,
					least(DEPTH_MOST, 0, (uint32_t)device->max_qp_rd_atom));
	limits->transfer_bytes = TRANSFER_MOST;
	if (asked->transfer_bytes && asked->transfer_bytes < limits->transfer_bytes)
		limits->transfer_bytes = asked->transfer_bytes;
	if (most->transfer_bytes && most->transfer_bytes < limits->transfer_bytes)
		limits->transfer_bytes = most->transfer_bytes;
}

static int rings_open(struct verbs_qp *qp)
{
	struct verbs_ring *ring = &qp->receive_ring;
	uint32_t room = qp->base.limits.receive_queue;
	struct verbs_receive *receives = calloc(room, sizeof(*receives));

	qp->work_ring.room = qp->base.limits.send_queue;
	qp->works = calloc(qp->work_ring.room, sizeof(*qp->works));
	if (!qp->works || !receives || verbs_ring_used(ring) > room) {
		free(receives);
		return -ENOMEM;
	}
	for (uint64_t number = ring->first; number < ring->next; number++)
		receives[number % room] = qp->receives[number % ring->room];
	free(qp->receives);
	qp->receives = receives;
	ring->room = room;
	return 0;
}

/* A device may refuse what its attributes promise: inline data and long send queues share its work queue entries. */
static int queue_pair_open(struct verbs_qp *qp)
{
	struct fabric_limits *limits = &qp->base.limits;
	struct ibv_qp_init_attr wanted = {
		.qp_context = qp,
		.send_cq = qp->cq,
		.recv_cq = qp->cq,
		.qp_type = IBV_QPT_RC,
		.cap.max_inline_data = VERBS_INLINE,
	};

	for (;;) {
		struct ibv_qp_init_attr attributes = wanted;
		struct ibv_qp_cap *cap = &attributes.cap;

		cap->max_send_wr = limits->send_queue;
		cap->max_recv_wr = limits->receive_queue;
		cap->max_send_sge = limits->send_sges > limits->read_sges ? limits->send_sges
									  : limits->read_sges;
		cap->max_recv_sge = 1;
		errno = 0;
		qp->qp = verbs_of(qp->base.fabric)->create_qp(verbs_device_of(qp)->pd, &attributes);
		if (qp->qp) {
			qp->inline_bytes = cap->max_inline_data < VERBS_INLINE
						   ? cap->max_inline_data
						   : VERBS_INLINE;
			return 0;
		}
		if (wanted.cap.max_inline_data)
			wanted.cap.max_inline_data = 0;
		else if (limits->send_queue >= 2 * SEND_QUEUE_LEAST)
			limits->send_queue /= 2;
		else
			return errno ? -errno : -EIO;
	}
}

int verbs_qp_open(struct verbs_qp *qp, const struct fabric_limits *asked)
{
	struct verbs_device *device = verbs_device_of(qp);
	const struct fabric_limits *limits = &qp->base.limits;
	int error;

	if (device->lost)
		return -ENODEV;
	limits_set(qp, asked);
	qp->cq = verbs_of(qp->base.fabric)
			 ->create_cq(device->context,
				     (int)(limits->send_queue + limits->receive_queue), qp,
				     device->completions, 0);
	if (!qp->cq)
		return errno ? -errno : -EIO;
	error = queue_pair_open(qp);
	return error ? error : rings_open(qp);
}

/* What the owner is told. */

void verbs_schedule(struct verbs_qp *qp)
{
	if (qp->state != VERBS_CLOSED)
		loop_task_add(qp->base.fabric->loop, &qp->task);
}

static bool deliver_established(struct verbs_qp *qp)
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

bool verbs_hand_over(struct verbs_qp *qp, const struct fabric_completion *batch, size_t count)
{
	bool alive = true;

	if (qp->established_due && !deliver_established(qp))
		return false;
	qp->alive = &alive;
	qp->base.events->completions(&qp->base, batch, count, loop_now(qp->base.fabric->loop));
	if (alive)
		qp->alive = NULL;
	return alive;
}

static bool deliver_due(struct verbs_qp *qp)
{
	struct fabric_completion batch[FABRIC_COMPLETION_BATCH];

	while (qp->due_count) {
		uint32_t count = qp->due_count < FABRIC_COMPLETION_BATCH ? qp->due_count
									 : FABRIC_COMPLETION_BATCH;

		memcpy(batch, qp->due, count * sizeof(*batch));
		qp->due_count -= count;
		memmove(qp->due, qp->due + count, qp->due_count * sizeof(*batch));
		if (!verbs_hand_over(qp, batch, count))
			return false;
	}
	return true;
}

static bool deliver_disconnected(struct verbs_qp *qp)
{
	bool alive = true;

	qp->state = VERBS_CLOSED;
	trace_point(TRACE_POINT_QP_DISCONNECTED, qp, qp->reason, 0);
	qp->alive = &alive;
	qp->base.events->disconnected(&qp->base, qp->reason, qp->words,
				      loop_now(qp->base.fabric->loop));
	if (alive)
		qp->alive = NULL;
	return alive;
}

bool verbs_deliver(struct verbs_qp *qp)
{
	if (qp->state == VERBS_CLOSED || !qp->base.events)
		return true;
	if (qp->established_due && !deliver_established(qp))
		return false;
	if (!deliver_due(qp))
		return false;
	if (qp->state != VERBS_ENDED)
		return true;
	if (!verbs_poll_last(qp))
		return false;
	verbs_qp_close(qp);
	return verbs_flush(qp) && deliver_disconnected(qp);
}

/* The end. */

void verbs_end(struct verbs_qp *qp, enum close_reason reason, const char *format, ...)
{
	va_list arguments;

	if (qp->state >= VERBS_ENDED)
		return;
	va_start(arguments, format);
	vsnprintf(qp->words, sizeof(qp->words), format, arguments);
	va_end(arguments);
	qp->reason = reason;
	if (qp->state >= VERBS_ACCEPTED)
		verbs_of(qp->base.fabric)->disconnect(qp->endpoint.id);
	qp->state = VERBS_ENDED;
	loop_timer_cancel(qp->base.fabric->loop, &qp->timer);
	verbs_schedule(qp);
}

void verbs_disconnect(struct fabric_qp *base)
{
	verbs_end(verbs_qp(base), CLOSE_NONE, "disconnected by this side");
}

void verbs_qp_close(struct verbs_qp *qp)
{
	const struct verbs_library *library = verbs_of(qp->base.fabric);

	verbs_windows_close(qp);
	if (qp->qp)
		library->destroy_qp(qp->qp);
	qp->qp = NULL;
	if (qp->unacknowledged)
		library->ack_cq_events(qp->cq, qp->unacknowledged);
	qp->unacknowledged = 0;
	if (qp->cq)
		library->destroy_cq(qp->cq);
	qp->cq = NULL;
}

void verbs_qp_destroy(struct fabric_qp *base)
{
	struct verbs_qp *qp = verbs_qp(base);
	struct verbs_device *device = verbs_device_of(qp);
	struct loop *loop = base->fabric->loop;

	if (qp->alive)
		*qp->alive = false;
	verbs_end(qp, CLOSE_NONE, "destroyed");
	loop_task_cancel(loop, &qp->task);
	loop_timer_cancel(loop, &qp->timer);
	verbs_qp_close(qp);
	verbs_of(base->fabric)->destroy_id(qp->endpoint.id);
	verbs_windows_destroy(qp);
	device_unlink(device, qp);
	free(qp->works);
	free(qp->receives);
	free(qp->due);
	free(qp);
	verbs_device_forget(device);
}

static const struct fabric_ops verbs_ops = {
	.name = "verbs",
	.destroy = verbs_destroy,
	.listen = verbs_listen,
	.unlisten = verbs_unlisten,
	.connect = verbs_connect,
	.accept = verbs_accept,
	.reject = verbs_reject,
	.disconnect = verbs_disconnect,
	.qp_destroy = verbs_qp_destroy,
	.register_memory = verbs_register,
	.deregister_memory = verbs_deregister,
	.post_receive = verbs_post_receive,
	.post = verbs_post,
	.expose = verbs_expose,
	.revoke = verbs_revoke,
};

#else

int fabric_verbs_create(struct loop *loop, const struct fabric_verbs_config *config,
			char words[256], struct fabric **ret)
{
	(void)loop;
	(void)config;
	(void)ret;
	snprintf(words, 256,
		 "built without verbs: the headers of rdma-core (libibverbs-dev, librdmacm-dev) "
		 "were not "
		 "there; \"iwarp\" needs no device");
	return -ENOTSUP;
}

#endif
