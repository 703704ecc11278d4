/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
#include <errno.h>

#include "ddp.h"
#include "iwarp_pair.h"
#include "mpa.h"
#include "trace.h"

static const struct fabric_iwarp_config plain = {0};
static const struct fabric_iwarp_config with_crc = {.crc = true};
static const struct fabric_iwarp_config small_fpdus = {.crc = true, .max_ulpdu = 1460};

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16) + seed);
}

static void test_set_up(void)
{
	struct pair pair;

	pair_listen(&pair, &plain);
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.established && pair.server.established);
	CHECK(pair.server.qp->private_data_length == 8);
	CHECK(memcmp(pair.server.qp->private_data, "request!", 8) == 0);
	CHECK(memcmp(pair.client.qp->private_data, "replied!", 8) == 0);
	CHECK(pair.client.qp->limits.initiator_depth == 16 && pair.server.qp->limits.responder_depth == 16);
	CHECK(pair.client.qp->device->transport == FABRIC_TRANSPORT_IWARP);
	pair_destroy(&pair);
}

static void test_send(void)
{
	struct pair pair;
	const struct fabric_completion *completion;

	pair_create(&pair, &plain);
	end_receive(&pair.server, 7, 4096, RECEIVE_SIZE);
	fill(pair.client.memory, 5000, 1);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	CHECK(pair.client.count == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 7) && end_find(&pair.client, FABRIC_SEND, 3));
	completion = end_find(&pair.server, FABRIC_RECEIVE, 7);
	CHECK(completion->bytes == 5000 && completion->status == FABRIC_OK && !completion->invalidated);
	CHECK(memcmp(pair.server.memory + 4096, pair.client.memory, 5000) == 0);
	pair_destroy(&pair);
}

/* The server writes 1 MiB into the client's window, then invalidates it with the Send that follows. */
static void write_then_invalidate(const struct fabric_iwarp_config *config)
{
	struct pair pair;
	struct fabric_window *window;
	const struct fabric_completion *completion;
	uint32_t token;

	pair_create(&pair, config);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 10007, 1 << 20,
			    FABRIC_PEER_WRITES, 5, &window) == 0);
	token = window->token;
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_EXPOSE, 5));
	fill(pair.server.memory, 1 << 20, 3);
	CHECK(end_post(&pair.server, FABRIC_WRITE, 10, 0, 1 << 20, token, window->offset) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 11, 1 << 20, 104, token, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000));
	completion = end_find(&pair.client, FABRIC_RECEIVE, 2000);
	CHECK(completion->invalidated && completion->invalidated_token == token && completion->bytes == 104);
	CHECK(memcmp(pair.client.memory + 10007, pair.server.memory, 1 << 20) == 0);
	CHECK(pair.client.memory[10006] == 0 && pair.client.memory[10007 + (1 << 20)] == 0);
	CHECK(end_find(&pair.server, FABRIC_WRITE, 10) && end_find(&pair.server, FABRIC_SEND_INVALIDATE, 11));
	CHECK(fabric_revoke(window, 6) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 6));
	pair_destroy(&pair);
}


/* Several Reads under way, of odd lengths, then a Send posted behind them. */
static void read_many(const struct fabric_iwarp_config *config)
{
	enum { READS = 16, LENGTH = 150001 };
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, config);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, READS * LENGTH, FABRIC_PEER_READS, 5,
			    &window) == 0);
	fill(pair.client.memory, READS * LENGTH, 9);
	for (uint64_t i = 0; i < READS; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, i * LENGTH, LENGTH, window->token,
			       window->offset + i * LENGTH) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, READS, 0, 1, window->token, window->offset) == -ENOSPC);
	CHECK(end_post(&pair.server, FABRIC_SEND, 99, 0, 10, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, READS - 1) && end_find(&pair.client, FABRIC_RECEIVE, 2000));
	for (uint64_t i = 0; i < READS; i++)
		CHECK(end_find(&pair.server, FABRIC_READ, i)->bytes == LENGTH);
	CHECK(memcmp(pair.server.memory, pair.client.memory, READS * LENGTH) == 0);
	CHECK(pair.server.memory[READS * LENGTH] == 0);
	pair_destroy(&pair);
}

