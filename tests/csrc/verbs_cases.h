/*
 * What a verbs fabric must do between two queue pairs, whatever carries it: an adapter (tests/rdma) or the one that
 * test_fabric_verbs.c plays. `pair_open` gives a pair whose fabric is there and listens.
 */
#ifndef VERBS_CASES_H
#define VERBS_CASES_H

#include <errno.h>

#include "fabric_pair.h"

static void pair_open(struct pair *pair);

static void pair_create(struct pair *pair)
{
	pair_open(pair);
	pair_begin(pair);
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16) + seed);
}

static void case_set_up(void)
{
	struct pair pair;

	pair_open(&pair);
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.established && pair.server.established);
	CHECK(pair.client.qp->limits.initiator_depth == 16);
	CHECK(pair.server.qp->limits.responder_depth == 16);
	CHECK(pair.client.qp->device == pair.server.qp->device);
	CHECK(pair.client.qp->remote.ss_family == AF_INET);
	CHECK(pair.server.qp->remote.ss_family == AF_INET);
	pair_destroy(&pair);
}

static void case_refused(void)
{
	struct pair pair;

	pair_open(&pair);
	pair.refuse = true;
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.requests == 1 && pair.client.reason == CLOSE_NEGOTIATION);
	CHECK(end_find(&pair.client, FABRIC_RECEIVE, 2000)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
}

static void case_nobody_listens(void)
{
	struct pair pair;
	struct fabric_listener address;

	pair_open(&pair);
	address = *pair.listener;
	fabric_unlisten(pair.listener);
	pair.listener = &address;
	pair_connect(&pair);
	pair.listener = NULL;
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_PEER_LOST && !pair.client.established);
	pair_destroy(&pair);
}

static void case_send(void)
{
	struct pair pair;
	const struct fabric_completion *completion;

	pair_create(&pair);
	end_receive(&pair.server, 7, 4096, RECEIVE_SIZE);
	end_receive(&pair.server, 8, 4096 + RECEIVE_SIZE, RECEIVE_SIZE);
	fill(pair.client.memory, 5000, 1);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	CHECK(end_post(&pair.client, FABRIC_SEND, 4, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 8) &&
				  end_find(&pair.client, FABRIC_SEND, 4));
	completion = end_find(&pair.server, FABRIC_RECEIVE, 7);
	CHECK(completion && completion->bytes == 5000 && completion->status == FABRIC_OK &&
	      !completion->invalidated);
	CHECK(memcmp(pair.server.memory + 4096, pair.client.memory, 5000) == 0);
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 8)->bytes == 20);
	pair_destroy(&pair);
}

/* The client's window of `length` bytes at `offset`, exposed. */
static struct fabric_window *exposed(struct pair *pair, size_t offset, size_t length,
				     unsigned access, uint64_t id)
{
	struct fabric_window *window;

	CHECK(fabric_expose(pair->client.qp, pair->client.region, pair->client.memory + offset,
			    length, access, id, &window) == 0);
	TURN_UNTIL(pair, end_find(&pair->client, FABRIC_EXPOSE, id));
	CHECK(end_find(&pair->client, FABRIC_EXPOSE, id)->status == FABRIC_OK);
	return window;
}

/* A Write in pieces and the Send behind them in one chain; one completion vouches for all. */
static void case_write_then_send(void)
{
	enum { PIECES = 16, PIECE = 64 << 10 };
	struct fabric_work works[PIECES + 1] = {0};
	struct fabric_sge sges[PIECES + 1];
	struct fabric_window *window;
	struct pair pair;

	pair_create(&pair);
	window = exposed(&pair, 10007, PIECES * PIECE, FABRIC_PEER_WRITES, 5);
	end_receive(&pair.client, 6, 3 << 20, RECEIVE_SIZE);
	fill(pair.server.memory, PIECES * PIECE, 3);
	for (uint64_t i = 0; i <= PIECES; i++) {
		sges[i] = end_sge(&pair.server, i * PIECE, i < PIECES ? PIECE : 104);
		works[i] = (struct fabric_work){
			.id = 100 + i,
			.opcode = i < PIECES ? FABRIC_WRITE : FABRIC_SEND,
			.signalled = i == PIECES,
			.sge_count = 1,
			.sges = &sges[i],
			.remote_token = window->token,
			.remote_offset = window->offset + i * PIECE,
			.next = i < PIECES ? &works[i + 1] : NULL,
		};
	}
	CHECK(fabric_post(pair.server.qp, works) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_SEND, 100 + PIECES));
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 6) ||
				  end_find(&pair.client, FABRIC_RECEIVE, 2000));
	CHECK(pair.server.count == 1);
	CHECK(memcmp(pair.client.memory + 10007, pair.server.memory, PIECES * PIECE) == 0);
	CHECK(pair.client.memory[10006] == 0 && pair.client.memory[10007 + PIECES * PIECE] == 0);
	CHECK(fabric_revoke(window, 8) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 8));
	pair_destroy(&pair);
}

