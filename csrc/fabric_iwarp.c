/*
 * User-space iWARP: the fabric, and the set-up of a connection up to the MPA reply. RFC 5044
 * section 7, RFC 6581.
 *
 *   responder                                       initiator
 *   1. listener_ready: TCP is there, half-open      1. iwarp_connect: TCP begins
 *   2. collect: the MPA request, whole              2. connected: the MPA request goes out
 *   3. request_complete: the owner is asked         3. collect: the MPA reply, whole
 *   4. iwarp_accept or iwarp_reject: the reply      4. reply_complete: `established`
 *   5. the first FPDU comes: now we may send
 *
 * What the initiator says before the reply, or the responder before the first FPDU, ends the
 * connection.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "iwarp.h"

enum {
	LISTEN_BACKLOG = 256,
	ACCEPTS_PER_TURN = 16,
	MAX_HALF_OPEN_DEFAULT = 256,
	ACCEPT_PAUSE = 100 * MILLISECOND, /* when descriptors or memory ran out */
	/*
	 * A kernel peer under load may be deaf for a while: silence is judged late. Seconds,
	 * seconds, count.
	 */
	KEEPALIVE_IDLE = 60,
	KEEPALIVE_INTERVAL = 15,
	KEEPALIVE_COUNT = 6,
	/*
	 * Bytes of the send buffer where both ends are on one host (the kernel doubles it). There a
	 * longer queue gains nothing, and what waits in it leaves the CPU's cache: measured, it
	 * costs a third more CPU time for each byte. Elsewhere the kernel fits the buffer to the
	 * path.
	 */
	SEND_BUFFER_SAME_HOST = 256 << 10,
};
#define MPA_TIMEOUT_DEFAULT (10 * SECOND) /* as Linux siw's MPAREQ_TIMEOUT */

static const struct fabric_ops iwarp_ops;

/* splitmix64: keys and offsets have to differ, not to be secret. */
uint64_t iwarp_random(struct iwarp_fabric *fabric)
{
	uint64_t value = fabric->random += 0x9E3779B97F4A7C15u;

	value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
	value = (value ^ value >> 27) * 0x94D049BB133111EBu;
	return value ^ value >> 31;
}

int fabric_iwarp_create(struct loop *loop, const struct fabric_iwarp_config *config,
			struct fabric **ret)
{
	struct iwarp_fabric *fabric = malloc(sizeof(*fabric));

	if (!fabric)
		return -ENOMEM;
	memset(fabric, 0, offsetof(struct iwarp_fabric, staging));
	fabric->base = (struct fabric){.ops = &iwarp_ops, .loop = loop};
	fabric->device = (struct fabric_device){
		.fabric = &fabric->base,
		.name = "iwarp",
		.transport = FABRIC_TRANSPORT_IWARP,
	};
	fabric->config = *config;
	if (!fabric->config.max_ulpdu || fabric->config.max_ulpdu > MPA_ULPDU_MAX)
		fabric->config.max_ulpdu = MPA_ULPDU_MAX;
	if (fabric->config.max_ulpdu < IWARP_ULPDU_MIN)
		fabric->config.max_ulpdu = IWARP_ULPDU_MIN;
	if (!fabric->config.mpa_timeout)
		fabric->config.mpa_timeout = MPA_TIMEOUT_DEFAULT;
	if (!fabric->config.max_half_open)
		fabric->config.max_half_open = MAX_HALF_OPEN_DEFAULT;
	if (getrandom(&fabric->random, sizeof(fabric->random), GRND_NONBLOCK) < 0)
		fabric->random = loop_now(loop) ^ (uintptr_t)fabric;
	*ret = &fabric->base;
	return 0;
}

/* Listeners and queue pairs that the owner knows must be gone; the half-open ones are ours. */
static void iwarp_destroy(struct fabric *base)
{
	struct iwarp_fabric *fabric = iwarp_fabric(base);

	while (fabric->half_open_first)
		iwarp_qp_destroy(&fabric->half_open_first->base);
	free(fabric);
}

