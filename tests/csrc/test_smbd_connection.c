/* SOURCES: smbd_connection.c smbd_completions.c smbd_posting.c smbd_timers.c smbd_negotiation.c smbd_credits.c smbd_fragments.c smbd_rdma.c smbd_windows.c smbd_queue.c smbd_buffers.c smbd_wire.c fabric_memory.c fabric_memory_work.c trace.c capture.c */
#include "smbd_pair.h"

/* Negotiated, with the sizes of both. */
static void pair_create(struct pair *pair)
{
	pair_connect(pair, NULL, NULL, NULL);
	pair_run(pair);
	CHECK(pair->client.established == 1 && pair->server.established == 1);
}

static void test_negotiation(void)
{
	struct smbd_config client = {.max_receive_size = 1364, .max_send_size = 4096};
	struct smbd_facts facts;
	struct pair pair;

	pair_connect(&pair, NULL, &client, NULL);
	pair_run(&pair);
	smbd_facts(pair.server.connection, &facts);
	CHECK(facts.max_send_size == 1364 && facts.max_receive_size == 4096);
	CHECK(facts.send_credits == 200 && facts.receive_credits == 199);
	smbd_facts(pair.client.connection, &facts);
	CHECK(facts.max_send_size == 4096 && facts.max_receive_size == 1364);
	CHECK(facts.send_credits == 199 && facts.receive_credits == 200);
	pair_destroy(&pair);
}

static void test_messages_both_ways(void)
{
	struct pair pair;

	pair_create(&pair);
	pair.server.reply = true;
	for (uint32_t length = 1; length <= 1 << 20; length = length * 3 + 1)
		CHECK(smbd_send(pair.client.connection, message_of(length, 1), START) == 0);
	pair_run(&pair);
	CHECK(pair.server.messages == pair.client.messages &&
	      pair.server.bytes == pair.client.bytes);
	CHECK(pair.server.messages > 10);
	pair_destroy(&pair);
}

static void test_contents_arrive(void)
{
	struct smbd_message *expected = message_of(100000, 3);
	struct pair pair;

	pair_create(&pair);
	pair.server.keep = true;
	CHECK(smbd_send(pair.client.connection, message_of(100000, 3), START) == 0);
	pair_run(&pair);
	CHECK(pair.server.message->length == 100000);
	CHECK(memcmp(pair.server.message->data, expected->data, 100000) == 0);
	smbd_message_destroy(expected);
	pair_destroy(&pair);
}

static void test_writes_come_before_the_message(void)
{
	static uint8_t here[100000], there[100000];
	struct fabric_region *source, *target;
	struct smbd_message *message = message_of(80, 1);
	struct pair pair;

	memset(here, 0xAB, sizeof(here));
	pair_create(&pair);
	CHECK(fabric_register(fabric_memory_device(pair.fabric), here, sizeof(here), &source) == 0);
	CHECK(fabric_register(fabric_memory_device(pair.fabric), there, sizeof(there), &target) ==
	      0);
	CHECK(smbd_expose(pair.client.connection, 7, target, there, sizeof(there),
			  FABRIC_PEER_WRITES, START) == 0);
	pair_run(&pair);
	CHECK(pair.client.exposed == 1);
	smbd_cork(pair.server.connection);
	CHECK(smbd_rdma(pair.server.connection,
			&(struct smbd_transfer){.operation = 9,
						.direction = SMBD_RDMA_WRITE,
						.region = source,
						.address = here,
						.length = sizeof(here),
						.descriptor_count = 1,
						.descriptors = &pair.client.descriptor},
			START) == 0);
	message->invalidate = true;
	message->token = pair.client.descriptor.token;
	CHECK(smbd_send(pair.server.connection, message, START) == 0);
	smbd_uncork(pair.server.connection, START);
	CHECK(fabric_memory_posted(smbd_qp(pair.server.connection), 0)->signalled == false);
	pair_run(&pair);
	CHECK(pair.server.transferred == 1 && pair.server.status == FABRIC_OK &&
	      pair.client.messages == 1);
	CHECK(memcmp(here, there, sizeof(here)) == 0);
	CHECK(smbd_revoke(pair.client.connection, 8, pair.client.descriptor.token, START) == 0);
	pair_run(&pair);
	CHECK(pair.client.revoked == 1);
	fabric_deregister(source);
	fabric_deregister(target);
	pair_destroy(&pair);
}

/* The Read is held by the fabric; the message queued after it arrives first. */
static void test_a_message_passes_a_slow_read(void)
{
	static uint8_t here[30000], there[30000];
	struct smbd_transfer transfer = {.operation = 5,
					 .direction = SMBD_RDMA_READ,
					 .address = here,
					 .length = sizeof(here),
					 .descriptor_count = 1};
	struct fabric_region *target;
	struct pair pair;

	memset(there, 0xCD, sizeof(there));
	pair_create(&pair);
	CHECK(fabric_register(fabric_memory_device(pair.fabric), here, sizeof(here),
			      &transfer.region) == 0);
	CHECK(fabric_register(fabric_memory_device(pair.fabric), there, sizeof(there), &target) ==
	      0);
	CHECK(smbd_expose(pair.client.connection, 1, target, there, sizeof(there),
			  FABRIC_PEER_READS, START) == 0);
	pair_run(&pair);
	transfer.descriptors = &pair.client.descriptor;
	fabric_memory_hold(smbd_qp(pair.server.connection), FABRIC_MEMORY_HOLD_READS);
	CHECK(smbd_rdma(pair.server.connection, &transfer, START) == 0);
	CHECK(smbd_send(pair.server.connection, message_of(80, 1), START) == 0);
	pair_run(&pair);
	CHECK(pair.client.messages == 1 && pair.server.transferred == 0 && here[0] == 0);
	fabric_memory_hold(smbd_qp(pair.server.connection), 0);
	pair_run(&pair);
	CHECK(pair.server.transferred == 1 && memcmp(here, there, sizeof(here)) == 0);
	fabric_deregister(transfer.region);
	fabric_deregister(target);
	pair_destroy(&pair);
}

static void test_close_tells_both(void)
{
	struct pair pair;

	pair_create(&pair);
	smbd_send(pair.client.connection, message_of(50000, 1), START);
	smbd_close(pair.client.connection, CLOSE_BY_WORKER, true, START);
	pair_run(&pair);
	CHECK(pair.server.messages == 1);
	CHECK(pair.client.closed == 1 && pair.client.reason == CLOSE_BY_WORKER);
	CHECK(pair.server.closed == 1 && pair.server.reason == CLOSE_BY_PEER);
	pair_destroy(&pair);
}

int main(void)
{
	test_negotiation();
	test_messages_both_ways();
	test_contents_arrive();
	test_writes_come_before_the_message();
	test_a_message_passes_a_slow_read();
	test_close_tells_both();
	return 0;
}
