/* SOURCES: smbd_connection.c smbd_completions.c smbd_posting.c smbd_timers.c smbd_negotiation.c smbd_credits.c smbd_fragments.c smbd_rdma.c smbd_windows.c smbd_queue.c smbd_buffers.c smbd_wire.c fabric_memory.c fabric_memory_work.c trace.c capture.c */
/*
 * A busy connection is ended after every single step of its life, in every way. Whatever was under way is reported
 * once, `closed` comes once, and nothing is left: the sanitizers watch memory, the test watches registrations.
 */
#include <errno.h>

#include "smbd_pair.h"

enum ending {
	ENDING_LOSS,
	ENDING_ABORT,
	ENDING_GRACEFUL,
	ENDING_DESTROY,
	ENDING_FLUSH_WITH_RECEIVES,
	ENDINGS
};

enum {
	MEMORY = 1 << 18,
	TRANSFERS = 6,
	STEPS_MAX = 100000,
};

static uint8_t here[MEMORY], there[MEMORY];

struct scene {
	struct pair pair;
	struct fabric_region *source, *target;
	uint32_t started; /* transfers that were accepted */
	bool exposed, busy;
};

static void scene_create(struct scene *scene)
{
	const struct fabric_memory_config small = {
		.limits = {.send_queue = 24, .initiator_depth = 2, .transfer_bytes = 10000}};

	*scene = (struct scene){0};
	pair_connect(&scene->pair, &small, NULL, NULL);
	CHECK(fabric_register(fabric_memory_device(scene->pair.fabric), here, MEMORY,
			      &scene->source) == 0);
	CHECK(fabric_register(fabric_memory_device(scene->pair.fabric), there, MEMORY,
			      &scene->target) == 0);
}

static void scene_destroy(struct scene *scene)
{
	fabric_deregister(scene->source);
	fabric_deregister(scene->target);
	pair_destroy(&scene->pair);
}

/* The client exposes memory as soon as it can; the server then reads, writes and sends. */
static void act(struct scene *scene)
{
	struct pair *pair = &scene->pair;

	if (pair->client.established && !scene->exposed) {
		scene->exposed = true;
		smbd_expose(pair->client.connection, 1, scene->target, there, MEMORY,
			    FABRIC_PEER_READS | FABRIC_PEER_WRITES, START);
	}
	if (!pair->client.exposed || !pair->server.established || scene->busy)
		return;
	scene->busy = true;
	for (uint32_t i = 0; i < TRANSFERS; i++) {
		const struct smbd_transfer transfer = {
			.operation = i,
			.direction = i % 2 ? SMBD_RDMA_WRITE : SMBD_RDMA_READ,
			.region = scene->source,
			.address = here + (size_t)i * 32768,
			.length = 32768,
			.descriptor_count = 1,
			.descriptors = &pair->client.descriptor,
		};

		scene->started += smbd_rdma(pair->server.connection, &transfer, START) == 0;
		smbd_send(pair->server.connection, message_of(20000, (uint8_t)i), START);
		smbd_send(pair->client.connection, message_of(20000, (uint8_t)i), START);
	}
	smbd_revoke(pair->client.connection, 2, 12345, START);
}

static void finish(struct scene *scene, enum ending ending)
{
	struct pair *pair = &scene->pair;
	struct fabric_qp *client = smbd_qp(pair->client.connection);

	switch (ending) {
	case ENDING_LOSS:
		fabric_memory_lose(client, CLOSE_PEER_LOST, "cut");
		break;
	case ENDING_ABORT:
		smbd_close(pair->client.connection, CLOSE_BY_WORKER, false, START);
		break;
	case ENDING_GRACEFUL:
		smbd_close(pair->client.connection, CLOSE_BY_WORKER, true, START);
		break;
	case ENDING_FLUSH_WITH_RECEIVES: /* completions of receives wait while everything else is flushed */
		fabric_memory_hold(client, FABRIC_MEMORY_HOLD_RECEIVES);
		for (int i = 0; i < 5; i++)
			fabric_memory_step(pair->fabric, START);
		fabric_memory_lose(client, CLOSE_PEER_LOST, "cut");
		break;
	case ENDING_DESTROY:
	case ENDINGS:
		return; /* scene_destroy does it */
	}
	pair_run(pair);
	CHECK(pair->client.closed == 1);
	CHECK(!pair->server.connection || pair->server.closed == 1);
	CHECK(pair->server.transferred == scene->started);
	CHECK(!scene->exposed || pair->client.exposed == 1);
}

/* False when the scene is over before so many steps. */
static bool play(uint32_t steps, enum ending ending)
{
	struct scene scene;
	bool more = true;

	scene_create(&scene);
	scene.pair.server.keep = steps % 3 == 0;
	for (uint32_t i = 0; i < steps && more; i++) {
		more = fabric_memory_step(scene.pair.fabric, START);
		act(&scene);
	}
	finish(&scene, ending);
	scene_destroy(&scene);
	return more;
}

