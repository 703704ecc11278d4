#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	/* Events taken from the kernel in one wake-up; more wait there for the next turn. */
	LOOP_EVENTS = 64,
	LOOP_TIMERS_FIRST = 64, /* timers that the heap has room for at first; it doubles */
};

struct loop {
	int epoll;
	nanoseconds now;
	bool stopped;
	struct loop_watch woken; /* the eventfd of loop_wake */

	struct epoll_event events[LOOP_EVENTS];
	int event_count; /* of this turn; 0 outside of loop_dispatch */

	struct loop_timer **timers; /* a binary heap, the earliest deadline first */
	size_t timer_count, timer_room;

	struct loop_task tasks;	  /* sentinel of the list for the next turn */
	struct loop_task running; /* sentinel of the list of this turn */
};

static nanoseconds read_clock(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (nanoseconds)at.tv_sec * SECOND + (nanoseconds)at.tv_nsec;
}

static void woken_ready(struct loop_watch *watch, uint32_t events)
{
	uint64_t count;

	(void)events;
	/* Any result will do: the count only ends the sleep. */
	if (read(watch->fd, &count, sizeof(count)) < 0)
		return;
}

int loop_create(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int result;

	if (!loop)
		return -ENOMEM;
	loop->tasks.previous = loop->tasks.next = &loop->tasks;
	loop->running.previous = loop->running.next = &loop->running;
	loop->now = read_clock();
	loop->woken.fd = -1;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		result = -errno;
		goto fail;
	}
	loop->woken.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->woken.fd < 0) {
		result = -errno;
		goto fail;
	}
	loop->woken.events = EPOLLIN;
	loop->woken.ready = woken_ready;
	result = loop_watch_add(loop, &loop->woken);
	if (result < 0)
		goto fail;
	*ret = loop;
	return 0;
fail:
	loop_destroy(loop);
	return result;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->woken.fd >= 0)
		close(loop->woken.fd);
	if (loop->epoll >= 0)
		close(loop->epoll);
	free(loop->timers);
	free(loop);
}

nanoseconds loop_now(const struct loop *loop)
{
	return loop->now;
}

/* Watches */

int loop_watch_add(struct loop *loop, struct loop_watch *watch)
{
	struct epoll_event event = {.events = watch->events, .data.ptr = watch};

	if (watch->added)
		return -EEXIST;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event) < 0)
		return -errno;
	watch->added = true;
	return 0;
}

int loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (!watch->added)
		return -ENOENT;
	if (watch->events == events)
		return 0;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0)
		return -errno;
	watch->events = events;
	return 0;
}

