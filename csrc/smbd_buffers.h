/*
 * The memory that one connection sends from and receives into: slots of equal size in one mapping, registered once.
 *
 * The mapping is not touched before a slot is used, and the slot given back last is taken first, so a quiet
 * connection occupies few pages of it. What a rush of messages has touched is given back when it is over: smbd_rest.
 */
#ifndef SMBD_BUFFERS_H
#define SMBD_BUFFERS_H

#include "fabric.h"

struct smbd_slots {
	uint8_t *base;
	uint32_t size; /* bytes of one slot */
	uint32_t count;
	uint32_t free; /* numbers on the stack */
	uint16_t *stack;
};

struct smbd_buffers {
	uint8_t *mapping;
	size_t length;
	struct fabric_region *region;
	struct smbd_slots send, receive;
};

/* Fills the counts and sizes of ret->send and ret->receive from what the caller has put there. 0 or -errno. */
int smbd_buffers_create(struct fabric_device *device, struct smbd_buffers *ret);
/* Gives the pages back to the system. What stands in the slots is lost; the slots stay usable. */
void smbd_buffers_discard(struct smbd_buffers *buffers);
/* After the queue pair is gone. Buffers that were never created are fine. */
void smbd_buffers_destroy(struct smbd_buffers *buffers);

/* There must be a free slot. */
static inline uint32_t smbd_slots_take(struct smbd_slots *slots)
{
	return slots->stack[--slots->free];
}

static inline void smbd_slots_give(struct smbd_slots *slots, uint32_t slot)
{
	slots->stack[slots->free++] = (uint16_t)slot;
}

static inline uint8_t *smbd_slot(const struct smbd_slots *slots, uint32_t slot)
{
	return slots->base + (size_t)slot * slots->size;
}

#endif
