/*
 * What SMB Direct says, for whoever looks (`rdmaproxy capture`): a copy of every message that is posted or arrives.
 *
 * RDMA adapters bypass the kernel and all that captures there; this works on every fabric. Off by default; then it costs
 * one load and one branch. What comes faster than it is taken is lost and counted. Payload that RDMA places is not here.
 */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdatomic.h>

#include "fabric.h"

enum {
	CAPTURE_ROOM = 8 << 20, /* bytes that wait to be taken: 50 ms of 160 MiB/s */
};

enum capture_flags {
	CAPTURE_SENT = 1,	 /* else: received */
	CAPTURE_INVALIDATES = 2, /* a Send with Invalidate of `token` */
};

/* In front of the bytes of one message, in host order but for the addresses. */
struct capture_record {
	uint64_t time;	 /* of day, in nanoseconds */
	uint64_t flow;	 /* the queue pair, while it lives */
	uint32_t length; /* bytes that follow */
	uint32_t token;
	uint16_t flags;
	uint16_t family; /* AF_INET, AF_INET6, 0: no addresses */
	uint16_t local_port, remote_port;
	uint8_t local[16], remote[16]; /* IPv4: the first four bytes */
};

_Static_assert(sizeof(struct capture_record) == 64, "rdmaproxy/packets.py reads it");

extern atomic_bool capture_enabled;

void capture_add(const struct fabric_qp *qp, unsigned flags, uint32_t token, const void *bytes,
		 uint32_t length);

static inline void capture_message(const struct fabric_qp *qp, unsigned flags, uint32_t token,
				   const void *bytes, uint32_t length)
{
	if (atomic_load_explicit(&capture_enabled, memory_order_relaxed))
		capture_add(qp, flags, token, bytes, length);
}

/* From any thread. -EBUSY: it is on already; -ENOMEM. */
int capture_start(void);
void capture_stop(void);
/* Moves what waits into `ret`, `room` bytes of CAPTURE_ROOM at least; how many bytes. *lost: messages, since the start. */
size_t capture_take(void *ret, size_t room, uint64_t *lost);

#endif
