/*
 * Threads: engine_run is the loop's thread and owns everything below `struct engine` except the command list and the
 * event queue. Each of these two has a mutex, held for a few instructions and never while something is called; the
 * hot path takes none. A command lies on its caller's stack, and the caller sleeps until the loop has run it.
 */
#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "engine_events.h"
#include "fabric.h"
#include "loop.h"
#include "pool.h"
#include "trace.h"

enum {
	DEFAULT_MAX_CONNECTIONS =
		16384, /* about 40 GiB of posted receives: a host's worth of clients */
	FABRICS = 2,
	DEVICES_MAX = 64, /* devices seen, for the totals */
	/* Events that wait for the owner: above, refusals are only counted and new connections are refused. */
	EVENTS_MAX = 4096,
};

#define SLEEP_MAX     ((nanoseconds)3600 * SECOND) /* of the loop with nothing to do */
#define SHUTDOWN_TIME ((nanoseconds)1 * SECOND) /* for connections to end when the engine stops */

struct command {
	struct command *next;
	int (*run)(struct engine *engine, void *arguments, nanoseconds now);
	void *arguments;
	int result;
	bool done;
};

struct listener {
	struct listener *next;
	struct engine *engine;
	struct fabric_listener *fabric_listener;
	uint64_t number;
	uint32_t fabric;
};

/* Lives as long as its channel. */
struct connection {
	struct engine *engine;
	struct channel *channel;
	struct event_node
		*last_event; /* kept for its end, so that memory can never be wanting then */
	uint64_t number, listener, request;
	uint32_t fabric;
	nanoseconds created;
	bool client_role;
	bool handed_over; /* its channel was given to the owner */
};

struct engine {
	struct loop *loop;
	struct fabric *fabrics[FABRICS];
	struct pool_table *pools;
	struct engine_config config;
	struct smbd_config smbd;

	struct listener *listeners;
	struct connection **connections; /* in order of number */
	uint32_t connection_count, connection_room;
	uint64_t last_number; /* of listeners and connections */
	bool draining;
	uint64_t wakeups;
	struct fabric_device *devices[DEVICES_MAX];
	uint32_t device_count;

	atomic_bool stop;
	struct event_queue events;
	pthread_mutex_t command_mutex; /* guards what follows */
	pthread_cond_t command_done;
	struct command *commands, **commands_end;
	bool ended; /* the loop runs no more commands */
};

__attribute__((format(printf, 4, 5))) static int say(int error, char *words, size_t size,
						     const char *format, ...)
{
	va_list arguments;

	if (size) {
		va_start(arguments, format);
		vsnprintf(words, size, format, arguments);
		va_end(arguments);
	}
	return error;
}

/* Life. */

static void take_config(struct engine *engine, const struct engine_config *config)
{
	engine->config = *config;
	if (engine->config.max_connections == 0)
		engine->config.max_connections = DEFAULT_MAX_CONNECTIONS;
	engine->smbd = (struct smbd_config){
		.receive_credit_max = (uint16_t)config->receive_credits,
		.send_credit_target = (uint16_t)config->send_credits,
		.max_send_size = config->max_send_size,
		.max_receive_size = config->max_receive_size,
		.max_fragmented_size = config->max_fragmented_size,
		.max_read_write_size = config->max_read_write_size,
		.read_depth = config->read_depth,
		.negotiate_timeout = (nanoseconds)config->negotiate_timeout_ms * MILLISECOND,
		.idle_timeout = (nanoseconds)config->idle_timeout_ms * MILLISECOND,
		.keepalive_interval = (nanoseconds)config->keepalive_interval_ms * MILLISECOND,
		.keepalive_timeout = (nanoseconds)config->keepalive_timeout_ms * MILLISECOND,
		.send_timeout = (nanoseconds)config->send_timeout_ms * MILLISECOND,
	};
}

