#include "channel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel_state.h"
#include "trace.h"

enum {
	/* Asked for in both directions; the system gives what net.core.wmem_max allows. */
	SOCKET_BUFFER = 1 << 20,
};

static const struct smbd_events channel_smbd_events;

static void on_ready(struct loop_watch *watch, uint32_t events);
static void on_turn(struct loop_task *task, nanoseconds now);
static void on_deadline(struct loop_timer *timer, nanoseconds now);

/* Life. */

int channel_create(struct loop *loop, struct pool_table *pools, struct fabric_qp *qp,
		   enum smbd_role role, const struct smbd_config *config,
		   const struct channel_events *events, void *owner, nanoseconds now,
		   struct channel **ret)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	int error;

	if (!channel)
		return -ENOMEM;
	channel->loop = loop;
	channel->table = pools;
	channel->events = events;
	channel->owner = owner;
	channel->watch = (struct loop_watch){.fd = -1, .ready = on_ready, .owner = channel};
	channel->turn = (struct loop_task){.run = on_turn, .owner = channel};
	channel->timer = (struct loop_timer){.expired = on_deadline, .owner = channel};
	channel->worker_end = -1;
	channel->outgoing_end = &channel->outgoing;
	error = smbd_create(qp, role, config, &channel_smbd_events, channel, now,
			    &channel->connection);
	if (error < 0) {
		free(channel);
		return error;
	}
	loop_timer_set(loop, &channel->timer, smbd_deadline(channel->connection));
	trace_count(TRACE_CHANNEL_OPENED);
	*ret = channel;
	return 0;
}

/* The queue pair goes before the pools: from then on nothing touches their memory. */
void channel_destroy(struct channel *channel)
{
	if (!channel)
		return;
	loop_task_cancel(channel->loop, &channel->turn);
	loop_timer_cancel(channel->loop, &channel->timer);
	loop_watch_remove(channel->loop, &channel->watch);
	smbd_destroy(channel->connection);
	while (channel->outgoing) {
		struct smbd_message *message = channel->outgoing;

		channel->outgoing = message->next;
		smbd_message_destroy(message);
	}
	smbd_message_destroy(channel->incoming);
	for (uint32_t index = 0; index < channel->descriptor_count; index++)
		close(channel->descriptors[index]);
	if (channel->watch.fd >= 0)
		close(channel->watch.fd);
	if (channel->worker_end >= 0)
		close(channel->worker_end);
	for (uint32_t index = 0; index < channel->pool_count; index++)
		pool_release(channel->pools[index].pool);
	trace_count(TRACE_CHANNEL_CLOSED);
	free(channel);
}

int channel_take_worker_end(struct channel *channel)
{
	int fd = channel->worker_end;

	channel->worker_end = -1;
	return fd;
}

struct smbd_connection *channel_connection(const struct channel *channel)
{
	return channel->connection;
}

/* The end. A second call may only make it come sooner. */

static void end(struct channel *channel, enum close_reason reason, bool graceful, nanoseconds now)
{
	if (channel->state >= CHANNEL_CLOSING) {
		if (channel->state == CHANNEL_CLOSING && !graceful)
			smbd_close(channel->connection, reason, false, now);
		return;
	}
	channel->state = CHANNEL_CLOSING;
	channel->reason = reason;
	trace_point(TRACE_POINT_CHANNEL_ENDED, channel, reason, 0);
	smbd_message_destroy(channel->incoming);
	channel->incoming = NULL;
	smbd_close(channel->connection, reason, graceful, now);
	loop_task_add(channel->loop, &channel->turn);
}

void channel_fail(struct channel *channel, enum close_reason reason, const char *format, ...)
{
	va_list arguments;

	if (channel->state >= CHANNEL_CLOSING)
		return;
	va_start(arguments, format);
	vsnprintf(channel->words, sizeof(channel->words), format, arguments);
	va_end(arguments);
	end(channel, reason, false, loop_now(channel->loop));
}

