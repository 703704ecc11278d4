#include "fabric_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	TOKEN_KEY_BITS = 8,    /* the low byte of a token, as everywhere */
	OFFSET_BIAS = 1 << 20, /* remote offsets are opaque: not the address, not zero-based */
};

struct receive {
	uint64_t id;
	struct fabric_sge sge;
};

struct result {
	struct fabric_completion completion;
	uint32_t releases; /* places of the send queue that come back with it */
	struct result *next;
};

struct window {
	struct fabric_window base;
	uint8_t *address;
	unsigned access;
	bool valid;
	struct window *next;
};

enum state {
	STATE_NEW,          /* not accepted, not connected */
	STATE_CONNECTING,   /* `established` is to come */
	STATE_ESTABLISHED,
	STATE_ENDING,       /* flushed; `disconnected` follows the last completion */
	STATE_DISCONNECTED,
};

struct memory_qp {
	struct fabric_qp base;
	struct memory_qp *next;
	struct memory_qp *peer;           /* NULL: the test is the other end */
	struct fabric_listener *listener; /* whose `request` is to be called */
	enum state state;
	bool single, accepted;
	unsigned hold;
	uint64_t works, calls;
	uint32_t used, reads, quiet; /* send queue; Reads; unsignalled ones that were carried out */
	struct fabric_memory_work *posted;
	struct receive *receives; /* a ring of limits.receive_queue */
	uint32_t receive_first, receive_count, receive_size;
	struct result *results, **results_end;
	struct window *windows;
	enum close_reason reason;
	const char *words;
};

struct memory_listener {
	struct fabric_listener base;
	bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp);
	struct memory_listener *next;
};

struct memory_fabric {
	struct fabric base;
	struct fabric_device device;
	struct fabric_limits limits;
	struct memory_qp *qps;
	struct memory_listener *listeners;
	uint32_t next_token, next_port;
	uint32_t refuse_in;
	int refuse_error;
};

static struct memory_fabric *memory(struct fabric *fabric)
{
	return (struct memory_fabric *)fabric;
}

static struct memory_qp *memory_of(const struct fabric_qp *qp)
{
	return (struct memory_qp *)qp;
}

static int refused(struct fabric *fabric)
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

static int register_memory(struct fabric_device *device, void *base, size_t length, struct fabric_region **ret)
{
	struct fabric_region *region;
	int error = refused(device->fabric);

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

static bool inside(const struct fabric_sge *sge)
{
	const uint8_t *base = sge->region->base, *address = sge->address;

	return address >= base && sge->length <= sge->region->length &&
	       (size_t)(address - base) <= sge->region->length - sge->length;
}

static void scatter(const struct fabric_memory_work *work, const uint8_t *bytes)
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

static void add_result(struct memory_qp *qp, const struct fabric_completion *completion, uint32_t releases)
{
	struct result *result = malloc(sizeof(*result));

	if (!result)
		abort(); /* a test's memory is not a matter of the test */
	*result = (struct result){.completion = *completion, .releases = releases};
	*qp->results_end = result;
	qp->results_end = &result->next;
}

static struct fabric_memory_work *unlink_work(struct memory_qp *qp, uint64_t number)
{
	struct fabric_memory_work **place = &qp->posted, *work;

	while (*place && (*place)->number != number)
		place = &(*place)->next;
	work = *place;
	if (work)
		*place = work->next;
	return work;
}

static void free_work(struct fabric_memory_work *work)
{
	free(work->sges);
	free(work);
}

static void flush(struct memory_qp *qp)
{
	while (qp->posted) {
		struct fabric_memory_work *work = unlink_work(qp, qp->posted->number);
		struct fabric_completion completion = {
			.id = work->id, .opcode = work->opcode, .status = FABRIC_FLUSHED};

		add_result(qp, &completion, 0);
		free_work(work);
	}
	for (; qp->receive_count > 0; qp->receive_count--) {
		struct receive *receive = &qp->receives[qp->receive_first];
		struct fabric_completion completion = {
			.id = receive->id, .opcode = FABRIC_RECEIVE, .status = FABRIC_FLUSHED};

		add_result(qp, &completion, 0);
		qp->receive_first = (qp->receive_first + 1) % qp->receive_size;
	}
}

static void end(struct memory_qp *qp, enum close_reason reason, const char *words)
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
	end(peer, reason == CLOSE_BY_WORKER ? CLOSE_BY_PEER : reason,
	    reason == CLOSE_BY_WORKER ? "the peer disconnected" : words);
}

