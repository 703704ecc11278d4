#include "fabric_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fabric_memory_parts.h"

int memory_refused(struct fabric *fabric)
{
	struct memory_fabric *this = memory(fabric);

	if (this->refuse_in == 0 || --this->refuse_in > 0)
		return 0;
	return -this->refuse_error;
}

void fabric_memory_refuse(struct fabric *fabric, uint32_t nth, int error)
{
	memory(fabric)->refuse_in = nth;
	memory(fabric)->refuse_error = error;
}

/* Memory. */

static int register_memory(struct fabric_device *device, void *base, size_t length,
			   struct fabric_region **ret)
{
	struct fabric_region *region;
	int error = memory_refused(device->fabric);

	if (error)
		return error;
	region = malloc(sizeof(*region));
	if (!region)
		return -ENOMEM;
	*region = (struct fabric_region){.device = device, .base = base, .length = length};
	device->registered_bytes += length;
	device->region_count++;
	*ret = region;
	return 0;
}

static void deregister_memory(struct fabric_region *region)
{
	region->device->registered_bytes -= region->length;
	region->device->region_count--;
	free(region);
}

void memory_scatter(const struct fabric_memory_work *work, const uint8_t *bytes)
{
	for (uint32_t i = 0; i < work->sge_count; i++) {
		memcpy(work->sges[i].address, bytes, work->sges[i].length);
		bytes += work->sges[i].length;
	}
}

void fabric_memory_gather(const struct fabric_memory_work *work, void *ret)
{
	uint8_t *bytes = ret;

	for (uint32_t i = 0; i < work->sge_count; i++) {
		memcpy(bytes, work->sges[i].address, work->sges[i].length);
		bytes += work->sges[i].length;
	}
}

/* Queue pairs. */

static int qp_create(struct fabric *fabric, struct memory_qp **ret)
{
	struct memory_fabric *this = memory(fabric);
	struct memory_qp *qp = calloc(1, sizeof(*qp));

	if (!qp)
		return -ENOMEM;
	qp->base.fabric = fabric;
	qp->base.device = &this->device;
	qp->base.limits = this->limits;
	qp->base.invalidation = true;
	qp->results_end = &qp->results;
	qp->receive_size = this->limits.receive_queue;
	qp->receives = calloc(qp->receive_size, sizeof(*qp->receives));
	if (!qp->receives) {
		free(qp);
		return -ENOMEM;
	}
	qp->next = this->qps;
	this->qps = qp;
	*ret = qp;
	return 0;
}

void memory_add_result(struct memory_qp *qp, const struct fabric_completion *completion,
		       uint32_t releases)
{
	struct result *result = malloc(sizeof(*result));

	if (!result)
		abort(); /* a test's memory is not a matter of the test */
	*result = (struct result){.completion = *completion, .releases = releases};
	*qp->results_end = result;
	qp->results_end = &result->next;
}

struct fabric_memory_work *memory_unlink_work(struct memory_qp *qp, uint64_t number)
{
	struct fabric_memory_work **place = &qp->posted, *work;

	while (*place && (*place)->number != number)
		place = &(*place)->next;
	work = *place;
	if (work)
		*place = work->next;
	return work;
}

void memory_free_work(struct fabric_memory_work *work)
{
	free(work->sges);
	free(work);
}

static void flush(struct memory_qp *qp)
{
	while (qp->posted) {
		struct fabric_memory_work *work = memory_unlink_work(qp, qp->posted->number);
		struct fabric_completion completion = {
			.id = work->id, .opcode = work->opcode, .status = FABRIC_FLUSHED};

		memory_add_result(qp, &completion, 0);
		memory_free_work(work);
	}
	for (; qp->receive_count > 0; qp->receive_count--) {
		struct receive *receive = &qp->receives[qp->receive_first];
		struct fabric_completion completion = {
			.id = receive->id, .opcode = FABRIC_RECEIVE, .status = FABRIC_FLUSHED};

		memory_add_result(qp, &completion, 0);
		qp->receive_first = (qp->receive_first + 1) % qp->receive_size;
	}
}

