/*
 * Ranges of a worker's pool, all of one length, for READs by RDMA that are served without Python.
 *
 * A range belongs to the reader that took it until the DONE of its RDMA_WRITE, or the reader's end. The one that came
 * back last is taken first: it is still in the cache.
 */
#ifndef SMB2_RANGES_H
#define SMB2_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SMB2_RANGES_MAX = 64,
};

struct smb2_range {
	uint8_t *memory;
	uint64_t offset;   /* in the pool */
	const void *owner; /* NULL: free */
};

struct smb2_ranges {
	size_t length; /* bytes of each range */
	unsigned int count, free_count;
	struct smb2_range ranges[SMB2_RANGES_MAX];
	uint8_t free[SMB2_RANGES_MAX]; /* numbers, the next to be taken last */
};

/* False: there are SMB2_RANGES_MAX already. */
bool smb2_ranges_add(struct smb2_ranges *ranges, uint8_t *memory, uint64_t offset);

/* The number of a free range, or -1. */
int smb2_ranges_take(struct smb2_ranges *ranges, const void *owner);

/* False: the number is of no range that this owner has. */
bool smb2_ranges_give_back(struct smb2_ranges *ranges, uint64_t number, const void *owner);

#endif
