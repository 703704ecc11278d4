#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine_state.h"
#include "trace.h"

enum {
	/* Events that wait for the owner: above, refusals are only counted and new connections are refused. */
	EVENTS_MAX = 4096,
};
/* A client that pauses longer pays a thousand page faults for 4 MiB, a quarter of a millisecond. */
#define REST_INTERVAL ((nanoseconds)2 * SECOND)

/* Connections: what is told of one, and its end. */

static void tell(struct connection *connection, struct event_node *node,
		 enum engine_event_kind kind, int fd, enum close_reason reason, const char *words)
{
	node->event = (struct engine_event){.kind = kind, .fd = fd, .reason = reason};
	snprintf(node->event.words, sizeof(node->event.words), "%s", words);
	engine_describe(connection, &node->event.connection);
	event_queue_push(&connection->engine->events, node);
}

void engine_connection_destroy(struct connection *connection)
{
	channel_destroy(connection->channel);
	free(connection->last_event);
	free(connection);
}

static void on_established(void *owner, struct channel *channel, nanoseconds now)
{
	struct connection *connection = owner;
	struct event_node *node = NULL;

	if (event_queue_count(&connection->engine->events) < EVENTS_MAX)
		node = malloc(sizeof(*node));
	if (!node) {
		trace_count(TRACE_ENGINE_RESOURCE_REFUSALS);
		channel_close(channel, CLOSE_LIMIT, false, now);
		return;
	}
	connection->handed_over = true;
	tell(connection, node, ENGINE_EVENT_CHANNEL, channel_take_worker_end(channel), CLOSE_NONE,
	     "");
}

uint32_t engine_place_after(const struct engine *engine, uint64_t after)
{
	uint32_t low = 0, high = engine->connection_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (engine->connections[middle]->number <= after)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void on_closed(void *owner, struct channel *channel, enum close_reason reason,
		      const char *words, nanoseconds now)
{
	struct connection *connection = owner;
	struct engine *engine = connection->engine;
	uint32_t place = engine_place_after(engine, connection->number - 1);
	enum engine_event_kind kind = ENGINE_EVENT_REFUSED;

	(void)channel;
	(void)now;
	if (connection->handed_over)
		kind = ENGINE_EVENT_CLOSED;
	else if (connection->client_role)
		kind = ENGINE_EVENT_CONNECT_FAILED;
	if (kind == ENGINE_EVENT_REFUSED && event_queue_count(&engine->events) >= EVENTS_MAX) {
		trace_count(TRACE_ENGINE_EVENTS_DROPPED);
	} else {
		tell(connection, connection->last_event, kind, -1, reason, words);
		connection->last_event = NULL;
	}
	engine->connection_count--;
	memmove(&engine->connections[place], &engine->connections[place + 1],
		(engine->connection_count - place) * sizeof(struct connection *));
	engine_connection_destroy(connection);
}

static const struct channel_events channel_events = {
	.established = on_established,
	.closed = on_closed,
};

/* Connections: how they come to be. */

static int make_room(struct engine *engine)
{
	uint32_t room = engine->connection_room ? 2 * engine->connection_room : 64;
	struct connection **grown;

	if (engine->connection_count < engine->connection_room)
		return 0;
	grown = realloc(engine->connections, room * sizeof(struct connection *));
	if (!grown)
		return -ENOMEM;
	engine->connections = grown;
	engine->connection_room = room;
	return 0;
}

static void note_device(struct engine *engine, struct fabric_device *device)
{
	for (uint32_t index = 0; index < engine->device_count; index++) {
		if (engine->devices[index] == device)
			return;
	}
	if (device && engine->device_count < ENGINE_DEVICES_MAX)
		engine->devices[engine->device_count++] = device;
}

/* Connections that have been quiet since the last time give memory back. */
static void on_rest(struct loop_timer *timer, nanoseconds now)
{
	struct engine *engine = timer->owner;

	for (uint32_t index = 0; index < engine->connection_count; index++)
		smbd_rest(channel_connection(engine->connections[index]->channel));
	if (engine->connection_count)
		loop_timer_set(engine->loop, timer, now + REST_INTERVAL);
}

static void begin_rest(struct engine *engine, nanoseconds now)
{
	engine->rest.expired = on_rest;
	engine->rest.owner = engine;
	loop_timer_set(engine->loop, &engine->rest, now + REST_INTERVAL);
}

/* On failure the queue pair stays the caller's. */
static int add_connection(struct engine *engine, struct fabric_qp *qp, struct connection made)
{
	nanoseconds now = loop_now(engine->loop);
	struct connection *connection = malloc(sizeof(*connection));
	int error = -ENOMEM;

	if (connection) {
		*connection = made;
		connection->engine = engine;
		connection->created = now;
		connection->last_event = malloc(sizeof(*connection->last_event));
		if (connection->last_event)
			error = make_room(engine);
		if (error >= 0)
			error = channel_create(engine->loop, engine->pools, qp,
					       made.client_role ? SMBD_CLIENT : SMBD_SERVER,
					       &engine->smbd, &channel_events, connection, now,
					       &connection->channel);
	}
	if (error < 0) {
		trace_count(TRACE_ENGINE_RESOURCE_REFUSALS);
		if (connection)
			free(connection->last_event);
		free(connection);
		return error;
	}
	note_device(engine, qp->device);
	connection->number = ++engine->last_number;
	engine->connections[engine->connection_count++] = connection;
	if (engine->connection_count == 1)
		begin_rest(engine, now);
	return 0;
}

/* Registering a connection's buffers is the first to fail where little memory may be locked. */
static void say_why_no_room(uint32_t fabric, const struct fabric_qp *qp, int error, char *words,
			    size_t size)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (error == -ENOMEM && fabric == ENGINE_FABRIC_VERBS && limit.rlim_cur != RLIM_INFINITY)
		engine_say(error, words, size,
			   "%s cannot register a connection's buffers: RLIMIT_MEMLOCK is %" PRIu64
			   " bytes; raise it for the proxy (LimitMEMLOCK=, ulimit -l)",
			   qp->device->name, (uint64_t)limit.rlim_cur);
	else
		engine_say(error, words, size, "no room for a connection: %s", strerror(-error));
}