static void test_end_after_every_step(void)
{
	for (int ending = 0; ending < ENDINGS; ending++) {
		uint32_t steps = 0;

		while (play(steps, ending))
			CHECK(++steps < STEPS_MAX);
		CHECK(steps > 50);
	}
}

/* Every call that may fail does so once, with either error; what was created before is taken back. */
static void test_refusal_of_every_call(int error)
{
	const struct smbd_config defaults = {.receive_credit_max = 6, .send_credit_target = 6};
	const struct smbd_events events = side_events;

	for (uint32_t nth = 1; nth < 60; nth++) {
		struct side side = {0};
		struct fabric *fabric;
		struct fabric_qp *qp;
		static const uint8_t request[] = {0, 1, 0, 1,  0, 0, 6, 0, 0, 32,
						  0, 0, 0, 32, 0, 0, 0, 0, 2, 0};
		static const uint8_t data[] = {6, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24,
					       0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9};

		CHECK(fabric_memory_create(NULL, &fabric) == 0);
		CHECK(fabric_memory_qp_create(fabric, &qp) == 0);
		fabric_memory_refuse(fabric, nth, error);
		if (smbd_create(qp, SMBD_SERVER, &defaults, &events, &side, START,
				&side.connection)) {
			fabric_reject(qp);
			CHECK(fabric_memory_device(fabric)->region_count == 0);
			fabric_destroy(fabric);
			continue;
		}
		fabric_memory_run(fabric, START);
		fabric_memory_arrive(qp, request, sizeof(request));
		fabric_memory_run(fabric, START);
		for (int i = 0; i < 3 && fabric_memory_arrive(qp, data, sizeof(data)) == 0; i++)
			fabric_memory_run(fabric, START);
		smbd_send(side.connection, message_of(50000, 1), START);
		fabric_memory_lose(qp, CLOSE_PEER_LOST, "cut");
		fabric_memory_run(fabric, START);
		CHECK(side.closed == 1);
		smbd_destroy(side.connection);
		CHECK(fabric_memory_device(fabric)->region_count == 0);
		fabric_destroy(fabric);
	}
}

/* A callback may close the connection in the middle of a batch; the rest of the batch is harmless. */
static void close_on_message(void *owner, struct smbd_message *message, nanoseconds now)
{
	struct side *side = owner;

	side->messages++;
	smbd_consumed(side->connection, message, now);
	smbd_close(side->connection, CLOSE_BY_WORKER, false, now);
	CHECK(smbd_send(side->connection, message_of(10, 1), now) == -EPIPE);
}

static bool request_that_closes(struct fabric_listener *listener, struct fabric_qp *qp)
{
	static struct smbd_events events;
	struct pair *pair = listener->owner;

	events = side_events;
	events.message = close_on_message;
	return smbd_create(qp, SMBD_SERVER, &pair->server_config, &events, &pair->server, START,
			   &pair->server.connection) == 0;
}

static void test_close_inside_a_callback(void)
{
	const struct smbd_config defaults = {0};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(5446)};
	struct fabric_parameters parameters;
	struct pair pair = {0};
	struct fabric_qp *qp;
	uint8_t blob[8];

	CHECK(fabric_memory_create(NULL, &pair.fabric) == 0);
	CHECK(fabric_listen(pair.fabric, (struct sockaddr *)&address, sizeof(address),
			    request_that_closes, &pair, &pair.listener) == 0);
	smbd_client_parameters(&defaults, FABRIC_TRANSPORT_MEMORY, blob, &parameters);
	CHECK(fabric_connect(pair.fabric, (struct sockaddr *)&address, sizeof(address), &parameters,
			     &smbd_fabric_events, NULL, &qp) == 0);
	CHECK(smbd_create(qp, SMBD_CLIENT, &defaults, &side_events, &pair.client, START,
			  &pair.client.connection) == 0);
	pair_run(&pair);
	fabric_memory_hold(smbd_qp(pair.server.connection), FABRIC_MEMORY_HOLD_RECEIVES);
	for (int i = 0; i < 10; i++)
		smbd_send(pair.client.connection, message_of(100, 1), START);
	pair_run(&pair);
	fabric_memory_hold(smbd_qp(pair.server.connection), 0);
	pair_run(&pair);
	CHECK(pair.server.messages == 1 && pair.server.closed == 1 && pair.client.closed == 1);
	pair_destroy(&pair);
}

int main(void)
{
	test_end_after_every_step();
	test_refusal_of_every_call(ENOSPC);
	test_refusal_of_every_call(ENOTCONN);
	test_close_inside_a_callback();
	return 0;
}
