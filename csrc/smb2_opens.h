/*
 * The opens of one worker whose READs and WRITEs need nothing but their descriptor.
 *
 * Python enters an open whose tree takes plain requests, says what may be served here, and removes it before the
 * descriptor is closed. WRITEs that still wait for their payload then fail. Everything here runs in the worker's loop.
 */
#ifndef SMB2_OPENS_H
#define SMB2_OPENS_H

#include <stdbool.h>
#include <stdint.h>

struct smb2_open {
	uint64_t session_id, persistent_id, volatile_id;
	uint32_t tree_id;
	int fd;
	bool reads;  /* its READs may be served here */
	bool writes; /* its WRITEs */
	bool alone;  /* nobody else can cache what it writes */
	/* The file system does not know RWF_NOWAIT: its files are in memory, or there is no telling. */
	bool always_cached;
	bool removed; /* gone but for the requests under way, which find no descriptor */
	/* [MS-SMB2] 3.3.1.10 Open.ChannelSequence: a request with another one is not served here. */
	uint16_t channel_sequence;
	/* WRITEs under way with that sequence, and with older ones: OutstandingRequestCount and ...PreRequestCount. */
	uint32_t requests, earlier_requests;
	/* CurrentByteOffset: where the last READ ended. */
	uint64_t position;
	/*
	 * In memory of all workers, each for the file and some others: how many have byte-range locks, how many are
	 * cached by who must be told when something is written.
	 */
	const volatile uint32_t *locked, *readers;
	struct smb2_open *next; /* in its bucket */
};

struct smb2_opens;

struct smb2_opens *smb2_opens_create(void);
void smb2_opens_destroy(struct smb2_opens *opens);

/* Takes over all fields but `next`. NULL when there is no memory. */
struct smb2_open *smb2_opens_add(struct smb2_opens *opens, const struct smb2_open *open);
void smb2_opens_remove(struct smb2_opens *opens, struct smb2_open *open);

struct smb2_open *smb2_opens_find(struct smb2_opens *opens, uint64_t volatile_id);

/* A request that takes longer, which must be ended with the sequence that it was begun with. */
uint16_t smb2_open_begin(struct smb2_open *open);
void smb2_open_end(struct smb2_open *open, uint16_t sequence);

/* Requests come with a newer sequence: those under way are earlier ones now. */
void smb2_open_advance(struct smb2_open *open, uint16_t sequence);

#endif
