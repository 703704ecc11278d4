/*
 * The opens of one worker whose READs need nothing but their descriptor.
 *
 * Python enters an open when it may be read, is a file, and its tree takes plain requests; and removes it before the
 * descriptor is closed. Everything here runs in the worker's one loop.
 */
#ifndef SMB2_OPENS_H
#define SMB2_OPENS_H

#include <stdbool.h>
#include <stdint.h>

struct smb2_open {
	uint64_t session_id, persistent_id, volatile_id;
	uint32_t tree_id;
	int fd;
	/* [MS-SMB2] 3.3.1.10 Open.ChannelSequence: a request with another one is not served here. */
	uint16_t channel_sequence;
	/* The file system does not know RWF_NOWAIT: its files are in memory, or there is no telling. */
	bool always_cached;
	/* CurrentByteOffset: where the last READ ended. */
	uint64_t position;
	/* Another worker may write it: how many files have byte-range locks among those that share the number. */
	const volatile uint32_t *locked;
	struct smb2_open *next; /* in its bucket */
};

struct smb2_opens;

struct smb2_opens *smb2_opens_create(void);
void smb2_opens_destroy(struct smb2_opens *opens);

/* Takes over all fields but `next`, zero or not. NULL when there is no memory: its READs go by Python. */
struct smb2_open *smb2_opens_add(struct smb2_opens *opens, const struct smb2_open *open);
void smb2_opens_remove(struct smb2_opens *opens, struct smb2_open *open);

struct smb2_open *smb2_opens_find(struct smb2_opens *opens, uint64_t volatile_id);

#endif
