#include "smbd_driven.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fabric_memory.h"
#include "smbd_state.h"

struct driven {
	struct fabric *fabric;
	struct fabric_qp *qp;
	struct fabric_region *region;
	uint8_t *memory;
	struct smbd_connection *connection;
	struct smbd_message **messages; /* delivered; consumed ones are NULL */
	size_t message_count;
	struct driven_record *records;
	size_t count, size;
	uint64_t seen; /* the last work request that is among the records */
};

static struct driven_record *add(struct driven *driven, enum driven_kind kind)
{
	if (driven->count == driven->size) {
		driven->size = driven->size ? driven->size * 2 : 64;
		driven->records = realloc(driven->records, driven->size * sizeof(*driven->records));
		CHECK(driven->records);
	}
	driven->records[driven->count] = (struct driven_record){.kind = kind};
	return &driven->records[driven->count++];
}

static void copy_bytes(struct driven_record *record, const void *bytes, uint32_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	CHECK(copy);
	if (length > 0)
		memcpy(copy, bytes, length);
	record->bytes = copy;
	record->length = length;
}

static void forget(struct driven *driven)
{
	for (size_t i = 0; i < driven->count; i++)
		free((void *)driven->records[i].bytes);
	driven->count = 0;
}

/* Called before every other record, so that records stand in the order in which things happened. */
static void note_posts(struct driven *driven)
{
	const struct fabric_memory_work *work;

	while ((work = fabric_memory_posted(driven->qp, driven->seen))) {
		struct driven_record *record = add(driven, DRIVEN_POST);
		uint8_t *bytes = malloc(work->length ? work->length : 1);

		CHECK(bytes);
		fabric_memory_gather(work, bytes);
		record->bytes = bytes;
		record->length = work->length;
		record->number = driven->seen = work->number;
		record->call = work->call;
		record->id = work->id;
		record->opcode = work->opcode;
		record->signalled = work->signalled;
		record->offset = work->remote_offset;
		record->token = work->remote_token;
	}
}

static struct driven_record *note(struct driven *driven, enum driven_kind kind)
{
	note_posts(driven);
	return add(driven, kind);
}

static void on_established(void *owner, nanoseconds now)
{
	(void)now;
	note(owner, DRIVEN_ESTABLISHED);
}

static void on_message(void *owner, struct smbd_message *message, nanoseconds now)
{
	struct driven *driven = owner;
	struct driven_record *record = note(driven, DRIVEN_DELIVER);

	(void)now;
	record->number = driven->message_count;
	copy_bytes(record, message->data, message->length);
	driven->messages =
		realloc(driven->messages, (driven->message_count + 1) * sizeof(*driven->messages));
	CHECK(driven->messages);
	driven->messages[driven->message_count++] = message;
}

static void on_transferred(void *owner, uint64_t operation, enum fabric_status status,
			   uint64_t bytes, nanoseconds now)
{
	struct driven_record *record = note(owner, DRIVEN_TRANSFERRED);

	(void)now;
	record->id = operation;
	record->status = status;
	record->offset = bytes;
}

static void on_exposed(void *owner, uint64_t operation, enum fabric_status status,
		       const struct buffer_descriptor *descriptor, nanoseconds now)
{
	struct driven_record *record = note(owner, DRIVEN_EXPOSED);

	(void)now;
	record->id = operation;
	record->status = status;
	record->offset = descriptor->offset;
	record->token = descriptor->token;
	record->length = descriptor->length;
}

static void on_revoked(void *owner, uint64_t operation, enum fabric_status status, nanoseconds now)
{
	struct driven_record *record = note(owner, DRIVEN_REVOKED);

	(void)now;
	record->id = operation;
	record->status = status;
}

static void on_invalidated(void *owner, uint32_t token, nanoseconds now)
{
	(void)now;
	note(owner, DRIVEN_INVALIDATED)->token = token;
}

static void on_writable(void *owner, nanoseconds now)
{
	(void)now;
	note(owner, DRIVEN_WRITABLE);
}

static void on_closed(void *owner, enum close_reason reason, const char *words, nanoseconds now)
{
	struct driven_record *record = note(owner, DRIVEN_CLOSED);

	(void)now;
	record->status = reason;
	copy_bytes(record, words, (uint32_t)strlen(words));
}

