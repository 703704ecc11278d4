/*
 * The C engine as a property test sees it: one connection whose queue pair is played by the test. Every event of the
 * contract is a function; what the engine does about it is a list of records. cffi reads this file without its
 * preprocessor lines.
 */
#ifndef SMBD_DRIVEN_H
#define SMBD_DRIVEN_H

#include <stddef.h>
#include <stdint.h>

struct driven;

struct driven_config {
	uint32_t server;
	uint32_t receive_credit_max, send_credit_target, max_send_size, max_receive_size,
		max_fragmented_size;
	uint32_t max_read_write_size, read_depth;
	uint64_t negotiate_timeout, idle_timeout, keepalive_interval, keepalive_timeout,
		send_timeout;
	/* the queue pair's */
	uint32_t send_queue, receive_queue, initiator_depth, iwarp;
	uint64_t transfer_bytes;
};

enum driven_kind {
	DRIVEN_POST = 1, /* number, call, id, opcode, signalled, offset, token, bytes */
	DRIVEN_ESTABLISHED,
	DRIVEN_DELIVER,	    /* number: of the message, for driven_consumed; bytes */
	DRIVEN_TRANSFERRED, /* id: operation, status, offset: bytes moved */
	DRIVEN_EXPOSED,	    /* id: operation, status, offset, token, length */
	DRIVEN_REVOKED,	    /* id: operation, status */
	DRIVEN_INVALIDATED, /* token */
	DRIVEN_WRITABLE,
	DRIVEN_CLOSED, /* status: close reason; bytes: words */
};

struct driven_record {
	uint32_t kind;
	uint32_t opcode, signalled, status, token, length;
	uint64_t number, call, id, offset;
	const uint8_t *bytes; /* `length` of them; valid until the next event */
};

struct driven_facts {
	uint32_t state, receives, send_credits, receive_credits, receive_credit_target, writable;
	uint32_t max_send_size, max_receive_size, max_fragmented_send_size, max_read_write_size,
		read_depth;
	uint64_t deadline;
	uint64_t messages_sent, messages_received, bytes_sent, bytes_received, rdma_written_bytes,
		rdma_read_bytes;
	uint64_t stalls_send_credit, stalls_send_queue, stalls_read_depth, stalls_unconsumed;
	uint64_t queued_bytes, unconsumed_bytes;
};

/* `region_size` bytes of registered memory, filled by the caller through driven_region. */
struct driven *driven_create(const struct driven_config *config, uint32_t region_size,
			     const uint8_t *private_data, uint32_t private_length, uint64_t now);
void driven_destroy(struct driven *driven);
uint8_t *driven_region(struct driven *driven);

/* Records since the last event; valid until the next one. */
size_t driven_records(struct driven *driven, const struct driven_record **ret);
void driven_facts(struct driven *driven, struct driven_facts *ret);

/* The fabric's side. What was arranged is handed over by driven_deliver. */
void driven_establish(struct driven *driven);
int driven_arrive(struct driven *driven, const uint8_t *bytes, uint32_t length);
int driven_arrive_invalidating(struct driven *driven, const uint8_t *bytes, uint32_t length,
			       uint32_t token);
void driven_finish(struct driven *driven, uint64_t number, uint32_t status, const uint8_t *bytes);
void driven_lose(struct driven *driven, uint32_t reason);
void driven_deliver(struct driven *driven, uint64_t now);

/* The owner's side. */
int driven_send(struct driven *driven, const uint8_t *bytes, uint32_t length, int invalidate,
		uint32_t token, uint64_t now);
/* `descriptors`: 16 bytes each, as on the wire. */
int driven_rdma(struct driven *driven, uint64_t operation, int read, uint32_t offset,
		uint64_t length, const uint8_t *descriptors, uint32_t count, uint64_t now);
int driven_expose(struct driven *driven, uint64_t operation, uint32_t offset, uint64_t length,
		  uint32_t access, uint64_t now);
int driven_revoke(struct driven *driven, uint64_t operation, uint32_t token, uint64_t now);
void driven_consumed(struct driven *driven, uint64_t number, uint64_t now);
void driven_cork(struct driven *driven);
void driven_uncork(struct driven *driven, uint64_t now);
void driven_close(struct driven *driven, uint32_t reason, int graceful, uint64_t now);
void driven_on_time(struct driven *driven, uint64_t now);

#endif
