#include "smbd_windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOWS_FIRST = 16, /* places of the first table; it doubles */
};

/* A free place; the table grows up to its limit. */
static int take_place(struct smbd_windows *windows, struct smbd_window **ret)
{
	uint32_t size = windows->size ? windows->size * 2 : WINDOWS_FIRST;
	struct smbd_window *table;

	if (windows->used == SMBD_WINDOWS_MAX)
		return -EBUSY;
	if (windows->used == windows->size) {
		table = realloc(windows->table, size * sizeof(*table));
		if (!table)
			return -ENOMEM;
		memset(table + windows->size, 0, (size - windows->size) * sizeof(*table));
		windows->table = table;
		windows->size = size;
	}
	*ret = windows->table;
	while ((*ret)->state != SMBD_WINDOW_FREE)
		(*ret)++;
	windows->used++;
	return 0;
}

static void wait_in_line(struct smbd_windows *windows, struct smbd_window *window)
{
	uint32_t place = (uint32_t)(window - windows->table) + 1;

	window->next = 0;
	if (windows->last)
		windows->table[windows->last - 1].next = place;
	else
		windows->first = place;
	windows->last = place;
}

static bool in_region(const struct fabric_region *region, const uint8_t *address, uint64_t length)
{
	uintptr_t base = (uintptr_t)region->base, from = (uintptr_t)address;

	return from >= base && from - base <= region->length &&
	       length <= region->length - (from - base);
}

int smbd_windows_expose(struct smbd_windows *windows, uint64_t operation,
			struct fabric_region *region, uint8_t *address, uint64_t length,
			unsigned access)
{
	unsigned known = FABRIC_PEER_READS | FABRIC_PEER_WRITES;
	struct smbd_window *window;
	int error;

	if (length == 0 || length > UINT32_MAX || !in_region(region, address, length))
		return -EINVAL;
	if (access == 0 || (access & ~known) != 0)
		return -EINVAL;
	error = take_place(windows, &window);
	if (error)
		return error;
	*window = (struct smbd_window){.state = SMBD_WINDOW_EXPOSE,
				       .operation = operation,
				       .region = region,
				       .address = address,
				       .length = length,
				       .access = access};
	wait_in_line(windows, window);
	return 0;
}

static struct smbd_window *find_exposed(struct smbd_windows *windows, uint32_t token)
{
	for (uint32_t place = 0; place < windows->size; place++) {
		struct smbd_window *window = &windows->table[place];

		if (window->state == SMBD_WINDOW_EXPOSED && window->window->token == token)
			return window;
	}
	return NULL;
}

int smbd_windows_revoke(struct smbd_windows *windows, uint64_t operation, uint32_t token)
{
	struct smbd_window *window = find_exposed(windows, token);

	if (!window)
		return -ENOENT;
	window->state = SMBD_WINDOW_REVOKE;
	window->operation = operation;
	wait_in_line(windows, window);
	return 0;
}

bool smbd_windows_invalidate(struct smbd_windows *windows, uint32_t token)
{
	struct smbd_window *window = find_exposed(windows, token);

	if (!window || window->invalidated)
		return false;
	window->invalidated = true;
	return true;
}

static int post(struct smbd_window *window, uint64_t place, struct fabric_qp *qp)
{
	if (window->state == SMBD_WINDOW_REVOKE) {
		window->state = SMBD_WINDOW_REVOKING;
		return fabric_revoke(window->window, smbd_id(SMBD_TAG_REVOKE, place));
	}
	window->state = SMBD_WINDOW_EXPOSING;
	return fabric_expose(qp, window->region, window->address, window->length, window->access,
			     smbd_id(SMBD_TAG_EXPOSE, place), &window->window);
}

int smbd_windows_post(struct smbd_windows *windows, struct fabric_qp *qp, struct smbd_queue *queue)
{
	while (windows->first && smbd_queue_has_room(queue)) {
		uint32_t place = windows->first - 1;
		struct smbd_window *window = &windows->table[place];
		int error;

		windows->first = window->next;
		if (!windows->first)
			windows->last = 0;
		queue->used++;
		error = post(window, place, qp);
		if (error)
			return error;
	}
	return 0;
}

struct smbd_window *smbd_windows_find(struct smbd_windows *windows, uint64_t place,
				      enum smbd_window_state state)
{
	if (place >= windows->size || windows->table[place].state != state)
		return NULL;
	return &windows->table[place];
}

void smbd_windows_free(struct smbd_windows *windows, struct smbd_window *window)
{
	window->state = SMBD_WINDOW_FREE;
	windows->used--;
}

void smbd_windows_clear(struct smbd_windows *windows)
{
	free(windows->table);
	*windows = (struct smbd_windows){0};
}
