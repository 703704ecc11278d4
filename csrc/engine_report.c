#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "capture.h"
#include "engine_state.h"
#include "trace.h"

static void take_address(const struct sockaddr_storage *address, char text[64], uint32_t *port)
{
	char service[8] = "";

	text[0] = 0;
	if (address->ss_family == AF_INET || address->ss_family == AF_INET6)
		getnameinfo((const struct sockaddr *)address, sizeof(*address), text, 64, service,
			    sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
	*port = (uint32_t)atoi(service);
}

void engine_describe_qp(const struct fabric_qp *qp, struct engine_connection *ret)
{
	snprintf(ret->device, sizeof(ret->device), "%s", qp->device ? qp->device->name : "");
	ret->invalidation = qp->invalidation;
	take_address(&qp->local, ret->local_address, &ret->local_port);
	take_address(&qp->remote, ret->remote_address, &ret->remote_port);
}

void engine_describe(const struct connection *connection, struct engine_connection *ret)
{
	const struct smbd_connection *smbd = channel_connection(connection->channel);
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
	engine_describe_qp(smbd_qp(smbd), ret);
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
	uint32_t place = engine_place_after(engine, wanted->after);
	size_t count = engine->connection_count - place;

	(void)now;
	if (wanted->count > count)
		wanted->count = count;
	for (size_t index = 0; index < wanted->count; index++)
		engine_describe(engine->connections[place + index], &wanted->ret[index]);
	return 0;
}

size_t engine_connections(struct engine *engine, uint64_t after, struct engine_connection *ret,
			  size_t count)
{
	struct connections_wanted wanted = {.after = after, .ret = ret, .count = count};

	return engine_command_run(engine, run_connections, &wanted) < 0 ? 0 : wanted.count;
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
	engine_command_run(engine, run_totals, ret);
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

int engine_capture_start(void)
{
	return capture_start();
}

void engine_capture_stop(void)
{
	capture_stop();
}

size_t engine_capture_take(void *ret, size_t room, uint64_t *lost)
{
	return capture_take(ret, room, lost);
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
