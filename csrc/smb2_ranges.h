/*
 * Ranges of a worker's pool, all of one length, for payload by RDMA that is served without Python.
 *
 * A range belongs to the connection that took it until the DONE of its transfer, or the connection's end. The one that
 * came back last is taken first: it is still in the cache.
 */
#ifndef SMB2_RANGES_H
#define SMB2_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smb2_opens.h"
#include "smb2_wire.h"

enum {
	SMB2_RANGES_MAX = 64,
};

/* A WRITE whose payload is on its way into the range: what its answer will need. */
struct smb2_waiting {
	struct smb2_open *open; /* NULL: the range is a READ's */
	uint64_t offset;
	uint32_t length;
	uint16_t sequence;
	bool invalidates;
	uint32_t token;
	uint8_t header[SMB2_HEADER_SIZE];
};

struct smb2_range {
	uint8_t *memory;
	uint64_t offset;   /* in the pool */
	const void *owner; /* NULL: free */
	struct smb2_waiting waiting;
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

void smb2_ranges_give_back(struct smb2_ranges *ranges, int number);

#endif
