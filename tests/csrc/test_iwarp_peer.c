/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
#include <errno.h>

#include "ddp.h"
#include "iwarp_pair.h"
#include "mpa.h"
#include "trace.h"

static const struct fabric_iwarp_config plain = {0};

/* A socket that is bound and does not listen keeps its port from everybody else. */
static int deaf_socket(struct pair *pair, int backlog)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(bind(fd, (struct sockaddr *)&address, length) == 0);
	CHECK(!backlog || listen(fd, backlog) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&pair->listener->address, &length) == 0);
	return fd;
}

static void test_nobody_listens(void)
{
	struct pair pair;
	int fd;

	pair_listen(&pair, &plain);
	fd = deaf_socket(&pair, 0);
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_PEER_LOST);
	close(fd);
	pair_destroy(&pair);
}

/* A peer made by hand: bytes over a plain socket. */

static int raw_connect(struct pair *pair)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (struct sockaddr *)&pair->listener->address,
		      pair->listener->address_length) == 0);
	return fd;
}

static void raw_send(int fd, const void *bytes, size_t length)
{
	CHECK(send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length);
}

/* Turns the loop until `wanted` bytes are there or the stream ends; how many came. */
static size_t raw_receive(struct pair *pair, int fd, uint8_t *bytes, size_t wanted)
{
	size_t have = 0;

	while (have < wanted) {
		ssize_t received = recv(fd, bytes + have, wanted - have, MSG_DONTWAIT);

		if (received == 0 || (received < 0 && errno == ECONNRESET))
			break;
		if (received > 0)
			have += (size_t)received;
		else
			CHECK(loop_turn(pair->loop, 10 * MILLISECOND) == 0);
	}
	return have;
}

static bool raw_ended(struct pair *pair, int fd)
{
	uint8_t byte;

	return raw_receive(pair, fd, &byte, 1) == 0;
}

static size_t raw_request(uint8_t bytes[MPA_FRAME_MAX], struct mpa_frame frame)
{
	frame.revision = frame.revision ? frame.revision : 2;
	frame.enhanced = frame.revision == 2;
	return (size_t)mpa_frame_build(&frame, bytes, MPA_FRAME_MAX);
}

static struct mpa_frame raw_set_up(struct pair *pair, int fd, struct mpa_frame request)
{
	static uint8_t bytes[MPA_FRAME_MAX];
	struct mpa_frame reply;
	const char *words;
	size_t length = raw_request(bytes, request);
	int size;

	raw_send(fd, bytes, length);
	CHECK(raw_receive(pair, fd, bytes, MPA_HEADER_SIZE) == MPA_HEADER_SIZE);
	size = mpa_frame_size(bytes, MPA_HEADER_SIZE, true);
	CHECK(size >= MPA_HEADER_SIZE);
	length = (size_t)size - MPA_HEADER_SIZE;
	CHECK(raw_receive(pair, fd, bytes + MPA_HEADER_SIZE, length) == length);
	CHECK(mpa_frame_parse(bytes, (size_t)size, &reply, &words) == 0 && reply.reply);
	return reply;
}

static uint32_t raw_fpdu(uint8_t *bytes, const struct ddp_segment *segment, uint32_t payload)
{
	uint32_t length = ddp_build(segment, bytes + 2);

	memset(bytes + 2 + length, 0x55, payload);
	length += payload;
	bytes[0] = (uint8_t)(length >> 8);
	bytes[1] = (uint8_t)length;
	mpa_trailer_build(bytes + 2 + length, length, false, 0);
	return mpa_fpdu_size(length);
}

/* What the Terminate says that comes back. */
static uint16_t raw_terminate(struct pair *pair, int fd)
{
	uint8_t bytes[256];
	size_t length = raw_receive(pair, fd, bytes, sizeof(bytes));
	struct rdmap_terminate terminate;
	struct ddp_segment segment;
	enum rdmap_error error;

	CHECK(length > 24 &&
	      ddp_parse(bytes + 2, (uint32_t)(bytes[0] << 8 | bytes[1]), &segment, &error) == 0);
	CHECK(segment.opcode == RDMAP_TERMINATE && segment.msn == 1);
	CHECK(rdmap_terminate_parse(bytes + 2 + DDP_UNTAGGED_SIZE, length - 24, &terminate) == 0);
	return terminate.error;
}