static void case_read(void)
{
	struct pair pair;
	struct fabric_window *window;

	pair_create(&pair);
	fill(pair.client.memory + 4096, 1 << 20, 9);
	window = exposed(&pair, 4096, 1 << 20, FABRIC_PEER_READS, 5);
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_post(&pair.server, FABRIC_READ, i, i << 16, 1 << 16, window->token,
			       window->offset + (i << 16)) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, 16, 0, 1, window->token, window->offset) ==
	      -ENOSPC);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, 15));
	for (uint64_t i = 0; i < 16; i++)
		CHECK(end_find(&pair.server, FABRIC_READ, i)->status == FABRIC_OK);
	CHECK(memcmp(pair.server.memory, pair.client.memory + 4096, 1 << 20) == 0);
	CHECK(end_post(&pair.server, FABRIC_READ, 16, 0, 1, window->token, window->offset) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_READ, 16));
	pair_destroy(&pair);
}

/* Spare windows are bound again, with another token each time. */
static void case_revoke(void)
{
	struct pair pair;
	uint32_t last = 0;

	pair_create(&pair);
	for (uint64_t i = 0; i < 300; i++) {
		struct fabric_window *window = exposed(&pair, 64 * i, 4096, FABRIC_PEER_WRITES, i);

		CHECK(window->token != last);
		last = window->token;
		CHECK(fabric_revoke(window, 1000 + i) == 0);
		TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 1000 + i));
	}
	pair_destroy(&pair);
}

/* What was revoked cannot be written any more: the server loses the connection, the memory stays. */
static void case_write_after_revoke(void)
{
	struct pair pair;
	struct fabric_window *window;
	uint64_t offset;
	uint32_t token;

	pair_create(&pair);
	window = exposed(&pair, 0, 1 << 16, FABRIC_PEER_WRITES, 5);
	token = window->token;
	offset = window->offset;
	CHECK(fabric_revoke(window, 6) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 6));
	fill(pair.server.memory, 1 << 16, 4);
	CHECK(end_post(&pair.server, FABRIC_WRITE, 10, 0, 1 << 16, token, offset) == 0);
	CHECK(end_post(&pair.server, FABRIC_SEND, 11, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.server.disconnected && pair.client.disconnected);
	CHECK(pair.server.reason == CLOSE_REMOTE_ACCESS);
	CHECK(end_find(&pair.server, FABRIC_WRITE, 10)->status == FABRIC_REMOTE_ACCESS);
	CHECK(end_find(&pair.server, FABRIC_SEND, 11)->status == FABRIC_FLUSHED);
	for (size_t i = 20; i < 1 << 16; i++)
		CHECK(pair.client.memory[i] == 0);
	pair_destroy(&pair);
}

static void case_invalidate(bool windows)
{
	struct pair pair;
	struct fabric_window *window;
	const struct fabric_completion *completion;
	uint32_t token;

	pair_create(&pair);
	window = exposed(&pair, 10000, 4096, FABRIC_PEER_WRITES | FABRIC_PEER_READS, 5);
	token = window->token;
	CHECK(pair.client.qp->invalidation == windows);
	CHECK(end_post(&pair.server, FABRIC_WRITE, 10, 0, 4096, token, window->offset) == 0);
	CHECK(end_post(&pair.server, windows ? FABRIC_SEND_INVALIDATE : FABRIC_SEND, 11, 0, 104,
		       token, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_RECEIVE, 2000));
	completion = end_find(&pair.client, FABRIC_RECEIVE, 2000);
	CHECK(completion->status == FABRIC_OK && completion->bytes == 104);
	CHECK(completion->invalidated == windows);
	CHECK(!windows || completion->invalidated_token == token);
	CHECK(fabric_revoke(window, 6) == 0);
	TURN_UNTIL(&pair, end_find(&pair.client, FABRIC_REVOKE, 6));
	CHECK(!pair.client.disconnected && !pair.server.disconnected);
	pair_destroy(&pair);
}