static void test_zero_lengths(void)
{
	struct pair pair;

	pair_create(&pair, &plain);
	end_receive(&pair.client, 1, 100, 0);
	CHECK(end_post(&pair.server, FABRIC_WRITE, 1, 0, 0, 0x12345678, 1) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, 2, 0, 0, 0x12345678, 1) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND, 3, 0, 0, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 1) && end_find(&pair.server, FABRIC_READ, 2));
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 1)->bytes == 0);
	pair_destroy(&pair);
}

/* A list of requests is one call; an unsignalled one completes in silence; SGEs are gathered. */
static void test_lists_and_gathering(void)
{
	struct pair pair;
	struct fabric_window *window;
	struct fabric_sge sges[3];
	struct fabric_work works[2] = {
		{.id = 1, .opcode = FABRIC_WRITE, .sge_count = 3, .sges = sges, .next = &works[1]},
		{.id = 2, .opcode = FABRIC_SEND, .signalled = true, .sge_count = 2, .sges = sges},
	};

	pair_create(&pair, &small_fpdus);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 65536, 10000, FABRIC_PEER_WRITES, 5,
			    &window) == 0);
	fill(pair.server.memory, 20000, 2);
	sges[0] = end_sge(&pair.server, 0, 1);
	sges[1] = end_sge(&pair.server, 5000, 3333);
	sges[2] = end_sge(&pair.server, 1, 4999);
	works[0].remote_token = window->token;
	works[0].remote_offset = window->offset;
	CHECK(fabric_post(pair.server.qp, works) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000) && end_find(&pair.server, FABRIC_SEND, 2));
	CHECK(!end_find(&pair.server, FABRIC_WRITE, 1));
	CHECK(pair.client.memory[65536] == pair.server.memory[0]);
	CHECK(memcmp(pair.client.memory + 65537, pair.server.memory + 5000, 3333) == 0);
	CHECK(memcmp(pair.client.memory + 65537 + 3333, pair.server.memory + 1, 4999) == 0);
	CHECK(memcmp(pair.client.memory + 1, pair.server.memory + 5000, 3333) == 0);
	pair_destroy(&pair);
}

static void test_refused_posts(void)
{
	struct pair pair;
	struct fabric_sge sges[9];
	struct fabric_work work = {.opcode = FABRIC_SEND, .sge_count = 9, .sges = sges};
	struct fabric_window *window;
	uint8_t elsewhere[8];

	pair_create(&pair, &plain);
	for (int i = 0; i < 9; i++)
		sges[i] = end_sge(&pair.server, 0, 1);
	CHECK(fabric_post(pair.server.qp, &work) == -ENOSPC);
	work.sge_count = 1;
	sges[0].address = elsewhere;
	CHECK(fabric_post(pair.server.qp, &work) == -EINVAL);
	CHECK(fabric_post_receive(pair.server.qp, 1, sges) == -EINVAL);
	sges[0] = end_sge(&pair.server, END_MEMORY - 1, 2);
	CHECK(fabric_post(pair.server.qp, &work) == -EINVAL);
	CHECK(fabric_expose(pair.server.qp, pair.server.region, pair.server.memory, END_MEMORY + 1, FABRIC_PEER_READS, 1,
			    &window) == -EINVAL);
	CHECK(fabric_expose(pair.server.qp, pair.server.region, pair.server.memory, 1, 0, 1, &window) == -EINVAL);
	for (int i = 0; i < 256; i++)
		CHECK(end_post(&pair.server, FABRIC_SEND, 0, 0, 1, 0, 0) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND, 0, 0, 1, 0, 0) == -ENOSPC);
	pair_destroy(&pair);
}

