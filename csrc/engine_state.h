/*
 * The engine from inside: what engine.c, engine_connections.c and engine_report.c share.
 *
 * Threads: engine_run is the loop's thread and owns everything in `struct engine` except the command list and the
 * event queue. Each of these two has a mutex, held for a few instructions and never while something is called; the
 * hot path takes none. A command lies on its caller's stack, and the caller sleeps until the loop has run it.
 */
#ifndef ENGINE_STATE_H
#define ENGINE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "channel.h"
#include "engine.h"
#include "engine_events.h"
#include "fabric.h"
#include "loop.h"
#include "pool.h"

enum {
	ENGINE_FABRICS = 2,
	ENGINE_DEVICES_MAX = 64, /* devices seen, for the totals */
};

/* Runs in the loop's thread, between two turns. */
typedef int engine_command(struct engine *engine, void *arguments, nanoseconds now);

struct command {
	struct command *next;
	engine_command *run;
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
	struct fabric *fabrics[ENGINE_FABRICS];
	struct pool_table *pools;
	struct engine_config config;
	struct smbd_config smbd;

	struct listener *listeners;
	struct connection **connections; /* in order of number */
	uint32_t connection_count, connection_room;
	uint64_t last_number; /* of listeners and connections */
	bool draining;
	uint64_t wakeups;
	struct loop_timer rest; /* runs while there are connections */
	struct fabric_device *devices[ENGINE_DEVICES_MAX];
	uint32_t device_count;

	atomic_bool stop;
	struct event_queue events;
	pthread_mutex_t command_mutex; /* guards what follows */
	pthread_cond_t command_done;
	struct command *commands, **commands_end;
	bool ended; /* the loop runs no more commands */
};

/* engine.c */

/* Hands a command to the loop and waits for its result; -ESHUTDOWN when the loop has ended. */
int engine_command_run(struct engine *engine, engine_command *run, void *arguments);

/* A sentence for the caller; gives `error` back. */
int engine_say(int error, char *words, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* engine_connections.c */
void engine_remove_listeners(struct engine *engine);
void engine_close_connections(struct engine *engine, bool graceful, nanoseconds now);
void engine_connection_destroy(struct connection *connection);
/* Where the connection with the lowest number above `after` stands. */
uint32_t engine_place_after(const struct engine *engine, uint64_t after);

/* engine_report.c */
void engine_describe_qp(const struct fabric_qp *qp, struct engine_connection *ret);
void engine_describe(const struct connection *connection, struct engine_connection *ret);

#endif
