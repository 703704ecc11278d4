/*
 * The loop of one thread: sockets, deadlines and work put off to the next turn.
 *
 * One epoll descriptor, one binary heap of timers, one list of tasks. There is no spinning: with
 * nothing to do the thread sleeps in epoll_wait. A handler that could go on for ever (a peer that
 * sends without pause) stops at its own budget and puts itself on the task list, so that everybody
 * else has a turn.
 *
 * Watches, timers and tasks are embedded in the objects that own them; the loop allocates nothing
 * per event. Removing a watch, a timer or a task is allowed at any moment, also from inside a
 * handler: the loop forgets it at once and never calls it again, so the owner may be freed right
 * after.
 *
 * All functions belong to the loop's thread, except loop_wake.
 */
#ifndef LOOP_H
#define LOOP_H

#include "path.h"

struct loop;

/*
 * A file descriptor and who wants to hear of it. `events` are EPOLLIN, EPOLLOUT, EPOLLRDHUP;
 * level-triggered.
 */
struct loop_watch {
	int fd;
	uint32_t events;
	void (*ready)(struct loop_watch *watch, uint32_t events);
	void *owner;
	bool added;
};

struct loop_timer {
	nanoseconds deadline;
	void (*expired)(struct loop_timer *timer, nanoseconds now);
	void *owner;
	size_t place; /* index in the heap plus one; 0 = not armed */
};

/* Runs once, after the events of this turn; may be added again by its own handler (next turn). */
struct loop_task {
	void (*run)(struct loop_task *task, nanoseconds now);
	void *owner;
	struct loop_task *previous, *next;
	bool queued;
};

int loop_create(struct loop **ret); /* 0 or -errno */
void loop_destroy(struct loop *loop);

nanoseconds loop_now(const struct loop *loop); /* the time of this turn, read once per wake-up */

int loop_watch_add(struct loop *loop, struct loop_watch *watch); /* 0 or -errno */
int loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events);
void loop_watch_remove(struct loop *loop,
		       struct loop_watch *watch); /* a watch never added is fine */

void loop_timer_set(struct loop *loop, struct loop_timer *timer,
		    nanoseconds deadline); /* 0 cancels */
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

void loop_task_add(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop *loop, struct loop_task *task);

int loop_turn(struct loop *loop,
	      nanoseconds longest); /* one wake-up; sleeps no longer than `longest` */
int loop_run(struct loop *loop);    /* turns until loop_stop */
void loop_stop(struct loop *loop);  /* from a handler */
void loop_wake(struct loop *loop);  /* from any thread: ends the sleep */

#endif