/* The peer is refused by us; both ends learn why, and what was outstanding comes back. */
static void refused_access(enum fabric_opcode opcode, unsigned access, uint32_t token_error, uint64_t offset_error,
			   enum rdmap_error error)
{
	struct pair pair;
	struct fabric_window *window;
	char code[8];

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 4096, 4096, access, 5, &window) == 0);
	CHECK(end_post(&pair.server, opcode, 1, 0, 4096, window->token ^ token_error, window->offset + offset_error) ==
	      0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_PROTOCOL_ERROR && pair.server.reason == CLOSE_REMOTE_ACCESS);
	snprintf(code, sizeof(code), "0x%04x", error);
	CHECK(strstr(pair.server.words, code) && strstr(pair.client.words, code));
	if (opcode == FABRIC_READ)
		CHECK(end_find(&pair.server, FABRIC_READ, 1)->status == FABRIC_REMOTE_ACCESS);
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->status == FABRIC_FLUSHED);
	for (size_t i = 0; i < 3 * 4096; i++)
		CHECK(pair.client.memory[i] == 0);
	pair_destroy(&pair);
}

static void test_refused_access(void)
{
	const uint64_t before = 0 - (uint64_t)1;

	refused_access(FABRIC_WRITE, FABRIC_PEER_WRITES, 0x01, 0, DDP_TAGGED_INVALID_STAG);
	refused_access(FABRIC_WRITE, FABRIC_PEER_WRITES, 0x100000, 0, DDP_TAGGED_INVALID_STAG);
	refused_access(FABRIC_WRITE, FABRIC_PEER_WRITES, 0, 1, DDP_TAGGED_BOUNDS);
	refused_access(FABRIC_WRITE, FABRIC_PEER_WRITES, 0, before, DDP_TAGGED_BOUNDS);
	refused_access(FABRIC_WRITE, FABRIC_PEER_READS, 0, 0, RDMAP_ACCESS);
	refused_access(FABRIC_READ, FABRIC_PEER_READS, 0x80, 0, RDMAP_INVALID_STAG);
	refused_access(FABRIC_READ, FABRIC_PEER_READS, 0, 1, RDMAP_BOUNDS);
	refused_access(FABRIC_READ, FABRIC_PEER_WRITES, 0, 0, RDMAP_ACCESS);
}

/* A token that the peer has invalidated, or that we have taken back, opens nothing. */
static void test_spent_tokens(void)
{
	struct pair pair;
	struct fabric_window *window;
	uint32_t token;

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, 64, FABRIC_PEER_READS, 5, &window) == 0);
	token = window->token;
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 1, 0, 4, token, 0) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, 2, 0, 4, token, window->offset) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->invalidated);
	CHECK(end_find(&pair.server, FABRIC_READ, 2)->status == FABRIC_REMOTE_ACCESS);
	pair_destroy(&pair);

	pair_create(&pair, &plain);
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 1, 0, 4, 0x12300, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(strstr(pair.client.words, "cannot be invalidated") && pair.server.reason == CLOSE_REMOTE_ACCESS);
	pair_destroy(&pair);
}

/* Keys change: a slot that is used again has another token, nearly always. */
static void test_tokens_differ(void)
{
	struct pair pair;
	uint32_t tokens[64];
	int equal = 0;

	pair_create(&pair, &plain);
	for (uint64_t i = 0; i < 64; i++) {
		struct fabric_window *window;

		CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, 64, FABRIC_PEER_READS, i,
				    &window) == 0);
		tokens[i] = window->token;
		CHECK(fabric_revoke(window, i) == 0);
		for (uint64_t j = 0; j < i; j++)
			equal += tokens[i] == tokens[j];
	}
	CHECK(equal < 8);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 63));
	CHECK(pair.client.largest_batch == FABRIC_COMPLETION_BATCH);
	pair_destroy(&pair);
}

