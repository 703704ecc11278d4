/*
 * Memory of user-space iWARP: a region is any memory of this process, registration only remembers
 * it; a window is a part of a region that one peer may touch, named by an STag.
 *
 * An STag is the place in the queue pair's table of windows, plus one, and an 8-bit key that
 * differs from use to use. The table belongs to the queue pair, so a token that one peer learnt is
 * worth nothing to another. Tagged offsets begin at a random page, so that stale ones are caught by
 * the bounds.
 */
#include <errno.h>
#include <stdlib.h>

#include "iwarp.h"

enum {
	STAG_KEY_BITS = 8,
	WINDOWS_FIRST = 16, /* slots at first; they double */
	PAGE = 4096,
};
#define OFFSET_MASK (((uint64_t)1 << 56) - PAGE) /* far from the end: no window wraps */

int iwarp_register(struct fabric_device *device, void *base, size_t length,
		   struct fabric_region **ret)
{
	struct fabric_region *region;

	if (!length || (uintptr_t)base + length < (uintptr_t)base)
		return -EINVAL;
	region = calloc(1, sizeof(*region));
	if (!region)
		return -ENOMEM;
	*region = (struct fabric_region){.device = device, .base = base, .length = length};
	device->registered_bytes += length;
	device->region_count++;
	*ret = region;
	return 0;
}

void iwarp_deregister(struct fabric_region *region)
{
	region->device->registered_bytes -= region->length;
	region->device->region_count--;
	free(region);
}

static int table_make_room(struct iwarp_window_table *table)
{
	uint32_t room = table->room ? table->room * 2 : WINDOWS_FIRST;
	struct iwarp_window **slots;

	if (table->count < table->room)
		return 0;
	if (table->count >= IWARP_WINDOWS_MAX)
		return -ENOSPC;
	slots = realloc(table->slots, room * sizeof(struct iwarp_window *));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = table->room; i < room; i++)
		slots[i] = NULL;
	table->slots = slots;
	table->room = room;
	return 0;
}

/* A free slot, looked for from a random place on: the same slot is rarely used twice in a row. */
static uint32_t table_free_slot(const struct iwarp_window_table *table, uint32_t from)
{
	uint32_t slot = from % table->room;

	while (table->slots[slot])
		slot = (slot + 1) % table->room;
	return slot;
}

int iwarp_expose(struct fabric_qp *base_qp, struct fabric_region *region, void *base, size_t length,
		 unsigned access, uint64_t id, struct fabric_window **ret)
{
	struct iwarp_qp *qp = iwarp_qp(base_qp);
	struct iwarp_window *window;
	uint64_t random;
	uint32_t slot;
	int result;

	if (qp->state != IWARP_ACCEPTED && qp->state != IWARP_ESTABLISHED)
		return -ENOTCONN;
	if (!length || length > UINT32_MAX || !fabric_region_holds(region, base, length) ||
	    access & ~(unsigned)(FABRIC_PEER_READS | FABRIC_PEER_WRITES) || !access)
		return -EINVAL;
	result = iwarp_completions_reserve(qp, 1);
	if (result == 0)
		result = table_make_room(&qp->windows);
	if (result < 0)
		return result;
	window = calloc(1, sizeof(*window));
	if (!window)
		return -ENOMEM;
	random = iwarp_random(iwarp_fabric_of(qp));
	slot = table_free_slot(&qp->windows, (uint32_t)random);
	window->base = (struct fabric_window){
		.qp = base_qp,
		.token = (slot + 1) << STAG_KEY_BITS | (uint8_t)(random >> 56),
		.offset = iwarp_random(iwarp_fabric_of(qp)) & OFFSET_MASK,
		.length = length,
	};
	window->memory = base;
	window->access = access;
	window->valid = true;
	qp->windows.slots[slot] = window;
	qp->windows.count++;
	qp->windows.writable += access & FABRIC_PEER_WRITES ? 1 : 0;
	iwarp_complete(qp, &(struct fabric_completion){.id = id, .opcode = FABRIC_EXPOSE});
	*ret = &window->base;
	return 0;
}

static void window_free(struct iwarp_qp *qp, struct iwarp_window *window)
{
	qp->windows.slots[(window->base.token >> STAG_KEY_BITS) - 1] = NULL;
	qp->windows.count--;
	qp->windows.writable -= window->access & FABRIC_PEER_WRITES ? 1 : 0;
	free(window);
}

/*
 * The owner may free the memory as soon as it hears of the revocation, so nothing may still point
 * there. Whoever reads or writes a window that is being taken back has broken the agreement: its
 * connection ends.
 */
int iwarp_revoke(struct fabric_window *base, uint64_t id)
{
	struct iwarp_window *window = (struct iwarp_window *)base;
	struct iwarp_qp *qp = iwarp_qp(base->qp);
	int result;

	if (qp->state == IWARP_CLOSED) /* destroying the queue pair frees it */
		return -ENOTCONN;
	result = iwarp_completions_reserve(qp, 1);
	if (result < 0)
		return result;
	if (window->responses && qp->state != IWARP_ENDED)
		iwarp_end(qp, CLOSE_PROTOCOL_ERROR,
			  "a window was revoked while the peer was reading it");
	if (qp->receive.window == window) {
		qp->receive.window = NULL;
		if (qp->state != IWARP_ENDED)
			iwarp_terminate(qp, DDP_TAGGED_INVALID_STAG);
	}
	window_free(qp, window);
	iwarp_complete(qp, &(struct fabric_completion){.id = id, .opcode = FABRIC_REVOKE});
	return 0;
}

void iwarp_windows_destroy(struct iwarp_qp *qp)
{
	for (uint32_t i = 0; i < qp->windows.room; i++)
		free(qp->windows.slots[i]);
	free(qp->windows.slots);
	qp->windows = (struct iwarp_window_table){0};
}

static struct iwarp_window *window_by_stag(struct iwarp_qp *qp, uint32_t stag)
{
	uint32_t place = stag >> STAG_KEY_BITS;
	struct iwarp_window *window;

	if (!place || place > qp->windows.room)
		return NULL;
	window = qp->windows.slots[place - 1];
	return window && window->base.token == stag ? window : NULL;
}

struct iwarp_window *iwarp_window_find(struct iwarp_qp *qp, uint32_t stag, uint64_t to,
				       uint64_t length, unsigned access, enum rdmap_error *error)
{
	struct iwarp_window *window = window_by_stag(qp, stag);

	if (!window || !window->valid)
		*error = RDMAP_INVALID_STAG;
	else if (to + length < to)
		*error = RDMAP_TO_WRAP;
	else if (to < window->base.offset || to - window->base.offset > window->base.length ||
		 length > window->base.length - (to - window->base.offset))
		*error = RDMAP_BOUNDS;
	else if (!(window->access & access))
		*error = RDMAP_ACCESS;
	else
		return window;
	return NULL;
}

/* An STag that is already invalid is fine: RFC 5040 section 5.3. */
bool iwarp_window_invalidate(struct iwarp_qp *qp, uint32_t stag)
{
	struct iwarp_window *window = window_by_stag(qp, stag);

	/*
	 * Who waits for its Read Responses, as all must, never meets this. Otherwise the owner would be told that the
	 * range is its own again while what it writes there still leaves for the peer.
	 */
	if (!window || window->responses)
		return false;
	window->valid = false;
	return true;
}
