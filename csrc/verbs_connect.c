/*
 * rdma_cm: listeners, connection requests, connecting.
 *
 *   responder                                         initiator
 *   1. listener_event: CONNECT_REQUEST                1. verbs_connect: bound to the device behind the route
 *   2. the owner is asked, posts receives             2. ADDR_RESOLVED, ROUTE_RESOLVED: the request goes out
 *   3. verbs_accept: queue pair ready, the reply      3. CONNECT_RESPONSE: queue pair ready, `established`
 *   4. ESTABLISHED, or the first message: established
 *
 * The initiator's owner registers memory as soon as fabric_connect returns, so the device must be known by then. The
 * host's routing table tells the source address without asking the network; binding to it gives the device.
 *
 * The queue pair's states are ours to change (the identifier only knows its number): INIT, ready to receive, ready to
 * send, with the attributes that rdma_init_qp_attr computes from what the two sides said. On iWARP the driver does the
 * same once more when the connection stands, which changes nothing.
 */
#include "verbs.h"

#if VERBS_BUILT
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	LISTEN_BACKLOG = 256,
	RESOLVE_TIME = 2000, /* ms for address and route each; the kernel repeats by itself */
	RETRY_COUNT = 6,     /* of the transport: as Windows and Linux have it for SMB Direct */
	/*
	 * A Send that meets no receive ends the connection: credits make that impossible, so a peer that does it has
	 * broken the protocol. As Linux has it.
	 */
	RNR_RETRY_COUNT = 0,
};
#define CONNECT_TIME ((nanoseconds)10 * SECOND)
#define LISTEN_AGAIN ((nanoseconds)1 * SECOND) /* while the device behind an address is gone */
#define LISTEN_LATER                                                                               \
	((nanoseconds)60 * SECOND) /* while there is no device at all: the kernel will tell */

/* rdma_cm's events. Each is acknowledged before it is handled: then its identifier may be destroyed at once. */

static void hand_to_endpoint(struct rdma_cm_event *event)
{
	uint8_t data[FABRIC_MAX_PRIVATE_DATA];
	struct rdma_cm_event copy = *event;
	struct rdma_conn_param *offer = &copy.param.conn;
	struct verbs_endpoint *endpoint = copy.id->context;

	if (offer->private_data_len > sizeof(data))
		offer->private_data_len = sizeof(data);
	if (offer->private_data && offer->private_data_len)
		memcpy(data, offer->private_data, offer->private_data_len);
	else
		offer->private_data_len = 0;
	offer->private_data = data;
	endpoint->fabric->library.ack_cm_event(event);
	endpoint->event(endpoint, &copy);
}

void verbs_cm_ready(struct loop_watch *watch, uint32_t events)
{
	struct verbs_fabric *fabric = watch->owner;

	(void)events;
	for (int i = 0; i < VERBS_EVENTS_PER_TURN; i++) {
		struct rdma_cm_event *event;

		if (fabric->library.get_cm_event(fabric->channel, &event))
			return;
		hand_to_endpoint(event);
	}
}

static socklen_t address_size(const struct sockaddr *address)
{
	return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					      : sizeof(struct sockaddr_in);
}

static void private_data_keep(struct verbs_qp *qp, const struct rdma_conn_param *offer)
{
	qp->base.private_data_length = offer->private_data_len;
	memcpy(qp->base.private_data, offer->private_data, offer->private_data_len);
}

static void addresses_set(struct verbs_qp *qp)
{
	const struct rdma_addr *addresses = &qp->endpoint.id->route.addr;

	memcpy(&qp->base.local, &addresses->src_storage, sizeof(qp->base.local));
	memcpy(&qp->base.remote, &addresses->dst_storage, sizeof(qp->base.remote));
}

/* The queue pair's states. */

static int modify(struct verbs_qp *qp, enum ibv_qp_state state)
{
	const struct verbs_library *library = verbs_of(qp->base.fabric);
	struct ibv_qp_attr attributes = {.qp_state = state};
	int mask;

	if (library->init_qp_attr(qp->endpoint.id, &attributes, &mask))
		return -errno;
	if (mask & IBV_QP_MAX_DEST_RD_ATOMIC)
		attributes.max_dest_rd_atomic = (uint8_t)qp->base.limits.responder_depth;
	if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
		attributes.max_rd_atomic = (uint8_t)qp->base.limits.initiator_depth;
	return -library->modify_qp(qp->qp, &attributes, mask);
}

