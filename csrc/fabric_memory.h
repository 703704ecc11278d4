/*
 * fabric.h inside one process, for tests: nothing happens before the test says so.
 *
 * Posting only puts a request into a list. The test then moves the world one step at a time, and may hold back what a
 * real fabric could delay. There are two ways to use it:
 *
 *   joined        fabric_listen and fabric_connect on one fabric join two queue pairs. fabric_memory_step carries out
 *                 the next thing on either side; fabric_memory_run goes on until nothing is left to do.
 *   single-ended  fabric_memory_qp_create makes a queue pair whose other end is the test: it reads what was posted
 *                 (fabric_memory_posted), says what became of it (fabric_memory_finish), and sends
 *                 (fabric_memory_arrive). fabric_memory_run then hands over the completions.
 *
 * The limits are those of the configuration, and are checked as the strictest device would: too much is -ENOSPC, memory
 * outside its region -EFAULT. It needs no loop; fabric.loop is NULL.
 */
#ifndef FABRIC_MEMORY_H
#define FABRIC_MEMORY_H

#include "fabric.h"

struct fabric_memory_config {
	struct fabric_limits limits;	 /* zero: a default that is large enough */
	enum fabric_transport transport; /* what the device says it is */
	struct loop *loop;		 /* for owners that want fabric.loop; may be NULL */
};

/* What is held back, per queue pair. Sends and Writes hold together: their order is the contract's. */
enum fabric_memory_hold {
	FABRIC_MEMORY_HOLD_WORK = 1,	 /* nothing that was posted is carried out */
	FABRIC_MEMORY_HOLD_ORDERED = 2,	 /* completions of Sends and Writes */
	FABRIC_MEMORY_HOLD_READS = 4,	 /* Reads: their bytes and their completions */
	FABRIC_MEMORY_HOLD_RECEIVES = 8, /* completions of receives */
};

/* One request as it was posted; valid until it is finished. */
struct fabric_memory_work {
	uint64_t number; /* of all that this queue pair was ever given: 1, 2, 3 ... */
	uint64_t call;	 /* of the fabric_post that brought it */
	uint64_t id;
	enum fabric_opcode opcode;
	bool signalled;
	uint64_t remote_offset;
	uint32_t remote_token;
	uint32_t length; /* bytes of all SGEs */
	uint32_t sge_count;
	struct fabric_sge *sges;
	struct fabric_memory_work *next;
};

int fabric_memory_create(const struct fabric_memory_config *config,
			 struct fabric **ret); /* NULL: defaults */
struct fabric_device *fabric_memory_device(struct fabric *fabric);

/* Does one thing; false when there was nothing to do. */
bool fabric_memory_step(struct fabric *fabric, nanoseconds now);
void fabric_memory_run(struct fabric *fabric, nanoseconds now);

void fabric_memory_hold(struct fabric_qp *qp,
			unsigned hold); /* bits of enum fabric_memory_hold; 0 lets go */
/* The connection is lost: all is flushed on both ends, then `disconnected` with this reason. `words` must live on. */
void fabric_memory_lose(struct fabric_qp *qp, enum close_reason reason, const char *words);
/* The nth call from now (1: the next) that may fail returns -error: register, post, post_receive, accept, expose. */
void fabric_memory_refuse(struct fabric *fabric, uint32_t nth, int error);

/* Single-ended. */
int fabric_memory_qp_create(struct fabric *fabric,
			    struct fabric_qp **ret); /* as a listener's request would bring it */
void fabric_memory_establish(
	struct fabric_qp *qp); /* `established` will be called; accept does the same */
/* The oldest unfinished request with a number above `after`; NULL if there is none. */
const struct fabric_memory_work *fabric_memory_posted(const struct fabric_qp *qp, uint64_t after);
void fabric_memory_gather(const struct fabric_memory_work *work,
			  void *ret); /* copies its `length` bytes */
/*
 * The request is carried out, or failed; `bytes` are what a Read brings. Finishing a Send or Write finishes those before
 * it. With a status other than FABRIC_OK the connection is lost.
 */
void fabric_memory_finish(struct fabric_qp *qp, uint64_t number, enum fabric_status status,
			  const void *bytes);
/* A Send of the peer. -ENOBUFS: no receive is posted; -EMSGSIZE: it is too small. */
int fabric_memory_arrive(struct fabric_qp *qp, const void *bytes, uint32_t length);
/* A Send with Invalidate. -ENOENT: nothing is exposed by this token. */
int fabric_memory_arrive_invalidating(struct fabric_qp *qp, const void *bytes, uint32_t length,
				      uint32_t token);
uint32_t fabric_memory_receives(const struct fabric_qp *qp); /* posted and unused */

#endif
