/*
 * RDMA Read and Write for the buffers that an SMB2 request describes ([MS-SMBD] 3.1.4.3 and 3.1.4.4).
 *
 * A transfer is cut into pieces where a descriptor ends and where the device's limit for one request is; a piece is one
 * work request. Writes stand in one order with the messages: a Write waits for the messages queued before it, and a
 * message for the Writes queued before it. Reads wait for nothing but a place among the outstanding ones (ORD), and
 * nothing waits for them.
 */
#ifndef SMBD_RDMA_H
#define SMBD_RDMA_H

#include "smbd_connection.h"
#include "smbd_queue.h"

enum {
	/* RDMA Reads outstanding at most, whatever a device offers: [MS-SMBD] private data and MPA allow 255. */
	SMBD_READ_DEPTH_MAX = 255,
};

struct smbd_rdma_transfer {
	struct smbd_transfer request; /* its descriptors are those at the end of this structure */
	struct smbd_rdma_transfer *previous,
		*next; /* all of the connection, in the order of their arrival */
	struct smbd_rdma_transfer *waiting; /* the next one that is not cut to its end */
	uint64_t messages;		    /* Writes: messages queued before this one */
	uint64_t cut;			    /* bytes posted so far */
	uint64_t moved;			    /* bytes completed */
	uint32_t descriptor,
		place; /* where the next piece begins: a descriptor and the bytes of it that are used */
	enum fabric_status status; /* what to report if it cannot be finished */
	struct buffer_descriptor descriptors[];
};

struct smbd_transfer_list {
	struct smbd_rdma_transfer *first, *last;
};

struct smbd_read {
	struct smbd_rdma_transfer *transfer; /* NULL: a free place */
	uint32_t bytes;
};

struct smbd_rdma {
	struct smbd_transfer_list all;	  /* linked by previous and next */
	struct smbd_transfer_list writes; /* not cut to their end, linked by waiting */
	struct smbd_transfer_list reads;
	uint32_t count;
	uint64_t transfer_bytes; /* of one work request: the device's limit */
	uint32_t depth;		 /* Reads that may be outstanding */
	uint32_t outstanding;
	struct smbd_read outstanding_reads[SMBD_READ_DEPTH_MAX];
	uint64_t written_bytes, read_bytes;
};

/* Queues a transfer; `messages`: how many were queued before it. 0, -EINVAL, -EBUSY, -ENOTSUP (no Reads), -ENOMEM. */
int smbd_rdma_add(struct smbd_rdma *rdma, const struct smbd_transfer *request, uint64_t messages);

/* The next piece of the first Write or Read that waits. The queue must have room, and for Reads, the table a place. */
void smbd_rdma_post_write(struct smbd_rdma *rdma, struct smbd_chain *chain);
void smbd_rdma_post_read(struct smbd_rdma *rdma, struct smbd_chain *chain);

/* A piece of a Write, or the Read in `place`, moved its bytes. Returns the transfer if that was the last of it. */
struct smbd_rdma_transfer *smbd_rdma_written(struct smbd_rdma *rdma,
					     struct smbd_rdma_transfer *transfer, uint32_t bytes);
struct smbd_rdma_transfer *smbd_rdma_read(struct smbd_rdma *rdma, uint64_t place);
/* The Read in `place` failed: remembers why. */
void smbd_rdma_read_failed(struct smbd_rdma *rdma, uint64_t place, enum fabric_status status);

/* Takes the first transfer of all out of every list; NULL when there is none. The caller frees it. */
struct smbd_rdma_transfer *smbd_rdma_take(struct smbd_rdma *rdma);

#endif
