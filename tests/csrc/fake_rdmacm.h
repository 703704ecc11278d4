/* The connection manager of the adapter that fake_verbs.h plays; a part of that file. */
#ifndef FAKE_RDMACM_H
#define FAKE_RDMACM_H

static struct rdma_event_channel *fake_create_event_channel(void)
{
	return &fake.channel;
}

static void fake_destroy_event_channel(struct rdma_event_channel *channel)
{
	(void)channel;
	CHECK(fake.id_count == 0);
}

static struct fake_event *fake_event(struct fake_id *id, enum rdma_cm_event_type type, int status)
{
	struct fake_event *event = calloc(1, sizeof(*event));

	event->base.id = &id->base;
	event->base.event = type;
	event->base.status = status;
	*fake.events_end = event;
	fake.events_end = &event->next;
	eventfd_write(fake.channel.fd, 1);
	return event;
}

/* Depths change sides on the way. */
static void fake_carry(struct fake_event *event, const struct rdma_conn_param *parameters)
{
	event->base.param.conn = *parameters;
	event->base.param.conn.initiator_depth = parameters->responder_resources;
	event->base.param.conn.responder_resources = parameters->initiator_depth;
	if (parameters->private_data_len)
		memcpy(event->data, parameters->private_data, parameters->private_data_len);
	event->base.param.conn.private_data = event->data;
}

static int fake_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret)
{
	struct fake_event *event = fake.events;
	eventfd_t value;

	if (!event) {
		eventfd_read(channel->fd, &value);
		errno = EAGAIN;
		return -1;
	}
	fake.events = event->next;
	if (!event->next)
		fake.events_end = &fake.events;
	((struct fake_id *)event->base.id)->unacknowledged++;
	*ret = &event->base;
	return 0;
}

static int fake_ack_cm_event(struct rdma_cm_event *event)
{
	((struct fake_id *)event->id)->unacknowledged--;
	free(event);
	return 0;
}

static int fake_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret,
			  void *context, enum rdma_port_space space)
{
	struct fake_id *id = calloc(1, sizeof(*id));

	CHECK(space == RDMA_PS_TCP);
	id->base.channel = channel;
	id->base.context = context;
	id->next = fake.ids;
	fake.ids = id;
	fake.id_count++;
	*ret = &id->base;
	return 0;
}

static void fake_part(struct fake_id *id)
{
	if (!id->connected)
		return;
	id->connected = false;
	if (id->peer && id->peer->connected) {
		id->peer->connected = false;
		fake_event(id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
	}
}

static int fake_destroy_id(struct rdma_cm_id *base)
{
	struct fake_id *id = (struct fake_id *)base, **place = &fake.ids;

	CHECK(id->unacknowledged == 0); /* the library would wait for ever */
	fake_part(id);
	for (struct fake_event **at = &fake.events; *at;) {
		struct fake_event *event = *at;

		if (event->base.id != base) {
			at = &event->next;
			continue;
		}
		*at = event->next;
		free(event);
	}
	fake.events_end = &fake.events;
	while (*fake.events_end)
		fake.events_end = &(*fake.events_end)->next;
	while (*place != id)
		place = &(*place)->next;
	*place = id->next;
	if (id->peer)
		id->peer->peer = NULL;
	free(id);
	fake.id_count--;
	return 0;
}

static int fake_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t length)
{
	(void)id, (void)level, (void)name, (void)value, (void)length;
	return 0;
}

static int fake_bind_addr(struct rdma_cm_id *id, struct sockaddr *address)
{
	struct sockaddr_in *bound = (struct sockaddr_in *)&id->route.addr.src_storage;

	memcpy(bound, address, sizeof(*bound));
	if (!bound->sin_port)
		bound->sin_port = htons((uint16_t)++fake.numbers);
	id->verbs = &fake.context;
	id->port_num = FAKE_PORT;
	return 0;
}

static int fake_listen(struct rdma_cm_id *id, int backlog)
{
	CHECK(backlog > 0);
	((struct fake_id *)id)->listening = true;
	return 0;
}

