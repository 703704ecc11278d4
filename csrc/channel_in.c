#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel_state.h"
#include "trace.h"

static bool carry_out(struct channel *channel, enum channel_frame type, const uint8_t *body,
		      uint32_t length, nanoseconds now);
static void send_message(struct channel *channel, struct smbd_message *message, nanoseconds now);

/* Bytes from the worker. */

static void take_descriptors(struct channel *channel, struct msghdr *header)
{
	if (header->msg_flags & MSG_CTRUNC)
		channel->descriptors_lost = true;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t index = 0; index < count; index++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + index * sizeof(fd), sizeof(fd));
			if (channel->descriptor_count < CHANNEL_DESCRIPTORS_MAX) {
				channel->descriptors[channel->descriptor_count++] = fd;
			} else {
				trace_count(TRACE_CHANNEL_FLOODS);
				close(fd);
				channel_fail(channel, CLOSE_WORKER_ERROR,
					     "the worker passed more than %d descriptors without a "
					     "POOL frame",
					     CHANNEL_DESCRIPTORS_MAX);
			}
		}
	}
}

static void compact_staging(struct channel *channel)
{
	size_t staged = channel->staged_end - channel->staged_start;

	if (channel->staged_start == 0)
		return;
	memmove(channel->staging, channel->staging + channel->staged_start, staged);
	channel->staged_start = 0;
	channel->staged_end = staged;
}

/* The rest of a message goes where it belongs, what follows it is staged. The most that can come, or 0. */
static size_t prepare_vectors(struct channel *channel, struct iovec vectors[2],
			      struct msghdr *header)
{
	struct smbd_message *message = channel->incoming;
	size_t most = 0;

	header->msg_iov = vectors;
	header->msg_iovlen = 0;
	compact_staging(channel);
	if (message) {
		vectors[header->msg_iovlen++] =
			(struct iovec){.iov_base = message->data + message->done,
				       .iov_len = message->length - message->done};
		most += message->length - message->done;
	}
	vectors[header->msg_iovlen++] =
		(struct iovec){.iov_base = channel->staging + channel->staged_end,
			       .iov_len = CHANNEL_STAGING - channel->staged_end};
	return most + CHANNEL_STAGING - channel->staged_end;
}

static void account_received(struct channel *channel, size_t received, nanoseconds now)
{
	struct smbd_message *message = channel->incoming;

	if (message) {
		size_t length = message->length - message->done;

		if (length > received)
			length = received;
		message->done += (uint32_t)length;
		received -= length;
		if (message->done == message->length)
			send_message(channel, message, now);
	}
	channel->staged_end += received;
}

/* How many bytes came; 0: no more for now. `drained` is set when the socket had less than there was room for. */
static size_t receive_once(struct channel *channel, bool *drained, nanoseconds now)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CHANNEL_DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct iovec vectors[2];
	struct msghdr header = {.msg_control = control.space,
				.msg_controllen = sizeof(control.space)};
	size_t most = prepare_vectors(channel, vectors, &header);
	ssize_t received = recvmsg(channel->watch.fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (received < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			channel_worker_left(
				channel, "the worker closed the channel with frames unread", now);
		return 0;
	}
	if (received == 0) {
		channel_worker_left(channel, "the worker closed the channel", now);
		return 0;
	}
	*drained = (size_t)received < most;
	take_descriptors(channel, &header);
	account_received(channel, (size_t)received, now);
	return (size_t)received;
}

void channel_receive_frames(struct channel *channel, nanoseconds now)
{
	size_t total = 0, received = 1;
	bool drained = false;

	while (channel->state == CHANNEL_OPEN && !channel->stalled && !drained && received &&
	       total < CHANNEL_READ_BUDGET) {
		received = receive_once(channel, &drained, now);
		total += received;
		if (received)
			channel_cut_frames(channel, now);
	}
}

static int take_descriptor(struct channel *channel)
{
	int fd = channel->descriptors[0];

	memmove(channel->descriptors, channel->descriptors + 1,
		--channel->descriptor_count * sizeof(channel->descriptors[0]));
	return fd;
}

/* Frames are cut out of what was staged. */

/*
 * Whether the next frame may be carried out: the peer takes messages, a transfer can be queued, and there is room
 * for the answers to all that is under way, to this frame, and for the last frame of all.
 */
static bool may_read(const struct channel *channel)
{
	size_t waiting = channel->replies_end - channel->replies_start;
	size_t promised =
		(size_t)channel->outstanding * (CHANNEL_REPLY_MAX + CHANNEL_INVALIDATED_SIZE) +
		(size_t)channel->exposures * CHANNEL_INVALIDATED_SIZE;

	return smbd_writable(channel->connection) && channel->outstanding < SMBD_TRANSFERS_MAX &&
	       waiting + promised + 3 * CHANNEL_NOTICE_MAX <= CHANNEL_REPLIES_MAX;
}

static void count_stall(const struct channel *channel)
{
	if (!smbd_writable(channel->connection))
		trace_count(TRACE_CHANNEL_STALLS_PEER);
	else if (channel->outstanding >= SMBD_TRANSFERS_MAX)
		trace_count(TRACE_CHANNEL_STALLS_TRANSFERS);
	else
		trace_count(TRACE_CHANNEL_STALLS_REPLIES);
}