/* The worker closed its end, or died: what it wrote whole is still carried out. */
void channel_worker_left(struct channel *channel, const char *why, nanoseconds now)
{
	bool whole = !channel->incoming && channel->staged_start == channel->staged_end;

	channel->worker_gone = true;
	if (channel->state >= CHANNEL_CLOSING)
		return;
	if (channel->outstanding || !whole)
		trace_count(TRACE_CHANNEL_LOST_WORKERS);
	snprintf(channel->words, sizeof(channel->words), "%s%s", why,
		 whole ? "" : ", in the middle of a frame");
	end(channel, CLOSE_BY_WORKER, whole, now);
}

/* In good order, what the worker wrote before is still sent: as much as one turn takes. */
void channel_close(struct channel *channel, enum close_reason reason, bool graceful,
		   nanoseconds now)
{
	if (graceful && channel->state == CHANNEL_OPEN)
		channel_receive_frames(channel, now);
	end(channel, reason, graceful, now);
}

/*
 * The timer is moved only forward in time here; a deadline that has become later is met when the timer expires,
 * so that traffic does not touch the heap.
 */
static void follow_deadline(struct channel *channel)
{
	nanoseconds deadline = smbd_deadline(channel->connection);

	if (deadline && (channel->timer.place == 0 || deadline < channel->timer.deadline))
		loop_timer_set(channel->loop, &channel->timer, deadline);
}

/* With nothing to wait for the socket leaves epoll: a hang-up would be reported for ever. */
static void follow_socket(struct channel *channel)
{
	uint32_t events = 0;

	if (channel->state == CHANNEL_OPEN && !channel->stalled)
		events |= EPOLLIN;
	if (channel->blocked && !channel->worker_gone)
		events |= EPOLLOUT;
	if (!events)
		loop_watch_remove(channel->loop, &channel->watch);
	else if (channel->watch.added && channel->watch.events != events)
		loop_watch_change(channel->loop, &channel->watch, events);
	else if (!channel->watch.added && channel->watch.fd >= 0) {
		channel->watch.events = events;
		if (loop_watch_add(channel->loop, &channel->watch) < 0)
			channel_worker_left(channel, "the worker's socket cannot be watched",
					    loop_now(channel->loop));
	}
}

/*
 * Woken up: by the socket, at the end of a turn in which something happened, by the deadline. Corked, so that what one
 * turn brings is posted in one chain: a Write and the message after it.
 */
static void go_on(struct channel *channel, bool readable, nanoseconds now)
{
	smbd_cork(channel->connection);
	if (readable)
		channel_receive_frames(channel, now);
	channel_write_frames(channel, now);
	if (channel->stalled)
		channel_cut_frames(channel, now);
	smbd_uncork(channel->connection, now);
	follow_socket(channel);
	follow_deadline(channel);
}

static void on_ready(struct loop_watch *watch, uint32_t events)
{
	struct channel *channel = watch->owner;

	/* A hang-up shows in the next recvmsg or sendmsg. */
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		channel->blocked = false;
	go_on(channel, events & ~(uint32_t)EPOLLOUT && !channel->stalled, loop_now(channel->loop));
}

static void on_turn(struct loop_task *task, nanoseconds now)
{
	go_on(task->owner, false, now);
}

/* The task is added first: the connection's end may destroy the channel inside smbd_on_time. */
static void on_deadline(struct loop_timer *timer, nanoseconds now)
{
	struct channel *channel = timer->owner;

	loop_task_add(channel->loop, &channel->turn);
	smbd_on_time(channel->connection, now);
}

/* 4. What SMB Direct tells. Everything is written at the end of the loop's turn, in one go. */

static int open_socket(struct channel *channel)
{
	int ends[2], size = SOCKET_BUFFER;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	channel->watch.fd = ends[0];
	channel->worker_end = ends[1];
	return 0;
}

