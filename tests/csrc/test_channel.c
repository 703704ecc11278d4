/* SOURCES: channel.c channel_in.c channel_out.c channel_frames.c pool.c loop.c trace.c path.c */
/*
 * A channel between a worker's socket, which the test holds, and an SMB Direct connection that only notes what it is
 * asked to do.
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel_peer.h"
#include "check.h"
#include "loop.h"
#include "trace.h"
#include "worker_frames.h"

enum {
	PAGE = 4096,
	POOL = 16 * PAGE,
};

/* The channel under test, and the worker's end of it. */

static struct loop *loop;
static struct pool_table *pools;
static struct channel *channel;
static int worker;
static enum close_reason ended;
static char ended_words[256];

static void on_established(void *owner, struct channel *which, nanoseconds now)
{
	(void)owner;
	(void)now;
	worker = channel_take_worker_end(which);
	CHECK(worker >= 0 && channel_take_worker_end(which) == -1);
}

static void on_closed(void *owner, struct channel *which, enum close_reason reason,
		      const char *words, nanoseconds now)
{
	(void)owner;
	(void)now;
	ended = reason;
	snprintf(ended_words, sizeof(ended_words), "%s", words);
	channel_destroy(which);
	channel = NULL;
}

static const struct channel_events events = {.established = on_established, .closed = on_closed};

static void turn(void)
{
	for (int count = 0; count < 4; count++)
		CHECK(loop_turn(loop, 0) == 0);
}

static void open_channel(void)
{
	struct smbd_config config = {0};

	ended = CLOSE_NONE;
	CHECK(loop_create(&loop) == 0 && pool_table_create(0, &pools) == 0);
	CHECK(channel_create(loop, pools, &stub_qp, SMBD_SERVER, &config, &events, NULL, 1,
			     &channel) == 0);
	peer.events->established(peer.owner, 1);
	CHECK(fcntl(worker, F_SETFL, O_NONBLOCK) == 0);
	turn();
}

static void close_channel(void)
{
	channel_destroy(channel);
	CHECK(pool_table_count(pools) == 0 && stub_device.region_count == 0);
	pool_table_destroy(pools);
	loop_destroy(loop);
	close(worker);
}

/* The peer's end is reported as smbd_close asked for it. */
static void finish_close(void)
{
	CHECK(peer.reason != CLOSE_NONE);
	peer.events->closed(peer.owner, peer.reason, "closed on this side", 1);
	CHECK(channel == NULL);
}

/* A worker's frames. */

static void worker_writes(const void *bytes, size_t length)
{
	CHECK(write(worker, bytes, length) == (ssize_t)length);
	if (channel)
		turn();
}

static int make_pool(int seals)
{
	int fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0 && ftruncate(fd, POOL) == 0);
	CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static void pass_and_turn(const void *bytes, size_t length, const int *fds, size_t count)
{
	pass(worker, bytes, length, fds, count);
	turn();
}

static void worker_passes_pool(int fd, uint64_t size)
{
	uint8_t frame[12];

	put_header(frame, CHANNEL_POOL, 8);
	put64(frame + 4, size);
	pass_and_turn(frame, sizeof(frame), &fd, 1);
}

