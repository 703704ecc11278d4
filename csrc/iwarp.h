/*
 * User-space iWARP, the inside: what fabric_iwarp.c and the iwarp_*.c share. Nobody else includes
 * this.
 *
 *   fabric_iwarp.c    the fabric, listeners, set-up of a connection up to the MPA reply
 *   iwarp_queue.c     work requests in, completions out, the end of a queue pair
 *   iwarp_send.c      messages become FPDUs, many FPDUs become one sendmsg
 *   iwarp_receive.c   bytes become FPDUs, payload goes to its place
 *   iwarp_memory.c    regions and windows: who may touch what
 *
 * One queue pair is one TCP socket. A queue pair that has not finished MPA as responder is
 * "half-open": it belongs to the fabric, costs a bounded amount of memory and time, and makes room
 * for newer ones.
 */
#ifndef IWARP_H
#define IWARP_H

#include <sys/uio.h>

#include "ddp.h"
#include "fabric.h"
#include "mpa.h"
#include "trace.h"

enum {
	IWARP_DEPTH_MAX = 128,	      /* Reads outstanding in one direction: as Linux siw */
	IWARP_QUEUE_MAX = 16384,      /* work requests, and receives, of one queue pair */
	IWARP_SGES_MAX = 16,	      /* of one Send or Write */
	IWARP_TRANSFER_MAX = 1 << 30, /* bytes of one Write or Read */
	IWARP_WINDOWS_MAX = 16384,    /* of one queue pair */
	IWARP_ULPDU_MIN = 128,	      /* RFC 5044 section 4.2: the least that MPA must carry */

	IWARP_RECEIVE_BUDGET = 1 << 20, /* bytes taken from one peer before others get a turn */
	/* Bytes of one sendmsg, and of one turn: a MiB in FPDUs, and the Send behind it. */
	IWARP_SEND_BUDGET = (1 << 20) + (64 << 10),
	IWARP_STAGING = 64 << 10, /* bytes received where no payload is expected */
	/*
	 * Where tagged payload may come: a copy of this many bytes costs about as much as a system
	 * call.
	 */
	IWARP_STAGING_TAGGED = 4 << 10,
	/* Bytes of payload for which a direct receive is worth an iovec. */
	IWARP_DIRECT_MIN = 4 << 10,

	IWARP_WORDS = 192, /* bytes of the sentence that says why a queue pair ended */
};

enum iwarp_state {
	IWARP_CONNECTING,      /* initiator: TCP is being set up */
	IWARP_REQUEST_SENT,    /* initiator: the MPA reply is awaited */
	IWARP_REQUEST_AWAITED, /* responder: half-open */
	IWARP_REQUESTED,       /* responder: the owner has to accept or reject */
	IWARP_ACCEPTED,	       /* responder: the reply is out; no more before the first FPDU came */
	IWARP_ESTABLISHED,     /* full operation */
	IWARP_ENDED,	       /* the socket is dead; flushing and `disconnected` are due */
	IWARP_CLOSED,	       /* `disconnected` was delivered; only destruction is left */
};

struct iwarp_fabric {
	struct fabric base;
	struct fabric_device device;
	struct fabric_iwarp_config config;
	uint64_t random; /* state of the generator of keys and offsets */
	struct iwarp_qp *half_open_first, *half_open_last; /* oldest first */
	uint32_t half_open_count;
	uint8_t staging
		[IWARP_STAGING]; /* received, on the way through the parser; empty between calls */
};

/* A message on its way out, or a Read whose response is on its way in. */
struct iwarp_work {
	struct iwarp_work *next;
	uint64_t id;
	uint64_t to;	       /* tagged; Read Request: of the source */
	uint32_t stag;	       /* likewise; Send with Invalidate: what to invalidate */
	uint32_t sink;	       /* Read Request: our STag, which the response will bear */
	uint32_t msn;	       /* untagged */
	uint32_t length, done; /* bytes of payload; Read Request: of the response */
	enum rdmap_opcode opcode;
	bool signalled;
	struct iwarp_window *window; /* Read Response: the source */
	uint32_t piece_count;
	struct iovec pieces[];
};

