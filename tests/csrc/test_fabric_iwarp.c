/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
#include <errno.h>

#include "ddp.h"
#include "iwarp_pair.h"

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
	CHECK(pair.client.qp->limits.initiator_depth == 16 &&
	      pair.server.qp->limits.responder_depth == 16);
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
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 7) &&
				  end_find(&pair.client, FABRIC_SEND, 3));
	completion = end_find(&pair.server, FABRIC_RECEIVE, 7);
	CHECK(completion->bytes == 5000 && completion->status == FABRIC_OK &&
	      !completion->invalidated);
	CHECK(memcmp(pair.server.memory + 4096, pair.client.memory, 5000) == 0);
	pair_destroy(&pair);
}

/*
 * The server writes 1 MiB into the client's window, then invalidates it with the Send that follows.
 */
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
	CHECK(completion->invalidated && completion->invalidated_token == token &&
	      completion->bytes == 104);
	CHECK(memcmp(pair.client.memory + 10007, pair.server.memory, 1 << 20) == 0);
	CHECK(pair.client.memory[10006] == 0 && pair.client.memory[10007 + (1 << 20)] == 0);
	CHECK(end_find(&pair.server, FABRIC_WRITE, 10) &&
	      end_find(&pair.server, FABRIC_SEND_INVALIDATE, 11));
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
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, READS * LENGTH,
			    FABRIC_PEER_READS, 5, &window) == 0);
	fill(pair.client.memory, READS * LENGTH, 9);
	for (uint64_t i = 0; i < READS; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, i * LENGTH, LENGTH, window->token,
			       window->offset + i * LENGTH) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, READS, 0, 1, window->token, window->offset) ==
	      -ENOSPC);
	CHECK(end_post(&pair.server, FABRIC_SEND, 99, 0, 10, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, READS - 1) &&
				  end_find(&pair.client, FABRIC_RECEIVE, 2000));
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
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 1) &&
				  end_find(&pair.server, FABRIC_READ, 2));
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
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 65536, 10000,
			    FABRIC_PEER_WRITES, 5, &window) == 0);
	fill(pair.server.memory, 20000, 2);
	sges[0] = end_sge(&pair.server, 0, 1);
	sges[1] = end_sge(&pair.server, 5000, 3333);
	sges[2] = end_sge(&pair.server, 1, 4999);
	works[0].remote_token = window->token;
	works[0].remote_offset = window->offset;
	CHECK(fabric_post(pair.server.qp, works) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000) &&
				  end_find(&pair.server, FABRIC_SEND, 2));
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
	CHECK(fabric_expose(pair.server.qp, pair.server.region, pair.server.memory, END_MEMORY + 1,
			    FABRIC_PEER_READS, 1, &window) == -EINVAL);
	CHECK(fabric_expose(pair.server.qp, pair.server.region, pair.server.memory, 1, 0, 1,
			    &window) == -EINVAL);
	for (int i = 0; i < 256; i++)
		CHECK(end_post(&pair.server, FABRIC_SEND, 0, 0, 1, 0, 0) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND, 0, 0, 1, 0, 0) == -ENOSPC);
	pair_destroy(&pair);
}

/* The peer is refused by us; both ends learn why, and what was outstanding comes back. */
static void refused_access(enum fabric_opcode opcode, unsigned access, uint32_t token_error,
			   uint64_t offset_error, enum rdmap_error error)
{
	struct pair pair;
	struct fabric_window *window;
	char code[8];

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 4096, 4096,
			    access, 5, &window) == 0);
	CHECK(end_post(&pair.server, opcode, 1, 0, 4096, window->token ^ token_error,
		       window->offset + offset_error) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_PROTOCOL_ERROR &&
	      pair.server.reason == CLOSE_REMOTE_ACCESS);
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
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, 64,
			    FABRIC_PEER_READS, 5, &window) == 0);
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
	CHECK(strstr(pair.client.words, "cannot be invalidated") &&
	      pair.server.reason == CLOSE_REMOTE_ACCESS);
	pair_destroy(&pair);
}