/* Queue pairs */

static void half_open_add(struct iwarp_fabric *fabric, struct iwarp_qp *qp)
{
	qp->half_open_previous = fabric->half_open_last;
	if (fabric->half_open_last)
		fabric->half_open_last->half_open_next = qp;
	else
		fabric->half_open_first = qp;
	fabric->half_open_last = qp;
	fabric->half_open_count++;
}

static void half_open_remove(struct iwarp_fabric *fabric, struct iwarp_qp *qp)
{
	if (qp->half_open_previous)
		qp->half_open_previous->half_open_next = qp->half_open_next;
	else
		fabric->half_open_first = qp->half_open_next;
	if (qp->half_open_next)
		qp->half_open_next->half_open_previous = qp->half_open_previous;
	else
		fabric->half_open_last = qp->half_open_previous;
	qp->half_open_previous = qp->half_open_next = NULL;
	fabric->half_open_count--;
}

static void socket_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
	};

	/* Each is an improvement, none a condition: a socket that refuses one still works. */
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			   sizeof(options[i].value));
}

static bool same_host(const struct iwarp_qp *qp)
{
	const struct sockaddr_storage *local = &qp->base.local, *remote = &qp->base.remote;

	if (local->ss_family == AF_INET)
		return ((const struct sockaddr_in *)local)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)remote)->sin_addr.s_addr;
	return local->ss_family == AF_INET6 &&
	       memcmp(&((const struct sockaddr_in6 *)local)->sin6_addr,
		      &((const struct sockaddr_in6 *)remote)->sin6_addr,
		      sizeof(struct in6_addr)) == 0;
}