static int open_engine(struct engine *engine)
{
	struct fabric_iwarp_config iwarp = {
		.crc = engine->config.iwarp_crc,
		.max_ulpdu = engine->config.iwarp_max_ulpdu,
	};
	int error = loop_create(&engine->loop);

	if (error < 0)
		return error;
	error = pool_table_create(engine->config.memory_limit, &engine->pools);
	if (error < 0)
		return error;
	return fabric_iwarp_create(engine->loop, &iwarp, &engine->fabrics[ENGINE_FABRIC_IWARP]);
}

struct engine *engine_create(const struct engine_config *config, char *words, size_t words_size)
{
	struct engine *engine;
	int error;

	if (config->receive_credits > UINT16_MAX || config->send_credits > UINT16_MAX) {
		errno = -say(-EINVAL, words, words_size, "credits may be at most %d", UINT16_MAX);
		return NULL;
	}
	engine = calloc(1, sizeof(*engine));
	error = engine ? event_queue_open(&engine->events) : -ENOMEM;
	if (error < 0) {
		free(engine);
		errno = -say(error, words, words_size, "no event queue: %s", strerror(-error));
		return NULL;
	}
	pthread_mutex_init(&engine->command_mutex, NULL);
	pthread_cond_init(&engine->command_done, NULL);
	engine->commands_end = &engine->commands;
	take_config(engine, config);
	error = open_engine(engine);
	if (error < 0) {
		engine_destroy(engine);
		errno = -say(error, words, words_size, "the engine cannot start: %s",
			     strerror(-error));
		return NULL;
	}
	return engine;
}

static void remove_listeners(struct engine *engine)
{
	struct listener *listener;

	while ((listener = engine->listeners)) {
		engine->listeners = listener->next;
		fabric_unlisten(listener->fabric_listener);
		free(listener);
	}
}

static void connection_destroy(struct connection *connection)
{
	channel_destroy(connection->channel);
	free(connection->last_event);
	free(connection);
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	remove_listeners(engine);
	while (engine->connection_count)
		connection_destroy(engine->connections[--engine->connection_count]);
	free(engine->connections);
	for (int index = 0; index < FABRICS; index++)
		fabric_destroy(engine->fabrics[index]);
	if (engine->pools)
		pool_table_destroy(engine->pools);
	if (engine->loop)
		loop_destroy(engine->loop);
	event_queue_close(&engine->events);
	pthread_cond_destroy(&engine->command_done);
	pthread_mutex_destroy(&engine->command_mutex);
	free(engine);
}

/* Commands. */

static int command(struct engine *engine,
		   int (*run)(struct engine *engine, void *arguments, nanoseconds now),
		   void *arguments)
{
	struct command command = {.run = run, .arguments = arguments};

	pthread_mutex_lock(&engine->command_mutex);
	if (engine->ended) {
		pthread_mutex_unlock(&engine->command_mutex);
		return -ESHUTDOWN;
	}
	*engine->commands_end = &command;
	engine->commands_end = &command.next;
	loop_wake(engine->loop);
	while (!command.done)
		pthread_cond_wait(&engine->command_done, &engine->command_mutex);
	pthread_mutex_unlock(&engine->command_mutex);
	return command.result;
}

static struct command *take_commands(struct engine *engine)
{
	struct command *first;

	pthread_mutex_lock(&engine->command_mutex);
	first = engine->commands;
	engine->commands = NULL;
	engine->commands_end = &engine->commands;
	pthread_mutex_unlock(&engine->command_mutex);
	return first;
}

/* As soon as `done` is set the command's memory is its caller's again: `next` is read before. */
static void run_commands(struct engine *engine, bool refuse)
{
	struct command *command = take_commands(engine);

	while (command) {
		struct command *next = command->next;
		int result = -ESHUTDOWN;

		if (!refuse)
			result = command->run(engine, command->arguments, loop_now(engine->loop));
		pthread_mutex_lock(&engine->command_mutex);
		command->result = result;
		command->done = true;
		pthread_cond_broadcast(&engine->command_done);
		pthread_mutex_unlock(&engine->command_mutex);
		command = next;
	}
}