/* Reads one frame; its body's length. */
static size_t worker_reads(uint8_t *type, uint8_t *body, size_t room)
{
	uint8_t header[4];
	size_t length;

	CHECK(read(worker, header, 4) == 4);
	*type = header[0];
	length = (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
	CHECK(length <= room);
	for (size_t done = 0; done < length;) {
		ssize_t got = read(worker, body + done, length - done);

		if (got < 0 && errno == EAGAIN) {
			turn();
			continue;
		}
		CHECK(got > 0);
		done += (size_t)got;
	}
	return length;
}

static void expect_end_of_stream(void)
{
	uint8_t byte;

	CHECK(read(worker, &byte, 1) == 0);
}

static void expect_closed(enum close_reason reason, const char *part)
{
	uint8_t type, body[512];
	size_t length;

	finish_close();
	length = worker_reads(&type, body, sizeof(body) - 1);
	body[length] = 0;
	CHECK(type == CHANNEL_CLOSED && get32(body) == (uint32_t)reason);
	CHECK(strstr((char *)body + 4, part));
	CHECK(ended == reason && strstr(ended_words, part));
	expect_end_of_stream();
}

static void expect_done(uint64_t operation, uint32_t status, uint64_t bytes)
{
	uint8_t type, body[24];

	CHECK(worker_reads(&type, body, sizeof(body)) == 24 && type == CHANNEL_DONE);
	CHECK(get64(body) == operation && get32(body + 8) == status && get64(body + 16) == bytes);
}

/* A usable pool number 1. */
static void open_with_pool(void)
{
	uint8_t type, body[512];
	int fd = make_pool(F_SEAL_SHRINK);

	open_channel();
	worker_passes_pool(fd, POOL);
	close(fd);
	CHECK(worker_reads(&type, body, sizeof(body)) == 16 && type == CHANNEL_POOL_READY);
	CHECK(get32(body) == 0 && get32(body + 4) == 1 && get64(body + 8) == POOL);
}

static void peer_delivers(const void *data, uint32_t length)
{
	struct smbd_message *message = smbd_message_create(length);

	memcpy(message->data, data, length);
	peer.events->message(peer.owner, message, 1);
}

/* Messages. */

static void test_messages_both_ways(void)
{
	uint8_t type, body[64];

	open_channel();
	worker_writes("\0\0\0\5hello\0\0\0\3abc", 16);
	CHECK(peer.sent_count == 2 && peer.sent->length == 5 && !peer.sent->invalidate);
	CHECK(memcmp(peer.sent->data, "hello", 5) == 0);
	CHECK(memcmp(peer.sent->next->data, "abc", 3) == 0 && peer.sent->next->done == 0);
	peer_delivers("to you", 6);
	peer_delivers("and more", 8);
	CHECK(peer.consumed == 0);
	turn();
	CHECK(peer.consumed == 2);
	CHECK(worker_reads(&type, body, sizeof(body)) == 6 && type == CHANNEL_MESSAGE);
	CHECK(memcmp(body, "to you", 6) == 0);
	CHECK(worker_reads(&type, body, sizeof(body)) == 8 && memcmp(body, "and more", 8) == 0);
	close_channel();
}

static void test_frames_may_come_byte_by_byte(void)
{
	uint8_t frames[256];
	size_t length = 0;

	open_with_pool();
	length += put_header(frames + length, CHANNEL_MESSAGE, 5);
	memcpy(frames + length, "hello", 5);
	length += 5;
	length += put_transfer(frames + length, CHANNEL_RDMA_WRITE, 7, 1, 0, 100);
	length += put_header(frames + length, CHANNEL_MESSAGE, 1);
	frames[length++] = 'x';
	for (size_t index = 0; index < length; index++)
		worker_writes(frames + index, 1);
	CHECK(strcmp(peer.order, "mwm") == 0 && peer.transfers[0].operation == 7);
	CHECK(memcmp(peer.sent->data, "hello", 5) == 0 && peer.sent->next->data[0] == 'x');
	close_channel();
}

static uint8_t *make_pattern(size_t length)
{
	uint8_t *pattern = malloc(length);

	for (size_t index = 0; index < length; index++)
		pattern[index] = (uint8_t)(index * 31 + (index >> 8));
	return pattern;
}

static void test_a_large_message_in(void)
{
	size_t length = 1 << 20, done = 0;
	uint8_t header[4], *pattern = make_pattern(length);
	ssize_t written;

	open_channel();
	put_header(header, CHANNEL_MESSAGE, length);
	worker_writes(header, 4);
	while (done < length) {
		written = write(worker, pattern + done, length - done);
		CHECK(written > 0 || errno == EAGAIN);
		done += written > 0 ? (size_t)written : 0;
		turn();
	}
	worker_writes("\0\0\0\1y", 5);
	CHECK(peer.sent_count == 2 && peer.sent->length == length);
	CHECK(memcmp(peer.sent->data, pattern, length) == 0 && peer.sent->next->data[0] == 'y');
	free(pattern);
	close_channel();
}

static void test_a_large_message_out_with_answers_between(void)
{
	size_t length = PEER_MESSAGE_MAX;
	uint8_t type, *pattern = make_pattern(length), *seen = malloc(length), frame[64];

	open_with_pool();
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_READ, 9, 1, 0, 10));
	peer_delivers(pattern, (uint32_t)length);
	peer_delivers("tail", 4);
	turn();
	CHECK(peer.consumed == 0 && trace_counter_value(TRACE_CHANNEL_STALLS_WORKER) > 0);
	peer.events->transferred(peer.owner, 9, FABRIC_OK, 10, 1);
	turn();
	CHECK(worker_reads(&type, seen, length) == length && type == CHANNEL_MESSAGE);
	CHECK(memcmp(seen, pattern, length) == 0);
	expect_done(9, 0, 10);
	CHECK(worker_reads(&type, seen, length) == 4 && memcmp(seen, "tail", 4) == 0);
	CHECK(peer.consumed == 2);
	free(pattern);
	free(seen);
	close_channel();
}

