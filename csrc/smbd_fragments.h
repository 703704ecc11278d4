/*
 * Segments out, messages in ([MS-SMBD] 3.1.5.1 and 3.1.5.8).
 *
 * An SMB2 message that does not fit into one receive of the other side travels in several data transfer messages, its
 * segments. They stand in their order, and no segment of another message is among them; empty messages may be. How
 * large a segment is, is the sender's affair.
 */
#ifndef SMBD_FRAGMENTS_H
#define SMBD_FRAGMENTS_H

#include "smbd_connection.h"
#include "smbd_wire.h"

enum {
	/* Bytes that a message costs besides its data: structure and allocator. Bounds many small ones, too. */
	SMBD_MESSAGE_OVERHEAD = 64,
};

static inline uint64_t smbd_message_cost(const struct smbd_message *message)
{
	return (uint64_t)SMBD_MESSAGE_OVERHEAD + message->length;
}

/* While somebody of this thread holds them, the memory of a few large messages is kept for the next ones. */
void smbd_spares_hold(void);
void smbd_spares_release(void);

/* Messages on their way out; the first one may be partly sent. */
struct smbd_outgoing {
	struct smbd_message *first, *last;
	uint64_t bytes;	 /* the cost of all of them */
	uint64_t queued; /* messages ever queued: their order among Writes, see smbd_rdma.h */
	uint64_t sent;	 /* messages whose last segment has been cut */
};

void smbd_outgoing_add(struct smbd_outgoing *outgoing, struct smbd_message *message);
/*
 * Cuts the next segment, at most `size` bytes of payload, into `payload`, and fills `remaining` and `length` of the
 * header. With its last segment the message leaves the queue and is returned (the caller's); else NULL.
 */
struct smbd_message *smbd_outgoing_cut(struct smbd_outgoing *outgoing, uint32_t size,
				       uint8_t *payload, struct smbd_data_transfer *header);
void smbd_outgoing_clear(struct smbd_outgoing *outgoing);

/* The one message that is being put together. */
struct smbd_incoming {
	struct smbd_message *message; /* NULL between messages */
	uint32_t size_max;	      /* bytes of one message: our MaxFragmentedSize */
	bool out_of_memory;	      /* why smbd_incoming_add said no */
};

/* Adds a segment that has payload. `complete`: the whole message (the caller's), or NULL. Returns what is wrong. */
const char *smbd_incoming_add(struct smbd_incoming *incoming,
			      const struct smbd_data_transfer *header, const uint8_t *payload,
			      struct smbd_message **complete);
void smbd_incoming_clear(struct smbd_incoming *incoming);

#endif