static void test_replies(void)
{
	struct pair pair;
	struct mpa_frame reply;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	reply = raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .ord = 2});
	CHECK(reply.enhanced && reply.revision == 2 && !reply.crc && !reply.rejected &&
	      reply.ord == 4 && reply.ird >= 1);
	CHECK(reply.private_data_length == 8);
	end_destroy(&pair.server);
	close(fd);

	fd = raw_connect(&pair);
	reply = raw_set_up(&pair, fd, (struct mpa_frame){.revision = 1, .crc = true});
	CHECK(!reply.enhanced && reply.revision == 1 && reply.crc);
	end_destroy(&pair.server);
	close(fd);

	fd = raw_connect(&pair);
	reply = raw_set_up(
		&pair, fd,
		(struct mpa_frame){.peer_to_peer = true, .ready = MPA_READY_ZERO_READ, .ird = 1});
	CHECK(reply.peer_to_peer && reply.ready == MPA_READY_ZERO_READ);
	end_destroy(&pair.server);
	close(fd);

	fd = raw_connect(&pair);
	reply = raw_set_up(&pair, fd, (struct mpa_frame){.markers = true});
	CHECK(reply.rejected && raw_ended(&pair, fd));
	close(fd);
	pair_destroy(&pair);
}

/* The responder says nothing before the initiator's first FPDU, even if it could. */
static void test_responder_waits(void)
{
	struct pair pair;
	struct ddp_segment segment = {.opcode = RDMAP_SEND, .last = true, .msn = 1};
	uint8_t bytes[256];
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4});
	CHECK(end_post(&pair.server, FABRIC_SEND, 1, 0, 20, 0, 0) == 0);
	for (int i = 0; i < 20; i++)
		CHECK(loop_turn(pair.loop, MILLISECOND) == 0);
	CHECK(recv(fd, bytes, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	raw_send(fd, bytes, raw_fpdu(bytes, &segment, 20));
	CHECK(raw_receive(&pair, fd, bytes, 44) == 44 && bytes[3] == 0x43);
	close(fd);
	pair_destroy(&pair);
}

static void test_bytes_that_come_too_early(void)
{
	struct pair pair;
	uint8_t bytes[MPA_FRAME_MAX + 64] = {0};
	uint64_t errors = trace_counter_value(TRACE_IWARP_MPA_ERRORS);
	size_t length;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	length = raw_request(bytes, (struct mpa_frame){.ird = 4});
	raw_send(fd, bytes, length + 44);
	CHECK(raw_ended(&pair, fd) && pair.requests == 0);
	CHECK(trace_counter_value(TRACE_IWARP_MPA_ERRORS) == errors + 1);
	close(fd);
	fd = raw_connect(&pair);
	raw_send(fd, "\0\0\0\x40\xFESMB", 8); /* SMB over TCP at the wrong door */
	CHECK(raw_ended(&pair, fd) && pair.requests == 0);
	close(fd);
	pair_destroy(&pair);
}

/* One broken FPDU behind a proper set-up: the Terminate that the RFCs name. */
static void broken_fpdu(struct ddp_segment segment, uint32_t payload, size_t at, uint8_t byte,
			enum rdmap_error error)
{
	struct pair pair;
	uint8_t bytes[512];
	uint32_t length;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .ord = 4});
	length = raw_fpdu(bytes, &segment, payload);
	if (at)
		bytes[at] = byte;
	raw_send(fd, bytes, length);
	CHECK(raw_terminate(&pair, fd) == error);
	TURN_UNTIL(&pair, pair.server.disconnected);
	CHECK(pair.server.reason == CLOSE_PROTOCOL_ERROR);
	close(fd);
	pair_destroy(&pair);
}

