/*
 * Windows: what a client lets its peer read or write, from `expose` to `revoke`.
 *
 * A window is named by its place in a table while it is ours, and by its token on the wire. Exposing and revoking take
 * a place on the send queue, and wait here in one line when it is full.
 */
#ifndef SMBD_WINDOWS_H
#define SMBD_WINDOWS_H

#include "smbd_connection.h"
#include "smbd_queue.h"

enum smbd_window_state {
	SMBD_WINDOW_FREE = 0, /* the place is not used */
	SMBD_WINDOW_EXPOSE,   /* to be exposed, waits for the send queue */
	SMBD_WINDOW_EXPOSING, /* posted */
	SMBD_WINDOW_EXPOSED,  /* the peer knows its token, or may */
	SMBD_WINDOW_REVOKE,   /* to be revoked, waits for the send queue */
	SMBD_WINDOW_REVOKING, /* posted */
};

struct smbd_window {
	enum smbd_window_state state;
	uint64_t operation; /* the channel's number for what is under way */
	struct fabric_window *window;
	struct fabric_region *region;
	uint8_t *address;
	uint64_t length;
	unsigned access;
	bool invalidated; /* by the peer */
	uint32_t next;	  /* in the line: place plus one */
};

struct smbd_windows {
	struct smbd_window *table;
	uint32_t size;
	uint32_t used;
	uint32_t first, last; /* of those that wait: place plus one */
};

/* 0; -EINVAL: range or access; -EBUSY: SMBD_WINDOWS_MAX; -ENOMEM. */
int smbd_windows_expose(struct smbd_windows *windows, uint64_t operation,
			struct fabric_region *region, uint8_t *address, uint64_t length,
			unsigned access);
/* 0; -ENOENT: no window of this token, or it is being revoked. */
int smbd_windows_revoke(struct smbd_windows *windows, uint64_t operation, uint32_t token);

/* The peer has invalidated a token. True if this ended a window that is exposed, the first time. */
bool smbd_windows_invalidate(struct smbd_windows *windows, uint32_t token);

/* Posts those that wait, as far as the send queue has room. 0 or the fabric's error. */
int smbd_windows_post(struct smbd_windows *windows, struct fabric_qp *qp, struct smbd_queue *queue);

/* A completion: the window in `place` if it is in `state`, else NULL. */
struct smbd_window *smbd_windows_find(struct smbd_windows *windows, uint64_t place,
				      enum smbd_window_state state);
void smbd_windows_free(struct smbd_windows *windows, struct smbd_window *window);
void smbd_windows_clear(struct smbd_windows *windows);

#endif