void fabric_memory_lose(struct fabric_qp *qp, enum close_reason reason, const char *words)
{
	end(memory_of(qp), reason, words);
}

static void disconnect(struct fabric_qp *qp)
{
	end(memory_of(qp), CLOSE_BY_WORKER, "disconnected on this side");
}

static void qp_destroy(struct fabric_qp *base)
{
	struct memory_qp *qp = memory_of(base), **place = &memory(base->fabric)->qps;

	end(qp, CLOSE_BY_WORKER, "destroyed");
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
	if (parameters->limits.transfer_bytes && parameters->limits.transfer_bytes < limits->transfer_bytes)
		limits->transfer_bytes = parameters->limits.transfer_bytes;
}

static void give_private_data(struct memory_qp *qp, const struct fabric_parameters *parameters)
{
	qp->base.private_data_length = parameters->private_data_length;
	if (parameters->private_data_length > 0)
		memcpy(qp->base.private_data, parameters->private_data, parameters->private_data_length);
}

static int memory_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
			 bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp), void *owner,
			 struct fabric_listener **ret)
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
		bound->sin_port = htons((uint16_t)++this->next_port);
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

static struct memory_listener *find_listener(struct memory_fabric *fabric, const struct sockaddr *address)
{
	in_port_t port = ((const struct sockaddr_in *)address)->sin_port;
	struct memory_listener *listener = fabric->listeners;

	while (listener && ((struct sockaddr_in *)&listener->base.address)->sin_port != port)
		listener = listener->next;
	return listener;
}

static int memory_connect(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
			  const struct fabric_parameters *parameters, const struct fabric_events *events, void *owner,
			  struct fabric_qp **ret)
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
		end(client, CLOSE_PEER_LOST, "nobody listens there");
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
	int error = refused(base->fabric);

	if (error)
		return error;
	apply(qp, parameters);
	qp->accepted = true;
	qp->state = STATE_CONNECTING;
	if (qp->peer)
		give_private_data(qp->peer, parameters);
	else if (!qp->single)
		end(qp, CLOSE_BY_PEER, "the client is gone");
	return 0;
}