static void test_broken_fpdus(void)
{
	const struct ddp_segment send = {.opcode = RDMAP_SEND, .last = true, .msn = 1};
	const struct ddp_segment write = {.opcode = RDMAP_WRITE, .last = true, .stag = 0x10000};
	const struct ddp_segment response = {
		.opcode = RDMAP_READ_RESPONSE, .last = true, .stag = 0x101};
	struct ddp_segment other = send;

	broken_fpdu(send, 20, 1, 10, MPA_LENGTH_ERROR);
	broken_fpdu(send, 20, 3, 0x03, RDMAP_VERSION);
	broken_fpdu(send, 20, 3, 0x4F, RDMAP_UNEXPECTED_OPCODE);
	broken_fpdu(send, 20, 2, 0x42, DDP_UNTAGGED_VERSION);
	broken_fpdu(send, 20, 11, 7, DDP_UNTAGGED_QUEUE);
	broken_fpdu(write, 20, 0, 0, DDP_TAGGED_INVALID_STAG);
	broken_fpdu(response, 20, 0, 0, DDP_TAGGED_INVALID_STAG);
	other.msn = 2;
	broken_fpdu(other, 20, 0, 0, DDP_UNTAGGED_MSN);
	other.msn = 1;
	other.mo = 4;
	broken_fpdu(other, 20, 0, 0, DDP_UNTAGGED_MO);
	other = (struct ddp_segment){
		.opcode = RDMAP_READ_REQUEST, .last = true, .msn = 1, .read = {.size = 1}};
	broken_fpdu(other, 0, 0, 0, RDMAP_INVALID_STAG);
	other.msn = 3;
	broken_fpdu(other, 0, 0, 0, DDP_UNTAGGED_MSN);
}

/* More Read Requests than we said we serve. */
static void test_too_many_reads(void)
{
	struct pair pair;
	struct ddp_segment segment = {.opcode = RDMAP_READ_REQUEST, .last = true};
	uint8_t bytes[64 * 200];
	uint32_t length = 0;
	int fd;

	pair_listen(&pair, &plain);
	pair.limits.responder_depth = 2;
	fd = raw_connect(&pair);
	CHECK(raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .ord = 4}).ird == 2);
	for (segment.msn = 1; segment.msn <= 3; segment.msn++)
		length += raw_fpdu(bytes + length, &segment, 0);
	raw_send(fd, bytes, length);
	CHECK(raw_terminate(&pair, fd) == RDMAP_STREAM_CATASTROPHIC);
	close(fd);
	pair_destroy(&pair);
}

static void test_wrong_crc(void)
{
	struct pair pair;
	struct ddp_segment segment = {.opcode = RDMAP_SEND, .last = true, .msn = 1};
	uint8_t bytes[128];
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	CHECK(raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .crc = true}).crc);
	raw_send(fd, bytes, raw_fpdu(bytes, &segment, 20)); /* its CRC field is zero */
	CHECK(raw_terminate(&pair, fd) == MPA_CRC_ERROR);
	close(fd);
	pair_destroy(&pair);
}

/* A stream that is cut anywhere, one byte at a time, says the same. */
static void test_one_byte_at_a_time(void)
{
	struct pair pair;
	struct ddp_segment segment = {.opcode = RDMAP_SEND, .last = false, .msn = 1};
	uint8_t bytes[128];
	uint32_t length;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4});
	length = raw_fpdu(bytes, &segment, 17);
	segment.last = true;
	segment.mo = 17;
	length += raw_fpdu(bytes + length, &segment, 2);
	for (uint32_t i = 0; i < length; i++) {
		raw_send(fd, bytes + i, 1);
		CHECK(loop_turn(pair.loop, i == length - 1 ? SECOND : 0) == 0);
	}
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 1000));
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 1000)->bytes == 19 &&
	      pair.server.memory[18] == 0x55);
	raw_send(fd, bytes, 1);
	shutdown(fd, SHUT_WR);
	TURN_UNTIL(&pair, pair.server.disconnected);
	CHECK(pair.server.reason == CLOSE_PEER_LOST && strstr(pair.server.words, "in the middle"));
	close(fd);
	pair_destroy(&pair);
}

enum { FIRST = 12000, REST = 100000 };

/* Payload that says where in the whole it belongs. */
static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 7 + (at >> 8) * 3 + 1);
}

/* One tagged FPDU of the pattern at `at`. */
static uint32_t raw_tagged(uint8_t *bytes, struct ddp_segment segment, uint64_t base, uint32_t at,
			   uint32_t payload)
{
	uint32_t size;

	segment.to = base + at;
	size = raw_fpdu(bytes, &segment, payload);
	for (uint32_t i = 0; i < payload; i++)
		bytes[MPA_LENGTH_SIZE + DDP_TAGGED_SIZE + i] = pattern(at + i);
	return size;
}