static void test_bad_message_lengths(void)
{
	uint8_t header[4];

	open_channel();
	worker_writes("\0\0\0\0", 4);
	CHECK(peer.reason == CLOSE_WORKER_ERROR && !peer.graceful);
	expect_closed(CLOSE_WORKER_ERROR, "message of 0 bytes");
	close_channel();
	open_channel();
	put_header(header, CHANNEL_MESSAGE, PEER_MESSAGE_MAX + 1);
	worker_writes(header, 4);
	expect_closed(CLOSE_WORKER_ERROR, "2097153");
	close_channel();
}

/* Pools. */

static void test_pools_are_refused_with_words(void)
{
	uint8_t type, body[512];
	int open = make_pool(0), sealed = make_pool(F_SEAL_SHRINK);

	open_channel();
	worker_passes_pool(open, POOL);
	CHECK(worker_reads(&type, body, sizeof(body)) > 16 && type == CHANNEL_POOL_READY);
	CHECK(get32(body) == 3 && get32(body + 4) == 0 &&
	      memmem(body + 16, 200, "F_SEAL_SHRINK", 13));
	worker_passes_pool(sealed, POOL + 1);
	CHECK(worker_reads(&type, body, sizeof(body)) > 16 && get32(body) == 3);
	for (uint32_t number = 1; number <= CHANNEL_POOLS_MAX; number++) {
		worker_passes_pool(sealed, POOL);
		CHECK(worker_reads(&type, body, sizeof(body)) == 16 && get32(body + 4) == number);
	}
	CHECK(pool_table_count(pools) == 1 && stub_device.region_count == 1);
	worker_passes_pool(sealed, POOL);
	CHECK(worker_reads(&type, body, sizeof(body)) > 16 && get32(body) == 3);
	CHECK(peer.reason == CLOSE_NONE);
	close(open);
	close(sealed);
	close_channel();
}

static void test_a_pool_needs_its_descriptor(void)
{
	int fd = make_pool(F_SEAL_SHRINK);

	open_channel();
	pass_and_turn("\0\0\0\1x", 5, &fd, 1);
	CHECK(trace_counter_value(TRACE_CHANNEL_DESCRIPTORS_DROPPED) == 1);
	worker_writes("\x80\0\0\x08\0\x10\0\0\0\0\0\0", 12);
	expect_closed(CLOSE_WORKER_ERROR, "0x80");
	close(fd);
	close_channel();
}