void loop_watch_remove(struct loop *loop, struct loop_watch *watch)
{
	if (!watch->added)
		return;
	watch->added = false;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	/*
	 * The kernel may have reported this watch in the batch being dispatched: forget that too.
	 */
	for (int i = 0; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
}

/* Timers: place p of the heap is timers[p - 1]; its parent is place p / 2. */

static void timer_place(struct loop *loop, struct loop_timer *timer, size_t place)
{
	loop->timers[place - 1] = timer;
	timer->place = place;
}

static void timer_up(struct loop *loop, struct loop_timer *timer)
{
	size_t place = timer->place;

	while (place > 1 && loop->timers[place / 2 - 1]->deadline > timer->deadline) {
		timer_place(loop, loop->timers[place / 2 - 1], place);
		place /= 2;
	}
	timer_place(loop, timer, place);
}

static void timer_down(struct loop *loop, struct loop_timer *timer)
{
	size_t place = timer->place;

	for (;;) {
		size_t child = place * 2;

		if (child > loop->timer_count)
			break;
		if (child < loop->timer_count &&
		    loop->timers[child]->deadline < loop->timers[child - 1]->deadline)
			child++;
		if (loop->timers[child - 1]->deadline >= timer->deadline)
			break;
		timer_place(loop, loop->timers[child - 1], place);
		place = child;
	}
	timer_place(loop, timer, place);
}

static int timers_make_room(struct loop *loop)
{
	size_t room = loop->timer_room ? loop->timer_room * 2 : LOOP_TIMERS_FIRST;
	struct loop_timer **timers;

	if (loop->timer_count < loop->timer_room)
		return 0;
	timers = realloc(loop->timers, room * sizeof(*timers));
	if (!timers)
		return -ENOMEM;
	loop->timers = timers;
	loop->timer_room = room;
	return 0;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, nanoseconds deadline)
{
	if (!deadline) {
		loop_timer_cancel(loop, timer);
		return;
	}
	if (!timer->place) {
		/*
		 * A lost deadline would leave its owner waiting for ever: without memory the
		 * process must end.
		 */
		if (timers_make_room(loop) < 0)
			abort();
		loop->timer_count++;
		timer->deadline = deadline;
		timer_place(loop, timer, loop->timer_count);
		timer_up(loop, timer);
		return;
	}
	timer->deadline = deadline;
	timer_up(loop, timer);
	timer_down(loop, timer);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer *last;

	if (!timer->place)
		return;
	last = loop->timers[--loop->timer_count];
	if (last != timer) {
		timer_place(loop, last, timer->place);
		timer_up(loop, last);
		timer_down(loop, last);
	}
	timer->place = 0;
}

static void timers_expire(struct loop *loop)
{
	while (loop->timer_count && loop->timers[0]->deadline <= loop->now) {
		struct loop_timer *timer = loop->timers[0];

		loop_timer_cancel(loop, timer);
		timer->expired(timer, loop->now);
	}
}

/* Tasks */

void loop_task_add(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->previous = loop->tasks.previous;
	task->next = &loop->tasks;
	task->previous->next = task;
	loop->tasks.previous = task;
}

void loop_task_cancel(struct loop *loop, struct loop_task *task)
{
	(void)loop; /* whichever of the two lists it is in */
	if (!task->queued)
		return;
	task->queued = false;
	task->previous->next = task->next;
	task->next->previous = task->previous;
	task->previous = task->next = NULL;
}

static void tasks_run(struct loop *loop)
{
	struct loop_task *running = &loop->running, *tasks = &loop->tasks;

	if (tasks->next == tasks)
		return;
	running->next = tasks->next;
	running->previous = tasks->previous;
	running->next->previous = running->previous->next = running;
	tasks->previous = tasks->next = tasks;
	while (running->next != running) {
		struct loop_task *task = running->next;

		loop_task_cancel(loop, task);
		task->run(task, loop->now);
	}
}

/* Turns */

static int sleep_milliseconds(const struct loop *loop, nanoseconds longest)
{
	nanoseconds span = longest, now;

	if (loop->tasks.next != &loop->tasks)
		return 0;
	if (loop->timer_count) {
		now = read_clock();
		if (loop->timers[0]->deadline <= now)
			return 0;
		if (loop->timers[0]->deadline - now < span)
			span = loop->timers[0]->deadline - now;
	}
	if (span / MILLISECOND >= 3600 * 1000)
		return span == UINT64_MAX ? -1 : 3600 * 1000;
	return (int)((span + MILLISECOND - 1) / MILLISECOND);
}

static void dispatch(struct loop *loop)
{
	for (int i = 0; i < loop->event_count; i++) {
		struct loop_watch *watch = loop->events[i].data.ptr;

		if (watch)
			watch->ready(watch, loop->events[i].events);
	}
	loop->event_count = 0;
}

int loop_turn(struct loop *loop, nanoseconds longest)
{
	int count = epoll_wait(loop->epoll, loop->events, LOOP_EVENTS,
			       sleep_milliseconds(loop, longest));

	if (count < 0 && errno != EINTR)
		return -errno;
	loop->now = read_clock();
	loop->event_count = count > 0 ? count : 0;
	timers_expire(loop);
	dispatch(loop);
	tasks_run(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int result = 0;

	loop->stopped = false;
	while (!loop->stopped && result == 0)
		result = loop_turn(loop, UINT64_MAX);
	return result;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN means that the count is at its end: the sleep ends all the same. */
	if (write(loop->woken.fd, &one, sizeof(one)) < 0)
		return;
}
