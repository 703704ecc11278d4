#include "smb2_opens.h"

#include <stdlib.h>

enum {
	/* A session has at most 16,384 opens: chains of four then. Volatile ids are counted, they spread by themselves. */
	BUCKETS = 4096,
};

struct smb2_opens {
	struct smb2_open *buckets[BUCKETS];
};

struct smb2_opens *smb2_opens_create(void)
{
	return calloc(1, sizeof(struct smb2_opens));
}

void smb2_opens_destroy(struct smb2_opens *opens)
{
	if (!opens)
		return;
	for (unsigned int i = 0; i < BUCKETS; i++)
		while (opens->buckets[i])
			smb2_opens_remove(opens, opens->buckets[i]);
	free(opens);
}

static struct smb2_open **bucket(struct smb2_opens *opens, uint64_t volatile_id)
{
	return &opens->buckets[volatile_id % BUCKETS];
}

struct smb2_open *smb2_opens_add(struct smb2_opens *opens, const struct smb2_open *open)
{
	struct smb2_open *added = malloc(sizeof(*added));
	struct smb2_open **first = bucket(opens, open->volatile_id);

	if (!added)
		return NULL;
	*added = *open;
	added->next = *first;
	*first = added;
	return added;
}

void smb2_opens_remove(struct smb2_opens *opens, struct smb2_open *open)
{
	struct smb2_open **link = bucket(opens, open->volatile_id);

	while (*link && *link != open)
		link = &(*link)->next;
	if (!*link)
		return;
	*link = open->next;
	if (!open->requests && !open->earlier_requests) {
		free(open);
		return;
	}
	open->fd = -1;
	open->removed = true;
}

struct smb2_open *smb2_opens_find(struct smb2_opens *opens, uint64_t volatile_id)
{
	struct smb2_open *open = *bucket(opens, volatile_id);

	while (open && open->volatile_id != volatile_id)
		open = open->next;
	return open;
}

uint16_t smb2_open_begin(struct smb2_open *open)
{
	open->requests++;
	return open->channel_sequence;
}

void smb2_open_end(struct smb2_open *open, uint16_t sequence)
{
	if (sequence == open->channel_sequence)
		open->requests--;
	else
		open->earlier_requests--;
	if (open->removed && !open->requests && !open->earlier_requests)
		free(open);
}

void smb2_open_advance(struct smb2_open *open, uint16_t sequence)
{
	open->earlier_requests += open->requests;
	open->requests = 0;
	open->channel_sequence = sequence;
}
