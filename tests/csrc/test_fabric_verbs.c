/* SOURCES: loop.c path.c trace.c fabric_verbs.c verbs_connect.c verbs_device.c verbs_library.c verbs_memory.c verbs_queue.c */
/*
 * The verbs fabric on an adapter that is played: the cases of verbs_cases.h, and what no real adapter does on demand.
 * Without rdma-core's headers there is nothing to test but the refusal.
 */
#include "verbs.h"

#if VERBS_BUILT
#include "fake_verbs.h"
#include "verbs_cases.h"

static struct fabric_verbs_config config;
static struct fabric_device *gone;

static void device_gone(void *owner, struct fabric_device *device)
{
	CHECK(owner == &gone);
	gone = device;
}

static void pair_open(struct pair *pair)
{
	char words[256] = "";

	config.library = &fake_library;
	config.device_gone = device_gone;
	config.owner = &gone;
	pair_create_loop(pair);
	CHECK(fabric_verbs_create(pair->loop, &config, words, &pair->fabric) == 0);
	pair_listen_on(pair, "127.0.0.1");
}

static struct fake_qp *fake_of(const struct end *end)
{
	return (struct fake_qp *)((struct verbs_qp *)end->qp)->qp;
}

static void test_cases(void)
{
	fake_start();
	verbs_cases(true);
	fake_stop();
	fake_start();
	config.no_windows = true;
	verbs_cases(false);
	config.no_windows = false;
	fake_stop();
	fake_start();
	fake.attributes.device_cap_flags = 0;
	case_invalidate(false);
	fake_stop();
}

/* iWARP adapters: private data, one SGE for a Read, a sink that the peer may write. */
static void test_iwarp_adapter(void)
{
	struct pair pair;

	fake_start();
	fake.device.transport_type = IBV_TRANSPORT_IWARP;
	fake.attributes.max_sge_rd = 1;
	pair_create(&pair);
	CHECK(pair.client.qp->device->transport == FABRIC_TRANSPORT_IWARP);
	CHECK(pair.server.qp->private_data_length == 8);
	CHECK(memcmp(pair.server.qp->private_data, "request!", 8) == 0);
	CHECK(memcmp(pair.client.qp->private_data, "replied!", 8) == 0);
	CHECK(pair.client.qp->limits.read_sges == 1 && pair.client.qp->limits.send_sges == 8);
	CHECK(fake_key(((struct verbs_region *)pair.client.region)->mr->lkey)->access &
	      IBV_ACCESS_REMOTE_WRITE);
	pair_destroy(&pair);
	fake_stop();
}

/* A poor device lowers what was asked for, and says so. */
static void test_limits(void)
{
	const struct fabric_limits *limits;
	struct pair pair;

	fake_start();
	fake.attributes.max_qp_wr = 100;
	fake.attributes.max_cqe = 120;
	fake.attributes.max_sge = 3;
	fake.attributes.max_qp_init_rd_atom = 4;
	fake.attributes.max_qp_rd_atom = 2;
	fake.no_inline = true;
	fake.most_send_wr = 40;
	pair_create(&pair);
	limits = &pair.client.qp->limits;
	CHECK(limits->send_queue == 30 && limits->receive_queue == 60);
	CHECK(limits->send_sges == 3 && limits->initiator_depth == 2);
	CHECK(limits->responder_depth == 2 && limits->transfer_bytes == 8 << 20);
	CHECK(((struct verbs_qp *)pair.client.qp)->inline_bytes == 0);
	pair_destroy(&pair);
	fake_stop();
}

/* The configuration makes a device poorer than it is. */
static void test_limits_of_configuration(void)
{
	struct pair pair;

	fake_start();
	config.most = (struct fabric_limits){
		.send_queue = 20, .receive_queue = 40, .send_sges = 1, .initiator_depth = 1};
	pair_create(&pair);
	CHECK(pair.client.qp->limits.send_queue == 20);
	CHECK(pair.client.qp->limits.receive_queue == 40);
	CHECK(pair.client.qp->limits.send_sges == 1);
	CHECK(pair.client.qp->limits.initiator_depth == 1);
	config.most = (struct fabric_limits){0};
	pair_destroy(&pair);
	fake_stop();
}