static const struct smbd_events events = {
	.established = on_established,
	.message = on_message,
	.transferred = on_transferred,
	.exposed = on_exposed,
	.revoked = on_revoked,
	.invalidated = on_invalidated,
	.writable = on_writable,
	.closed = on_closed,
};

static struct smbd_config config_of(const struct driven_config *config)
{
	return (struct smbd_config){
		.receive_credit_max = (uint16_t)config->receive_credit_max,
		.send_credit_target = (uint16_t)config->send_credit_target,
		.max_send_size = config->max_send_size,
		.max_receive_size = config->max_receive_size,
		.max_fragmented_size = config->max_fragmented_size,
		.max_read_write_size = config->max_read_write_size,
		.read_depth = config->read_depth,
		.negotiate_timeout = config->negotiate_timeout,
		.idle_timeout = config->idle_timeout,
		.keepalive_interval = config->keepalive_interval,
		.keepalive_timeout = config->keepalive_timeout,
		.send_timeout = config->send_timeout,
	};
}

struct driven *driven_create(const struct driven_config *config, uint32_t region_size,
			     const uint8_t *private_data, uint32_t private_length, uint64_t now)
{
	struct fabric_memory_config memory = {
		.limits = {.send_queue = config->send_queue,
			   .receive_queue = config->receive_queue,
			   .initiator_depth = config->initiator_depth,
			   .transfer_bytes = config->transfer_bytes},
		.transport = config->iwarp ? FABRIC_TRANSPORT_IWARP : FABRIC_TRANSPORT_MEMORY,
	};
	struct smbd_config engine = config_of(config);
	struct driven *driven = calloc(1, sizeof(*driven));

	CHECK(driven && private_length <= FABRIC_MAX_PRIVATE_DATA);
	CHECK(fabric_memory_create(&memory, &driven->fabric) == 0);
	CHECK(fabric_memory_qp_create(driven->fabric, &driven->qp) == 0);
	driven->memory = malloc(region_size);
	CHECK(driven->memory);
	CHECK(fabric_register(fabric_memory_device(driven->fabric), driven->memory, region_size,
			      &driven->region) == 0);
	if (private_length > 0)
		memcpy(driven->qp->private_data, private_data, private_length);
	driven->qp->private_data_length = private_length;
	CHECK(smbd_create(driven->qp, config->server ? SMBD_SERVER : SMBD_CLIENT, &engine, &events,
			  driven, now, &driven->connection) == 0);
	return driven;
}

void driven_destroy(struct driven *driven)
{
	forget(driven);
	free(driven->records);
	smbd_destroy(driven->connection);
	for (size_t i = 0; i < driven->message_count; i++)
		smbd_message_destroy(driven->messages[i]);
	free(driven->messages);
	fabric_deregister(driven->region);
	CHECK(fabric_memory_device(driven->fabric)->region_count == 0);
	fabric_destroy(driven->fabric);
	free(driven->memory);
	free(driven);
}

uint8_t *driven_region(struct driven *driven)
{
	return driven->memory;
}

size_t driven_records(struct driven *driven, const struct driven_record **ret)
{
	note_posts(driven);
	*ret = driven->records;
	return driven->count;
}

void driven_facts(struct driven *driven, struct driven_facts *ret)
{
	struct smbd_facts facts;

	smbd_facts(driven->connection, &facts);
	*ret = (struct driven_facts){
		.state = driven->connection->state,
		.receives = fabric_memory_receives(driven->qp),
		.send_credits = facts.send_credits,
		.receive_credits = facts.receive_credits,
		.receive_credit_target = facts.receive_credit_target,
		.writable = smbd_writable(driven->connection),
		.max_send_size = facts.max_send_size,
		.max_receive_size = facts.max_receive_size,
		.max_fragmented_send_size = facts.max_fragmented_send_size,
		.max_read_write_size = facts.max_read_write_size,
		.read_depth = facts.read_depth,
		.deadline = smbd_deadline(driven->connection),
		.messages_sent = facts.messages_sent,
		.messages_received = facts.messages_received,
		.bytes_sent = facts.bytes_sent,
		.bytes_received = facts.bytes_received,
		.rdma_written_bytes = facts.rdma_written_bytes,
		.rdma_read_bytes = facts.rdma_read_bytes,
		.stalls_send_credit = facts.stalls_send_credit,
		.stalls_send_queue = facts.stalls_send_queue,
		.stalls_read_depth = facts.stalls_read_depth,
		.stalls_unconsumed = facts.stalls_unconsumed,
		.queued_bytes = facts.queued_bytes,
		.unconsumed_bytes = facts.unconsumed_bytes,
	};
}