static void begin_message(struct channel *channel, uint32_t length)
{
	if (length == 0 || length > channel->max_message) {
		trace_count(TRACE_CHANNEL_BAD_FRAMES);
		channel_fail(channel, CLOSE_WORKER_ERROR,
			     "the worker sent a message of %" PRIu32
			     " bytes; this peer takes 1 to %" PRIu32,
			     length, channel->max_message);
		return;
	}
	channel->incoming = smbd_message_create(length);
	if (!channel->incoming)
		channel_fail(channel, CLOSE_LIMIT, "no memory for a message of %" PRIu32 " bytes",
			     length);
}

static void copy_to_message(struct channel *channel, nanoseconds now)
{
	struct smbd_message *message = channel->incoming;
	size_t staged = channel->staged_end - channel->staged_start;
	size_t length = message->length - message->done;

	if (length > staged)
		length = staged;
	memcpy(message->data + message->done, channel->staging + channel->staged_start, length);
	message->done += (uint32_t)length;
	channel->staged_start += length;
	if (message->done == message->length)
		send_message(channel, message, now);
}

/* Takes one frame, or the beginning of a message; false: there is no whole one. */
static bool cut_frame(struct channel *channel, nanoseconds now)
{
	const uint8_t *frame = channel->staging + channel->staged_start;
	size_t staged = channel->staged_end - channel->staged_start;
	enum channel_frame type;
	uint32_t length;

	if (staged < CHANNEL_HEADER_SIZE)
		return false;
	type = channel_parse_header(frame, &length);
	if (type == CHANNEL_MESSAGE) {
		channel->staged_start += CHANNEL_HEADER_SIZE;
		begin_message(channel, length);
	} else if (length > CHANNEL_FRAME_MAX - CHANNEL_HEADER_SIZE) {
		trace_count(TRACE_CHANNEL_BAD_FRAMES);
		channel_fail(channel, CLOSE_WORKER_ERROR,
			     "the worker sent a frame 0x%02x of %" PRIu32 " bytes", type, length);
	} else if (staged < CHANNEL_HEADER_SIZE + length) {
		return false;
	} else {
		channel->staged_start += CHANNEL_HEADER_SIZE + length;
		if (!carry_out(channel, type, frame + CHANNEL_HEADER_SIZE, length, now)) {
			trace_count(TRACE_CHANNEL_BAD_FRAMES);
			channel_fail(channel, CLOSE_WORKER_ERROR,
				     "the worker sent a bad frame 0x%02x of %" PRIu32 " bytes",
				     type, length);
		}
	}
	trace_count(TRACE_CHANNEL_FRAMES_IN);
	trace_point(TRACE_POINT_FRAME_IN, channel, type, length);
	return true;
}

/* Descriptors come with the first byte of their frame; one left over when no frame is begun belongs to nothing. */
static void drop_descriptors(struct channel *channel)
{
	while (channel->descriptor_count) {
		trace_count(TRACE_CHANNEL_DESCRIPTORS_DROPPED);
		close(take_descriptor(channel));
	}
	channel->descriptors_lost = false;
}

void channel_cut_frames(struct channel *channel, nanoseconds now)
{
	bool stalled = channel->stalled;

	channel->stalled = false;
	while (channel->state == CHANNEL_OPEN) {
		if (!may_read(channel)) {
			channel->stalled = true;
			if (!stalled)
				count_stall(channel);
			return;
		}
		if (channel->incoming && channel->staged_start < channel->staged_end)
			copy_to_message(channel, now);
		else if (channel->incoming || !cut_frame(channel, now))
			break;
	}
	if (channel->staged_start == channel->staged_end) {
		channel->staged_start = channel->staged_end = 0;
		if (!channel->incoming)
			drop_descriptors(channel);
	}
}

/* A frame of the worker's becomes a call. */

static struct channel_pool *find_pool(struct channel *channel, uint32_t number)
{
	if (number >= 1 && number <= channel->pool_count)
		return &channel->pools[number - 1];
	trace_count(TRACE_CHANNEL_RANGE_ERRORS);
	channel_fail(channel, CLOSE_WORKER_ERROR,
		     "the worker named pool %" PRIu32 ", this channel has %" PRIu32, number,
		     channel->pool_count);
	return NULL;
}

static uint8_t *find_range(struct channel *channel, const struct channel_pool *pool,
			   uint64_t offset, uint64_t length)
{
	uint8_t *address = pool_range(pool->pool, offset, length);

	if (address)
		return address;
	trace_count(TRACE_CHANNEL_RANGE_ERRORS);
	channel_fail(channel, CLOSE_WORKER_ERROR,
		     "the worker named %" PRIu64 " bytes at %" PRIu64 " of a pool of %" PRIu64
		     " bytes",
		     length, offset, pool_size(pool->pool));
	return NULL;
}

