/* SOURCES: trace.c path.c */
#include "trace.h"

#include <string.h>

#include "check.h"

static void test_counters_have_names(void)
{
	for (uint32_t counter = 0; counter < TRACE_COUNTER_COUNT; counter++) {
		const char *name = trace_counter_name(counter);

		CHECK(name && name[0]);
		for (uint32_t other = 0; other < counter; other++)
			CHECK(strcmp(name, trace_counter_name(other)) != 0);
	}
	CHECK(trace_counter_name(TRACE_COUNTER_COUNT) == NULL);
	CHECK(strcmp(trace_counter_name(TRACE_POOL_MAPPED), "pool_mapped") == 0);
	CHECK(trace_point_name(TRACE_POINT_COUNT) == NULL);
	CHECK(strcmp(trace_point_name(TRACE_POINT_FRAME_IN), "frame_in") == 0);
}

static void test_counters_count(void)
{
	CHECK(trace_counter_value(TRACE_POOL_MAPPED) == 0);
	trace_count(TRACE_POOL_MAPPED);
	trace_add(TRACE_POOL_MAPPED, 10);
	CHECK(trace_counter_value(TRACE_POOL_MAPPED) == 11);
	CHECK(trace_counter_value(TRACE_POOL_RELEASED) == 0);
}

static void test_points_are_off_by_default(void)
{
	struct trace_event event;
	uint64_t position = 0;

	trace_point(TRACE_POINT_FRAME_IN, &event, 1, 2);
	CHECK(trace_read(&position, &event, 1) == 0 && position == 0);
}

static void test_the_ring_keeps_the_newest(void)
{
	static struct trace_event events[TRACE_RING + 10];
	uint64_t position = 0;

	trace_enable(true);
	for (uint64_t number = 0; number < 3; number++)
		trace_point(TRACE_POINT_FRAME_OUT, events, number, 7);
	CHECK(trace_read(&position, events, 2) == 2 && position == 2);
	CHECK(events[1].a == 1 && events[1].b == 7 && events[1].point == TRACE_POINT_FRAME_OUT);
	CHECK(events[1].object == (uintptr_t)events && events[1].time >= events[0].time);
	for (uint64_t number = 3; number < TRACE_RING + 5; number++)
		trace_point(TRACE_POINT_FRAME_OUT, events, number, 7);
	CHECK(trace_read(&position, events, TRACE_RING + 10) == TRACE_RING);
	CHECK(events[0].a == 5 && events[TRACE_RING - 1].a == TRACE_RING + 4);
	CHECK(trace_read(&position, events, 1) == 0);
	trace_enable(false);
	trace_point(TRACE_POINT_FRAME_OUT, events, 0, 0);
	CHECK(trace_read(&position, events, 1) == 0);
}

static void test_close_reasons_have_names(void)
{
	CHECK(strcmp(close_reason_name(CLOSE_PEER_LOST), "peer_lost") == 0);
	CHECK(strcmp(close_reason_name((enum close_reason)1000), "unknown") == 0);
	for (int reason = CLOSE_NONE; reason <= CLOSE_SHUTDOWN; reason++)
		CHECK(strcmp(close_reason_name((enum close_reason)reason), "unknown") != 0);
}

int main(void)
{
	test_counters_have_names();
	test_counters_count();
	test_points_are_off_by_default();
	test_the_ring_keeps_the_newest();
	test_close_reasons_have_names();
	return 0;
}