static int make_ready(struct verbs_qp *qp)
{
	int error = modify(qp, IBV_QPS_RTR);

	return error ? error : modify(qp, IBV_QPS_RTS);
}

/* Our Reads fit what the peer serves, its Reads what we serve. */
static void depths_lower(struct verbs_qp *qp, const struct rdma_conn_param *offer)
{
	struct fabric_limits *limits = &qp->base.limits;

	if (offer->initiator_depth < limits->initiator_depth)
		limits->initiator_depth = offer->initiator_depth;
	if (offer->responder_resources < limits->responder_depth)
		limits->responder_depth = offer->responder_resources;
}

static struct rdma_conn_param reply_of(const struct verbs_qp *qp)
{
	struct rdma_conn_param reply = {
		.responder_resources = (uint8_t)qp->base.limits.responder_depth,
		.initiator_depth = (uint8_t)qp->base.limits.initiator_depth,
		.retry_count = RETRY_COUNT,
		.rnr_retry_count = RNR_RETRY_COUNT,
		.qp_num = qp->qp->qp_num,
	};

	/* [MS-SMBD] 6.1: InfiniBand and RoCE carry the depths themselves. */
	if (qp->base.device->transport == FABRIC_TRANSPORT_IWARP) {
		reply.private_data = qp->private_data;
		reply.private_data_len = (uint8_t)qp->private_data_length;
	}
	return reply;
}

static int parameters_keep(struct verbs_qp *qp, const struct fabric_parameters *parameters)
{
	if (parameters->private_data_length > sizeof(qp->private_data))
		return -EINVAL;
	qp->private_data_length = parameters->private_data_length;
	if (parameters->private_data_length)
		memcpy(qp->private_data, parameters->private_data, parameters->private_data_length);
	return verbs_qp_open(qp, &parameters->limits);
}

void verbs_established(struct verbs_qp *qp)
{
	if (qp->state != VERBS_ACCEPTED && qp->state != VERBS_CONNECTING)
		return;
	loop_timer_cancel(qp->base.fabric->loop, &qp->timer);
	qp->state = VERBS_ESTABLISHED;
	qp->established_due = true;
	verbs_schedule(qp);
}

/* Responder. */

int verbs_accept(struct fabric_qp *base, const struct fabric_parameters *parameters)
{
	struct verbs_qp *qp = verbs_qp(base);
	struct rdma_conn_param reply;
	int error;

	if (qp->state != VERBS_NEW || !base->events)
		return -EINVAL;
	error = parameters_keep(qp, parameters);
	if (error)
		return error;
	depths_lower(qp, &qp->offer);
	error = modify(qp, IBV_QPS_INIT);
	if (!error)
		error = verbs_post_early_receives(qp);
	if (!error)
		error = make_ready(qp);
	if (error)
		return error;
	reply = reply_of(qp);
	if (verbs_of(base->fabric)->accept(qp->endpoint.id, &reply))
		return -errno;
	qp->state = VERBS_ACCEPTED;
	verbs_schedule(qp); /* arms the completion queue */
	return 0;
}

void verbs_reject(struct fabric_qp *base)
{
	struct verbs_qp *qp = verbs_qp(base);

	if (qp->state == VERBS_NEW)
		verbs_of(base->fabric)->reject(qp->endpoint.id, NULL, 0);
	verbs_qp_destroy(base);
}

static void connection_request(struct verbs_listener *listener, const struct rdma_cm_event *event)
{
	struct verbs_fabric *fabric = verbs_fabric(listener->base.fabric);
	bool alive = true, taken;
	struct verbs_qp *qp;

	if (verbs_qp_create(fabric, event->id, VERBS_NEW, &qp) < 0) {
		trace_count(TRACE_VERBS_REQUEST_REFUSALS);
		return;
	}
	qp->offer = event->param.conn;
	addresses_set(qp);
	private_data_keep(qp, &event->param.conn);
	qp->alive = &alive;
	taken = listener->request(&listener->base, &qp->base);
	if (!alive)
		return;
	qp->alive = NULL;
	if (!taken)
		verbs_reject(&qp->base);
}