static void test_a_flood_of_descriptors(void)
{
	int fds[CHANNEL_DESCRIPTORS_MAX];

	open_channel();
	for (int index = 0; index < CHANNEL_DESCRIPTORS_MAX; index++)
		fds[index] = worker;
	pass_and_turn("\x80\0\0\x08", 4, fds, CHANNEL_DESCRIPTORS_MAX);
	CHECK(peer.reason == CLOSE_NONE);
	pass_and_turn("\0", 1, fds, 1);
	expect_closed(CLOSE_WORKER_ERROR, "descriptors");
	close_channel();
}

/* Transfers. */

static void test_transfers(void)
{
	uint8_t frames[256];
	size_t length = 0;

	open_with_pool();
	length += put_transfer(frames + length, CHANNEL_RDMA_WRITE, 11, 1, PAGE, 1000);
	length += put_header(frames + length, CHANNEL_SEND_INVALIDATE, 4);
	put32(frames + length, 0x12345678);
	length += 4;
	length += put_header(frames + length, CHANNEL_MESSAGE, 1);
	frames[length++] = 'a';
	length += put_transfer(frames + length, CHANNEL_RDMA_READ, 12, 1, POOL - 1, 1);
	length += put_header(frames + length, CHANNEL_MESSAGE, 1);
	frames[length++] = 'b';
	worker_writes(frames, length);
	CHECK(strcmp(peer.order, "wmrm") == 0);
	CHECK(peer.transfers[0].operation == 11 && peer.transfers[0].direction == SMBD_RDMA_WRITE);
	CHECK(peer.transfers[0].address == (uint8_t *)peer.transfers[0].region->base + PAGE);
	CHECK(peer.transfers[0].length == 1000 && peer.transfers[0].descriptor_count == 1);
	CHECK(peer.descriptors[0][0].offset == 0x1000 && peer.descriptors[0][0].token == 0xabcd &&
	      peer.descriptors[0][0].length == 1000);
	CHECK(peer.transfers[1].direction == SMBD_RDMA_READ);
	CHECK(peer.sent->invalidate && peer.sent->token == 0x12345678);
	CHECK(!peer.sent->next->invalidate);
	peer.events->transferred(peer.owner, 12, FABRIC_OK, 1, 1);
	peer.events->transferred(peer.owner, 11, FABRIC_REMOTE_ACCESS, 0, 1);
	turn();
	expect_done(12, 0, 1);
	expect_done(11, 2, 0);
	close_channel();
}

static void test_a_refused_transfer_is_done(void)
{
	uint8_t frame[64];

	open_with_pool();
	peer.refusal = -EINVAL;
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_WRITE, 13, 1, 0, 10));
	expect_done(13, 3, 0);
	peer.refusal = 0;
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_WRITE, 14, 1, 0, 10));
	CHECK(peer.transfer_count == 1 && peer.reason == CLOSE_NONE);
	close_channel();
}

static void end_by_transfer(uint32_t pool, uint64_t offset, uint64_t length, const char *part)
{
	uint8_t frame[64];

	open_with_pool();
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_READ, 1, pool, offset, length));
	CHECK(peer.transfer_count == 0);
	expect_closed(CLOSE_WORKER_ERROR, part);
	close_channel();
}

static void test_ranges_outside_the_pool_end_the_channel(void)
{
	end_by_transfer(0, 0, 1, "pool 0");
	end_by_transfer(2, 0, 1, "pool 2");
	end_by_transfer(UINT32_MAX, 0, 1, "pool 4294967295");
	end_by_transfer(1, POOL, 1, "of a pool");
	end_by_transfer(1, 0, POOL + 1, "of a pool");
	end_by_transfer(1, UINT64_MAX, 2, "of a pool");
	end_by_transfer(1, 1, UINT64_MAX, "of a pool");
	CHECK(trace_counter_value(TRACE_CHANNEL_RANGE_ERRORS) == 7);
}

