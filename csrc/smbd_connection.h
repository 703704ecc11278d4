/*
 * One SMB Direct connection, either role: [MS-SMBD] on top of one queue pair.
 *
 * This is a protocol engine: it opens no socket and reads no clock. It is driven by
 *   - what the queue pair tells (struct fabric_events, which this file implements),
 *   - what the channel asks (smbd_send, smbd_rdma, smbd_expose, smbd_revoke, smbd_consumed, smbd_close),
 *   - the time: smbd_deadline says when smbd_on_time wants to be called;
 * and it answers by posting on the queue pair and by calling struct smbd_events. smbdirect/connection.py is the
 * same engine in Python; property tests feed both the same events and compare what they post and deliver.
 *
 *   smbd_wire         the three messages and the descriptor: parse and build
 *   smbd_connection   states, requests of the owner, close
 *   smbd_negotiation  one message each way
 *   smbd_completions  what the queue pair tells
 *   smbd_posting      what may be posted now, in one chain
 *   smbd_timers       keepalive, silence, stalls
 *   smbd_credits      what may be sent, what is granted
 *   smbd_fragments    segments out, messages in
 *   smbd_rdma         RDMA Read and Write for buffer descriptors, read depth
 *   smbd_windows      what a client exposes
 *   smbd_queue        the send queue and chains for it
 *   smbd_buffers      the memory of segments
 */
#ifndef SMBD_CONNECTION_H
#define SMBD_CONNECTION_H

#include "fabric.h"
#include "path.h"

struct smbd_connection;

enum smbd_role {
	SMBD_CLIENT, /* the active side: sends the Negotiate Request */
	SMBD_SERVER, /* the passive side: answers it */
};

/*
 * What an administrator may set; zero means the default in brackets, and what is out of bounds is moved to the nearest
 * bound: credits 4 to 255, sizes of a segment 128 to 65536, read_depth 1 to 255. Names are those of [MS-SMBD] 3.1.1.1.
 */
struct smbd_config {
	uint16_t receive_credit_max; /* [255] receives posted at most */
	uint16_t
		send_credit_target; /* [200] CreditsRequested; above 256 cifs.ko 6.1 grants for ever */
	uint32_t max_send_size;	    /* [8192] bytes of one segment with its header */
	uint32_t max_receive_size; /* [8192] bytes of one posted receive, at least 128 */
	uint32_t
		max_fragmented_size; /* [1048576] bytes of one reassembled message, at least 131072 */
	uint32_t max_read_write_size; /* [8388608] bytes of one RDMA transfer */
	uint32_t
		read_depth; /* [32] RDMA Reads outstanding, both directions, before the device lowers it */
	nanoseconds negotiate_timeout; /* [10 s] connection to the end of negotiation */
	nanoseconds
		idle_timeout; /* [360 s] nothing heard for so long: the peer is dead (cifs.ko does not
	                                       answer pings on a quiet link, so silence is judged late) */
	nanoseconds
		keepalive_interval; /* [120 s] client role: nothing sent for so long: send an empty message
	                                       with SMB_DIRECT_RESPONSE_REQUESTED. Server role: never pings */
	nanoseconds
		keepalive_timeout; /* [30 s] client role: an unanswered ping ends the connection */
	nanoseconds send_timeout;  /* [60 s] messages wait and no credit or completion comes */
};

/*
 * A whole SMB2 message on its way. `data` follows the structure in one allocation (smbd_message_create); whoever
 * holds the pointer owns it. On the way in, ownership passes to the channel with the `message` event, and the
 * channel gives it back with smbd_consumed.
 */
struct smbd_message {
	struct smbd_message *next;
	bool invalidate; /* outgoing: the last segment is a Send with Invalidate ... */
	uint32_t token;	 /* ... of this token */
	uint32_t length; /* bytes of data */
	uint32_t done;	 /* bytes sent or received so far */
	uint32_t room;	 /* bytes that data has room for */
	uint8_t data[];
};

/* NULL without memory. A few large ones are kept per thread for the next: fresh pages cost more than the copying. */
struct smbd_message *smbd_message_create(uint32_t length);
void smbd_message_destroy(struct smbd_message *message); /* NULL is fine */

enum smbd_direction {
	SMBD_RDMA_WRITE, /* our memory to the peer's */
	SMBD_RDMA_READ,	 /* the peer's memory to ours */
};

/*
 * Moves `length` bytes between `address` (inside `region`) and the concatenation of the descriptors. Their sum
 * must be at least `length`; more is left untouched.
 */
struct smbd_transfer {
	uint64_t operation; /* the channel's number for it, comes back with `transferred` */
	enum smbd_direction direction;
	struct fabric_region *region;
	uint8_t *address;
	uint64_t length;
	uint32_t descriptor_count; /* 1 to MAX_DESCRIPTORS */
	const struct buffer_descriptor *descriptors;
};

/*
 * What the engine tells its owner. `closed` comes exactly once, after every outstanding transfer was reported as
 * failed; nothing follows it. The owner may call smbd_destroy from inside `closed`, and only there or later.
 */
struct smbd_events {
	void (*established)(void *owner,
			    nanoseconds now); /* negotiation is done: smbd_facts is complete */
	void (*message)(void *owner, struct smbd_message *message, nanoseconds now);
	/* status: FABRIC_OK and all bytes moved, or why not */
	void (*transferred)(void *owner, uint64_t operation, enum fabric_status status,
			    uint64_t bytes, nanoseconds now);
	void (*exposed)(void *owner, uint64_t operation, enum fabric_status status,
			const struct buffer_descriptor *descriptor, nanoseconds now);
	void (*revoked)(void *owner, uint64_t operation, enum fabric_status status,
			nanoseconds now);
	/*
	 * The peer ended an exposure by Send with Invalidate: it cannot touch the range any more. Comes once, before
	 * the message that carried it; the window is still to be revoked. May be NULL.
	 */
	void (*invalidated)(void *owner, uint32_t token, nanoseconds now);
	void (*writable)(void *owner,
			 nanoseconds now); /* queued bytes fell below SMBD_SEND_LOW_WATER */
	void (*closed)(void *owner, enum close_reason reason, const char *words, nanoseconds now);
};