/* Both ends are known: the queue pair's addresses, and what follows from them. 0 or -errno. */
static int addresses_set(struct iwarp_qp *qp)
{
	const int buffer = SEND_BUFFER_SAME_HOST;
	socklen_t length = sizeof(qp->base.local);

	if (getsockname(qp->fd, (struct sockaddr *)&qp->base.local, &length) < 0)
		return -errno;
	if (same_host(qp))
		setsockopt(qp->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	return 0;
}

static void qp_ready(struct loop_watch *watch, uint32_t events);
static void qp_task(struct loop_task *task, nanoseconds now);
static void setup_expired(struct loop_timer *timer, nanoseconds now);

static struct iwarp_qp *qp_create(struct iwarp_fabric *fabric, int fd, enum iwarp_state state)
{
	struct iwarp_qp *qp = calloc(1, sizeof(*qp));

	if (!qp)
		return NULL;
	qp->setup = calloc(1, sizeof(*qp->setup));
	if (!qp->setup) {
		free(qp);
		return NULL;
	}
	qp->base.fabric = &fabric->base;
	qp->base.device = &fabric->device;
	qp->base.invalidation = true;
	qp->base.limits = (struct fabric_limits){
		.send_queue = IWARP_QUEUE_MAX,
		.receive_queue = IWARP_QUEUE_MAX,
		.send_sges = IWARP_SGES_MAX,
		.read_sges = 1,
		.initiator_depth = IWARP_DEPTH_MAX,
		.responder_depth = IWARP_DEPTH_MAX,
		.transfer_bytes = IWARP_TRANSFER_MAX,
	};
	qp->state = state;
	qp->fd = fd;
	qp->watch =
		(struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = qp_ready, .owner = qp};
	qp->task = (struct loop_task){.run = qp_task, .owner = qp};
	qp->timer = (struct loop_timer){.expired = setup_expired, .owner = qp};
	iwarp_receive_start(qp);
	socket_options(fd);
	return qp;
}

void iwarp_qp_destroy(struct fabric_qp *base)
{
	struct iwarp_qp *qp = iwarp_qp(base);
	struct loop *loop = base->fabric->loop;

	if (qp->state == IWARP_REQUEST_AWAITED)
		half_open_remove(iwarp_fabric_of(qp), qp);
	if (qp->alive)
		*qp->alive = false;
	loop_watch_remove(loop, &qp->watch);
	loop_timer_cancel(loop, &qp->timer);
	loop_task_cancel(loop, &qp->task);
	if (qp->fd >= 0)
		close(qp->fd);
	iwarp_windows_destroy(qp);
	iwarp_queue_destroy(qp);
	free(qp->setup);
	free(qp);
}

static uint32_t at_most(uint32_t asked, uint32_t most)
{
	return asked && asked < most ? asked : most;
}

/* What was asked for, lowered to what there is. The depths follow when the peer's are known. */
static void limits_set(struct iwarp_qp *qp, const struct fabric_limits *asked)
{
	struct fabric_limits *limits = &qp->base.limits;

	limits->send_queue = at_most(asked->send_queue, IWARP_QUEUE_MAX);
	limits->receive_queue = at_most(asked->receive_queue, IWARP_QUEUE_MAX);
	limits->send_sges = at_most(asked->send_sges, IWARP_SGES_MAX);
	limits->initiator_depth =
		asked->initiator_depth < IWARP_DEPTH_MAX ? asked->initiator_depth : IWARP_DEPTH_MAX;
	limits->responder_depth =
		at_most(asked->responder_depth ? asked->responder_depth : 1, IWARP_DEPTH_MAX);
	if (asked->transfer_bytes && asked->transfer_bytes < IWARP_TRANSFER_MAX)
		limits->transfer_bytes = asked->transfer_bytes;
}

static void private_data_keep(struct iwarp_qp *qp, const struct mpa_frame *frame)
{
	size_t length = frame->private_data_length;

	if (length > FABRIC_MAX_PRIVATE_DATA)
		length = FABRIC_MAX_PRIVATE_DATA;
	memcpy(qp->base.private_data, frame->private_data, length);
	qp->base.private_data_length = length;
}

static void setup_done(struct iwarp_qp *qp)
{
	loop_timer_cancel(qp->base.fabric->loop, &qp->timer);
	free(qp->setup);
	qp->setup = NULL;
}

/* The set-up failed: nobody knows of a half-open queue pair, an initiator's owner is told. */
static void setup_fail(struct iwarp_qp *qp, enum close_reason reason, const char *words)
{
	if (qp->state == IWARP_REQUEST_AWAITED)
		iwarp_qp_destroy(&qp->base);
	else
		iwarp_end(qp, reason, "%s", words);
}

static void setup_expired(struct loop_timer *timer, nanoseconds now)
{
	struct iwarp_qp *qp = timer->owner;

	(void)now;
	trace_count(TRACE_IWARP_MPA_TIMEOUTS);
	setup_fail(qp, CLOSE_TIMEOUT,
		   qp->state == IWARP_CONNECTING ? "no TCP connection within the MPA timeout"
						 : "no MPA reply within the MPA timeout");
}

/* Collecting an MPA frame */

/*
 * Takes what has come. 1: the frame is whole, parsed into *frame; 0: more has to come; -1: the
 * set-up has failed, the queue pair may be gone.
 */
static int collect(struct iwarp_qp *qp, bool reply, struct mpa_frame *frame)
{
	struct iwarp_setup *setup = qp->setup;
	const char *words = "not an MPA frame: no iWARP peer, or one that is broken";
	ssize_t received = recv(qp->fd, setup->bytes + setup->length,
				sizeof(setup->bytes) - setup->length, MSG_DONTWAIT);
	int size;

	if (received < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (received <= 0) {
		setup_fail(qp, CLOSE_PEER_LOST,
			   received < 0 ? strerror(errno) : "closed before MPA was set up");
		return -1;
	}
	setup->length += (size_t)received;
	size = mpa_frame_size(setup->bytes, setup->length, reply);
	if (size >= 0 && setup->length < (size_t)size)
		return 0;
	if (size >= 0 && setup->length > (size_t)size)
		words = "bytes behind the MPA frame, before this side has answered it";
	else if (size >= 0 && mpa_frame_parse(setup->bytes, setup->length, frame, &words) == 0)
		return 1;
	trace_count(TRACE_IWARP_MPA_ERRORS);
	setup_fail(qp, CLOSE_PROTOCOL_ERROR, words);
	return -1;
}

/* Responder, steps 1 to 4 */

static bool reply_build_and_send(struct iwarp_qp *qp, const struct mpa_frame *reply)
{
	uint8_t bytes[MPA_FRAME_MAX];
	int length = mpa_frame_build(reply, bytes, sizeof(bytes));

	return length > 0 && iwarp_send_frame(qp, bytes, (size_t)length);
}

static struct mpa_frame reply_to(const struct mpa_frame *offer)
{
	return (struct mpa_frame){
		.reply = true,
		.crc = offer->crc,
		.revision = offer->revision,
		.enhanced = offer->enhanced,
	};
}

static void iwarp_reject(struct fabric_qp *base)
{
	struct iwarp_qp *qp = iwarp_qp(base);
	struct mpa_frame reply;

	if (qp->state == IWARP_REQUESTED) {
		reply = reply_to(&qp->setup->offer);
		reply.rejected = true;
		reply_build_and_send(qp, &reply);
	}
	iwarp_qp_destroy(base);
}

/*
 * RFC 6581 section 9.2: our Reads fit what the initiator serves, its Reads what we serve. A
 * peer-to-peer initiator says that it is ready with a zero-length Write or Read, which need no
 * memory.
 */
static struct mpa_frame accept_depths(struct iwarp_qp *qp)
{
	const struct mpa_frame *offer = &qp->setup->offer;
	struct fabric_limits *limits = &qp->base.limits;
	struct mpa_frame reply = reply_to(offer);

	reply.crc = offer->crc || iwarp_fabric_of(qp)->config.crc;
	if (!offer->enhanced)
		return reply;
	if (offer->ird != MPA_DEPTH_UNKNOWN && offer->ird < limits->initiator_depth)
		limits->initiator_depth = offer->ird;
	reply.ird = (uint16_t)limits->responder_depth;
	reply.ord = (uint16_t)limits->initiator_depth;
	reply.peer_to_peer = offer->peer_to_peer;
	if (offer->peer_to_peer)
		reply.ready = offer->ready & MPA_READY_ZERO_WRITE ? MPA_READY_ZERO_WRITE
								  : MPA_READY_ZERO_READ;
	return reply;
}

static int iwarp_accept(struct fabric_qp *base, const struct fabric_parameters *parameters)
{
	struct iwarp_qp *qp = iwarp_qp(base);
	struct mpa_frame reply;
	int result;

	if (qp->state != IWARP_REQUESTED || !base->events ||
	    parameters->private_data_length > FABRIC_MAX_PRIVATE_DATA)
		return -EINVAL;
	limits_set(qp, &parameters->limits);
	reply = accept_depths(qp);
	reply.private_data = parameters->private_data;
	reply.private_data_length = parameters->private_data_length;
	result = iwarp_queue_create(qp);
	if (result < 0)
		return result;
	if (!reply_build_and_send(qp, &reply))
		return -ECONNRESET;
	result = loop_watch_add(base->fabric->loop, &qp->watch);
	if (result < 0)
		return result;
	qp->crc = reply.crc;
	qp->state = IWARP_ACCEPTED;
	qp->established_due = true;
	setup_done(qp);
	iwarp_schedule(qp);
	return 0;
}

/*
 * Ways of setting up that we do not know are refused in the words of the RFC: reply with the reject
 * flag.
 */
static bool offer_is_fine(const struct mpa_frame *offer)
{
	bool ready = offer->ready & (MPA_READY_ZERO_WRITE | MPA_READY_ZERO_READ);

	return !offer->markers && (!offer->peer_to_peer || ready);
}

static void request_complete(struct iwarp_qp *qp, const struct mpa_frame *frame)
{
	struct fabric_listener *base = qp->listener;
	struct iwarp_listener *listener = (struct iwarp_listener *)base;
	bool alive = true, taken;

	qp->setup->offer = *frame;
	private_data_keep(qp, frame);
	half_open_remove(iwarp_fabric_of(qp), qp);
	/* Until it is accepted nothing may come, and nobody would take it. */
	loop_watch_remove(base->fabric->loop, &qp->watch);
	loop_timer_cancel(base->fabric->loop, &qp->timer);
	qp->state = IWARP_REQUESTED;
	qp->listener = NULL;
	if (!offer_is_fine(frame)) {
		trace_count(TRACE_IWARP_MPA_ERRORS);
		iwarp_reject(&qp->base);
		return;
	}
	qp->alive = &alive;
	taken = listener->request(base, &qp->base);
	if (!alive)
		return;
	qp->alive = NULL;
	if (!taken)
		iwarp_reject(&qp->base);
}

static void accepted(struct iwarp_listener *listener, int fd, const struct sockaddr_storage *remote)
{
	struct iwarp_fabric *fabric = iwarp_fabric(listener->base.fabric);
	struct iwarp_qp *qp;

	trace_count(TRACE_IWARP_ACCEPTED);
	if (fabric->half_open_count >= fabric->config.max_half_open) {
		/* An honest initiator speaks at once: the oldest silence is the one to end. */
		trace_count(TRACE_IWARP_HALF_OPEN_REFUSALS);
		iwarp_qp_destroy(&fabric->half_open_first->base);
	}
	qp = qp_create(fabric, fd, IWARP_REQUEST_AWAITED);
	if (!qp) {
		close(fd);
		return;
	}
	qp->listener = &listener->base;
	qp->base.remote = *remote;
	half_open_add(fabric, qp);
	loop_timer_set(fabric->base.loop, &qp->timer,
		       loop_now(fabric->base.loop) + fabric->config.mpa_timeout);
	if (addresses_set(qp) < 0 || loop_watch_add(fabric->base.loop, &qp->watch) < 0)
		iwarp_qp_destroy(&qp->base);
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct iwarp_listener *listener = watch->owner;
	struct loop *loop = listener->base.fabric->loop;

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage remote = {0};
		socklen_t length = sizeof(remote);
		int fd = accept4(watch->fd, (struct sockaddr *)&remote, &length,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accepted(listener, fd, &remote);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* The connection stays in the backlog and would wake us for ever. */
			trace_count(TRACE_IWARP_DESCRIPTOR_REFUSALS);
			loop_watch_remove(loop, watch);
			loop_timer_set(loop, &listener->retry, loop_now(loop) + ACCEPT_PAUSE);
		}
		return;
	}
}

static void listener_retry(struct loop_timer *timer, nanoseconds now)
{
	struct iwarp_listener *listener = timer->owner;
	struct loop *loop = listener->base.fabric->loop;

	if (loop_watch_add(loop, &listener->watch) < 0)
		loop_timer_set(loop, timer, now + ACCEPT_PAUSE);
}

static int listener_bind(struct iwarp_listener *listener, const struct sockaddr *address,
			 socklen_t length)
{
	const int one = 1;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	listener->watch.fd = fd;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -errno;
	/* 0.0.0.0 and :: are two listeners, whatever the host's default is. */
	if (address->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
		return -errno;
	if (bind(fd, address, length) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	listener->base.address_length = sizeof(listener->base.address);
	if (getsockname(fd, (struct sockaddr *)&listener->base.address,
			&listener->base.address_length) < 0)
		return -errno;
	return loop_watch_add(listener->base.fabric->loop, &listener->watch);
}

static void iwarp_unlisten(struct fabric_listener *base)
{
	struct iwarp_listener *listener = (struct iwarp_listener *)base;
	struct iwarp_fabric *fabric = iwarp_fabric(base->fabric);

	for (struct iwarp_qp *qp = fabric->half_open_first, *next; qp; qp = next) {
		next = qp->half_open_next;
		if (qp->listener == base)
			iwarp_qp_destroy(&qp->base);
	}
	loop_watch_remove(fabric->base.loop, &listener->watch);
	loop_timer_cancel(fabric->base.loop, &listener->retry);
	if (listener->watch.fd >= 0)
		close(listener->watch.fd);
	free(listener);
}

static int iwarp_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
			bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp),
			void *owner, struct fabric_listener **ret)
{
	struct iwarp_listener *listener = calloc(1, sizeof(*listener));
	int result;

	if (!listener)
		return -ENOMEM;
	listener->base = (struct fabric_listener){.fabric = fabric, .owner = owner};
	listener->watch = (struct loop_watch){
		.fd = -1, .events = EPOLLIN, .ready = listener_ready, .owner = listener};
	listener->retry = (struct loop_timer){.expired = listener_retry, .owner = listener};
	listener->request = request;
	result = listener_bind(listener, address, length);
	if (result < 0) {
		iwarp_unlisten(&listener->base);
		return result;
	}
	*ret = &listener->base;
	return 0;
}

/* Initiator, steps 1 to 4 */

static int request_build(struct iwarp_qp *qp, const struct fabric_parameters *parameters)
{
	const struct mpa_frame request = {
		.crc = iwarp_fabric_of(qp)->config.crc,
		.revision = 2,
		.enhanced = true,
		.ird = (uint16_t)qp->base.limits.responder_depth,
		.ord = (uint16_t)qp->base.limits.initiator_depth,
		.private_data = parameters->private_data,
		.private_data_length = parameters->private_data_length,
	};
	int length = mpa_frame_build(&request, qp->setup->bytes, sizeof(qp->setup->bytes));

	if (length < 0)
		return length;
	qp->setup->length = (size_t)length;
	return 0;
}

static int iwarp_connect(struct fabric *base, const struct sockaddr *address, socklen_t length,
			 const struct fabric_parameters *parameters,
			 const struct fabric_events *events, void *owner, struct fabric_qp **ret)
{
	struct iwarp_fabric *fabric = iwarp_fabric(base);
	struct iwarp_qp *qp;
	int fd, result;

	if (length > sizeof(qp->base.remote) ||
	    parameters->private_data_length > FABRIC_MAX_PRIVATE_DATA)
		return -EINVAL;
	fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	qp = qp_create(fabric, fd, IWARP_CONNECTING);
	if (!qp) {
		close(fd);
		return -ENOMEM;
	}
	qp->base.events = events;
	qp->base.owner = owner;
	memcpy(&qp->base.remote, address, length);
	limits_set(qp, &parameters->limits);
	result = request_build(qp, parameters);
	if (result < 0)
		goto fail;
	if (connect(fd, address, length) < 0 && errno != EINPROGRESS) {
		result = -errno;
		goto fail;
	}
	qp->watch.events = EPOLLOUT;
	result = loop_watch_add(base->loop, &qp->watch);
	if (result < 0)
		goto fail;
	loop_timer_set(base->loop, &qp->timer, loop_now(base->loop) + fabric->config.mpa_timeout);
	*ret = &qp->base;
	return 0;
fail:
	iwarp_qp_destroy(&qp->base);
	return result;
}

static void connected(struct iwarp_qp *qp)
{
	struct loop *loop = qp->base.fabric->loop;
	socklen_t length = sizeof(int);
	int error = 0;

	if (getsockopt(qp->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (!error)
		error = -addresses_set(qp);
	if (!error && !iwarp_send_frame(qp, qp->setup->bytes, qp->setup->length))
		error = errno;
	if (error) {
		iwarp_end(qp, CLOSE_PEER_LOST, "connecting failed: %s", strerror(error));
		return;
	}
	qp->setup->length = 0;
	qp->state = IWARP_REQUEST_SENT;
	loop_watch_change(loop, &qp->watch, EPOLLIN);
	loop_timer_set(loop, &qp->timer, loop_now(loop) + iwarp_fabric_of(qp)->config.mpa_timeout);
}

/*
 * RFC 6581 section 9.2: the responder's Reads must fit what we serve; we can serve more than we
 * said.
 */
static const char *reply_depths(struct iwarp_qp *qp, const struct mpa_frame *reply)
{
	struct fabric_limits *limits = &qp->base.limits;

	if (!reply->enhanced)
		return NULL;
	if (reply->ird != MPA_DEPTH_UNKNOWN && reply->ird < limits->initiator_depth)
		limits->initiator_depth = reply->ird;
	if (reply->ord == MPA_DEPTH_UNKNOWN || reply->ord <= limits->responder_depth)
		return NULL;
	if (reply->ord > IWARP_DEPTH_MAX)
		return "the responder wants more Reads than we serve";
	limits->responder_depth = reply->ord;
	return NULL;
}

static void reply_complete(struct iwarp_qp *qp, const struct mpa_frame *reply)
{
	const char *words = NULL;

	if (reply->rejected)
		words = "the responder rejected the MPA request";
	else if (reply->markers || reply->peer_to_peer)
		words = "the responder wants markers or a ready frame that was not offered";
	else
		words = reply_depths(qp, reply);
	if (words) {
		iwarp_end(qp, reply->rejected ? CLOSE_NEGOTIATION : CLOSE_PROTOCOL_ERROR, "%s",
			  words);
		return;
	}
	private_data_keep(qp, reply);
	qp->crc = reply->crc || iwarp_fabric_of(qp)->config.crc;
	if (iwarp_queue_create(qp) < 0) {
		iwarp_end(qp, CLOSE_LIMIT, "no memory for a queue pair");
		return;
	}
	setup_done(qp);
	qp->state = IWARP_ESTABLISHED;
	qp->established_due = true;
}

/* What the loop tells a queue pair */

static void qp_ready(struct loop_watch *watch, uint32_t events)
{
	struct iwarp_qp *qp = watch->owner;
	struct mpa_frame frame;

	switch (qp->state) {
	case IWARP_CONNECTING:
		connected(qp);
		break;
	case IWARP_REQUEST_AWAITED:
		if (collect(qp, false, &frame) > 0)
			request_complete(qp, &frame);
		return;
	case IWARP_REQUEST_SENT:
		if (collect(qp, true, &frame) > 0)
			reply_complete(qp, &frame);
		break;
	default:
		if (events & EPOLLOUT)
			iwarp_writable(qp);
		if (!iwarp_receive(qp))
			return;
		break;
	}
	iwarp_deliver(qp);
}

static void qp_task(struct loop_task *task, nanoseconds now)
{
	struct iwarp_qp *qp = task->owner;

	(void)now;
	iwarp_transmit(qp);
	iwarp_deliver(qp);
}

static const struct fabric_ops iwarp_ops = {
	.name = "iwarp",
	.destroy = iwarp_destroy,
	.listen = iwarp_listen,
	.unlisten = iwarp_unlisten,
	.connect = iwarp_connect,
	.accept = iwarp_accept,
	.reject = iwarp_reject,
	.disconnect = iwarp_disconnect,
	.qp_destroy = iwarp_qp_destroy,
	.register_memory = iwarp_register,
	.deregister_memory = iwarp_deregister,
	.post_receive = iwarp_post_receive,
	.post = iwarp_post,
	.expose = iwarp_expose,
	.revoke = iwarp_revoke,
	.may_discard = iwarp_may_discard,
};