static void test_expose_and_revoke(void)
{
	struct buffer_descriptor descriptor = {.offset = 0x7000, .token = 77, .length = 100};
	uint8_t frame[64], type, body[64];

	open_with_pool();
	put_header(frame, CHANNEL_EXPOSE, 32);
	put64(frame + 4, 21);
	put32(frame + 12, 1);
	put32(frame + 16, 2);
	put64(frame + 20, 0);
	put64(frame + 28, 100);
	worker_writes(frame, 36);
	CHECK(peer.last_operation == 21 && peer.exposed_access == 2);
	peer.events->exposed(peer.owner, 21, FABRIC_OK, &descriptor, 1);
	turn();
	CHECK(worker_reads(&type, body, sizeof(body)) == 32 && type == CHANNEL_EXPOSED);
	CHECK(get64(body) == 21 && get32(body + 8) == 0 && get64(body + 16) == 0x7000);
	CHECK(get32(body + 24) == 77 && get32(body + 28) == 100);
	peer.refusal = -EBUSY;
	worker_writes(frame, 36);
	CHECK(worker_reads(&type, body, sizeof(body)) == 32 && get32(body + 8) == 3);
	peer.refusal = 0;
	put_header(frame, CHANNEL_REVOKE, 16);
	put64(frame + 4, 22);
	put32(frame + 12, 77);
	worker_writes(frame, 20);
	CHECK(peer.revoked_token == 77 && peer.last_operation == 22);
	peer.events->revoked(peer.owner, 22, FABRIC_OK, 1);
	turn();
	expect_done(22, 0, 0);
	close_channel();
}

static void end_by_frame(const void *bytes, size_t length)
{
	open_with_pool();
	worker_writes(bytes, length);
	expect_closed(CLOSE_WORKER_ERROR, "frame");
	close_channel();
}

static void test_bad_frames_end_the_channel(void)
{
	uint8_t frame[8192] = {0};

	end_by_frame("\x01\0\0\0", 4);
	end_by_frame("\x81\0\0\0", 4);
	end_by_frame("\x85\0\0\0", 4);
	end_by_frame("\x84\0\0\0", 4);
	end_by_frame("\x80\0\0\x04zzzz", 8);
	end_by_frame("\x88\0\0\x04zzzz", 8);
	end_by_frame("\x8a\0\0\0", 4);
	end_by_frame("\x82\xff\xff\xff", 4);
	put_transfer(frame, CHANNEL_RDMA_WRITE, 1, 1, 0, 10);
	put32(frame + 16, 2);
	end_by_frame(frame, 52);
	put32(frame + 16, MAX_DESCRIPTORS + 1);
	put_header(frame, CHANNEL_RDMA_WRITE, 32 + 16 * (MAX_DESCRIPTORS + 1));
	end_by_frame(frame, 4 + 32 + 16 * (MAX_DESCRIPTORS + 1));
	put_header(frame, CHANNEL_EXPOSE, 32);
	put32(frame + 16, 4);
	end_by_frame(frame, 36);
}

/* Back-pressure. */

static void test_a_slow_peer_stops_the_worker(void)
{
	uint8_t message[1028] = {0};
	uint32_t written = 0;

	open_channel();
	put_header(message, CHANNEL_MESSAGE, 1024);
	peer.full = true;
	while (write(worker, message, sizeof(message)) == sizeof(message)) {
		written++;
		turn();
	}
	CHECK(errno == EAGAIN && peer.sent_count == 0 && written > 10);
	CHECK(trace_counter_value(TRACE_CHANNEL_STALLS_PEER) == 1);
	peer.full = false;
	peer.events->writable(peer.owner, 1);
	for (int count = 0; count < 100 && peer.sent_count < written; count++)
		turn();
	CHECK(peer.sent_count == written);
	close_channel();
}