static void memory_reject(struct fabric_qp *base)
{
	struct memory_qp *peer = memory_of(base)->peer;

	qp_destroy(base);
	if (peer)
		end(peer, CLOSE_PEER_LOST, "rejected");
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

/* Posting. */

static int post_receive(struct fabric_qp *base, uint64_t id, const struct fabric_sge *sge)
{
	struct memory_qp *qp = memory_of(base);
	int error = refused(base->fabric);

	if (error)
		return error;
	if (qp->state >= STATE_ENDING)
		return 0; /* flushed: the owner learns of the end soon */
	if (!inside(sge))
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
		if (work->sge_count > (read ? limits->read_sges : limits->send_sges) || (read && !work->signalled))
			return -EINVAL;
		for (uint32_t i = 0; i < work->sge_count; i++) {
			if (!inside(&work->sges[i]))
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

static int memory_post(struct fabric_qp *base, const struct fabric_work *first)
{
	struct memory_qp *qp = memory_of(base);
	int error = refused(base->fabric);

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

static int memory_expose(struct fabric_qp *base, struct fabric_region *region, void *address, size_t length,
			 unsigned access, uint64_t id, struct fabric_window **ret)
{
	struct memory_qp *qp = memory_of(base);
	struct fabric_sge sge = {.address = address, .length = (uint32_t)length, .region = region};
	struct fabric_completion completion = {.id = id, .opcode = FABRIC_EXPOSE};
	int error = refused(base->fabric);
	struct window *window;

	if (error)
		return error;
	if (!inside(&sge))
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
		add_result(qp, &completion, 1);
	return 0;
}

static int memory_revoke(struct fabric_window *base, uint64_t id)
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
		add_result(qp, &completion, 1);
	return 0;
}

/* Carrying out. */

static void complete(struct memory_qp *qp, const struct fabric_memory_work *work, enum fabric_status status)
{
	struct fabric_completion completion = {
		.id = work->id, .opcode = work->opcode, .status = status, .bytes = work->length};

	if (work->opcode == FABRIC_READ) {
		add_result(qp, &completion, 1);
	} else if (work->signalled || status != FABRIC_OK) {
		add_result(qp, &completion, qp->quiet + 1);
		qp->quiet = 0;
	} else {
		qp->quiet++;
	}
}

static void fail(struct memory_qp *qp, const struct fabric_memory_work *work, enum fabric_status status)
{
	complete(qp, work, status);
	end(qp, status == FABRIC_REMOTE_ACCESS ? CLOSE_REMOTE_ACCESS : CLOSE_PEER_LOST, "a work request failed");
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
	add_result(qp, &completion, 0);
	return 0;
}

uint32_t fabric_memory_receives(const struct fabric_qp *qp)
{
	return memory_of(qp)->receive_count;
}

static struct window *find_window(const struct memory_qp *qp, uint32_t token)
{
	struct window *window = qp->windows;

	while (window && (window->base.token != token || !window->valid))
		window = window->next;
	return window;
}

static bool carry_out_send(struct memory_qp *qp, const struct fabric_memory_work *work)
{
	struct window *window = find_window(qp->peer, work->remote_token);
	uint8_t *bytes = malloc(work->length ? work->length : 1);
	struct result **last = qp->peer->results_end;
	int error;

	if (!bytes)
		abort();
	fabric_memory_gather(work, bytes);
	error = fabric_memory_arrive(&qp->peer->base, bytes, work->length);
	free(bytes);
	if (error || work->opcode == FABRIC_SEND)
		return error == 0;
	if (!window)
		return false;
	window->valid = false;
	(*last)->completion.invalidated = true;
	(*last)->completion.invalidated_token = work->remote_token;
	return true;
}

/* The peer's memory that a Write or Read names, or NULL. */
static uint8_t *remote(const struct memory_qp *qp, const struct fabric_memory_work *work, unsigned access)
{
	const struct window *window = find_window(qp->peer, work->remote_token);
	uint64_t place;

	if (!window || (window->access & access) != access || work->remote_offset < window->base.offset)
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
	there = remote(qp, work, work->opcode == FABRIC_READ ? FABRIC_PEER_READS : FABRIC_PEER_WRITES);
	if (!there) {
		fail(qp, work, FABRIC_REMOTE_ACCESS);
		return;
	}
	if (work->opcode == FABRIC_READ)
		scatter(work, there);
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

void fabric_memory_finish(struct fabric_qp *base, uint64_t number, enum fabric_status status, const void *bytes)
{
	struct memory_qp *qp = memory_of(base);
	const struct fabric_memory_work *before = fabric_memory_posted(base, number - 1);
	struct fabric_memory_work *work;
	bool read = before->opcode == FABRIC_READ;

	for (uint64_t earlier = 0; !read && (before = fabric_memory_posted(base, earlier))->number < number;) {
		earlier = before->number;
		if (before->opcode == FABRIC_READ)
			continue;
		work = unlink_work(qp, earlier);
		complete(qp, work, FABRIC_OK);
		free_work(work);
	}
	work = unlink_work(qp, number);
	if (read && bytes && status == FABRIC_OK)
		scatter(work, bytes);
	if (status == FABRIC_OK)
		complete(qp, work, FABRIC_OK);
	else
		fail(qp, work, status);
	free_work(work);
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
		memory_reject(&qp->base);
	return true;
}

/* Both ends are established one after the other, the accepting one first. */
static bool establish(struct memory_qp *qp, nanoseconds now)
{
	if (qp->state != STATE_CONNECTING || !(qp->accepted || (qp->peer && qp->peer->state == STATE_ESTABLISHED)))
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
		unlink_work(qp, work->number);
		carry_out(qp, work);
		free_work(work);
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
	.post_receive = post_receive,
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