/* A full queue refuses and changes nothing; of silent requests few are made to complete. */
static void test_send_queue(void)
{
	struct pair pair;
	uint32_t signalled;

	fake_start();
	pair_create(&pair);
	fake.hold = true;
	signalled = fake.signalled;
	for (uint32_t i = 0; i < 256; i++) {
		struct fabric_sge sge = end_sge(&pair.client, 0, 16);
		struct fabric_work work = {
			.id = i, .opcode = FABRIC_SEND, .sge_count = 1, .sges = &sge};

		CHECK(fabric_post(pair.client.qp, &work) == 0);
		end_receive(&pair.server, i, 0, RECEIVE_SIZE - 1);
		if (i == 255)
			CHECK(fabric_post(pair.client.qp, &work) == -ENOSPC);
	}
	CHECK(fake.signalled - signalled == 4);
	fake_release();
	TURN_UNTIL(&pair, pair.server.count == 256);
	CHECK(pair.client.count == 0);
	CHECK(pair.server.largest_batch == FABRIC_COMPLETION_BATCH);
	TURN_UNTIL(&pair, end_post(&pair.client, FABRIC_SEND, 1, 0, 20, 0, 0) == 0);
	pair_destroy(&pair);
	fake_stop();
}

/* What is outstanding when the device dies comes back, the owner of the pools is told, nothing is left. */
static void test_device_fatal(void)
{
	struct pair pair;
	struct fabric_window *window;
	struct fabric_region *region;

	fake_start();
	pair_create(&pair);
	fake.hold = true;
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	CHECK(fabric_expose(pair.client.qp, pair.client.region, pair.client.memory, 4096,
			    FABRIC_PEER_READS, 4, &window) == 0);
	fake_async(IBV_EVENT_DEVICE_FATAL, NULL);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(gone == pair.client.qp->device);
	gone = NULL;
	CHECK(pair.client.reason == CLOSE_PEER_LOST && strstr(pair.client.words, "fake0"));
	CHECK(end_find(&pair.client, FABRIC_SEND, 3)->status == FABRIC_FLUSHED);
	CHECK(end_find(&pair.client, FABRIC_EXPOSE, 4)->status == FABRIC_FLUSHED);
	CHECK(fake.qp_count == 0 && fake.cqs == 0 && fake.mws == 0);
	CHECK(fabric_register(pair.client.qp->device, pair.client.memory, 4096, &region) ==
	      -ENODEV);
	CHECK(fabric_revoke(window, 5) == -ENOTCONN);
	end_destroy(&pair.client);
	CHECK(fake.contexts == 1);
	end_destroy(&pair.server);
	CHECK(fake.contexts == 0); /* the kernel may go on removing it */
	fake.hold = false;
	TURN_UNTIL(&pair, fake.id_count == 1); /* the listener's */
	pair_begin(&pair);		       /* and there is another device of that name */
	pair_destroy(&pair);
	fake_stop();
}

/* A listener on the device's address loses its identifier, and begins again by itself. */
static void test_device_removal(void)
{
	struct pair pair;

	fake_start();
	pair_create(&pair);
	for (struct fake_id *id = fake.ids; id; id = id->next)
		fake_event(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	end_destroy(&pair.client);
	end_destroy(&pair.server);
	CHECK(fake.id_count == 0 && fake.contexts == 0);
	TURN_UNTIL(&pair, fake.id_count == 1);
	pair_begin(&pair);
	pair_destroy(&pair);
	fake_stop();
}

static void test_port_error(void)
{
	struct pair pair;

	fake_start();
	pair_create(&pair);
	fake_async(IBV_EVENT_PORT_ERR, NULL);
	TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
	CHECK(pair.client.reason == CLOSE_PEER_LOST && strstr(pair.client.words, "port 1"));
	pair_destroy(&pair);
	fake_stop();
}

static void test_queue_pair_errors(void)
{
	const struct {
		enum ibv_event_type type;
		enum close_reason reason;
	} events[] = {
		{IBV_EVENT_QP_FATAL, CLOSE_LIMIT},
		{IBV_EVENT_QP_REQ_ERR, CLOSE_PROTOCOL_ERROR},
		{IBV_EVENT_QP_ACCESS_ERR, CLOSE_PROTOCOL_ERROR},
	};

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct pair pair;

		fake_start();
		pair_create(&pair);
		fake_async(events[i].type, &fake_of(&pair.server)->base);
		TURN_UNTIL(&pair, pair.client.disconnected && pair.server.disconnected);
		CHECK(pair.server.reason == events[i].reason);
		CHECK(pair.client.reason == CLOSE_BY_PEER);
		pair_destroy(&pair);
		fake_stop();
	}
}

