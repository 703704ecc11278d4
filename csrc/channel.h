/*
 * One channel: the Unix socket to a worker on one side, an SMB Direct connection on the other.
 *
 * docs/channel.md is the specification of the frames. Here: frames in are checked and become calls of smbd_*;
 * events of smbd_* become frames out. Back-pressure is the sockets': a worker that does not read makes
 * unconsumed messages, which stops grants to the peer; a peer that grants nothing makes queued bytes, which stops
 * reading from the worker. So does a worker that asks and does not read the answers: nothing it sends piles up here.
 *
 * A channel holds its pools until it is destroyed, and it is destroyed only after the connection reported every
 * transfer: the memory that a transfer names outlives it, also when the worker is killed.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "channel_frames.h"
#include "fabric.h"
#include "path.h"
#include "pool.h"
#include "smbd_connection.h"

struct channel;

enum {
	/* Pools of one channel. */
	CHANNEL_POOLS_MAX = 16,
	/* Descriptors passed with frames that have not come whole yet. */
	CHANNEL_DESCRIPTORS_MAX = 16,
	/* Bytes read from one worker before others get a turn. */
	CHANNEL_READ_BUDGET = 1 << 20,
	/* Bytes of frames staged: about a hundred replies with their RDMA_WRITEs come with one recvmsg. */
	CHANNEL_STAGING = 16 << 10,
	/*
	 * Bytes of DONE and other small frames for a worker that does not read. Room for the answers to all that is
	 * under way is kept free; a frame for whose answer there is no room is not read yet.
	 */
	CHANNEL_REPLIES_MAX = 1 << 16,
};

/* What the channel tells the engine. */
struct channel_events {
	/* Hand the worker's end over now. */
	void (*established)(void *owner, struct channel *channel, nanoseconds now);
	/* The engine destroys the channel in here. */
	void (*closed)(void *owner, struct channel *channel, enum close_reason reason,
		       const char *words, nanoseconds now);
};

/*
 * Makes the socket pair and the SMB Direct connection on `qp` (see smbd_create for who owns it on failure).
 * Until `established` nothing is read from the socket.
 */
int channel_create(struct loop *loop, struct pool_table *pools, struct fabric_qp *qp,
		   enum smbd_role role, const struct smbd_config *config,
		   const struct channel_events *events, void *owner, nanoseconds now,
		   struct channel **ret);
void channel_destroy(struct channel *channel);

int channel_take_worker_end(struct channel *channel); /* the descriptor, once; then the caller's */
void channel_close(struct channel *channel, enum close_reason reason, bool graceful,
		   nanoseconds now);
struct smbd_connection *channel_connection(const struct channel *channel);

#endif
