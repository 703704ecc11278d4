/*
 * The MessageIds that a client may use: its credits ([MS-SMB2] 3.3.1.1, 3.3.1.2).
 *
 * Ids from `low` to `high` are granted; those used out of order are remembered until `low` passes them.
 */
#ifndef SMB2_WINDOW_H
#define SMB2_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct smb2_window {
	uint64_t low, high;
	uint32_t limit; /* ids that may be granted and unused at a time */
	uint32_t ahead; /* ids used above `low` */
	uint32_t mask;	/* of an id's place in `used` */
	uint64_t *used; /* a bit for each id from `low` on */
};

/* The first id is granted. NULL when there is no memory. */
struct smb2_window *smb2_window_create(uint32_t limit, uint64_t first);
void smb2_window_destroy(struct smb2_window *window);

/* Whether `charge` ids from this one on were granted and none was used before. */
bool smb2_window_may_take(const struct smb2_window *window, uint64_t id, uint32_t charge);

/* Uses them; false, and nothing is used, if they may not be. */
bool smb2_window_take(struct smb2_window *window, uint64_t id, uint32_t charge);

/* Credits for a response: what is wanted, within the limit; at least one if the client has none. */
uint32_t smb2_window_grant(struct smb2_window *window, uint32_t wanted);

#endif