static int fake_resolve_addr(struct rdma_cm_id *id, struct sockaddr *source,
			     struct sockaddr *target, int milliseconds)
{
	CHECK(!source && milliseconds > 0);
	memcpy(&id->route.addr.dst_storage, target, sizeof(struct sockaddr_in));
	fake_event((struct fake_id *)id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	return 0;
}

static int fake_resolve_route(struct rdma_cm_id *id, int milliseconds)
{
	CHECK(milliseconds > 0);
	fake_event((struct fake_id *)id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	return 0;
}

static struct fake_id *fake_listener_at(const struct rdma_cm_id *from)
{
	in_port_t port = ((const struct sockaddr_in *)&from->route.addr.dst_storage)->sin_port;
	struct fake_id *id = fake.ids;

	while (id && (!id->listening ||
		      ((struct sockaddr_in *)&id->base.route.addr.src_storage)->sin_port != port))
		id = id->next;
	return id;
}

static int fake_connect(struct rdma_cm_id *base, struct rdma_conn_param *parameters)
{
	struct fake_id *id = (struct fake_id *)base, *listener = fake_listener_at(base), *made;
	struct rdma_cm_id *made_base;
	struct fake_event *event;

	id->qp_num = parameters->qp_num;
	if (!listener) {
		fake_event(id, RDMA_CM_EVENT_REJECTED, 8);
		return 0;
	}
	fake_create_id(base->channel, &made_base, listener->base.context, RDMA_PS_TCP);
	made = (struct fake_id *)made_base;
	made->base.verbs = &fake.context;
	made->base.port_num = FAKE_PORT;
	made->base.route.addr.src_storage = listener->base.route.addr.src_storage;
	made->base.route.addr.dst_storage = base->route.addr.src_storage;
	made->peer = id;
	id->peer = made;
	event = fake_event(made, RDMA_CM_EVENT_CONNECT_REQUEST, 0);
	event->base.listen_id = &listener->base;
	fake_carry(event, parameters);
	return 0;
}

static struct fake_qp *fake_qp_numbered(uint32_t number)
{
	struct fake_qp *qp = fake.qps;

	while (qp && qp->base.qp_num != number)
		qp = qp->next;
	CHECK(qp);
	return qp;
}

static int fake_accept(struct rdma_cm_id *base, struct rdma_conn_param *parameters)
{
	struct fake_id *id = (struct fake_id *)base;
	struct fake_qp *ours, *theirs;

	if (!id->peer) {
		errno = ECONNRESET;
		return -1;
	}
	ours = fake_qp_numbered(parameters->qp_num);
	theirs = fake_qp_numbered(id->peer->qp_num);
	ours->peer = theirs;
	theirs->peer = ours;
	id->connected = id->peer->connected = true;
	fake_carry(fake_event(id->peer, RDMA_CM_EVENT_CONNECT_RESPONSE, 0), parameters);
	return 0;
}

static int fake_establish(struct rdma_cm_id *id)
{
	if (((struct fake_id *)id)->peer && !fake.lose_establish)
		fake_event(((struct fake_id *)id)->peer, RDMA_CM_EVENT_ESTABLISHED, 0);
	return 0;
}

static int fake_reject(struct rdma_cm_id *id, const void *data, uint8_t length)
{
	(void)data, (void)length;
	if (((struct fake_id *)id)->peer)
		fake_event(((struct fake_id *)id)->peer, RDMA_CM_EVENT_REJECTED, 28);
	return 0;
}

static int fake_notify(struct rdma_cm_id *id, enum ibv_event_type type)
{
	(void)id;
	CHECK(type == IBV_EVENT_COMM_EST);
	return 0;
}

static int fake_disconnect(struct rdma_cm_id *id)
{
	fake_part((struct fake_id *)id);
	return 0;
}

static int fake_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *attributes, int *mask)
{
	(void)id;
	*mask = IBV_QP_STATE;
	if (attributes->qp_state == IBV_QPS_RTR)
		*mask |= IBV_QP_MAX_DEST_RD_ATOMIC;
	if (attributes->qp_state == IBV_QPS_RTS)
		*mask |= IBV_QP_MAX_QP_RD_ATOMIC;
	return 0;
}

#endif