static void test_a_worker_that_never_reads_answers_stops_itself(void)
{
	uint8_t frame[64], type, body[64];
	uint32_t written = 0, done = 0;

	open_with_pool();
	peer.refusal = -EINVAL;
	put_transfer(frame, CHANNEL_RDMA_WRITE, 15, 1, 0, 10);
	while (write(worker, frame, 52) == 52) {
		if (++written % 64 == 0)
			turn();
	}
	turn();
	CHECK(errno == EAGAIN && peer.reason == CLOSE_NONE);
	CHECK(trace_counter_value(TRACE_CHANNEL_STALLS_REPLIES) == 1);
	while (done < written) {
		uint8_t header;

		if (recv(worker, &header, 1, MSG_PEEK) < 0) {
			CHECK(errno == EAGAIN);
			turn();
			continue;
		}
		CHECK(worker_reads(&type, body, sizeof(body)) == 24 && type == CHANNEL_DONE);
		done++;
	}
	CHECK(peer.reason == CLOSE_NONE);
	close_channel();
}

static void test_transfers_under_way_are_bounded(void)
{
	uint8_t frame[64];
	uint32_t wanted = SMBD_TRANSFERS_MAX + 50;

	open_with_pool();
	for (uint32_t number = 0; number < wanted; number++) {
		put_transfer(frame, CHANNEL_RDMA_READ, number, 1, 0, 1);
		worker_writes(frame, 52);
	}
	CHECK(peer.transfer_count == SMBD_TRANSFERS_MAX);
	for (uint32_t number = 0; number < 50; number++)
		peer.events->transferred(peer.owner, number, FABRIC_OK, 1, 1);
	turn();
	CHECK(peer.transfer_count == wanted);
	for (uint32_t number = 0; number < 50; number++)
		expect_done(number, 0, 1);
	close_channel();
}

/* Ends. */

static void test_the_worker_closes(void)
{
	open_channel();
	CHECK(write(worker, "\0\0\0\4last", 8) == 8);
	shutdown(worker, SHUT_RDWR);
	turn();
	CHECK(peer.sent_count == 1 && peer.reason == CLOSE_BY_WORKER && peer.graceful);
	peer_delivers("late", 4);
	turn();
	CHECK(peer.consumed == 1);
	finish_close();
	CHECK(ended == CLOSE_BY_WORKER);
	close_channel();
}

static void test_the_worker_dies_in_a_frame(void)
{
	open_channel();
	CHECK(write(worker, "\0\0\0\4la", 6) == 6);
	shutdown(worker, SHUT_RDWR);
	turn();
	CHECK(peer.reason == CLOSE_BY_WORKER && !peer.graceful && peer.sent_count == 0);
	finish_close();
	CHECK(strstr(ended_words, "in the middle of a frame"));
	close_channel();
}

static void test_a_pool_outlives_its_worker(void)
{
	uint8_t frame[64];

	open_with_pool();
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_READ, 1, 1, 0, POOL));
	shutdown(worker, SHUT_RDWR);
	turn();
	CHECK(peer.reason == CLOSE_BY_WORKER && pool_table_count(pools) == 1);
	memset(peer.transfers[0].address, 1, POOL);
	peer.events->transferred(peer.owner, 1, FABRIC_FLUSHED, 0, 1);
	CHECK(pool_table_count(pools) == 1);
	finish_close();
	CHECK(pool_table_count(pools) == 0 && stub_device.region_count == 0);
	close_channel();
}