enum {
	/* Bytes of messages waiting for credits: above, the channel stops reading from its worker. */
	SMBD_SEND_HIGH_WATER = 1 << 20,
	SMBD_SEND_LOW_WATER = 256 << 10,
	/* Bytes delivered and not consumed: above, no more receives are granted. */
	SMBD_UNCONSUMED_MAX = 4 << 20,
	/* Transfers (not work requests) waiting or under way on one connection. */
	SMBD_TRANSFERS_MAX = 1024,
	SMBD_WINDOWS_MAX = 4096,
};

/* What was agreed on, and what has happened; a consistent copy. */
struct smbd_facts {
	enum smbd_role role;
	uint32_t max_send_size, max_receive_size;
	uint32_t max_fragmented_send_size, max_fragmented_receive_size;
	uint32_t max_read_write_size;
	uint32_t read_depth;
	uint32_t send_credits, receive_credits;		    /* held now; granted to the peer now */
	uint32_t send_credit_target, receive_credit_target; /* ours asked; the peer asked */
	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;	      /* of SMB2 messages, inline */
	uint64_t rdma_written_bytes, rdma_read_bytes; /* placed by us */
	uint64_t stalls_send_credit, stalls_send_queue, stalls_read_depth, stalls_unconsumed;
	uint64_t
		queued_bytes; /* messages waiting for credits; each counts 64 bytes more than its data */
	uint64_t unconsumed_bytes; /* delivered, not consumed; likewise */
};

/*
 * Takes over `qp`, whose listener reported it (server) or which is being connected (client); sets its events and
 * owner, posts the receives. The server accepts the queue pair here. On failure the queue pair stays the caller's.
 */
int smbd_create(struct fabric_qp *qp, enum smbd_role role, const struct smbd_config *config,
		const struct smbd_events *events, void *owner, nanoseconds now,
		struct smbd_connection **ret);
void smbd_destroy(
	struct smbd_connection *connection); /* NULL is fine; destroys the queue pair too */

/* What fabric_connect needs for a client: limits and private data. Fills `parameters`, uses `blob` for the data. */
void smbd_client_parameters(const struct smbd_config *config, enum fabric_transport transport,
			    uint8_t blob[8], struct fabric_parameters *parameters);
/* The queue pair's events for fabric_connect; the owner must be set by smbd_create before the loop turns again. */
extern const struct fabric_events smbd_fabric_events;

/*
 * Between cork and uncork, requests are only queued; uncork posts them together: a Write and the message after it in one
 * chain. Nests. Inside this connection's callbacks the same holds by itself.
 */
void smbd_cork(struct smbd_connection *connection);
void smbd_uncork(struct smbd_connection *connection, nanoseconds now);

/*
 * Queue a message; always takes ownership. -EMSGSIZE: larger than the peer reassembles; -EINVAL: no bytes; -EPIPE:
 * not established, or closing.
 */
int smbd_send(struct smbd_connection *connection, struct smbd_message *message, nanoseconds now);
bool smbd_writable(
	const struct smbd_connection *connection); /* queued bytes are below SMBD_SEND_HIGH_WATER */

/*
 * Queue a transfer; the descriptors are copied. A Write and the messages queued after it take effect in order.
 * -EINVAL: no length or more than max_read_write_size, descriptors do not cover it, an empty descriptor, too many, a
 * range outside the region; -EBUSY: SMBD_TRANSFERS_MAX; -ENOTSUP: no Reads on this connection; -EPIPE: not established,
 * or closing. Then `transferred` is not called.
 */
int smbd_rdma(struct smbd_connection *connection, const struct smbd_transfer *transfer,
	      nanoseconds now);

/*
 * Client role: let the peer read or write a range; answered by `exposed`. Then `revoked` for the other.
 * -EINVAL: range or access; -EBUSY: SMBD_WINDOWS_MAX; -ENOENT: no such token; -EPIPE: not established, or closing.
 */
int smbd_expose(struct smbd_connection *connection, uint64_t operation,
		struct fabric_region *region, uint8_t *address, uint64_t length, unsigned access,
		nanoseconds now);
int smbd_revoke(struct smbd_connection *connection, uint64_t operation, uint32_t token,
		nanoseconds now);

/* The owner is done with a delivered message: frees it, and lets receives be granted again. */
void smbd_consumed(struct smbd_connection *connection, struct smbd_message *message,
		   nanoseconds now);

/*
 * Ends the connection: with `graceful`, what is queued is sent first (until send_timeout); else at once.
 * `closed` follows from the loop, never from inside this call.
 */
void smbd_close(struct smbd_connection *connection, enum close_reason reason, bool graceful,
		nanoseconds now);

nanoseconds smbd_deadline(const struct smbd_connection *connection); /* 0: none */
void smbd_on_time(struct smbd_connection *connection, nanoseconds now);
/*
 * To be called every few seconds. If nothing was said since the last call, the memory that messages have touched is given
 * back to the system: with 255 credits on both sides it may be 4 MiB.
 */
void smbd_rest(struct smbd_connection *connection);

void smbd_facts(const struct smbd_connection *connection, struct smbd_facts *ret);
struct fabric_qp *smbd_qp(const struct smbd_connection *connection);

#endif