/* -errno and words, or 0 and one pool more. */
static int add_pool(struct channel *channel, uint64_t size, char words[CHANNEL_WORDS])
{
	struct channel_pool *pool = &channel->pools[channel->pool_count];
	int fd, error;

	if (channel->descriptor_count == 0) {
		snprintf(words, CHANNEL_WORDS,
			 "the proxy has no file descriptors left; raise its RLIMIT_NOFILE (ulimit "
			 "-n)");
		channel->descriptors_lost = false;
		return -EMFILE;
	}
	fd = take_descriptor(channel);
	if (channel->pool_count == CHANNEL_POOLS_MAX) {
		snprintf(words, CHANNEL_WORDS,
			 "this channel has %d pools already, the most there may be",
			 CHANNEL_POOLS_MAX);
		error = -ENOSPC;
	} else {
		error = pool_acquire(channel->table, fd, size, words, &pool->pool);
	}
	close(fd);
	if (error < 0)
		return error;
	error = pool_region(pool->pool, smbd_qp(channel->connection)->device, words, &pool->region);
	if (error < 0) {
		pool_release(pool->pool);
		return error;
	}
	channel->pool_count++;
	return 0;
}

static bool carry_out_pool(struct channel *channel, const uint8_t *body, uint32_t length)
{
	char words[CHANNEL_WORDS] = "";
	uint64_t size;

	if (!channel_parse_pool(body, length, &size))
		return false;
	if (channel->descriptor_count == 0 && !channel->descriptors_lost)
		return false;
	if (add_pool(channel, size, words) < 0)
		channel_reply_pool_ready(channel, CHANNEL_STATUS_REFUSED, 0, 0, words);
	else
		channel_reply_pool_ready(channel, CHANNEL_STATUS_DONE, channel->pool_count,
					 pool_size(channel->pools[channel->pool_count - 1].pool),
					 "");
	return true;
}

static bool carry_out_transfer(struct channel *channel, enum channel_frame type,
			       const uint8_t *body, uint32_t length, nanoseconds now)
{
	struct channel_transfer frame;
	struct channel_pool *pool;
	struct smbd_transfer transfer;

	if (!channel_parse_transfer(body, length, &frame))
		return false;
	pool = find_pool(channel, frame.pool);
	if (!pool)
		return true;
	transfer = (struct smbd_transfer){
		.operation = frame.operation,
		.direction = type == CHANNEL_RDMA_WRITE ? SMBD_RDMA_WRITE : SMBD_RDMA_READ,
		.region = pool->region,
		.address = find_range(channel, pool, frame.offset, frame.length),
		.length = frame.length,
		.descriptor_count = frame.count,
		.descriptors = frame.descriptors,
	};
	if (!transfer.address)
		return true;
	if (smbd_rdma(channel->connection, &transfer, now) < 0)
		channel_reply_done(channel, frame.operation, CHANNEL_STATUS_REFUSED, 0);
	else
		channel->outstanding++;
	return true;
}

static bool carry_out_expose(struct channel *channel, const uint8_t *body, uint32_t length,
			     nanoseconds now)
{
	struct channel_expose frame;
	struct channel_pool *pool;
	uint8_t *address;

	if (!channel_parse_expose(body, length, &frame))
		return false;
	pool = find_pool(channel, frame.pool);
	address = pool ? find_range(channel, pool, frame.offset, frame.length) : NULL;
	if (!address)
		return true;
	if (smbd_expose(channel->connection, frame.operation, pool->region, address, frame.length,
			frame.access, now) < 0)
		channel_reply_exposed(channel, frame.operation, CHANNEL_STATUS_REFUSED, NULL);
	else
		channel->outstanding++;
	return true;
}

static bool carry_out_revoke(struct channel *channel, const uint8_t *body, uint32_t length,
			     nanoseconds now)
{
	struct channel_revoke frame;

	if (!channel_parse_revoke(body, length, &frame))
		return false;
	if (smbd_revoke(channel->connection, frame.operation, frame.token, now) < 0)
		channel_reply_done(channel, frame.operation, CHANNEL_STATUS_REFUSED, 0);
	else
		channel->outstanding++;
	return true;
}

/* False: a frame that a worker may not send, or not like this. */
static bool carry_out(struct channel *channel, enum channel_frame type, const uint8_t *body,
		      uint32_t length, nanoseconds now)
{
	switch (type) {
	case CHANNEL_POOL:
		return carry_out_pool(channel, body, length);
	case CHANNEL_RDMA_WRITE:
	case CHANNEL_RDMA_READ:
		return carry_out_transfer(channel, type, body, length, now);
	case CHANNEL_SEND_INVALIDATE:
		channel->invalidate = channel_parse_send_invalidate(body, length, &channel->token);
		return channel->invalidate;
	case CHANNEL_EXPOSE:
		return carry_out_expose(channel, body, length, now);
	case CHANNEL_REVOKE:
		return carry_out_revoke(channel, body, length, now);
	default:
		return false;
	}
}

static void send_message(struct channel *channel, struct smbd_message *message, nanoseconds now)
{
	channel->incoming = NULL;
	message->done = 0;
	message->invalidate = channel->invalidate;
	message->token = channel->token;
	channel->invalidate = false;
	smbd_send(channel->connection, message, now);
}