void memory_end(struct memory_qp *qp, enum close_reason reason, const char *words)
{
	struct memory_qp *peer = qp->peer;

	if (qp->state == STATE_NEW || qp->state >= STATE_ENDING)
		return;
	qp->state = STATE_ENDING;
	qp->reason = reason;
	qp->words = words;
	flush(qp);
	qp->peer = NULL;
	if (!peer)
		return;
	peer->peer = NULL;
	memory_end(peer, reason == CLOSE_BY_WORKER ? CLOSE_BY_PEER : reason,
		   reason == CLOSE_BY_WORKER ? "the peer disconnected" : words);
}

void fabric_memory_lose(struct fabric_qp *qp, enum close_reason reason, const char *words)
{
	memory_end(memory_of(qp), reason, words);
}

static void disconnect(struct fabric_qp *qp)
{
	memory_end(memory_of(qp), CLOSE_BY_WORKER, "disconnected on this side");
}

static void qp_destroy(struct fabric_qp *base)
{
	struct memory_qp *qp = memory_of(base), **place = &memory(base->fabric)->qps;

	memory_end(qp, CLOSE_BY_WORKER, "destroyed");
	while (*place != qp)
		place = &(*place)->next;
	*place = qp->next;
	if (qp->peer)
		qp->peer->peer = NULL;
	flush(qp);
	while (qp->results) {
		struct result *result = qp->results;

		qp->results = result->next;
		free(result);
	}
	while (qp->windows) {
		struct window *window = qp->windows;

		qp->windows = window->next;
		free(window);
	}
	free(qp->receives);
	free(qp);
}

/* Connections. */

static void default_limits(struct fabric_limits *limits)
{
	const struct fabric_limits large = {.send_queue = 4096,
					    .receive_queue = 4096,
					    .send_sges = 4,
					    .read_sges = 1,
					    .initiator_depth = 128,
					    .responder_depth = 128,
					    .transfer_bytes = (uint64_t)1 << 30};

	if (!limits->send_queue)
		limits->send_queue = large.send_queue;
	if (!limits->receive_queue)
		limits->receive_queue = large.receive_queue;
	if (!limits->send_sges)
		limits->send_sges = large.send_sges;
	if (!limits->read_sges)
		limits->read_sges = large.read_sges;
	if (!limits->initiator_depth)
		limits->initiator_depth = large.initiator_depth;
	if (!limits->responder_depth)
		limits->responder_depth = large.responder_depth;
	if (!limits->transfer_bytes)
		limits->transfer_bytes = large.transfer_bytes;
}

static void lower(uint32_t *limit, uint32_t asked)
{
	if (asked > 0 && asked < *limit)
		*limit = asked;
}

/* What is asked for, as far as the fabric gives it. */
static void apply(struct memory_qp *qp, const struct fabric_parameters *parameters)
{
	struct fabric_limits *limits = &qp->base.limits;

	lower(&limits->send_queue, parameters->limits.send_queue);
	lower(&limits->receive_queue, parameters->limits.receive_queue);
	lower(&limits->send_sges, parameters->limits.send_sges);
	lower(&limits->read_sges, parameters->limits.read_sges);
	lower(&limits->initiator_depth, parameters->limits.initiator_depth);
	lower(&limits->responder_depth, parameters->limits.responder_depth);
	if (parameters->limits.transfer_bytes &&
	    parameters->limits.transfer_bytes < limits->transfer_bytes)
		limits->transfer_bytes = parameters->limits.transfer_bytes;
}

static void give_private_data(struct memory_qp *qp, const struct fabric_parameters *parameters)
{
	qp->base.private_data_length = parameters->private_data_length;
	if (parameters->private_data_length > 0)
		memcpy(qp->base.private_data, parameters->private_data,
		       parameters->private_data_length);
}

static int memory_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
			 bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp),
			 void *owner, struct fabric_listener **ret)
{
	struct memory_fabric *this = memory(fabric);
	struct memory_listener *listener = calloc(1, sizeof(*listener));
	struct sockaddr_in *bound;

	if (!listener)
		return -ENOMEM;
	listener->base.fabric = fabric;
	listener->base.owner = owner;
	memcpy(&listener->base.address, address, length);
	listener->base.address_length = length;
	bound = (struct sockaddr_in *)&listener->base.address;
	if (bound->sin_port == 0)
		bound->sin_port = htons((uint16_t)++ this->next_port);
	listener->request = request;
	listener->next = this->listeners;
	this->listeners = listener;
	*ret = &listener->base;
	return 0;
}

