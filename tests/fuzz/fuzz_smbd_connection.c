/* SOURCES: smbd_connection.c smbd_completions.c smbd_posting.c smbd_timers.c smbd_negotiation.c smbd_credits.c smbd_fragments.c smbd_rdma.c smbd_windows.c smbd_queue.c smbd_buffers.c smbd_wire.c fabric_memory.c fabric_memory_work.c trace.c capture.c */
/*
 * A peer that sends anything, to an owner that answers: the input is a list of events, most of them messages of the
 * peer. The first byte chooses the role. Bounded memory and the rules of the queue pair are checked after every event:
 * fabric_memory refuses what is too much, and the engine must never be refused.
 */
#include <string.h>

#include "check.h"
#include "fabric_memory.h"
#include "smbd_connection.h"
#include "smbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum {
	MEMORY = 65536,
	EVENTS_MAX = 300,
	MESSAGE_MAX = 600,
};

struct owner {
	struct smbd_connection *connection;
	uint32_t established, closed, transfers;
	uint8_t mood; /* of the input: whether it answers, and whether it keeps what it got */
	struct smbd_message *kept;
	struct fabric_region *region;
};

static uint8_t memory[MEMORY];

static void on_established(void *owner, nanoseconds now)
{
	(void)now;
	((struct owner *)owner)->established++;
}

static void on_message(void *arg, struct smbd_message *message, nanoseconds now)
{
	struct owner *owner = arg;
	struct smbd_message *answer;

	if (owner->mood & 1 && (answer = smbd_message_create(message->length))) {
		memcpy(answer->data, message->data, message->length);
		answer->invalidate = owner->mood & 2;
		answer->token = 7;
		smbd_send(owner->connection, answer, now);
	}
	if (owner->mood & 4 && !owner->kept)
		owner->kept = message;
	else
		smbd_consumed(owner->connection, message, now);
	if (owner->mood & 8)
		smbd_close(owner->connection, CLOSE_BY_WORKER, owner->mood & 1, now);
}

static void on_transferred(void *arg, uint64_t operation, enum fabric_status status, uint64_t bytes,
			   nanoseconds now)
{
	struct owner *owner = arg;

	(void)operation, (void)status, (void)bytes, (void)now;
	CHECK(owner->transfers-- > 0);
}

static void on_exposed(void *owner, uint64_t operation, enum fabric_status status,
		       const struct buffer_descriptor *descriptor, nanoseconds now)
{
	(void)operation;
	if (status == FABRIC_OK)
		smbd_revoke(((struct owner *)owner)->connection, 3, descriptor->token, now);
}

static void on_revoked(void *owner, uint64_t operation, enum fabric_status status, nanoseconds now)
{
	(void)owner, (void)operation, (void)status, (void)now;
}

static void on_writable(void *owner, nanoseconds now)
{
	(void)owner, (void)now;
}

static void on_closed(void *arg, enum close_reason reason, const char *words, nanoseconds now)
{
	struct owner *owner = arg;

	(void)words, (void)now;
	CHECK(++owner->closed == 1 && owner->transfers == 0);
	CHECK(reason != CLOSE_NONE && reason != CLOSE_LIMIT);
}

static const struct smbd_events owner_events = {
	.established = on_established,
	.message = on_message,
	.transferred = on_transferred,
	.exposed = on_exposed,
	.revoked = on_revoked,
	.writable = on_writable,
	.closed = on_closed,
};

struct input {
	const uint8_t *bytes;
	size_t length;
};

static uint32_t take(struct input *input, uint32_t count)
{
	uint32_t value = 0;

	for (; count > 0; count--, input->length -= input->length > 0)
		value = value << 8 | (input->length > 0 ? *input->bytes++ : 0);
	return value;
}

/* A message whose header is decent but for what the input says. */
static void peer_sends(struct fabric_qp *qp, struct input *input)
{
	uint8_t message[SMBD_DATA_OFFSET + MESSAGE_MAX] = {0};
	struct smbd_data_transfer header = {
		.credits_requested = (uint16_t)take(input, 1),
		.credits_granted = (uint16_t)take(input, 1),
		.flags = (uint16_t)(take(input, 1) & 3),
		.remaining = take(input, 2),
		.length = take(input, 2) % MESSAGE_MAX,
	};
	uint32_t size = smbd_data_transfer_build(&header, message);

	fabric_memory_arrive(qp, message, size + header.length);
}

static void peer_babbles(struct fabric_qp *qp, struct input *input)
{
	uint8_t message[64];
	uint32_t length = take(input, 1) % sizeof(message);

	for (uint32_t i = 0; i < length; i++)
		message[i] = (uint8_t)take(input, 1);
	fabric_memory_arrive(qp, message, length);
}

static void finish_all(struct fabric_qp *qp, enum fabric_status status)
{
	const struct fabric_memory_work *work;

	while ((work = fabric_memory_posted(qp, 0)))
		fabric_memory_finish(qp, work->number, status, NULL);
}

