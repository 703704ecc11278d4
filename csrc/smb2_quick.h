/*
 * READs and WRITEs of one connection that are served in C, inside the worker: from the stream's bytes to the replies'.
 *
 *   1. a frame is whole: is it a READ or a WRITE, alone, plain, of a session     smb2_request.c
 *      that is bound to this connection? Its open is found
 *   2. READ: the data is read, into the reply or into a range of the pool        smb2_read.c
 *      WRITE: the data is written, or fetched first by RDMA Read                 smb2_write.c
 *   3. MessageIds are used, credits are granted                                  smb2_window.c
 *   4. the reply is written behind the others, an RDMA_WRITE before it
 *   5. a DONE: the range is free again, and a WRITE can be finished
 *
 * Whatever is not as simple as that is left where it stands: it would wait for a disk, it ends with an error, it is
 * signed, its bytes are locked, somebody must be told of it. Python serves it then from the beginning, with all that
 * the specification asks for. Nothing has changed before step 3, so every doubt may end this way.
 */
#ifndef SMB2_QUICK_H
#define SMB2_QUICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smb2_opens.h"
#include "smb2_ranges.h"
#include "smb2_window.h"

enum {
	/* Sessions that are served without Python; a client machine has one, a terminal server's dozens go by Python. */
	SMB2_SESSIONS_MAX = 16,
	/* Bytes of replies, payload by RDMA included, after which they leave: the peer works while more is made. */
	SMB2_REPLIES_DUE = 256 << 10,
	/* Frames taken at once: then others have a turn. */
	SMB2_FRAMES_MAX = 128,
};

struct smb2_quick {
	/* Whose they are: the worker's; the window is the connection's. All outlive this. */
	struct smb2_opens *opens;
	struct smb2_ranges *ranges; /* NULL without RDMA */
	struct smb2_window *window; /* NULL before NEGOTIATE */

	uint64_t sessions[SMB2_SESSIONS_MAX];
	uint32_t session_count;
	uint32_t max_read_size, max_write_size;
	uint32_t
		max_inline; /* bytes of payload in a message; what is longer Python moves without a copy */
	uint64_t written_max;  /* where WRITEs end at most */
	uint32_t channel_max;  /* the last smb2_channel that dialect and transport have */
	uint32_t pool;	       /* the number of `ranges`' pool on this channel */
	bool large_mtu;	       /* CreditCharge counts */
	bool counts_sequences; /* requests carry a ChannelSequence */

	/* What the last call of `smb2_quick_serve` made, in memory that the caller lends. */
	uint8_t *replies;
	size_t replies_size, replies_length;
	uint32_t frames; /* taken by this call */
	size_t moving;	 /* bytes that this call gave to RDMA */

	/* The WRITE with which this call ended, if it failed after it was ours: its errno, else 0. */
	int failed_error;
	bool failed_invalidates;
	uint32_t failed_token;
	uint8_t failed_header[SMB2_HEADER_SIZE];

	/* Since the start. */
	uint64_t messages_received, messages_sent, bytes_received, bytes_sent;
	uint64_t bytes_written, bytes_read; /* by RDMA */
	uint32_t in_flight;		    /* transfers without their DONE */
};

/* Serves frames from the first on, up to one that is incomplete or left to Python; the bytes of those that it took. */
size_t smb2_quick_serve(struct smb2_quick *quick, const uint8_t *frames, size_t length);

/* A session's requests are served here from now on, or no more. False: there are too many. */
bool smb2_quick_add_session(struct smb2_quick *quick, uint64_t session_id);
void smb2_quick_drop_session(struct smb2_quick *quick, uint64_t session_id);
bool smb2_quick_has_session(const struct smb2_quick *quick, uint64_t session_id);

/* The connection has ended: its ranges are free, WRITEs under way are forgotten. */
void smb2_quick_end(struct smb2_quick *quick);

static inline size_t smb2_quick_room(const struct smb2_quick *quick)
{
	return quick->replies_size - quick->replies_length;
}

#endif