static void memory_unlisten(struct fabric_listener *base)
{
	struct memory_listener **place = &memory(base->fabric)->listeners, *listener;

	while (&(*place)->base != base)
		place = &(*place)->next;
	listener = *place;
	*place = listener->next;
	for (struct memory_qp *qp = memory(base->fabric)->qps; qp; qp = qp->next) {
		if (qp->listener == base)
			qp->listener = NULL;
	}
	free(listener);
}

static struct memory_listener *find_listener(struct memory_fabric *fabric,
					     const struct sockaddr *address)
{
	in_port_t port = ((const struct sockaddr_in *)address)->sin_port;
	struct memory_listener *listener = fabric->listeners;

	while (listener && ((struct sockaddr_in *)&listener->base.address)->sin_port != port)
		listener = listener->next;
	return listener;
}

static int memory_connect(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
			  const struct fabric_parameters *parameters,
			  const struct fabric_events *events, void *owner, struct fabric_qp **ret)
{
	struct memory_listener *listener = find_listener(memory(fabric), address);
	struct memory_qp *client, *server;
	int error = qp_create(fabric, &client);

	if (error)
		return error;
	client->base.events = events;
	client->base.owner = owner;
	client->state = STATE_CONNECTING;
	memcpy(&client->base.remote, address, length);
	apply(client, parameters);
	*ret = &client->base;
	if (!listener) {
		memory_end(client, CLOSE_PEER_LOST, "nobody listens there");
		return 0;
	}
	error = qp_create(fabric, &server);
	if (error) {
		qp_destroy(&client->base);
		return error;
	}
	give_private_data(server, parameters);
	server->listener = &listener->base;
	server->peer = client;
	client->peer = server;
	return 0;
}

static int memory_accept(struct fabric_qp *base, const struct fabric_parameters *parameters)
{
	struct memory_qp *qp = memory_of(base);
	int error = memory_refused(base->fabric);

	if (error)
		return error;
	apply(qp, parameters);
	qp->accepted = true;
	qp->state = STATE_CONNECTING;
	if (qp->peer)
		give_private_data(qp->peer, parameters);
	else if (!qp->single)
		memory_end(qp, CLOSE_BY_PEER, "the client is gone");
	return 0;
}

static void memory_reject(struct fabric_qp *base)
{
	struct memory_qp *peer = memory_of(base)->peer;

	qp_destroy(base);
	if (peer)
		memory_end(peer, CLOSE_PEER_LOST, "rejected");
}

int fabric_memory_qp_create(struct fabric *fabric, struct fabric_qp **ret)
{
	struct memory_qp *qp;
	int error = qp_create(fabric, &qp);

	if (error)
		return error;
	qp->single = true;
	*ret = &qp->base;
	return 0;
}

void fabric_memory_establish(struct fabric_qp *base)
{
	struct memory_qp *qp = memory_of(base);

	qp->single = qp->accepted = true;
	qp->state = STATE_CONNECTING;
}

/* The fabric. */

static void destroy(struct fabric *fabric)
{
	struct memory_fabric *this = memory(fabric);

	while (this->qps)
		qp_destroy(&this->qps->base);
	while (this->listeners)
		memory_unlisten(&this->listeners->base);
	free(this);
}

static const struct fabric_ops memory_ops = {
	.name = "memory",
	.destroy = destroy,
	.listen = memory_listen,
	.unlisten = memory_unlisten,
	.connect = memory_connect,
	.accept = memory_accept,
	.reject = memory_reject,
	.disconnect = disconnect,
	.qp_destroy = qp_destroy,
	.register_memory = register_memory,
	.deregister_memory = deregister_memory,
	.post_receive = memory_post_receive,
	.post = memory_post,
	.expose = memory_expose,
	.revoke = memory_revoke,
};

int fabric_memory_create(const struct fabric_memory_config *config, struct fabric **ret)
{
	struct memory_fabric *this = calloc(1, sizeof(*this));

	if (!this)
		return -ENOMEM;
	this->base.ops = &memory_ops;
	this->base.loop = config ? config->loop : NULL;
	this->device.fabric = &this->base;
	this->device.transport = config ? config->transport : FABRIC_TRANSPORT_MEMORY;
	strcpy(this->device.name, "memory");
	if (config)
		this->limits = config->limits;
	default_limits(&this->limits);
	*ret = &this->base;
	return 0;
}

struct fabric_device *fabric_memory_device(struct fabric *fabric)
{
	return &memory(fabric)->device;
}
