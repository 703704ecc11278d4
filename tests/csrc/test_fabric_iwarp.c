/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
#include "iwarp_pair.h"

static const struct fabric_iwarp_config plain = {0};

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

int main(void)
{
	test_set_up();
	test_send();
	write_then_invalidate(&plain);
	return 0;
}
