/*
 * A channel from inside: what channel.c, channel_in.c and channel_out.c share.
 *
 * From the worker to the peer
 *   1. receive_frames   one recvmsg: small frames are staged, the rest of a message goes into its own memory  channel_in.c
 *   2. cut_frames       whole frames, in order, while peer, transfers and answers have room                   channel_in.c
 *   3. carry_out        a frame becomes a call of smbd_*                                                      channel_in.c
 * From the peer to the worker
 *   4. on_message ...   events of smbd_* wait for the end of the loop's turn                                  channel.c
 *   5. write_frames     one sendmsg: small frames first, then messages                                        channel_out.c
 * The end
 *   6. channel_fail, channel_worker_left   ask smbd_close; what it flushed is told, then CLOSED               channel.c
 */
#ifndef CHANNEL_STATE_H
#define CHANNEL_STATE_H

#include "channel.h"

enum {
	CHANNEL_WORDS = 256, /* bytes of a sentence for the worker and the log */
};

enum channel_state {
	CHANNEL_NEGOTIATING, /* no socket yet */
	CHANNEL_OPEN,	     /* frames flow */
	CHANNEL_CLOSING,     /* smbd_close was called: nothing is read from the worker any more */
	CHANNEL_ENDED,	     /* smbd reported the end: only the last frames are written */
};

struct channel_pool {
	struct pool *pool;
	struct fabric_region *region; /* with the device of this connection */
};

struct channel {
	struct loop *loop;
	struct pool_table *table;
	struct smbd_connection *connection;
	const struct channel_events *events;
	void *owner;
	enum channel_state state;
	enum close_reason reason; /* ours, if we ended it */
	char words[CHANNEL_WORDS];
	uint32_t max_message; /* what the peer reassembles */

	struct loop_watch watch; /* of our end of the socket */
	struct loop_task turn;
	struct loop_timer timer; /* follows smbd_deadline */
	int worker_end;		 /* until it is taken, else -1 */
	bool worker_gone;	 /* nobody reads what we write */
	bool blocked;		 /* the socket took no more */
	bool stalled; /* frames wait for the peer, for transfers or for the worker to read */

	struct channel_pool pools[CHANNEL_POOLS_MAX];
	uint32_t pool_count;
	uint32_t outstanding; /* operations under way: each will need a DONE or EXPOSED */
	uint32_t exposures;   /* not yet revoked: the peer may end each, which needs a frame */

	int descriptors[CHANNEL_DESCRIPTORS_MAX]; /* passed, for POOL frames to come */
	uint32_t descriptor_count;
	bool descriptors_lost; /* the kernel could not pass one: we are at RLIMIT_NOFILE */

	bool invalidate; /* the next message is a Send with Invalidate ... */
	uint32_t token;	 /* ... of this */

	struct smbd_message *incoming; /* a message that has not come whole */
	struct smbd_message *outgoing, **outgoing_end;
	size_t outgoing_done; /* bytes of the first one that are written, its header included */

	size_t staged_start, staged_end;
	size_t replies_start, replies_end;
	uint8_t staging[CHANNEL_STAGING];
	uint8_t replies[CHANNEL_REPLIES_MAX];
};

/* channel.c */
void channel_fail(struct channel *channel, enum close_reason reason, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void channel_worker_left(struct channel *channel, const char *why, nanoseconds now);

/* channel_in.c */
void channel_receive_frames(struct channel *channel, nanoseconds now);
void channel_cut_frames(struct channel *channel, nanoseconds now);

/* channel_out.c */
bool channel_has_output(const struct channel *channel);
void channel_write_frames(struct channel *channel, nanoseconds now);
void channel_reply_done(struct channel *channel, uint64_t operation, enum channel_status status,
			uint64_t bytes);
void channel_reply_exposed(struct channel *channel, uint64_t operation, enum channel_status status,
			   const struct buffer_descriptor *descriptor);
void channel_reply_pool_ready(struct channel *channel, enum channel_status status, uint32_t number,
			      uint64_t size, const char *words);
void channel_reply_invalidated(struct channel *channel, uint32_t token);
void channel_reply_closed(struct channel *channel, enum close_reason reason, const char *words);

#endif