struct iwarp_queue {
	struct iwarp_work *first, **last;
};

/* Room for `count` messages; the one freed last is used next, so that few are ever touched. */
struct iwarp_pool {
	uint8_t *memory;
	size_t stride;
	uint32_t count, fresh, used; /* fresh: those from here on were never used */
	struct iwarp_work *free;
};

struct iwarp_posted_receive {
	uint64_t id;
	uint8_t *address;
	uint32_t length;
};

struct iwarp_window {
	struct fabric_window base;
	uint8_t *memory;
	unsigned access;
	bool valid;	    /* the peer has not invalidated it */
	uint32_t responses; /* Read Responses that take from it */
	uint64_t
		written; /* where what the peer ever wrote ends, from the beginning of the window */
};

struct iwarp_window_table {
	struct iwarp_window **slots;
	uint32_t room, count;
	uint32_t writable; /* windows through which tagged payload may come */
};

struct iwarp_send_state {
	struct iwarp_queue
		works; /* Sends, Writes and Read Requests, in the order in which they were posted */
	struct iwarp_queue responses; /* Read Responses */
	struct iwarp_queue reads;     /* Read Requests that are out and not answered */
	uint32_t fpdu_sent;	      /* bytes of the first FPDU that have already gone */
	bool responding;	  /* the message under way, if any, is the first of `responses` */
	bool blocked;		  /* the socket takes no more until EPOLLOUT */
	uint32_t msn[DDP_QUEUES]; /* of the next message */
	uint32_t read_count;	  /* Reads posted and not completed */
};

enum iwarp_step {
	IWARP_HEADER,
	IWARP_PAYLOAD,
	IWARP_TRAILER,
};

struct iwarp_receive_state {
	enum iwarp_step step;
	uint8_t header[MPA_LENGTH_SIZE + DDP_HEADER_MAX];
	uint8_t trailer[MPA_TRAILER_MAX];
	uint32_t held;	      /* bytes of header or trailer that are there */
	uint32_t header_size; /* bytes of it, as far as its beginning tells */
	uint32_t ulpdu_length;
	uint32_t crc; /* running, over the FPDU so far */
	struct ddp_segment segment;
	uint8_t *place;		     /* where the payload goes on */
	uint32_t left;		     /* bytes of it still to come */
	uint32_t payload;	     /* bytes of it in this segment */
	struct iwarp_window *window; /* that a Write goes to */
	bool message_open;	     /* a Send has begun */
	enum rdmap_opcode message_opcode;
	uint32_t message_bytes;
	struct iwarp_posted_receive message; /* where it goes */
	uint32_t msn[DDP_QUEUES];	     /* expected next */
	uint8_t terminate[RDMAP_TERMINATE_MAX];
};

/* While MPA goes on: the frame being collected, or the request waiting for TCP. */
struct iwarp_setup {
	size_t length;
	uint8_t bytes[MPA_FRAME_MAX + 1]; /* one more shows that somebody spoke too early */
	struct mpa_frame offer;		  /* responder: what the initiator asked for */
};

struct iwarp_qp {
	struct fabric_qp base;
	enum iwarp_state state;
	bool crc;
	bool established_due;
	int fd;
	struct loop_watch watch;
	struct loop_task task;
	struct loop_timer timer; /* of the set-up */
	struct iwarp_setup *setup;
	struct fabric_listener *listener; /* half-open only: whom to tell */
	struct iwarp_qp *half_open_previous, *half_open_next;
	bool *alive; /* during a call of the owner's function: cleared by destruction */

	struct iwarp_send_state send;
	struct iwarp_receive_state receive;
	struct iwarp_pool works, responses;
	struct iwarp_posted_receive *receives; /* a stack: the one posted last is used next */
	uint32_t receive_count, receive_room;
	struct fabric_completion *completions; /* [head, count) wait for delivery */
	uint32_t completion_head, completion_count, completion_room;
	struct iwarp_window_table windows;

	enum close_reason reason;
	char words[IWARP_WORDS];
};

struct iwarp_listener {
	struct fabric_listener base;
	struct loop_watch watch;
	struct loop_timer retry; /* descriptors or memory ran out */
	bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp);
};

