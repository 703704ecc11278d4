#include "engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_state.h"

enum {
	/* About 40 GiB of posted receives, if all are busy: a host's worth of clients. */
	DEFAULT_MAX_CONNECTIONS = 16384,
};

#define SLEEP_MAX     ((nanoseconds)3600 * SECOND) /* of the loop with nothing to do */
#define SHUTDOWN_TIME ((nanoseconds)1 * SECOND) /* for connections to end when the engine stops */

int engine_say(int error, char *words, size_t size, const char *format, ...)
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
		.mpa_timeout = engine->smbd.negotiate_timeout,
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
		errno = -engine_say(-EINVAL, words, words_size, "credits may be at most %d",
				    UINT16_MAX);
		return NULL;
	}
	engine = calloc(1, sizeof(*engine));
	error = engine ? event_queue_open(&engine->events) : -ENOMEM;
	if (error < 0) {
		free(engine);
		errno = -engine_say(error, words, words_size, "no event queue: %s",
				    strerror(-error));
		return NULL;
	}
	pthread_mutex_init(&engine->command_mutex, NULL);
	pthread_cond_init(&engine->command_done, NULL);
	engine->commands_end = &engine->commands;
	take_config(engine, config);
	error = open_engine(engine);
	if (error < 0) {
		engine_destroy(engine);
		errno = -engine_say(error, words, words_size, "the engine cannot start: %s",
				    strerror(-error));
		return NULL;
	}
	return engine;
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	engine_remove_listeners(engine);
	while (engine->connection_count)
		engine_connection_destroy(engine->connections[--engine->connection_count]);
	free(engine->connections);
	for (int index = 0; index < ENGINE_FABRICS; index++)
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

int engine_command_run(struct engine *engine, engine_command *run, void *arguments)
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

/* Connections end at once, but workers are told why; what does not end in time goes with engine_destroy. */
static void shut_down(struct engine *engine)
{
	nanoseconds deadline = loop_now(engine->loop) + SHUTDOWN_TIME;

	engine->draining = true;
	engine_remove_listeners(engine);
	engine_close_connections(engine, false, loop_now(engine->loop));
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

/* Events. */

int engine_event_fd(struct engine *engine)
{
	return engine->events.fd;
}

int engine_next_event(struct engine *engine, struct engine_event *ret)
{
	return event_queue_take(&engine->events, ret);
}