/* Listeners. */

static void listener_event(struct verbs_endpoint *endpoint, const struct rdma_cm_event *event);

static int listener_bind(struct verbs_listener *listener)
{
	struct verbs_fabric *fabric = verbs_fabric(listener->base.fabric);
	struct sockaddr *address = (struct sockaddr *)&listener->base.address;
	const struct verbs_library *library = &fabric->library;
	struct rdma_cm_id *id;
	int one = 1, error = verbs_channel_open(fabric);

	if (error)
		return error;
	if (library->create_id(fabric->channel, &id, &listener->endpoint, RDMA_PS_TCP))
		return -errno;
	/* 0.0.0.0 and :: are two listeners, as everywhere here. */
	if (address->sa_family == AF_INET6)
		library->set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &one, sizeof(one));
	if (library->bind_addr(id, address) || library->listen(id, LISTEN_BACKLOG)) {
		error = errno ? errno : EIO;
		library->destroy_id(id);
		return -error;
	}
	listener->endpoint.id = id;
	memcpy(&listener->base.address, &id->route.addr.src_storage, address_size(address));
	return 0;
}

/*
 * A listener on 0.0.0.0 or :: belongs to no device: the kernel extends it to those that appear, and before the first
 * one appears it waits. One on an address goes with the device behind it, and begins again when there is one.
 */
static bool is_any(const struct sockaddr *address)
{
	static const struct in6_addr any = IN6ADDR_ANY_INIT;

	if (address->sa_family == AF_INET6)
		return !memcmp(&((const struct sockaddr_in6 *)address)->sin6_addr, &any,
			       sizeof(any));
	return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static nanoseconds wait_of(const struct verbs_listener *listener)
{
	const struct sockaddr *address = (const struct sockaddr *)&listener->base.address;

	return is_any(address) ? LISTEN_LATER : LISTEN_AGAIN;
}

static void listener_retry(struct loop_timer *timer, nanoseconds now)
{
	struct verbs_listener *listener = timer->owner;

	if (listener_bind(listener) < 0)
		loop_timer_set(listener->base.fabric->loop, timer, now + wait_of(listener));
}

void verbs_listeners_retry(struct verbs_fabric *fabric)
{
	for (struct verbs_listener *listener = fabric->listeners; listener;
	     listener = listener->next) {
		if (!listener->endpoint.id)
			loop_timer_set(fabric->base.loop, &listener->retry,
				       loop_now(fabric->base.loop) + LISTEN_AGAIN);
	}
}

static void listener_lost(struct verbs_listener *listener)
{
	struct loop *loop = listener->base.fabric->loop;

	trace_count(TRACE_VERBS_LISTENERS_LOST);
	verbs_of(listener->base.fabric)->destroy_id(listener->endpoint.id);
	listener->endpoint.id = NULL;
	loop_timer_set(loop, &listener->retry, loop_now(loop) + LISTEN_AGAIN);
}

void verbs_listeners_lose(struct verbs_fabric *fabric, const struct ibv_device *adapter)
{
	for (struct verbs_listener *listener = fabric->listeners; listener;
	     listener = listener->next) {
		const struct rdma_cm_id *id = listener->endpoint.id;

		if (id && id->verbs && id->verbs->device == adapter)
			listener_lost(listener);
	}
}

static void listener_event(struct verbs_endpoint *endpoint, const struct rdma_cm_event *event)
{
	struct verbs_listener *listener = endpoint->owner;

	switch (event->event) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		connection_request(listener, event);
		return;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
	case RDMA_CM_EVENT_ADDR_CHANGE:
		listener_lost(listener);
		return;
	default:
		return;
	}
}