/* The thread. */

static int turn(struct engine *engine, nanoseconds longest)
{
	int error = loop_turn(engine->loop, longest);

	engine->wakeups++;
	return error;
}

static void close_connections(struct engine *engine, bool graceful, nanoseconds now)
{
	for (uint32_t index = 0; index < engine->connection_count; index++)
		channel_close(engine->connections[index]->channel, CLOSE_SHUTDOWN, graceful, now);
}

/* Connections end at once, but workers are told why; what does not end in time goes with engine_destroy. */
static void shut_down(struct engine *engine)
{
	nanoseconds deadline = loop_now(engine->loop) + SHUTDOWN_TIME;

	engine->draining = true;
	remove_listeners(engine);
	close_connections(engine, false, loop_now(engine->loop));
	while (engine->connection_count && loop_now(engine->loop) < deadline) {
		if (turn(engine, deadline - loop_now(engine->loop)) < 0)
			break;
		run_commands(engine, true);
	}
	pthread_mutex_lock(&engine->command_mutex);
	engine->ended = true;
	pthread_mutex_unlock(&engine->command_mutex);
	run_commands(engine, true);
}

int engine_run(struct engine *engine)
{
	int error = 0;

	while (error >= 0 && !atomic_load(&engine->stop)) {
		error = turn(engine, SLEEP_MAX);
		run_commands(engine, false);
	}
	shut_down(engine);
	return error < 0 ? error : 0;
}

void engine_stop(struct engine *engine)
{
	atomic_store(&engine->stop, true);
	loop_wake(engine->loop);
}

/* Connections: what is known of one, and its events. */