static void tell_refusal(struct engine *engine, const struct listener *listener,
			 const struct fabric_qp *qp, int error)
{
	struct event_node *node = NULL;

	if (event_queue_count(&engine->events) < EVENTS_MAX)
		node = malloc(sizeof(*node));
	if (!node) {
		trace_count(TRACE_ENGINE_EVENTS_DROPPED);
		return;
	}
	node->event = (struct engine_event){
		.kind = ENGINE_EVENT_REFUSED,
		.fd = -1,
		.reason = CLOSE_LIMIT,
		.connection = {.listener = listener->number, .fabric = listener->fabric},
	};
	say_why_no_room(listener->fabric, qp, error, node->event.words, sizeof(node->event.words));
	engine_describe_qp(qp, &node->event.connection);
	event_queue_push(&engine->events, node);
}

static bool on_request(struct fabric_listener *fabric_listener, struct fabric_qp *qp)
{
	struct listener *listener = fabric_listener->owner;
	struct engine *engine = listener->engine;
	int error;

	if (engine->draining || engine->connection_count >= engine->config.max_connections) {
		trace_count(TRACE_ENGINE_CONNECTION_REFUSALS);
		return false;
	}
	error = add_connection(
		engine, qp,
		(struct connection){.listener = listener->number, .fabric = listener->fabric});
	if (error < 0)
		tell_refusal(engine, listener, qp, error);
	return error == 0;
}

/* Listening and connecting. */

struct place {
	uint32_t fabric;
	const char *address;
	uint16_t port;
	uint64_t request;  /* connect */
	uint64_t listener; /* listen: the number given */
	uint16_t bound;	   /* listen: the port given */
	char *words;
	size_t size;
};