/* A window that is taken back while the peer reads it: nothing more leaves it, and the connection ends. */
static void test_revoke_under_way(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY, FABRIC_PEER_READS, 5,
			    &window) == 0);
	fill(pair.client.memory, END_MEMORY, 1);
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, 0, END_MEMORY, window->token, window->offset) == 0);
	TURN_UNTIL(&pair, pair.server.memory[0]);
	CHECK(fabric_revoke(window, 6) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(end_find(&pair.client, FABRIC_REVOKE, 6) && strstr(pair.client.words, "revoked"));
	CHECK(end_find(&pair.server, FABRIC_READ, 15)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
}

/* The same for a Write that has begun. */
static void test_revoke_under_a_write(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY, FABRIC_PEER_WRITES, 5,
			    &window) == 0);
	fill(pair.server.memory, END_MEMORY, 1);
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_post(&pair.server, FABRIC_WRITE, i, 0, END_MEMORY, window->token, window->offset) == 0);
	TURN_UNTIL(&pair, pair.client.memory[0]);
	CHECK(fabric_revoke(window, 6) == 0);
	memset(pair.client.memory, 0, END_MEMORY);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(end_find(&pair.client, FABRIC_REVOKE, 6));
	for (size_t i = 0; i < END_MEMORY; i++)
		CHECK(pair.client.memory[i] == 0);
	pair_destroy(&pair);
}

static void test_disconnect_flushes(void)
{
	struct pair pair;

	pair_create(&pair, &plain);
	for (uint64_t i = 0; i < 200; i++)
		end_receive(&pair.client, i, 0, 100);
	CHECK(end_post(&pair.client, FABRIC_SEND, 500, 0, 20, 0, 0) == 0);
	fabric_disconnect(pair.client.qp);
	CHECK(!pair.client.disconnected && !pair.client.count);
	CHECK(end_post(&pair.client, FABRIC_SEND, 501, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_NONE && pair.server.reason == CLOSE_BY_PEER);
	CHECK(end_find(&pair.client, FABRIC_SEND, 500)->status == FABRIC_FLUSHED);
	CHECK(end_find(&pair.client, FABRIC_SEND, 501)->status == FABRIC_FLUSHED);
	CHECK(pair.client.count == 203);
	CHECK(end_post(&pair.client, FABRIC_SEND, 502, 0, 20, 0, 0) == -ENOTCONN);
	pair_destroy(&pair);
}

static void test_destroy_inside_a_callback(void)
{
	struct pair pair;

	pair_create(&pair, &plain);
	pair.server.destroy_on_completion = true;
	end_receive(&pair.server, 1, 0, 100);
	end_receive(&pair.server, 2, 0, 100);
	CHECK(end_post(&pair.client, FABRIC_SEND, 1, 0, 20, 0, 0) == 0);
	CHECK(end_post(&pair.client, FABRIC_SEND, 2, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.server.count > 0 && !pair.server.disconnected && !pair.server.qp);
	pair_destroy(&pair);
}

static void test_no_receive_posted(void)
{
	struct pair pair;

	pair_create(&pair, &plain);
	CHECK(end_post(&pair.client, FABRIC_SEND, 1, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(strstr(pair.client.words, "no receive posted") && pair.client.reason == CLOSE_PROTOCOL_ERROR);
	pair_destroy(&pair);
}

static void test_send_too_long(void)
{
	struct pair pair;

	pair_create(&pair, &small_fpdus);
	CHECK(end_post(&pair.server, FABRIC_SEND, 1, 0, RECEIVE_SIZE + 1, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(strstr(pair.server.words, "longer than the posted receive"));
	pair_destroy(&pair);
}

/* More than the sockets hold, with nobody reading for a while: what was posted stays in order and whole. */
static void test_full_socket(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, &with_crc);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY, FABRIC_PEER_WRITES, 5,
			    &window) == 0);
	fill(pair.server.memory, END_MEMORY, 5);
	for (uint64_t i = 0; i < 10; i++)
		CHECK(end_post(&pair.server, FABRIC_WRITE, i, 0, END_MEMORY, window->token, window->offset) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 11, 0, 100, window->token, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000));
	CHECK(pair.client.memory[END_MEMORY - 1] == pair.server.memory[END_MEMORY - 1]);
	CHECK(memcmp(pair.client.memory + RECEIVE_SIZE, pair.server.memory + RECEIVE_SIZE, END_MEMORY - RECEIVE_SIZE) == 0);
	pair_destroy(&pair);
}

static void test_rejected(void)
{
	struct pair pair;

	pair_listen(&pair, &plain);
	pair.refuse = true;
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_NEGOTIATION && !pair.client.established && strstr(pair.client.words, "rejected"));
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
}

/* A socket that is bound and does not listen keeps its port from everybody else. */
static int deaf_socket(struct pair *pair, int backlog)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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

	CHECK(connect(fd, (struct sockaddr *)&pair->listener->address, pair->listener->address_length) == 0);
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

	CHECK(length > 24 && ddp_parse(bytes + 2, (uint32_t)(bytes[0] << 8 | bytes[1]), &segment, &error) == 0);
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
	CHECK(reply.enhanced && reply.revision == 2 && !reply.crc && !reply.rejected && reply.ord == 4 && reply.ird >= 1);
	CHECK(reply.private_data_length == 8);
	end_destroy(&pair.server);
	close(fd);

	fd = raw_connect(&pair);
	reply = raw_set_up(&pair, fd, (struct mpa_frame){.revision = 1, .crc = true});
	CHECK(!reply.enhanced && reply.revision == 1 && reply.crc);
	end_destroy(&pair.server);
	close(fd);

	fd = raw_connect(&pair);
	reply = raw_set_up(&pair, fd, (struct mpa_frame){.peer_to_peer = true, .ready = MPA_READY_ZERO_READ, .ird = 1});
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
static void broken_fpdu(struct ddp_segment segment, uint32_t payload, size_t at, uint8_t byte, enum rdmap_error error)
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
	const struct ddp_segment response = {.opcode = RDMAP_READ_RESPONSE, .last = true, .stag = 0x101};
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
	other = (struct ddp_segment){.opcode = RDMAP_READ_REQUEST, .last = true, .msn = 1, .read = {.size = 1}};
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
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 1000)->bytes == 19 && pair.server.memory[18] == 0x55);
	raw_send(fd, bytes, 1);
	shutdown(fd, SHUT_WR);
	TURN_UNTIL(&pair, pair.server.disconnected);
	CHECK(pair.server.reason == CLOSE_PEER_LOST && strstr(pair.server.words, "in the middle"));
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