int verbs_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		 bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp),
		 void *owner, struct fabric_listener **ret)
{
	struct verbs_listener *listener = calloc(1, sizeof(*listener));
	int error;

	if (!listener)
		return -ENOMEM;
	listener->base = (struct fabric_listener){
		.fabric = fabric, .owner = owner, .address_length = length};
	memcpy(&listener->base.address, address, length);
	listener->request = request;
	listener->endpoint = (struct verbs_endpoint){
		.fabric = verbs_fabric(fabric), .event = listener_event, .owner = listener};
	listener->retry = (struct loop_timer){.expired = listener_retry, .owner = listener};
	error = listener_bind(listener);
	if (error == -ENODEV && is_any(address)) {
		loop_timer_set(fabric->loop, &listener->retry,
			       loop_now(fabric->loop) + LISTEN_LATER);
	} else if (error < 0) {
		free(listener);
		return error;
	}
	listener->next = verbs_fabric(fabric)->listeners;
	verbs_fabric(fabric)->listeners = listener;
	*ret = &listener->base;
	return 0;
}

void verbs_unlisten(struct fabric_listener *base)
{
	struct verbs_listener *listener = (struct verbs_listener *)base;
	struct verbs_fabric *fabric = verbs_fabric(base->fabric);
	struct verbs_listener **place = &fabric->listeners;

	while (*place != listener)
		place = &(*place)->next;
	*place = listener->next;
	loop_timer_cancel(fabric->base.loop, &listener->retry);
	if (listener->endpoint.id)
		fabric->library.destroy_id(listener->endpoint.id);
	free(listener);
}

/* Initiator. */

/* The address that the host would use towards the peer: a UDP socket knows it without sending anything. */
static int source_address(const struct sockaddr *remote, socklen_t length,
			  struct sockaddr_storage *ret)
{
	int fd = socket(remote->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*ret);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, remote, length) < 0 || getsockname(fd, (struct sockaddr *)ret, &size) < 0)
		error = -errno;
	close(fd);
	if (ret->ss_family == AF_INET6)
		((struct sockaddr_in6 *)ret)->sin6_port = 0;
	else
		((struct sockaddr_in *)ret)->sin_port = 0;
	return error;
}

static int id_for(struct verbs_fabric *fabric, const struct sockaddr *remote, socklen_t length,
		  struct rdma_cm_id **ret)
{
	const struct verbs_library *library = &fabric->library;
	struct sockaddr_storage source = {0};
	int error = source_address(remote, length, &source);

	if (!error)
		error = verbs_channel_open(fabric);
	if (error)
		return error;
	if (library->create_id(fabric->channel, ret, NULL, RDMA_PS_TCP))
		return -errno;
	if (library->bind_addr(*ret, (struct sockaddr *)&source)) {
		error = errno ? errno : EIO;
		library->destroy_id(*ret);
		return -error;
	}
	return 0;
}

static int connect_begin(struct verbs_qp *qp, const struct sockaddr *address, socklen_t length,
			 const struct fabric_parameters *parameters)
{
	struct loop *loop = qp->base.fabric->loop;
	struct sockaddr_storage remote = {0};
	int error = parameters_keep(qp, parameters);

	if (!error)
		error = modify(qp, IBV_QPS_INIT); /* from here on receives may be posted */
	if (error)
		return error;
	memcpy(&remote, address, length);
	if (verbs_of(qp->base.fabric)
		    ->resolve_addr(qp->endpoint.id, NULL, (struct sockaddr *)&remote, RESOLVE_TIME))
		return errno ? -errno : -EIO;
	memcpy(&qp->base.remote, &remote, sizeof(remote));
	loop_timer_set(loop, &qp->timer, loop_now(loop) + CONNECT_TIME);
	return 0;
}

int verbs_connect(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		  const struct fabric_parameters *parameters, const struct fabric_events *events,
		  void *owner, struct fabric_qp **ret)
{
	struct rdma_cm_id *id;
	struct verbs_qp *qp;
	int error = id_for(verbs_fabric(fabric), address, length, &id);

	if (!error)
		error = verbs_qp_create(verbs_fabric(fabric), id, VERBS_RESOLVING, &qp);
	if (error)
		return error;
	error = connect_begin(qp, address, length, parameters);
	if (error) {
		verbs_qp_destroy(&qp->base);
		return error;
	}
	qp->base.events = events;
	qp->base.owner = owner;
	*ret = &qp->base;
	return 0;
}