static inline struct iwarp_fabric *iwarp_fabric(struct fabric *fabric)
{
	return (struct iwarp_fabric *)fabric;
}

static inline struct iwarp_fabric *iwarp_fabric_of(const struct iwarp_qp *qp)
{
	return (struct iwarp_fabric *)qp->base.fabric;
}

static inline struct iwarp_qp *iwarp_qp(struct fabric_qp *qp)
{
	return (struct iwarp_qp *)qp;
}

/* fabric_iwarp.c */

uint64_t iwarp_random(struct iwarp_fabric *fabric);
void iwarp_qp_destroy(struct fabric_qp *qp);

/* iwarp_queue.c */

int iwarp_queue_create(
	struct iwarp_qp *qp); /* room for what qp->base.limits says; once, when they are fixed */
void iwarp_queue_destroy(struct iwarp_qp *qp);
int iwarp_post_receive(struct fabric_qp *qp, uint64_t id, const struct fabric_sge *sge);
int iwarp_post(struct fabric_qp *qp, const struct fabric_work *first);
void iwarp_disconnect(struct fabric_qp *qp);

struct iwarp_work *iwarp_pool_take(struct iwarp_pool *pool); /* NULL: all are used */
void iwarp_pool_give(struct iwarp_pool *pool, struct iwarp_work *work);
void iwarp_queue_push(struct iwarp_queue *queue, struct iwarp_work *work);
struct iwarp_work *iwarp_queue_pop(struct iwarp_queue *queue);

/* Room for one more completion than can be due now; then iwarp_complete cannot fail. */
int iwarp_completions_reserve(struct iwarp_qp *qp, uint32_t more);
void iwarp_complete(struct iwarp_qp *qp, const struct fabric_completion *completion);
bool iwarp_may_discard(const struct fabric_qp *base);
void iwarp_complete_work(struct iwarp_qp *qp, struct iwarp_work *work, enum fabric_status status);

/*
 * Tells the owner what there is to tell. False: the owner has destroyed the queue pair, nothing of
 * it may be touched any more.
 */
bool iwarp_deliver(struct iwarp_qp *qp);
void iwarp_schedule(struct iwarp_qp *qp); /* send and deliver at the end of this turn */

/* The end: the first reason counts; the rest follows from the loop. */
__attribute__((format(printf, 3, 4))) void iwarp_end(struct iwarp_qp *qp, enum close_reason reason,
						     const char *format, ...);
/* The same after a Terminate that names the error of the peer. */
void iwarp_terminate(struct iwarp_qp *qp, enum rdmap_error error);

/* iwarp_send.c */

void iwarp_transmit(struct iwarp_qp *qp);
void iwarp_writable(struct iwarp_qp *qp); /* EPOLLOUT */
bool iwarp_send_frame(struct iwarp_qp *qp, const uint8_t *bytes,
		      size_t length); /* all of it, or false */
void iwarp_send_terminate(struct iwarp_qp *qp, enum rdmap_error error);

/* iwarp_receive.c */

void iwarp_receive_start(struct iwarp_qp *qp); /* before the first byte behind MPA's frames */
bool iwarp_receive(struct iwarp_qp *qp);       /* as iwarp_deliver */

/* iwarp_memory.c */

int iwarp_register(struct fabric_device *device, void *base, size_t length,
		   struct fabric_region **ret);
void iwarp_deregister(struct fabric_region *region);
int iwarp_expose(struct fabric_qp *qp, struct fabric_region *region, void *base, size_t length,
		 unsigned access, uint64_t id, struct fabric_window **ret);
int iwarp_revoke(struct fabric_window *window, uint64_t id);
void iwarp_windows_destroy(struct iwarp_qp *qp);
/* The memory that the peer names, if it may; else NULL and the error, worded as for RDMAP. */
struct iwarp_window *iwarp_window_find(struct iwarp_qp *qp, uint32_t stag, uint64_t to,
				       uint64_t length, unsigned access, enum rdmap_error *error);
bool iwarp_window_invalidate(struct iwarp_qp *qp, uint32_t stag);

#endif