/*
 * A message of FIRST + REST bytes whose second FPDU and later ones have `size` bytes of payload,
 * with a Send in the middle: all of it lies in the socket before anybody reads.
 */
static size_t raw_message(uint8_t *bytes, struct ddp_segment segment, uint64_t base, uint32_t size,
			  uint32_t msn)
{
	const struct ddp_segment send = {.opcode = RDMAP_SEND, .last = true, .msn = msn};
	size_t length = raw_tagged(bytes, segment, base, 0, FIRST);
	uint32_t take;

	for (uint32_t at = FIRST; at < FIRST + REST; at += take) {
		take = FIRST + REST - at < size ? FIRST + REST - at : size;
		if (at > REST / 2 && at - size <= REST / 2)
			length += raw_fpdu(bytes + length, &send, 24);
		segment.last = at + take == FIRST + REST;
		length += raw_tagged(bytes + length, segment, base, at, take);
	}
	return length;
}

static void check_pattern(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		CHECK(bytes[i] == pattern(i));
}

/*
 * The peer sends its Read Response in FPDUs of a size that nobody could foresee, and something in
 * between.
 */
static void unforeseen_read_response(uint32_t size)
{
	static uint8_t bytes[4 * (FIRST + REST)];
	struct ddp_segment segment = {.opcode = RDMAP_SEND, .last = true, .msn = 1};
	struct pair pair;
	enum rdmap_error error;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .ord = 4});
	end_receive(&pair.server, 1001, 0, RECEIVE_SIZE);
	CHECK(end_post(&pair.server, FABRIC_READ, 1, 65536, FIRST + REST, 7, 8) == 0);
	raw_send(fd, bytes, raw_fpdu(bytes, &segment, 20));
	CHECK(raw_receive(&pair, fd, bytes, 52) == 52);
	CHECK(ddp_parse(bytes + 2, DDP_READ_REQUEST_SIZE, &segment, &error) == 0 &&
	      segment.read.size == FIRST + REST);
	segment =
		(struct ddp_segment){.opcode = RDMAP_READ_RESPONSE, .stag = segment.read.sink_stag};
	raw_send(fd, bytes, raw_message(bytes, segment, 0, size, 2));
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, 1));
	CHECK(end_find(&pair.server, FABRIC_READ, 1)->status == FABRIC_OK);
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 1000) &&
	      end_find(&pair.server, FABRIC_RECEIVE, 1001));
	check_pattern(pair.server.memory + 65536, FIRST + REST);
	CHECK(pair.server.memory[65536 + FIRST + REST] == 0);
	close(fd);
	pair_destroy(&pair);
}

/* The same for Writes; what was written before, behind them in the window, stays. */
static void unforeseen_write(uint32_t size, size_t before)
{
	static uint8_t bytes[4 * (FIRST + REST)];
	struct ddp_segment segment = {.opcode = RDMAP_WRITE, .last = true};
	struct fabric_window *window;
	struct pair pair;
	size_t length = 0;
	int fd;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4, .ord = 4});
	end_receive(&pair.server, 1001, 0, RECEIVE_SIZE);
	end_receive(&pair.server, 1002, 0, RECEIVE_SIZE);
	CHECK(fabric_expose(pair.server.qp, pair.server.region, pair.server.memory + 65536, 1 << 20,
			    FABRIC_PEER_WRITES, 1, &window) == 0);
	segment.stag = window->token;
	if (before)
		length = raw_tagged(bytes, segment, window->offset, FIRST + REST, (uint32_t)before);
	segment.last = false;
	length += raw_message(bytes + length, segment, window->offset, size, 1);
	segment = (struct ddp_segment){.opcode = RDMAP_SEND, .last = true, .msn = 2};
	length += raw_fpdu(bytes + length, &segment, 100);
	raw_send(fd, bytes, length);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 1001));
	check_pattern(pair.server.memory + 65536, FIRST + REST + before);
	CHECK(pair.server.memory[65535] == 0 && pair.server.memory[65536 + (1 << 20)] == 0);
	close(fd);
	pair_destroy(&pair);
}

