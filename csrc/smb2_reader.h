/*
 * READs of one connection that are answered in C, inside the worker: from the stream's bytes to the replies' bytes.
 *
 *   1. a frame is whole: is it a READ, alone, plain, of a session that is bound to this connection?
 *   2. its open is found, and nothing forbids the range
 *   3. the data is read, into the reply or into a range of the pool
 *   4. the MessageIds are used, credits are granted
 *   5. the reply is written behind the others, an RDMA_WRITE before it
 *
 * Whatever is not as simple as that is left where it stands: it would wait for a disk, it ends with an error, it is
 * signed, its bytes are locked. Python serves it then from the beginning, with all that the specification asks for.
 * Nothing has changed before step 4, so every doubt may end this way, and no refusal is ever made here.
 */
#ifndef SMB2_READER_H
#define SMB2_READER_H

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

struct smb2_reader {
	/* Whose they are: the worker's; the window is the connection's. All outlive the reader. */
	struct smb2_opens *opens;
	struct smb2_ranges *ranges;
	struct smb2_window *window; /* NULL before NEGOTIATE */

	uint64_t sessions[SMB2_SESSIONS_MAX];
	uint32_t session_count;
	uint32_t max_read_size;
	uint32_t
		max_inline; /* bytes of payload in a reply; what is longer Python sends without a copy */
	uint32_t channel_max;  /* the last smb2_channel that dialect and transport have */
	uint32_t pool;	       /* the number of `ranges`' pool on this channel */
	bool large_mtu;	       /* CreditCharge counts */
	bool counts_sequences; /* requests carry a ChannelSequence */

	/* What the last call of `smb2_reader_serve` made, in memory that the caller lends. */
	uint8_t *replies;
	size_t replies_size, replies_length;
	uint32_t frames; /* taken by this call */
	size_t placed;	 /* bytes that this call gave to RDMA */

	/* Since the start. */
	uint64_t messages, bytes_received, bytes_sent, bytes_placed;
	uint32_t in_flight; /* RDMA_WRITEs without their DONE */
};

/* Serves frames from the first on, up to one that is incomplete or left to Python; the bytes of those that it took. */
size_t smb2_reader_serve(struct smb2_reader *reader, const uint8_t *frames, size_t length);

/* A session's requests are served here from now on, or no more. False: there are too many. */
bool smb2_reader_add_session(struct smb2_reader *reader, uint64_t session_id);
void smb2_reader_drop_session(struct smb2_reader *reader, uint64_t session_id);

/* The connection has ended: its ranges are free. */
void smb2_reader_end(struct smb2_reader *reader);

#endif
