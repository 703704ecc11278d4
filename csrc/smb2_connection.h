/* What C must know of a connection to serve READs and WRITEs of it; smb2_serve.h tells how. */
#ifndef SMB2_CONNECTION_H
#define SMB2_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smb2_opens.h"
#include "smb2_ranges.h"
#include "smb2_signing.h"
#include "smb2_window.h"

enum {
	/* Sessions that are served without Python; a client machine has one, a terminal server's dozens go by Python. */
	SMB2_SESSIONS_MAX = 16,
};

struct smb2_session {
	uint64_t id;
	bool must_sign; /* unsigned requests are Python's to refuse */
	struct smb2_signing
		*signing; /* its key on this connection; NULL: what is signed is Python's */
};

struct smb2_connection {
	/* Whose they are: the worker's; the window is the connection's. All outlive this. */
	struct smb2_opens *opens;
	struct smb2_ranges *ranges; /* NULL without RDMA */
	struct smb2_window *window; /* NULL before NEGOTIATE */

	struct smb2_session sessions[SMB2_SESSIONS_MAX];
	uint32_t session_count;
	uint32_t max_read_size, max_write_size;
	uint32_t max_inline;   /* bytes of payload in a message that is served here */
	uint64_t written_max;  /* where WRITEs end at most */
	uint32_t channel_max;  /* the last smb2_channel that dialect and transport have */
	uint32_t pool;	       /* the number of `ranges`' pool on this channel */
	bool large_mtu;	       /* CreditCharge counts */
	bool counts_sequences; /* requests carry a ChannelSequence */

	/* What the last call of `smb2_serve` made, in memory that the caller lends. */
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

/*
 * A session's requests are served here from now on, or no more. False: there are too many. `signing` is the connection's
 * from here on, whatever comes of it, and destroyed with the session.
 */
bool smb2_connection_add_session(struct smb2_connection *connection, uint64_t session_id,
				 bool must_sign, struct smb2_signing *signing);
void smb2_connection_drop_session(struct smb2_connection *connection, uint64_t session_id);

/*
 * Whether the session of a request is served here, and signed as it wants it: `ret` verifies the request and signs its
 * answer, NULL if it is not signed.
 */
bool smb2_connection_find_session(const struct smb2_connection *connection, const uint8_t *header,
				  struct smb2_signing **ret);

/* The connection has ended: its keys are gone, its ranges are free, WRITEs under way are forgotten. */
void smb2_connection_end(struct smb2_connection *connection);

static inline size_t smb2_connection_room(const struct smb2_connection *connection)
{
	return connection->replies_size - connection->replies_length;
}

#endif