static void test_unforeseen_sizes(void)
{
	unforeseen_read_response(FIRST);
	unforeseen_read_response(FIRST / 2 + 3);
	unforeseen_read_response(FIRST + 1000);
	unforeseen_read_response(17);
	unforeseen_read_response(60000);
	unforeseen_write(FIRST, 0);
	unforeseen_write(FIRST, 5000);
	unforeseen_write(FIRST - 1, 0);
	unforeseen_write(2 * FIRST, 5000);
	unforeseen_write(60000, 0);
}

/*
 * A peer that has stopped reading: what was posted waits, and comes back when the owner has had
 * enough.
 */
static void test_stalled_peer(void)
{
	enum { SENDS = 200, LENGTH = 65536 };
	struct ddp_segment segment = {.opcode = RDMAP_SEND, .last = true, .msn = 1};
	struct pair pair;
	uint8_t bytes[128];
	int fd, flushed = 0;

	pair_listen(&pair, &plain);
	fd = raw_connect(&pair);
	raw_set_up(&pair, fd, (struct mpa_frame){.ird = 4});
	raw_send(fd, bytes, raw_fpdu(bytes, &segment, 20));
	for (uint64_t i = 0; i < SENDS; i++)
		CHECK(end_post(&pair.server, FABRIC_SEND, i, 0, LENGTH, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_SEND, 0));
	for (int quiet = 0; quiet < 10; quiet++) {
		size_t before = pair.server.count;

		CHECK(loop_turn(pair.loop, MILLISECOND) == 0);
		quiet = pair.server.count == before ? quiet : 0;
	}
	CHECK(!end_find(&pair.server, FABRIC_SEND, SENDS - 1) && !pair.server.disconnected);
	fabric_disconnect(pair.server.qp);
	TURN_UNTIL(&pair, pair.server.disconnected);
	for (uint64_t i = 0; i < SENDS; i++)
		flushed += end_find(&pair.server, FABRIC_SEND, i)->status == FABRIC_FLUSHED;
	CHECK(flushed > 0 && flushed < SENDS);
	close(fd);
	pair_destroy(&pair);
}

static void test_half_open_limit(void)
{
	enum { PEERS = 100, LIMIT = 4 };
	const struct fabric_iwarp_config config = {.max_half_open = LIMIT};
	struct pair pair;
	uint64_t refusals = trace_counter_value(TRACE_IWARP_HALF_OPEN_REFUSALS);
	int fds[PEERS];

	pair_listen(&pair, &config);
	for (int i = 0; i < PEERS; i++) {
		fds[i] = raw_connect(&pair);
		if (i % 50 == 49)
			TURN_UNTIL(&pair, trace_counter_value(TRACE_IWARP_HALF_OPEN_REFUSALS) ==
						  refusals + (uint64_t)i + 1 - LIMIT);
	}
	CHECK(raw_ended(&pair, fds[0]));
	/* One that speaks is served all the same, and the newest silent ones are still there. */
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.established && pair.server.established);
	end_destroy(&pair.server);
	raw_set_up(&pair, fds[PEERS - 1], (struct mpa_frame){.revision = 1});
	for (int i = 0; i < PEERS; i++)
		close(fds[i]);
	pair_destroy(&pair);
}

static void test_mpa_timeout(void)
{
	const struct fabric_iwarp_config config = {.mpa_timeout = 20 * MILLISECOND};
	struct pair pair;
	uint64_t timeouts = trace_counter_value(TRACE_IWARP_MPA_TIMEOUTS);
	int fd, silent;

	/* A peer that says half a request, and one that never answers ours. */
	pair_listen(&pair, &config);
	fd = raw_connect(&pair);
	raw_send(fd, "MPA ID", 6);
	CHECK(raw_ended(&pair, fd));
	CHECK(trace_counter_value(TRACE_IWARP_MPA_TIMEOUTS) == timeouts + 1);
	close(fd);
	silent = deaf_socket(&pair, 1);
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_TIMEOUT);
	close(silent);
	pair_destroy(&pair);
}

int main(void)
{
	test_nobody_listens();
	test_replies();
	test_responder_waits();
	test_bytes_that_come_too_early();
	test_broken_fpdus();
	test_too_many_reads();
	test_wrong_crc();
	test_one_byte_at_a_time();
	test_unforeseen_sizes();
	test_stalled_peer();
	test_half_open_limit();
	test_mpa_timeout();
	return 0;
}