/* Much more than the send queue holds, and nearly all of it silent. */
static void case_silent(void)
{
	struct pair pair;
	struct fabric_window *window;
	uint64_t posted = 0;

	pair_create(&pair);
	window = exposed(&pair, 0, 4096, FABRIC_PEER_WRITES, 5);
	while (posted < 5000) {
		struct fabric_sge sge = end_sge(&pair.server, 0, 64);
		struct fabric_work work = {
			.id = posted,
			.opcode = FABRIC_WRITE,
			.sge_count = 1,
			.sges = &sge,
			.remote_token = window->token,
			.remote_offset = window->offset,
		};
		int error = fabric_post(pair.server.qp, &work);

		CHECK(error == 0 || error == -ENOSPC);
		posted += error == 0;
		if (error)
			CHECK(loop_turn(pair.loop, 100 * MILLISECOND) == 0);
	}
	CHECK(pair.server.count == 0 && !pair.server.disconnected);
	pair_destroy(&pair);
}

/* Both sides are told, all that was outstanding comes back, and nothing twice. */
static void case_disconnect(void)
{
	struct pair pair;

	pair_create(&pair);
	for (uint64_t i = 0; i < 100; i++)
		end_receive(&pair.server, i, 0, RECEIVE_SIZE);
	fabric_disconnect(pair.client.qp);
	CHECK(!pair.client.disconnected);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_NONE && pair.server.reason == CLOSE_BY_PEER);
	CHECK(pair.server.count == 100 && pair.client.count >= 1);
	for (uint64_t i = 0; i < 100; i++)
		CHECK(end_find(&pair.server, FABRIC_RECEIVE, i)->status == FABRIC_FLUSHED);
	CHECK(end_post(&pair.client, FABRIC_SEND, 1, 0, 20, 0, 0) == -ENOTCONN);
	pair_destroy(&pair);
}

static void case_destroy_inside(void)
{
	struct pair pair;

	pair_create(&pair);
	pair.server.destroy_on_completion = true;
	end_receive(&pair.server, 7, 4096, RECEIVE_SIZE);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	TURN_UNTIL(&pair, !pair.server.qp);
	TURN_UNTIL(&pair, pair.client.disconnected);
	pair_destroy(&pair);
}

static void case_too_long(void)
{
	struct pair pair;

	pair_create(&pair);
	end_receive(&pair.server, 7, 4096, 100);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	/* Adapters word it differently; and the disconnect of the other side may come first. */
	CHECK(pair.server.reason == CLOSE_PROTOCOL_ERROR || pair.server.reason == CLOSE_BY_PEER);
	CHECK(pair.client.reason == CLOSE_PROTOCOL_ERROR || pair.client.reason == CLOSE_PEER_LOST);
	CHECK(end_find(&pair.client, FABRIC_SEND, 3)->status == FABRIC_TRANSPORT_ERROR);
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 7)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
}

static void case_range(void)
{
	struct pair pair;
	struct fabric_window *window;
	struct fabric_sge sge;

	pair_create(&pair);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, END_MEMORY - 10, 20, 0, 0) == -EINVAL);
	sge = end_sge(&pair.client, END_MEMORY - 10, 11);
	CHECK(fabric_post_receive(pair.client.qp, 3, &sge) == -EINVAL);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory + 1, END_MEMORY,
			    FABRIC_PEER_READS, 4, &window) == -EINVAL);
	CHECK(!pair.client.disconnected && pair.client.count == 0);
	pair_destroy(&pair);
}

static void verbs_cases(bool windows)
{
	case_set_up();
	case_refused();
	case_nobody_listens();
	case_send();
	case_write_then_send();
	case_read();
	case_revoke();
	case_write_after_revoke();
	case_invalidate(windows);
	case_silent();
	case_disconnect();
	case_destroy_inside();
	case_too_long();
	case_range();
}

#endif