static void start_transfer(struct owner *owner, struct input *input, nanoseconds now)
{
	struct buffer_descriptor descriptors[3];
	const struct smbd_transfer transfer = {
		.direction = take(input, 1) & 1 ? SMBD_RDMA_READ : SMBD_RDMA_WRITE,
		.region = owner->region,
		.address = memory,
		.length = take(input, 2),
		.descriptor_count = take(input, 1) % 4,
		.descriptors = descriptors,
	};

	for (int i = 0; i < 3; i++)
		descriptors[i] =
			(struct buffer_descriptor){.offset = (uint64_t)take(input, 1) << 56,
						   .token = 1,
						   .length = take(input, 2)};
	owner->transfers++;
	if (smbd_rdma(owner->connection, &transfer, now))
		owner->transfers--;
}

static void event(struct owner *owner, struct fabric_qp *qp, struct input *input, nanoseconds *now)
{
	switch (take(input, 1) % 12) {
	default:
		peer_sends(qp, input);
		break;
	case 0:
		peer_babbles(qp, input);
		break;
	case 1:
		finish_all(qp, FABRIC_OK);
		break;
	case 2:
		start_transfer(owner, input, *now);
		break;
	case 3:
		*now += (nanoseconds)take(input, 1) * SECOND;
		if (smbd_deadline(owner->connection) && smbd_deadline(owner->connection) <= *now)
			smbd_on_time(owner->connection, *now);
		break;
	case 4:
		owner->mood = (uint8_t)take(input, 1);
		break;
	case 5:
		if (owner->kept)
			smbd_consumed(owner->connection, owner->kept, *now);
		owner->kept = NULL;
		break;
	case 6:
		smbd_expose(owner->connection, 1, owner->region, memory, take(input, 2),
			    take(input, 1), *now);
		break;
	case 7:
		if (take(input, 1) == 0)
			finish_all(qp, FABRIC_REMOTE_ACCESS);
		break;
	}
	if (take(input, 1) & 1)
		fabric_memory_run(qp->fabric, *now);
}

static void negotiate(struct fabric_qp *qp, enum smbd_role role, struct input *input)
{
	struct smbd_negotiate_request request = {SMBD_VERSION, SMBD_VERSION, 20,
						 1364,	       1364,	     131072};
	struct smbd_negotiate_response response = {
		SMBD_VERSION, SMBD_VERSION, SMBD_VERSION, 20, 20, 0, 1 << 20, 1364, 1364, 131072};
	uint8_t message[SMBD_NEGOTIATE_RESPONSE_SIZE];

	if (take(input, 1) == 0)
		return; /* the events will have to do it */
	smbd_negotiate_request_build(&request, message);
	if (role == SMBD_CLIENT)
		smbd_negotiate_response_build(&response, message);
	fabric_memory_arrive(qp, message,
			     role == SMBD_CLIENT ? SMBD_NEGOTIATE_RESPONSE_SIZE
						 : SMBD_NEGOTIATE_REQUEST_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	const struct fabric_memory_config small = {
		.limits = {.send_queue = 12, .initiator_depth = 3, .transfer_bytes = 4096}};
	const struct smbd_config config = {.receive_credit_max = 12, .send_credit_target = 12};
	struct input input = {bytes, length};
	enum smbd_role role = take(&input, 1) & 1 ? SMBD_CLIENT : SMBD_SERVER;
	struct owner owner = {.mood = (uint8_t)take(&input, 1)};
	nanoseconds now = SECOND;
	struct smbd_facts facts;
	struct fabric *fabric;
	struct fabric_qp *qp;

	CHECK(fabric_memory_create(&small, &fabric) == 0 &&
	      fabric_memory_qp_create(fabric, &qp) == 0);
	CHECK(fabric_register(fabric_memory_device(fabric), memory, MEMORY, &owner.region) == 0);
	CHECK(smbd_create(qp, role, &config, &owner_events, &owner, now, &owner.connection) == 0);
	fabric_memory_establish(qp);
	fabric_memory_run(fabric, now);
	negotiate(qp, role, &input);
	fabric_memory_run(fabric, now);
	for (int i = 0; i < EVENTS_MAX && input.length > 0 && !owner.closed; i++) {
		event(&owner, qp, &input, &now);
		smbd_facts(owner.connection, &facts);
		CHECK(facts.unconsumed_bytes <= SMBD_UNCONSUMED_MAX + 131072);
	}
	fabric_memory_lose(qp, CLOSE_PEER_LOST, "cut");
	fabric_memory_run(fabric, now);
	CHECK(owner.closed == 1);
	if (owner.kept)
		smbd_consumed(owner.connection, owner.kept, now);
	smbd_destroy(owner.connection);
	fabric_deregister(owner.region);
	CHECK(fabric_memory_device(fabric)->region_count == 0);
	fabric_destroy(fabric);
	return 0;
}
