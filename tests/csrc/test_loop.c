/* SOURCES: loop.c */
#include "loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "check.h"

static struct loop *loop;
static int calls, order[16];

static void note(int what)
{
	order[calls++ % 16] = what;
}

/* Two watches are ready in one batch; whichever comes first removes the other. */
static struct loop_watch watches[2];

static void remove_other(struct loop_watch *watch, uint32_t events)
{
	struct loop_watch *other = watch == &watches[0] ? &watches[1] : &watches[0];

	CHECK(events & EPOLLIN);
	note(1);
	loop_watch_remove(loop, other);
	other->ready = NULL; /* a call would crash */
}

static void test_removed_watch_is_not_called(void)
{
	int pipes[2][2];

	calls = 0;
	for (int i = 0; i < 2; i++) {
		CHECK(pipe(pipes[i]) == 0);
		CHECK(write(pipes[i][1], "x", 1) == 1);
		watches[i] = (struct loop_watch){
			.fd = pipes[i][0], .events = EPOLLIN, .ready = remove_other};
		CHECK(loop_watch_add(loop, &watches[i]) == 0);
	}
	CHECK(loop_watch_add(loop, &watches[0]) < 0);
	CHECK(loop_turn(loop, 0) == 0 && calls == 1);
	CHECK(loop_turn(loop, 0) == 0 && calls == 2);
	for (int i = 0; i < 2; i++) {
		loop_watch_remove(loop, &watches[i]);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	CHECK(loop_turn(loop, 0) == 0 && calls == 2);
}

static void wait_for_nothing(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	note(1);
	CHECK(loop_watch_change(loop, watch, 0) == 0);
}

static void test_watch_change(void)
{
	struct loop_watch watch = {.events = EPOLLOUT, .ready = wait_for_nothing};
	int pipes[2];

	calls = 0;
	CHECK(pipe(pipes) == 0);
	watch.fd = pipes[1];
	CHECK(loop_watch_change(loop, &watch, EPOLLOUT) < 0);
	CHECK(loop_watch_add(loop, &watch) == 0);
	CHECK(loop_turn(loop, 0) == 0 && loop_turn(loop, 0) == 0 && calls == 1);
	loop_watch_remove(loop, &watch);
	close(pipes[0]);
	close(pipes[1]);
}

static void timer_expired(struct loop_timer *timer, nanoseconds now)
{
	CHECK(now >= timer->deadline && !timer->place);
	CHECK(!calls || order[(calls - 1) % 16] <= (int)timer->deadline);
	note((int)timer->deadline);
}

/*
 * Deadlines of the past expire in one turn, in their order, whatever the order of setting and
 * cancelling.
 */
static void test_timers(void)
{
	enum { TIMERS = 500 };
	static struct loop_timer timers[TIMERS];
	int cancelled = 0;

	calls = 0;
	for (int i = 0; i < TIMERS; i++) {
		timers[i].expired = timer_expired;
		loop_timer_set(loop, &timers[i], 1 + (nanoseconds)(i * 7919 % 1000));
	}
	for (int i = 0; i < TIMERS; i += 3)
		loop_timer_set(loop, &timers[i], 1 + (nanoseconds)(i * 104729 % 1000));
	for (int i = 0; i < TIMERS; i += 5, cancelled++)
		loop_timer_cancel(loop, &timers[i]);
	loop_timer_cancel(loop, &timers[0]);
	loop_timer_set(loop, &timers[1], 0);
	CHECK(loop_turn(loop, SECOND) == 0);
	CHECK(calls == TIMERS - cancelled - 1);
}

static void test_timer_ends_the_sleep(void)
{
	struct loop_timer timer = {.expired = timer_expired};

	calls = 0;
	loop_timer_set(loop, &timer, loop_now(loop) + 3 * MILLISECOND);
	while (!calls)
		CHECK(loop_turn(loop, UINT64_MAX) == 0);
	CHECK(loop_now(loop) >= timer.deadline);
}

static struct loop_task tasks[3];

static void task_run(struct loop_task *task, nanoseconds now)
{
	CHECK(now == loop_now(loop));
	note((int)(task - tasks));
	if (task == &tasks[0]) {
		loop_task_cancel(loop, &tasks[1]);
		loop_task_add(loop, &tasks[0]);
		loop_task_add(loop, &tasks[0]);
	}
}

static void test_tasks(void)
{
	calls = 0;
	for (int i = 0; i < 3; i++) {
		tasks[i].run = task_run;
		loop_task_add(loop, &tasks[i]);
	}
	CHECK(loop_turn(loop, UINT64_MAX) == 0);
	CHECK(calls == 2 && order[0] == 0 && order[1] == 2);
	CHECK(loop_turn(loop, UINT64_MAX) == 0 && calls == 3 && order[2] == 0);
	loop_task_cancel(loop, &tasks[0]);
	CHECK(loop_turn(loop, 0) == 0 && calls == 3);
}

static void *wake_from_outside(void *unused)
{
	loop_wake(loop);
	return unused;
}

static void test_wake(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, wake_from_outside, NULL) == 0);
	CHECK(loop_turn(loop, UINT64_MAX) == 0); /* would sleep for ever */
	CHECK(pthread_join(thread, NULL) == 0);
}

static void stop(struct loop_task *task, nanoseconds now)
{
	(void)task;
	(void)now;
	loop_stop(loop);
}

static void test_run_until_stopped(void)
{
	struct loop_task task = {.run = stop};

	loop_task_add(loop, &task);
	CHECK(loop_run(loop) == 0);
}

int main(void)
{
	CHECK(loop_create(&loop) == 0);
	test_removed_watch_is_not_called();
	test_watch_change();
	test_timers();
	test_timer_ends_the_sleep();
	test_tasks();
	test_wake();
	test_run_until_stopped();
	loop_destroy(loop);
	loop_destroy(NULL);
	return 0;
}