/*
 * Who reads a window and invalidates it without waiting for the response is refused: the owner
 * would hear that the range is its own while what it writes there still left for the peer. The
 * response is longer than the sockets hold, so it is under way when the Send comes.
 */
static void test_invalidated_while_read(void)
{
	struct pair pair;
	struct fabric_window *window;
	uint32_t token;

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY,
			    FABRIC_PEER_READS, 5, &window) == 0);
	token = window->token;
	for (uint64_t i = 0; i < 4; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, 0, END_MEMORY, token,
			       window->offset) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 9, 0, 4, token, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_PROTOCOL_ERROR &&
	      strstr(pair.client.words, "cannot be invalidated"));
	CHECK(pair.server.reason == CLOSE_REMOTE_ACCESS);
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->status == FABRIC_FLUSHED);
	CHECK(end_find(&pair.server, FABRIC_READ, 3)->status != FABRIC_OK);
	pair_destroy(&pair);

	/* Who waits is served. */
	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY,
			    FABRIC_PEER_READS, 5, &window) == 0);
	token = window->token;
	CHECK(end_post(&pair.server, FABRIC_READ, 1, 0, END_MEMORY, token, window->offset) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, 1));
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 2, 0, 4, token, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000));
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->invalidated_token == token);
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

		CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, 64,
				    FABRIC_PEER_READS, i, &window) == 0);
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

/*
 * A window that is taken back while the peer reads it: nothing more leaves it, and the connection
 * ends.
 */
static void test_revoke_under_way(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, &plain);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY,
			    FABRIC_PEER_READS, 5, &window) == 0);
	fill(pair.client.memory, END_MEMORY, 1);
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, 0, END_MEMORY, window->token,
			       window->offset) == 0);
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
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY,
			    FABRIC_PEER_WRITES, 5, &window) == 0);
	fill(pair.server.memory, END_MEMORY, 1);
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_post(&pair.server, FABRIC_WRITE, i, 0, END_MEMORY, window->token,
			       window->offset) == 0);
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
	CHECK(strstr(pair.client.words, "no receive posted") &&
	      pair.client.reason == CLOSE_PROTOCOL_ERROR);
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

/*
 * More than the sockets hold, with nobody reading for a while: what was posted stays in order and
 * whole.
 */
static void test_full_socket(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair, &with_crc);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, END_MEMORY,
			    FABRIC_PEER_WRITES, 5, &window) == 0);
	fill(pair.server.memory, END_MEMORY, 5);
	for (uint64_t i = 0; i < 10; i++)
		CHECK(end_post(&pair.server, FABRIC_WRITE, i, 0, END_MEMORY, window->token,
			       window->offset) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND_INVALIDATE, 11, 0, 100, window->token, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000));
	CHECK(pair.client.memory[END_MEMORY - 1] == pair.server.memory[END_MEMORY - 1]);
	CHECK(memcmp(pair.client.memory + RECEIVE_SIZE, pair.server.memory + RECEIVE_SIZE,
		     END_MEMORY - RECEIVE_SIZE) == 0);
	pair_destroy(&pair);
}

static void test_rejected(void)
{
	struct pair pair;

	pair_listen(&pair, &plain);
	pair.refuse = true;
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_NEGOTIATION && !pair.client.established &&
	      strstr(pair.client.words, "rejected"));
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
}

static void test_ipv6(void)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct pair pair;
	struct fabric_listener *listener;

	pair_listen(&pair, &plain);
	if (fabric_listen(pair.fabric, (struct sockaddr *)&address, sizeof(address), on_request,
			  &pair, &listener) == 0) {
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
	test_invalidated_while_read();
	test_tokens_differ();
	test_revoke_under_way();
	test_revoke_under_a_write();
	test_disconnect_flushes();
	test_destroy_inside_a_callback();
	test_no_receive_posted();
	test_send_too_long();
	test_full_socket();
	test_rejected();
	test_ipv6();
	return 0;
}
