#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "channel_state.h"
#include "trace.h"

enum {
	MESSAGES_PER_WRITE = 16, /* gathered into one sendmsg, with a header each */
};

static void release_message(struct channel *channel, struct smbd_message *message, nanoseconds now)
{
	if (channel->state == CHANNEL_ENDED)
		smbd_message_destroy(message);
	else
		smbd_consumed(channel->connection, message, now);
}

static void pop_outgoing(struct channel *channel, nanoseconds now)
{
	struct smbd_message *message = channel->outgoing;

	channel->outgoing = message->next;
	if (!channel->outgoing)
		channel->outgoing_end = &channel->outgoing;
	channel->outgoing_done = 0;
	release_message(channel, message, now);
}

static void drop_output(struct channel *channel, nanoseconds now)
{
	channel->replies_start = channel->replies_end = 0;
	channel->blocked = false;
	while (channel->outgoing)
		pop_outgoing(channel, now);
}

bool channel_has_output(const struct channel *channel)
{
	return channel->outgoing || channel->replies_end > channel->replies_start;
}

/* Room for a small frame. may_read keeps enough free; a frame that finds none is a mistake of ours. */
static uint8_t *reserve_reply(struct channel *channel, size_t most)
{
	size_t waiting = channel->replies_end - channel->replies_start;

	if (channel->replies_end + most > CHANNEL_REPLIES_MAX) {
		memmove(channel->replies, channel->replies + channel->replies_start, waiting);
		channel->replies_start = 0;
		channel->replies_end = waiting;
	}
	if (channel->replies_end + most > CHANNEL_REPLIES_MAX) {
		channel_fail(channel, CLOSE_LIMIT,
			     "%zu bytes of answers wait for the worker, the most there may be",
			     waiting);
		return NULL;
	}
	return channel->replies + channel->replies_end;
}

static void commit_reply(struct channel *channel, enum channel_frame type, size_t length)
{
	channel->replies_end += length;
	trace_count(TRACE_CHANNEL_FRAMES_OUT);
	trace_point(TRACE_POINT_FRAME_OUT, channel, type, length);
	loop_task_add(channel->loop, &channel->turn);
}

void channel_reply_done(struct channel *channel, uint64_t operation, enum channel_status status,
			uint64_t bytes)
{
	uint8_t *frame = reserve_reply(channel, CHANNEL_REPLY_MAX);

	if (status == CHANNEL_STATUS_REFUSED)
		trace_count(TRACE_CHANNEL_OPERATION_REFUSALS);
	if (frame)
		commit_reply(channel, CHANNEL_DONE,
			     channel_build_done(frame, operation, status, bytes));
}

void channel_reply_exposed(struct channel *channel, uint64_t operation, enum channel_status status,
			   const struct buffer_descriptor *descriptor)
{
	uint8_t *frame = reserve_reply(channel, CHANNEL_REPLY_MAX);

	if (status == CHANNEL_STATUS_REFUSED)
		trace_count(TRACE_CHANNEL_OPERATION_REFUSALS);
	if (frame)
		commit_reply(channel, CHANNEL_EXPOSED,
			     channel_build_exposed(frame, operation, status, descriptor));
}

void channel_reply_pool_ready(struct channel *channel, enum channel_status status, uint32_t number,
			      uint64_t size, const char *words)
{
	uint8_t *frame = reserve_reply(channel, CHANNEL_NOTICE_MAX);

	if (frame)
		commit_reply(channel, CHANNEL_POOL_READY,
			     channel_build_pool_ready(frame, status, number, size, words));
}

void channel_reply_invalidated(struct channel *channel, uint32_t token)
{
	uint8_t *frame = reserve_reply(channel, CHANNEL_INVALIDATED_SIZE);

	if (frame)
		commit_reply(channel, CHANNEL_INVALIDATED, channel_build_invalidated(frame, token));
}

void channel_reply_closed(struct channel *channel, enum close_reason reason, const char *words)
{
	uint8_t *frame = reserve_reply(channel, CHANNEL_NOTICE_MAX);

	if (frame)
		commit_reply(channel, CHANNEL_CLOSED, channel_build_closed(frame, reason, words));
}

struct gathered {
	struct iovec vectors[2 + 2 * MESSAGES_PER_WRITE];
	size_t count;
	uint8_t headers[MESSAGES_PER_WRITE][CHANNEL_HEADER_SIZE];
};

static void add_vector(struct gathered *gathered, void *base, size_t length)
{
	if (length)
		gathered->vectors[gathered->count++] =
			(struct iovec){.iov_base = base, .iov_len = length};
}

static void add_message(struct gathered *gathered, uint8_t header[CHANNEL_HEADER_SIZE],
			struct smbd_message *message, size_t done)
{
	size_t header_done = done < CHANNEL_HEADER_SIZE ? done : CHANNEL_HEADER_SIZE;

	channel_build_header(header, CHANNEL_MESSAGE, message->length);
	add_vector(gathered, header + header_done, CHANNEL_HEADER_SIZE - header_done);
	add_vector(gathered, message->data + (done - header_done),
		   message->length - (done - header_done));
}

/* A message that was begun comes first, then small frames (one of them may be begun instead), then messages. */
static void gather(struct channel *channel, struct gathered *gathered)
{
	struct smbd_message *message = channel->outgoing;
	int count = 0;

	gathered->count = 0;
	if (channel->outgoing_done) {
		add_message(gathered, gathered->headers[count++], message, channel->outgoing_done);
		message = message->next;
	}
	add_vector(gathered, channel->replies + channel->replies_start,
		   channel->replies_end - channel->replies_start);
	for (; message && count < MESSAGES_PER_WRITE; message = message->next)
		add_message(gathered, gathered->headers[count++], message, 0);
}

/* How much of the first message `written` covers; pops it when that is all of it. */
static size_t account_message(struct channel *channel, size_t written, nanoseconds now)
{
	size_t rest = CHANNEL_HEADER_SIZE + channel->outgoing->length - channel->outgoing_done;

	if (written < rest) {
		channel->outgoing_done += written;
		return written;
	}
	trace_count(TRACE_CHANNEL_FRAMES_OUT);
	trace_point(TRACE_POINT_FRAME_OUT, channel, CHANNEL_MESSAGE, channel->outgoing->length);
	pop_outgoing(channel, now);
	return rest;
}

static void account(struct channel *channel, size_t written, nanoseconds now)
{
	size_t replies = channel->replies_end - channel->replies_start;

	if (channel->outgoing_done)
		written -= account_message(channel, written, now);
	if (replies > written)
		replies = written;
	channel->replies_start += replies;
	written -= replies;
	if (channel->replies_start == channel->replies_end)
		channel->replies_start = channel->replies_end = 0;
	while (written)
		written -= account_message(channel, written, now);
}

void channel_write_frames(struct channel *channel, nanoseconds now)
{
	struct gathered gathered;
	struct msghdr header = {.msg_iov = gathered.vectors};
	ssize_t written;

	if (channel->worker_gone)
		drop_output(channel, now);
	while (channel_has_output(channel) && !channel->blocked) {
		gather(channel, &gathered);
		header.msg_iovlen = gathered.count;
		written = sendmsg(channel->watch.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (written >= 0) {
			account(channel, (size_t)written, now);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			channel->blocked = true;
			trace_count(TRACE_CHANNEL_STALLS_WORKER);
		} else if (errno != EINTR) {
			channel_worker_left(channel, "the worker closed the channel", now);
			drop_output(channel, now);
		}
	}
}