static void route_resolved(struct verbs_qp *qp)
{
	struct rdma_conn_param request = reply_of(qp);

	addresses_set(qp);
	qp->state = VERBS_CONNECTING;
	if (verbs_of(qp->base.fabric)->connect(qp->endpoint.id, &request))
		verbs_end(qp, CLOSE_PEER_LOST, "cannot connect: %s", strerror(errno));
}

/* The responder has accepted. */
static void responded(struct verbs_qp *qp, const struct rdma_conn_param *reply)
{
	int error;

	depths_lower(qp, reply);
	private_data_keep(qp, reply);
	/* Once more: now it is known that the peer may read. */
	error = modify(qp, IBV_QPS_INIT);
	if (!error)
		error = make_ready(qp);
	if (!error && verbs_of(qp->base.fabric)->establish(qp->endpoint.id))
		error = -errno;
	if (error)
		verbs_end(qp, CLOSE_LIMIT, "the queue pair cannot be made ready: %s",
			  strerror(-error));
	else
		verbs_established(qp);
}

/* What an identifier of a queue pair is told. */

enum {
	/* Reasons of a rejection, as rdma_cm gives them: nobody listens there; the listener said no. */
	REJECT_INVALID_SERVICE = 8,
	REJECT_BY_CONSUMER = 28,
};

static void rejected(struct verbs_qp *qp, int status)
{
	if (status == REJECT_BY_CONSUMER || status == -ECONNREFUSED)
		verbs_end(qp, CLOSE_NEGOTIATION, "the peer rejected the connection");
	else if (status == REJECT_INVALID_SERVICE)
		verbs_end(qp, CLOSE_PEER_LOST, "nobody listens for RDMA connections there");
	else
		verbs_end(qp, CLOSE_PEER_LOST, "the connection was rejected, reason %d", status);
}

static void established_event(struct verbs_qp *qp, const struct rdma_conn_param *reply)
{
	/* An iWARP initiator: the driver has made the queue pair ready. */
	if (qp->state == VERBS_CONNECTING) {
		depths_lower(qp, reply);
		private_data_keep(qp, reply);
	}
	verbs_established(qp);
}

static void failed_event(struct verbs_qp *qp, const struct rdma_cm_event *event)
{
	const char *words = "the connection could not be made";
	int error = event->status < 0 ? -event->status : event->status;

	if (event->event == RDMA_CM_EVENT_ADDR_ERROR)
		words = "the peer's address was not resolved";
	else if (event->event == RDMA_CM_EVENT_ROUTE_ERROR)
		words = "there is no route to the peer";
	else if (event->event == RDMA_CM_EVENT_UNREACHABLE)
		words = "the peer does not answer the connection request";
	verbs_end(qp, error == ETIMEDOUT ? CLOSE_TIMEOUT : CLOSE_PEER_LOST, "%s: %s", words,
		  strerror(error));
}

void verbs_qp_event(struct verbs_endpoint *endpoint, const struct rdma_cm_event *event)
{
	struct verbs_qp *qp = endpoint->owner;

	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (verbs_of(qp->base.fabric)->resolve_route(endpoint->id, RESOLVE_TIME))
			verbs_end(qp, CLOSE_PEER_LOST, "no route: %s", strerror(errno));
		return;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		if (qp->state == VERBS_RESOLVING)
			route_resolved(qp);
		return;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		if (qp->state == VERBS_CONNECTING)
			responded(qp, &event->param.conn);
		return;
	case RDMA_CM_EVENT_ESTABLISHED:
		established_event(qp, &event->param.conn);
		return;
	case RDMA_CM_EVENT_REJECTED:
		rejected(qp, event->status);
		return;
	case RDMA_CM_EVENT_DISCONNECTED:
		verbs_end(qp, CLOSE_BY_PEER, "the peer disconnected");
		return;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		verbs_device_lost(verbs_device_of(qp), "was removed");
		return;
	case RDMA_CM_EVENT_ADDR_CHANGE:
		verbs_end(qp, CLOSE_PEER_LOST, "the address moved to another adapter");
		return;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
		failed_event(qp, event);
		return;
	default: /* TIMEWAIT_EXIT: the old number may be used again; we never ask for one */
		return;
	}
}

#endif