/* Registrations of a device that goes are given back; connections over it have been told. */
static void device_gone(void *owner, struct fabric_device *device)
{
	struct engine *engine = owner;

	pool_table_forget_device(engine->pools, device);
	for (uint32_t index = 0; index < engine->device_count; index++) {
		if (engine->devices[index] != device)
			continue;
		engine->devices[index] = engine->devices[--engine->device_count];
		return;
	}
}

/* Verbs needs libraries and a device: it is opened when somebody wants it, and again after it failed. */
static int find_fabric(struct engine *engine, const struct place *place)
{
	const struct engine_config *config = &engine->config;
	const struct fabric_verbs_config verbs = {
		.most = {.send_queue = config->verbs_send_queue,
			 .receive_queue = config->verbs_receive_queue,
			 .send_sges = config->verbs_sges,
			 .read_sges = config->verbs_sges,
			 .initiator_depth = config->verbs_read_depth,
			 .responder_depth = config->verbs_read_depth},
		.no_windows = config->verbs_no_windows,
		.device_gone = device_gone,
		.owner = engine,
	};
	char words[256] = "";
	int error;

	if (place->fabric >= ENGINE_FABRICS)
		return engine_say(-ENOTSUP, place->words, place->size,
				  "there is no fabric number %" PRIu32
				  "; \"iwarp\" and \"verbs\" are known",
				  place->fabric);
	if (engine->fabrics[place->fabric])
		return 0;
	error = fabric_verbs_create(engine->loop, &verbs, words, &engine->fabrics[place->fabric]);
	return error ? engine_say(error, place->words, place->size, "%s", words) : 0;
}

