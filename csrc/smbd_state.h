/*
 * What one SMB Direct connection consists of. For the files of the engine only: its owner sees smbd_connection.h.
 */
#ifndef SMBD_STATE_H
#define SMBD_STATE_H

#include "smbd_buffers.h"
#include "smbd_connection.h"
#include "smbd_credits.h"
#include "smbd_fragments.h"
#include "smbd_queue.h"
#include "smbd_rdma.h"
#include "smbd_windows.h"
#include "smbd_wire.h"

enum smbd_state {
	SMBD_CONNECTING,  /* the queue pair is not established yet */
	SMBD_NEGOTIATING, /* client: the request is sent; server: waits for it */
	SMBD_ESTABLISHED, /* messages flow */
	SMBD_CLOSING,	  /* what is queued is still sent, nothing new is taken; then: dead */
	SMBD_DEAD,	  /* nothing is posted any more; the queue pair was asked to end */
	SMBD_CLOSED,	  /* the queue pair has ended; the owner was told */
};

/* Keepalive of the client role ([MS-SMBD] 3.1.1.1 KeepaliveRequested). */
enum smbd_ping {
	SMBD_PING_NONE,
	SMBD_PING_DUE,	/* the next message that is sent asks for a response */
	SMBD_PING_SENT, /* any message that arrives is the response */
};

struct smbd_connection {
	struct fabric_qp *qp;
	enum smbd_role role;
	enum smbd_state state;
	struct smbd_config config; /* complete: no zeros */
	const struct smbd_events *events;
	void *owner;
	unsigned held; /* no pumping now: inside a callback, or corked by the owner */

	uint32_t max_send_size, max_receive_size; /* of one segment, as agreed on */
	uint32_t max_fragmented_send_size;
	uint32_t max_read_write_size;

	struct smbd_buffers buffers;
	struct smbd_credits credits;
	struct smbd_queue queue;
	struct smbd_outgoing outgoing;
	struct smbd_incoming incoming;
	struct smbd_rdma rdma;
	struct smbd_windows windows;

	bool full;	 /* the owner was told to stop: smbd_writable said no */
	bool answer_due; /* the peer asked for a response */
	enum smbd_ping ping;
	uint64_t unconsumed; /* cost of the messages that the owner has */

	nanoseconds created;  /* negotiation is measured from here */
	nanoseconds received; /* the last message of the peer */
	nanoseconds sent;     /* our last message */
	nanoseconds pinged;
	nanoseconds waiting; /* since when work waits without any progress; 0: none waits */
	nanoseconds closing; /* when the graceful close began */
	nanoseconds rested;  /* the last message, of either side, that smbd_rest knows of */
	bool at_rest;	     /* nothing was touched since the pages were given back */

	/* Why something waits now; a counter grows when one of them begins. */
	bool stalled_send_credit, stalled_send_queue, stalled_read_depth, stalled_unconsumed;
	struct smbd_facts counted; /* the counters; smbd_facts adds the rest */

	enum close_reason reason; /* the first one */
	char words[160];
};

/* smbd_negotiation.c */
void smbd_negotiation_begin(struct smbd_connection *connection,
			    nanoseconds now); /* the queue pair is established */
void smbd_negotiation_receive(struct smbd_connection *connection, const uint8_t *bytes,
			      uint32_t length, nanoseconds now);

/* smbd_completions.c */
void smbd_on_completions(struct fabric_qp *qp, const struct fabric_completion *completions,
			 size_t count, nanoseconds now);
void smbd_report(struct smbd_connection *connection, struct smbd_rdma_transfer *transfer,
		 nanoseconds now); /* tells the owner of its end, and frees it */

/* smbd_posting.c */
void smbd_hold(struct smbd_connection *connection); /* nothing is posted until let go */
void smbd_let_go(struct smbd_connection *connection, nanoseconds now);
int smbd_post_receive(struct smbd_connection *connection); /* one, of a free slot; 0 or -errno */
void smbd_post_receives(
	struct smbd_connection *connection); /* as many as the peer may be granted */
void smbd_refused(struct smbd_connection *connection, int error,
		  const char *words); /* the queue pair took nothing */

/* smbd_connection.c */
void smbd_make_dead(struct smbd_connection *connection, enum close_reason reason,
		    const char *words);
void smbd_enter(struct smbd_connection *connection, enum smbd_state state);

#endif