static void take_address(const struct sockaddr_storage *address, char text[64], uint32_t *port)
{
	char service[8] = "";

	text[0] = 0;
	if (address->ss_family == AF_INET || address->ss_family == AF_INET6)
		getnameinfo((const struct sockaddr *)address, sizeof(*address), text, 64, service,
			    sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
	*port = (uint32_t)atoi(service);
}

static void describe(const struct connection *connection, struct engine_connection *ret)
{
	const struct smbd_connection *smbd = channel_connection(connection->channel);
	const struct fabric_qp *qp = smbd_qp(smbd);
	struct smbd_facts facts;

	smbd_facts(smbd, &facts);
	*ret = (struct engine_connection){
		.connection = connection->number,
		.listener = connection->listener,
		.request = connection->request,
		.fabric = connection->fabric,
		.client_role = connection->client_role,
		.max_send_size = facts.max_send_size,
		.max_receive_size = facts.max_receive_size,
		.max_fragmented_send_size = facts.max_fragmented_send_size,
		.max_fragmented_receive_size = facts.max_fragmented_receive_size,
		.max_read_write_size = facts.max_read_write_size,
		.read_depth = facts.read_depth,
		.send_credits = facts.send_credits,
		.receive_credits = facts.receive_credits,
		.send_credit_target = facts.send_credit_target,
		.receive_credit_target = facts.receive_credit_target,
		.messages_sent = facts.messages_sent,
		.messages_received = facts.messages_received,
		.bytes_sent = facts.bytes_sent,
		.bytes_received = facts.bytes_received,
		.rdma_written_bytes = facts.rdma_written_bytes,
		.rdma_read_bytes = facts.rdma_read_bytes,
		.stalls_send_credit = facts.stalls_send_credit,
		.stalls_send_queue = facts.stalls_send_queue,
		.stalls_read_depth = facts.stalls_read_depth,
		.stalls_unconsumed = facts.stalls_unconsumed,
		.queued_bytes = facts.queued_bytes,
		.unconsumed_bytes = facts.unconsumed_bytes,
		.age_ns = loop_now(connection->engine->loop) - connection->created,
	};
	snprintf(ret->device, sizeof(ret->device), "%s", qp->device ? qp->device->name : "");
	take_address(&qp->local, ret->local_address, &ret->local_port);
	take_address(&qp->remote, ret->remote_address, &ret->remote_port);
}

static void tell(struct connection *connection, struct event_node *node,
		 enum engine_event_kind kind, int fd, enum close_reason reason, const char *words)
{
	node->event = (struct engine_event){.kind = kind, .fd = fd, .reason = reason};
	snprintf(node->event.words, sizeof(node->event.words), "%s", words);
	describe(connection, &node->event.connection);
	event_queue_push(&connection->engine->events, node);
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

/* Where the connection with the lowest number above `after` stands. */
static uint32_t place_after(const struct engine *engine, uint64_t after)
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
	uint32_t place = place_after(engine, connection->number - 1);
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
	connection_destroy(connection);
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
	if (device && engine->device_count < DEVICES_MAX)
		engine->devices[engine->device_count++] = device;
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
	return 0;
}

static bool on_request(struct fabric_listener *fabric_listener, struct fabric_qp *qp)
{
	struct listener *listener = fabric_listener->owner;
	struct engine *engine = listener->engine;

	if (engine->draining || engine->connection_count >= engine->config.max_connections) {
		trace_count(TRACE_ENGINE_CONNECTION_REFUSALS);
		return false;
	}
	return add_connection(engine, qp,
			      (struct connection){.listener = listener->number,
						  .fabric = listener->fabric}) == 0;
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

static int find_place(const struct engine *engine, const struct place *place,
		      struct sockaddr_storage *address, socklen_t *length)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char port[8];

	if (place->fabric >= FABRICS || !engine->fabrics[place->fabric])
		return say(-ENOTSUP, place->words, place->size,
			   "this build has no fabric number %" PRIu32 "; \"iwarp\" is always there",
			   place->fabric);
	snprintf(port, sizeof(port), "%u", place->port);
	if (getaddrinfo(place->address, port, &hints, &found) != 0)
		return say(-EINVAL, place->words, place->size, "\"%s\" is not a numeric address",
			   place->address);
	memcpy(address, found->ai_addr, found->ai_addrlen);
	*length = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
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
		return say(-ESHUTDOWN, place->words, place->size,
			   "the engine is draining and listens no more");
	error = find_place(engine, place, &address, &length);
	if (error < 0)
		return error;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return say(-ENOMEM, place->words, place->size, "no memory for a listener");
	listener->engine = engine;
	listener->fabric = place->fabric;
	error = fabric_listen(engine->fabrics[place->fabric], (struct sockaddr *)&address, length,
			      on_request, listener, &listener->fabric_listener);
	if (error < 0) {
		free(listener);
		return say(error, place->words, place->size, "cannot listen on %s port %u: %s",
			   place->address, place->port, strerror(-error));
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
	int error = command(engine, run_listen, &place);

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
	return command(engine, run_unlisten, &listener);
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
		return say(-ESHUTDOWN, place->words, place->size,
			   "the engine is draining and connects no more");
	if (engine->connection_count >= engine->config.max_connections)
		return say(-EUSERS, place->words, place->size,
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
		return say(error, place->words, place->size, "cannot connect to %s port %u: %s",
			   place->address, place->port, strerror(-error));
	error = add_connection(engine, qp,
			       (struct connection){.request = place->request,
						   .fabric = place->fabric,
						   .client_role = true});
	if (error < 0) {
		fabric_qp_destroy(qp);
		return say(error, place->words, place->size, "no room for a connection: %s",
			   strerror(-error));
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

	return command(engine, run_connect, &place);
}

static int run_close(struct engine *engine, void *arguments, nanoseconds now)
{
	uint64_t number = *(const uint64_t *)arguments;
	uint32_t place = number ? place_after(engine, number - 1) : 0;

	if (place >= engine->connection_count || engine->connections[place]->number != number)
		return -ENOENT;
	channel_close(engine->connections[place]->channel, CLOSE_SHUTDOWN, true, now);
	return 0;
}

int engine_close(struct engine *engine, uint64_t connection)
{
	return command(engine, run_close, &connection);
}

static int run_drain(struct engine *engine, void *arguments, nanoseconds now)
{
	(void)arguments;
	engine->draining = true;
	remove_listeners(engine);
	close_connections(engine, true, now);
	return 0;
}

int engine_drain(struct engine *engine)
{
	return command(engine, run_drain, NULL);
}

/* Events. */

int engine_event_fd(struct engine *engine)
{
	return engine->events.fd;
}

int engine_next_event(struct engine *engine, struct engine_event *ret)
{
	return event_queue_take(&engine->events, ret);
}

/* What is seen from outside: snapshots, taken by the loop's thread between two turns. */

struct connections_wanted {
	uint64_t after;
	struct engine_connection *ret;
	size_t count;
};

static int run_connections(struct engine *engine, void *arguments, nanoseconds now)
{
	struct connections_wanted *wanted = arguments;
	uint32_t place = place_after(engine, wanted->after);
	size_t count = engine->connection_count - place;

	(void)now;
	if (wanted->count > count)
		wanted->count = count;
	for (size_t index = 0; index < wanted->count; index++)
		describe(engine->connections[place + index], &wanted->ret[index]);
	return 0;
}

size_t engine_connections(struct engine *engine, uint64_t after, struct engine_connection *ret,
			  size_t count)
{
	struct connections_wanted wanted = {.after = after, .ret = ret, .count = count};

	return command(engine, run_connections, &wanted) < 0 ? 0 : wanted.count;
}

static int run_totals(struct engine *engine, void *arguments, nanoseconds now)
{
	struct engine_totals *totals = arguments;
	struct timespec used;

	(void)now;
	totals->connections = engine->connection_count;
	for (uint32_t index = 0; index < engine->connection_count; index++)
		totals->half_open += !engine->connections[index]->handed_over;
	for (const struct listener *listener = engine->listeners; listener;
	     listener = listener->next)
		totals->listeners++;
	totals->pools = pool_table_count(engine->pools);
	totals->pool_bytes = pool_table_bytes(engine->pools);
	for (uint32_t index = 0; index < engine->device_count; index++) {
		totals->regions += engine->devices[index]->region_count;
		totals->registered_bytes += engine->devices[index]->registered_bytes;
	}
	totals->wakeups = engine->wakeups;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	totals->loop_cpu_ns = (uint64_t)used.tv_sec * SECOND + (uint64_t)used.tv_nsec;
	return 0;
}

void engine_totals(struct engine *engine, struct engine_totals *ret)
{
	*ret = (struct engine_totals){.memory_limit = engine->config.memory_limit};
	command(engine, run_totals, ret);
}

const char *engine_counter_name(uint32_t counter)
{
	return trace_counter_name(counter);
}

uint64_t engine_counter(uint32_t counter)
{
	return counter < TRACE_COUNTER_COUNT ? trace_counter_value((enum trace_counter)counter) : 0;
}

const char *engine_close_reason_name(uint32_t reason)
{
	return close_reason_name((enum close_reason)reason);
}

void engine_trace(int on)
{
	trace_enable(on != 0);
}

size_t engine_trace_read(uint64_t *position, struct engine_trace_event *ret, size_t count)
{
	struct trace_event event;
	size_t copied = 0;

	while (copied < count && trace_read(position, &event, 1))
		ret[copied++] = (struct engine_trace_event){
			.time_ns = event.time,
			.point = event.point,
			.object = event.object,
			.a = event.a,
			.b = event.b,
		};
	return copied;
}

const char *engine_trace_name(uint32_t point)
{
	return trace_point_name(point);
}
