/*
 * One channel: the Unix socket to a worker on one side, an SMB Direct connection on the other.
 *
 * docs/channel.md is the specification of the frames. Here: frames in are checked and become calls of smbd_*;
 * events of smbd_* become frames out. Back-pressure is the sockets': a worker that does not read makes
 * unconsumed messages, which stops grants to the peer; a peer that grants nothing makes queued bytes, which stops
 * reading from the worker.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "fabric.h"
#include "path.h"
#include "pool.h"
#include "smbd_connection.h"

struct channel;

/* Type byte of a frame; a 24-bit big-endian length follows. Bodies are little-endian. */
enum channel_frame {
	CHANNEL_MESSAGE = 0x00,
	CHANNEL_POOL = 0x80,
	CHANNEL_POOL_READY = 0x81,
	CHANNEL_RDMA_WRITE = 0x82,
	CHANNEL_RDMA_READ = 0x83,
	CHANNEL_DONE = 0x84,
	CHANNEL_SEND_INVALIDATE = 0x85,
	CHANNEL_EXPOSE = 0x86,
	CHANNEL_EXPOSED = 0x87,
	CHANNEL_REVOKE = 0x88,
	CHANNEL_CLOSED = 0x89,
};

enum {
	CHANNEL_HEADER_SIZE = 4,
	CHANNEL_POOLS_MAX = 16,       /* pools of one channel */
	CHANNEL_READ_BUDGET = 1 << 20, /* bytes read from one worker before others get a turn */
	CHANNEL_REPLIES_MAX = 1 << 16, /* bytes of DONE and other small frames waiting for a worker that does not read */
};

/* What the channel tells the engine. */
struct channel_events {
	void (*established)(void *owner, struct channel *channel, nanoseconds now); /* hand the worker's end over now */
	void (*closed)(void *owner, struct channel *channel, enum close_reason reason, const char *words,
		       nanoseconds now); /* the engine destroys the channel in here */
};

/*
 * Makes the socket pair and the SMB Direct connection on `qp` (see smbd_create for who owns it on failure).
 * Until `established` nothing is read from the socket.
 */
int channel_create(struct loop *loop, struct pool_table *pools, struct fabric_qp *qp, enum smbd_role role,
		   const struct smbd_config *config, const struct channel_events *events, void *owner, nanoseconds now,
		   struct channel **ret);
void channel_destroy(struct channel *channel);

int channel_take_worker_end(struct channel *channel); /* the descriptor, once; then the caller's */
void channel_close(struct channel *channel, enum close_reason reason, bool graceful, nanoseconds now);
struct smbd_connection *channel_connection(const struct channel *channel);

#endif
