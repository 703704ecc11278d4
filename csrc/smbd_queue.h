/*
 * What lies on the queue pair's send queue, and chains of work requests on their way there.
 *
 * Sends and Writes take effect in order, and most of them are not signalled: the last of every chain is, and one in
 * SMBD_SIGNAL_EVERY, and its completion vouches for all before it. So they stand in a ring, numbered in the order of
 * posting; a completion's number says how far the ring may be emptied. Reads, exposures and revocations complete one
 * by one and are only counted here.
 *
 * The number of a request is a tag and an index, never an address: a completion that a broken device makes up, or
 * delivers twice, finds nothing.
 */
#ifndef SMBD_QUEUE_H
#define SMBD_QUEUE_H

#include "fabric.h"

struct smbd_rdma_transfer;

enum smbd_tag {
	SMBD_TAG_RECEIVE = 1, /* index: receive slot */
	SMBD_TAG_ORDERED = 2, /* index: number of a Send or Write */
	SMBD_TAG_READ = 3,    /* index: place in the table of Reads */
	SMBD_TAG_EXPOSE = 4,  /* index: window */
	SMBD_TAG_REVOKE = 5,  /* index: window */
};

enum {
	/*
	 * Work requests that we ask the send queue to hold: a Send for each of 255 credits and as many Writes, Reads
	 * and binds. Adapters give 4,096 and more.
	 */
	SMBD_SEND_QUEUE = 512,
	SMBD_SIGNAL_EVERY =
		16,	     /* Sends and Writes; slots come back while a long chain is under way */
	SMBD_CHAIN_MAX = 64, /* requests handed over in one call: 5 KiB of stack */
};

static inline uint64_t smbd_id(enum smbd_tag tag, uint64_t index)
{
	return (uint64_t)tag << 56 | index;
}

static inline enum smbd_tag smbd_id_tag(uint64_t id)
{
	return (enum smbd_tag)(id >> 56);
}

static inline uint64_t smbd_id_index(uint64_t id)
{
	return id & (((uint64_t)1 << 56) - 1);
}

/* One Send or Write that was posted and that no completion has vouched for. */
struct smbd_ordered {
	struct smbd_rdma_transfer *transfer; /* of a Write; NULL: a Send */
	uint32_t slot;			     /* of a Send */
	uint32_t bytes;			     /* of a Write */
};

struct smbd_queue {
	uint32_t used, limit; /* work requests of any kind */
	uint64_t first, next; /* numbers: [first, next) are in the ring */
	uint32_t unsignalled; /* Sends and Writes since the last signalled one */
	struct smbd_ordered ring[SMBD_SEND_QUEUE];
};

/* Work requests that are posted in one call. Lives on the stack of the function that pumps. */
struct smbd_chain {
	struct fabric_qp *qp;
	struct smbd_queue *queue;
	struct fabric_region *slots; /* the region that Sends lie in */
	uint32_t count;
	struct fabric_work *ordered; /* the last Send or Write of the chain */
	int error;		     /* of the first fabric_post that was refused */
	struct fabric_work works[SMBD_CHAIN_MAX];
	struct fabric_sge sges[SMBD_CHAIN_MAX];
};

static inline bool smbd_queue_has_room(const struct smbd_queue *queue)
{
	return queue->used < queue->limit;
}

/* The request before `number` in the ring, taken out; false when the ring is empty up to and including it. */
bool smbd_queue_retire(struct smbd_queue *queue, uint64_t number, struct smbd_ordered *ret);
void smbd_queue_finish(struct smbd_queue *queue); /* one Read, exposure or revocation completed */

void smbd_chain_begin(struct smbd_chain *chain, struct fabric_qp *qp, struct smbd_queue *queue,
		      struct fabric_region *slots);
/* The queue must have room. A full chain is posted first. */
void smbd_chain_send(struct smbd_chain *chain, uint32_t slot, uint8_t *address, uint32_t length,
		     bool invalidate, uint32_t token);
void smbd_chain_write(struct smbd_chain *chain, struct smbd_rdma_transfer *transfer,
		      const struct fabric_sge *sge, uint64_t remote_offset, uint32_t remote_token);
void smbd_chain_read(struct smbd_chain *chain, uint32_t place, const struct fabric_sge *sge,
		     uint64_t remote_offset, uint32_t remote_token);
int smbd_chain_post(struct smbd_chain *chain); /* 0 or the first error of this chain */

#endif