static void test_the_last_frame_is_closed(void)
{
	uint8_t type, body[64], frame[64];

	open_with_pool();
	worker_writes(frame, put_transfer(frame, CHANNEL_RDMA_WRITE, 31, 1, 0, 10));
	peer_delivers("last words", 10);
	peer.events->transferred(peer.owner, 31, FABRIC_FLUSHED, 0, 1);
	peer.events->closed(peer.owner, CLOSE_PEER_LOST, "the wire broke", 1);
	CHECK(channel == NULL && ended == CLOSE_PEER_LOST);
	expect_done(31, 1, 0);
	CHECK(worker_reads(&type, body, sizeof(body)) == 10 && type == CHANNEL_MESSAGE);
	CHECK(worker_reads(&type, body, sizeof(body)) == 18 && type == CHANNEL_CLOSED);
	CHECK(get32(body) == CLOSE_PEER_LOST && memcmp(body + 4, "the wire broke", 14) == 0);
	expect_end_of_stream();
	close_channel();
}

static void test_closed_before_established(void)
{
	struct smbd_config config = {0};

	CHECK(loop_create(&loop) == 0 && pool_table_create(0, &pools) == 0);
	CHECK(channel_create(loop, pools, &stub_qp, SMBD_SERVER, &config, &events, NULL, 1,
			     &channel) == 0);
	channel_close(channel, CLOSE_SHUTDOWN, true, 1);
	CHECK(peer.reason == CLOSE_SHUTDOWN && peer.graceful);
	channel_close(channel, CLOSE_SHUTDOWN, false, 1);
	CHECK(!peer.graceful);
	finish_close();
	worker = -1;
	close_channel();
}

/* Descriptors. */

/* As if the process had no descriptor left: the next one to be opened would be too many. */
static struct rlimit use_up_descriptors(void)
{
	struct rlimit before, none;
	int next = dup(0);

	CHECK(next >= 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
	close(next);
	none = before;
	none.rlim_cur = (rlim_t)next;
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	return before;
}

static void test_no_descriptor_for_a_channel(void)
{
	struct smbd_config config = {0};
	struct rlimit before;

	CHECK(loop_create(&loop) == 0 && pool_table_create(0, &pools) == 0);
	CHECK(channel_create(loop, pools, &stub_qp, SMBD_SERVER, &config, &events, NULL, 1,
			     &channel) == 0);
	before = use_up_descriptors();
	worker = -1;
	peer.events->established(peer.owner, 1);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	CHECK(worker == -1 && peer.reason == CLOSE_LIMIT);
	finish_close();
	CHECK(ended == CLOSE_LIMIT && strstr(ended_words, "RLIMIT_NOFILE"));
	close_channel();
}

static void test_no_descriptor_for_a_pool(void)
{
	uint8_t type, body[512];
	int fd = make_pool(F_SEAL_SHRINK);
	struct rlimit before;

	open_channel();
	before = use_up_descriptors();
	worker_passes_pool(fd, POOL);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	CHECK(worker_reads(&type, body, sizeof(body)) > 16 && type == CHANNEL_POOL_READY);
	CHECK(get32(body) == 3 && memmem(body + 16, 200, "RLIMIT_NOFILE", 13));
	worker_passes_pool(fd, POOL);
	CHECK(worker_reads(&type, body, sizeof(body)) == 16 && get32(body) == 0);
	close(fd);
	close_channel();
}

int main(void)
{
	test_messages_both_ways();
	test_frames_may_come_byte_by_byte();
	test_a_large_message_in();
	test_a_large_message_out_with_answers_between();
	test_bad_message_lengths();
	test_pools_are_refused_with_words();
	test_a_pool_needs_its_descriptor();
	test_a_flood_of_descriptors();
	test_transfers();
	test_a_refused_transfer_is_done();
	test_ranges_outside_the_pool_end_the_channel();
	test_expose_and_revoke();
	test_bad_frames_end_the_channel();
	test_a_slow_peer_stops_the_worker();
	test_a_worker_that_never_reads_answers_stops_itself();
	test_transfers_under_way_are_bounded();
	test_the_worker_closes();
	test_the_worker_dies_in_a_frame();
	test_a_pool_outlives_its_worker();
	test_the_last_frame_is_closed();
	test_closed_before_established();
	test_no_descriptor_for_a_channel();
	test_no_descriptor_for_a_pool();
	return 0;
}