/* Flushed by the device and nobody says why: that is the end all the same. */
static void test_flushed(void)
{
	struct pair pair;

	fake_start();
	pair_create(&pair);
	end_receive(&pair.server, 5, 0, RECEIVE_SIZE);
	fake_break(fake_of(&pair.server));
	TURN_UNTIL(&pair, pair.server.disconnected);
	CHECK(pair.server.reason == CLOSE_PEER_LOST && pair.server.count == 1);
	CHECK(end_find(&pair.server, FABRIC_RECEIVE, 5)->status == FABRIC_FLUSHED);
	pair_destroy(&pair);
	fake_stop();
}

/* No receive for a Send: credits make that impossible, so it is the sender's fault. */
static void test_no_receive(void)
{
	struct pair pair;

	fake_start();
	pair_create(&pair);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.disconnected);
	CHECK(pair.client.reason == CLOSE_PROTOCOL_ERROR);
	CHECK(end_find(&pair.client, FABRIC_SEND, 3)->status == FABRIC_TRANSPORT_ERROR);
	pair_destroy(&pair);
	fake_stop();
}

/* A device that reports everything twice is believed once. */
static void test_completions_twice(void)
{
	struct pair pair;

	fake_start();
	pair_create(&pair);
	fake.repeat_completion = true;
	end_receive(&pair.server, 5, 0, RECEIVE_SIZE);
	end_receive(&pair.server, 6, 0, RECEIVE_SIZE);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 5000, 0, 0) == 0);
	CHECK(end_post(&pair.client, FABRIC_SEND, 4, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, pair.client.count == 2 && pair.server.count == 2);
	CHECK(!pair.client.disconnected && !pair.server.disconnected);
	pair_destroy(&pair);
	fake_stop();
}

/* The first message is there before rdma_cm says that the connection stands. */
static void test_message_overtakes(void)
{
	struct pair pair;

	fake_start();
	fake.lose_establish = true;
	pair_open(&pair);
	pair_connect(&pair);
	TURN_UNTIL(&pair, pair.client.established);
	CHECK(!pair.server.established);
	CHECK(end_post(&pair.client, FABRIC_SEND, 3, 0, 20, 0, 0) == 0);
	TURN_UNTIL(&pair, end_find(&pair.server, FABRIC_RECEIVE, 1000));
	CHECK(pair.server.established);
	pair_destroy(&pair);
	fake_stop();
}

static struct rdma_event_channel *no_channel(void)
{
	errno = ENODEV;
	return NULL;
}

/* Without a device a listener on every address waits for one; one on an address is refused. */
static void test_device_appears(void)
{
	struct verbs_library library = fake_library;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(445)};
	struct sockaddr_in one = any;
	struct fabric_listener *listener;
	struct pair pair;
	char words[256];

	fake_start();
	library.create_event_channel = no_channel;
	config.library = &library;
	pair_create_loop(&pair);
	one.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(fabric_verbs_create(pair.loop, &config, words, &pair.fabric) == 0);
	CHECK(fabric_listen(pair.fabric, (struct sockaddr *)&one, sizeof(one), on_request, &pair,
			    &listener) == -ENODEV);
	CHECK(fabric_listen(pair.fabric, (struct sockaddr *)&any, sizeof(any), on_request, &pair,
			    &pair.listener) == 0);
	((struct verbs_fabric *)pair.fabric)->library = fake_library;
	verbs_listeners_retry((struct verbs_fabric *)pair.fabric);
	TURN_UNTIL(&pair, fake.id_count == 1);
	fabric_unlisten(pair.listener);
	fabric_destroy(pair.fabric);
	loop_destroy(pair.loop);
	fake_stop();
}

int main(void)
{
	test_cases();
	test_iwarp_adapter();
	test_limits();
	test_limits_of_configuration();
	test_send_queue();
	test_device_fatal();
	test_device_removal();
	test_port_error();
	test_queue_pair_errors();
	test_flushed();
	test_no_receive();
	test_completions_twice();
	test_message_overtakes();
	test_device_appears();
	return 0;
}

#else
#include "check.h"
#include "fabric.h"

int main(void)
{
	struct fabric_verbs_config config = {0};
	struct fabric *fabric;
	char words[256];

	CHECK(fabric_verbs_create(NULL, &config, words, &fabric) == -95 /* ENOTSUP */);
	return 0;
}
#endif