static void test_ipv6(void)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct pair pair;
	struct fabric_listener *listener;

	pair_listen(&pair, &plain);
	if (fabric_listen(pair.fabric, (struct sockaddr *)&address, sizeof(address), on_request, &pair, &listener) == 0) {
		fabric_unlisten(pair.listener);
		pair.listener = listener;
		pair_connect(&pair);
		TURN_UNTIL(&pair, pair.client.established && pair.server.established);
		CHECK(pair.server.qp->remote.ss_family == AF_INET6);
	}
	pair_destroy(&pair);
}

int main(void)
{
	test_set_up();
	test_send();
	write_then_invalidate(&plain);
	write_then_invalidate(&with_crc);
	write_then_invalidate(&small_fpdus);
	read_many(&plain);
	read_many(&with_crc);
	read_many(&small_fpdus);
	test_zero_lengths();
	test_lists_and_gathering();
	test_refused_posts();
	test_refused_access();
	test_spent_tokens();
	test_tokens_differ();
	test_revoke_under_way();
	test_revoke_under_a_write();
	test_disconnect_flushes();
	test_destroy_inside_a_callback();
	test_no_receive_posted();
	test_send_too_long();
	test_full_socket();
	test_rejected();
	test_nobody_listens();
	test_replies();
	test_responder_waits();
	test_bytes_that_come_too_early();
	test_broken_fpdus();
	test_too_many_reads();
	test_wrong_crc();
	test_one_byte_at_a_time();
	test_half_open_limit();
	test_mpa_timeout();
	test_ipv6();
	return 0;
}