/* The client's queue pair connects; the server's was accepted by the engine. */
void driven_establish(struct driven *driven)
{
	fabric_memory_establish(driven->qp);
}

int driven_arrive(struct driven *driven, const uint8_t *bytes, uint32_t length)
{
	return fabric_memory_arrive(driven->qp, bytes, length);
}

int driven_arrive_invalidating(struct driven *driven, const uint8_t *bytes, uint32_t length,
			       uint32_t token)
{
	return fabric_memory_arrive_invalidating(driven->qp, bytes, length, token);
}

void driven_finish(struct driven *driven, uint64_t number, uint32_t status, const uint8_t *bytes)
{
	fabric_memory_finish(driven->qp, number, status, bytes);
}

void driven_lose(struct driven *driven, uint32_t reason)
{
	fabric_memory_lose(driven->qp, reason, "lost");
}

void driven_deliver(struct driven *driven, uint64_t now)
{
	forget(driven);
	while (fabric_memory_step(driven->fabric, now))
		note_posts(driven); /* before the next step may flush them */
}

int driven_send(struct driven *driven, const uint8_t *bytes, uint32_t length, int invalidate,
		uint32_t token, uint64_t now)
{
	struct smbd_message *message = smbd_message_create(length);

	forget(driven);
	CHECK(message);
	if (length > 0)
		memcpy(message->data, bytes, length);
	message->invalidate = invalidate;
	message->token = token;
	return smbd_send(driven->connection, message, now);
}

int driven_rdma(struct driven *driven, uint64_t operation, int read, uint32_t offset,
		uint64_t length, const uint8_t *descriptors, uint32_t count, uint64_t now)
{
	struct buffer_descriptor *parsed = calloc(count + 1, sizeof(*parsed));
	struct smbd_transfer transfer = {
		.operation = operation,
		.direction = read ? SMBD_RDMA_READ : SMBD_RDMA_WRITE,
		.region = driven->region,
		.address = driven->memory + offset,
		.length = length,
		.descriptor_count = count,
		.descriptors = parsed,
	};
	int error;

	forget(driven);
	CHECK(parsed);
	for (uint32_t i = 0; i < count; i++)
		smbd_descriptor_parse(descriptors + (size_t)i * BUFFER_DESCRIPTOR_SIZE, &parsed[i]);
	error = smbd_rdma(driven->connection, &transfer, now);
	free(parsed);
	return error;
}

int driven_expose(struct driven *driven, uint64_t operation, uint32_t offset, uint64_t length,
		  uint32_t access, uint64_t now)
{
	forget(driven);
	return smbd_expose(driven->connection, operation, driven->region, driven->memory + offset,
			   length, access, now);
}

int driven_revoke(struct driven *driven, uint64_t operation, uint32_t token, uint64_t now)
{
	forget(driven);
	return smbd_revoke(driven->connection, operation, token, now);
}

void driven_consumed(struct driven *driven, uint64_t number, uint64_t now)
{
	struct smbd_message *message = driven->messages[number];

	forget(driven);
	driven->messages[number] = NULL;
	smbd_consumed(driven->connection, message, now);
}

void driven_cork(struct driven *driven)
{
	forget(driven);
	smbd_cork(driven->connection);
}

void driven_uncork(struct driven *driven, uint64_t now)
{
	forget(driven);
	smbd_uncork(driven->connection, now);
}

void driven_close(struct driven *driven, uint32_t reason, int graceful, uint64_t now)
{
	forget(driven);
	smbd_close(driven->connection, reason, graceful, now);
}

void driven_on_time(struct driven *driven, uint64_t now)
{
	forget(driven);
	smbd_on_time(driven->connection, now);
}
