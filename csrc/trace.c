#include "trace.h"

#include <time.h>

atomic_uint_fast64_t trace_counters[TRACE_COUNTER_COUNT];
atomic_bool trace_enabled;

uint64_t trace_counter_value(enum trace_counter counter)
{
	return atomic_load_explicit(&trace_counters[counter], memory_order_relaxed);
}

const char *trace_counter_name(uint32_t counter)
{
	static const char *const names[] = {
#define TRACE_COUNTER(upper, lower) #lower,
		TRACE_COUNTERS(TRACE_COUNTER)
#undef TRACE_COUNTER
	};

	return counter < TRACE_COUNTER_COUNT ? names[counter] : NULL;
}

/*
 * One slot of the ring. `sequence` is the event's number plus one, or 0 while the slot is being written: a reader
 * that finds the same wanted number before and after copying has a whole event. The fields are atomic so that the
 * race between the two is no undefined behaviour; relaxed loads and stores cost nothing.
 */
struct slot {
	atomic_uint_fast64_t sequence, time, point, object, a, b;
};

static struct slot ring[TRACE_RING];
static atomic_uint_fast64_t recorded; /* events ever recorded */

void trace_record(enum trace_point point, const void *object, uint64_t a, uint64_t b)
{
	uint64_t number = atomic_fetch_add_explicit(&recorded, 1, memory_order_relaxed);
	struct slot *slot = &ring[number % TRACE_RING];
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_store_explicit(&slot->sequence, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&slot->time, (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec,
			      memory_order_relaxed);
	atomic_store_explicit(&slot->point, point, memory_order_relaxed);
	atomic_store_explicit(&slot->object, (uintptr_t)object, memory_order_relaxed);
	atomic_store_explicit(&slot->a, a, memory_order_relaxed);
	atomic_store_explicit(&slot->b, b, memory_order_relaxed);
	atomic_store_explicit(&slot->sequence, number + 1, memory_order_release);
}

void trace_enable(bool on)
{
	atomic_store_explicit(&trace_enabled, on, memory_order_relaxed);
}

static bool copy_event(uint64_t number, struct trace_event *ret)
{
	struct slot *slot = &ring[number % TRACE_RING];

	if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != number + 1)
		return false;
	ret->time = atomic_load_explicit(&slot->time, memory_order_relaxed);
	ret->point = (enum trace_point)atomic_load_explicit(&slot->point, memory_order_relaxed);
	ret->object = atomic_load_explicit(&slot->object, memory_order_relaxed);
	ret->a = atomic_load_explicit(&slot->a, memory_order_relaxed);
	ret->b = atomic_load_explicit(&slot->b, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == number + 1;
}

size_t trace_read(uint64_t *position, struct trace_event *ret, size_t count)
{
	uint64_t end = atomic_load_explicit(&recorded, memory_order_acquire);
	size_t copied = 0;

	if (end > TRACE_RING && *position < end - TRACE_RING)
		*position = end - TRACE_RING;
	for (; *position < end && copied < count; ++*position) {
		if (copy_event(*position, &ret[copied]))
			copied++;
	}
	return copied;
}

const char *trace_point_name(uint32_t point)
{
	static const char *const names[] = {
#define TRACE_POINT(upper, lower) #lower,
		TRACE_POINTS(TRACE_POINT)
#undef TRACE_POINT
	};

	return point < TRACE_POINT_COUNT ? names[point] : NULL;
}