static void on_established(void *owner, nanoseconds now)
{
	struct channel *channel = owner;
	struct smbd_facts facts;
	int error;

	if (channel->state != CHANNEL_NEGOTIATING)
		return;
	error = open_socket(channel);
	if (error < 0) {
		channel_fail(
			channel, CLOSE_LIMIT,
			"no socket for a worker: %s; raise the proxy's RLIMIT_NOFILE (ulimit -n)",
			strerror(-error));
		return;
	}
	smbd_facts(channel->connection, &facts);
	channel->max_message = facts.max_fragmented_send_size;
	channel->state = CHANNEL_OPEN;
	loop_task_add(channel->loop, &channel->turn);
	channel->events->established(channel->owner, channel, now);
}

static void on_message(void *owner, struct smbd_message *message, nanoseconds now)
{
	struct channel *channel = owner;

	(void)now;
	message->next = NULL;
	*channel->outgoing_end = message;
	channel->outgoing_end = &message->next;
	loop_task_add(channel->loop, &channel->turn);
}

static enum channel_status status_of(enum fabric_status status)
{
	switch (status) {
	case FABRIC_OK:
		return CHANNEL_STATUS_DONE;
	case FABRIC_FLUSHED:
		return CHANNEL_STATUS_ENDED;
	case FABRIC_REMOTE_ACCESS:
		return CHANNEL_STATUS_REMOTE;
	case FABRIC_LOCAL_ERROR:
		return CHANNEL_STATUS_REFUSED;
	case FABRIC_TRANSPORT_ERROR:
		break;
	}
	return CHANNEL_STATUS_TRANSPORT;
}

static void on_transferred(void *owner, uint64_t operation, enum fabric_status status,
			   uint64_t bytes, nanoseconds now)
{
	struct channel *channel = owner;

	(void)now;
	channel->outstanding--;
	channel_reply_done(channel, operation, status_of(status), bytes);
}

static void on_exposed(void *owner, uint64_t operation, enum fabric_status status,
		       const struct buffer_descriptor *descriptor, nanoseconds now)
{
	struct channel *channel = owner;

	(void)now;
	channel->outstanding--;
	if (status == FABRIC_OK)
		channel->exposures++;
	channel_reply_exposed(channel, operation, status_of(status),
			      status == FABRIC_OK ? descriptor : NULL);
}

static void on_revoked(void *owner, uint64_t operation, enum fabric_status status, nanoseconds now)
{
	struct channel *channel = owner;

	(void)now;
	channel->outstanding--;
	channel->exposures--;
	channel_reply_done(channel, operation, status_of(status), 0);
}

static void on_invalidated(void *owner, uint32_t token, nanoseconds now)
{
	(void)now;
	channel_reply_invalidated(owner, token);
}

static void on_writable(void *owner, nanoseconds now)
{
	struct channel *channel = owner;

	(void)now;
	loop_task_add(channel->loop, &channel->turn);
}

/* What was delivered goes first, as far as the socket takes it; then the last frame, if all the rest went. */
static void write_last_frame(struct channel *channel, enum close_reason reason, const char *words,
			     nanoseconds now)
{
	channel->blocked = false;
	channel_write_frames(channel, now);
	if (channel->worker_gone || channel_has_output(channel))
		return;
	channel_reply_closed(channel, reason, words);
	channel_write_frames(channel, now);
}

static void on_closed(void *owner, enum close_reason reason, const char *words, nanoseconds now)
{
	struct channel *channel = owner;
	bool opened = channel->watch.fd >= 0;

	if (channel->reason != CLOSE_NONE) {
		reason = channel->reason;
		words = channel->words[0] ? channel->words : words;
	}
	channel->state = CHANNEL_ENDED;
	if (opened)
		write_last_frame(channel, reason, words ? words : "", now);
	channel->events->closed(channel->owner, channel, reason, words ? words : "", now);
}

static const struct smbd_events channel_smbd_events = {
	.established = on_established,
	.message = on_message,
	.transferred = on_transferred,
	.exposed = on_exposed,
	.revoked = on_revoked,
	.invalidated = on_invalidated,
	.writable = on_writable,
	.closed = on_closed,
};