static int find_place(struct engine *engine, const struct place *place,
		      struct sockaddr_storage *address, socklen_t *length)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char port[8];
	int error = find_fabric(engine, place);

	if (error < 0)
		return error;
	snprintf(port, sizeof(port), "%u", place->port);
	if (getaddrinfo(place->address, port, &hints, &found) != 0)
		return engine_say(-EINVAL, place->words, place->size,
				  "\"%s\" is not a numeric address", place->address);
	memcpy(address, found->ai_addr, found->ai_addrlen);
	*length = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static const char *why_not(const struct place *place, int error)
{
	if (place->fabric == ENGINE_FABRIC_VERBS && error == -ENODEV)
		return "no RDMA device is behind that address; `rdmaproxy devices` shows those "
		       "that there are";
	if (place->fabric == ENGINE_FABRIC_VERBS && (error == -EACCES || error == -EPERM))
		return "this user may not open /dev/infiniband/rdma_cm, or not use that port";
	return strerror(-error);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
	return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static int run_listen(struct engine *engine, void *arguments, nanoseconds now)
{
	struct place *place = arguments;
	struct sockaddr_storage address;
	struct listener *listener;
	socklen_t length;
	int error;

	(void)now;
	if (engine->draining)
		return engine_say(-ESHUTDOWN, place->words, place->size,
				  "the engine is draining and listens no more");
	error = find_place(engine, place, &address, &length);
	if (error < 0)
		return error;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return engine_say(-ENOMEM, place->words, place->size, "no memory for a listener");
	listener->engine = engine;
	listener->fabric = place->fabric;
	error = fabric_listen(engine->fabrics[place->fabric], (struct sockaddr *)&address, length,
			      on_request, listener, &listener->fabric_listener);
	if (error < 0) {
		free(listener);
		return engine_say(error, place->words, place->size,
				  "cannot listen on %s port %u: %s", place->address, place->port,
				  why_not(place, error));
	}
	listener->number = ++engine->last_number;
	listener->next = engine->listeners;
	engine->listeners = listener;
	place->listener = listener->number;
	place->bound = port_of(&listener->fabric_listener->address);
	return 0;
}

int engine_listen(struct engine *engine, uint32_t fabric, const char *address, uint16_t port,
		  uint64_t *listener, uint16_t *bound_port, char *words, size_t words_size)
{
	struct place place = {.fabric = fabric,
			      .address = address,
			      .port = port,
			      .words = words,
			      .size = words_size};
	int error = engine_command_run(engine, run_listen, &place);

	*listener = place.listener;
	*bound_port = place.bound;
	return error;
}

static int run_unlisten(struct engine *engine, void *arguments, nanoseconds now)
{
	const uint64_t *number = arguments;

	(void)now;
	for (struct listener **place = &engine->listeners; *place; place = &(*place)->next) {
		struct listener *listener = *place;

		if (listener->number != *number)
			continue;
		*place = listener->next;
		fabric_unlisten(listener->fabric_listener);
		free(listener);
		return 0;
	}
	return -ENOENT;
}

int engine_unlisten(struct engine *engine, uint64_t listener)
{
	return engine_command_run(engine, run_unlisten, &listener);
}

static int run_connect(struct engine *engine, void *arguments, nanoseconds now)
{
	struct place *place = arguments;
	struct fabric_parameters parameters;
	struct sockaddr_storage address;
	struct fabric_qp *qp;
	uint8_t blob[8];
	socklen_t length;
	int error;

	(void)now;
	if (engine->draining)
		return engine_say(-ESHUTDOWN, place->words, place->size,
				  "the engine is draining and connects no more");
	if (engine->connection_count >= engine->config.max_connections)
		return engine_say(-EUSERS, place->words, place->size,
				  "there are %" PRIu32
				  " connections, the most there may be; raise max_connections",
				  engine->connection_count);
	error = find_place(engine, place, &address, &length);
	if (error < 0)
		return error;
	smbd_client_parameters(&engine->smbd, FABRIC_TRANSPORT_IWARP, blob, &parameters);
	error = fabric_connect(engine->fabrics[place->fabric], (struct sockaddr *)&address, length,
			       &parameters, &smbd_fabric_events, NULL, &qp);
	if (error < 0)
		return engine_say(error, place->words, place->size,
				  "cannot connect to %s port %u: %s", place->address, place->port,
				  why_not(place, error));
	error = add_connection(engine, qp,
			       (struct connection){.request = place->request,
						   .fabric = place->fabric,
						   .client_role = true});
	if (error < 0) {
		say_why_no_room(place->fabric, qp, error, place->words, place->size);
		fabric_qp_destroy(qp);
		return error;
	}
	return 0;
}

int engine_connect(struct engine *engine, uint32_t fabric, const char *address, uint16_t port,
		   uint64_t request, char *words, size_t words_size)
{
	struct place place = {.fabric = fabric,
			      .address = address,
			      .port = port,
			      .request = request,
			      .words = words,
			      .size = words_size};

	return engine_command_run(engine, run_connect, &place);
}

static int run_close(struct engine *engine, void *arguments, nanoseconds now)
{
	uint64_t number = *(const uint64_t *)arguments;
	uint32_t place = number ? engine_place_after(engine, number - 1) : 0;

	if (place >= engine->connection_count || engine->connections[place]->number != number)
		return -ENOENT;
	channel_close(engine->connections[place]->channel, CLOSE_SHUTDOWN, true, now);
	return 0;
}

int engine_close(struct engine *engine, uint64_t connection)
{
	return engine_command_run(engine, run_close, &connection);
}

void engine_close_connections(struct engine *engine, bool graceful, nanoseconds now)
{
	for (uint32_t index = 0; index < engine->connection_count; index++)
		channel_close(engine->connections[index]->channel, CLOSE_SHUTDOWN, graceful, now);
}

void engine_remove_listeners(struct engine *engine)
{
	struct listener *listener;

	while ((listener = engine->listeners)) {
		engine->listeners = listener->next;
		fabric_unlisten(listener->fabric_listener);
		free(listener);
	}
}

static int run_drain(struct engine *engine, void *arguments, nanoseconds now)
{
	(void)arguments;
	engine->draining = true;
	engine_remove_listeners(engine);
	engine_close_connections(engine, true, now);
	return 0;
}

int engine_drain(struct engine *engine)
{
	return engine_command_run(engine, run_drain, NULL);
}
