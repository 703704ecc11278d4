#include "smb2_window.h"

#include <stdlib.h>

enum {
	WORD = 64, /* ids in one word of `used` */
};

struct smb2_window *smb2_window_create(uint32_t limit, uint64_t first)
{
	struct smb2_window *window = calloc(1, sizeof(*window));
	uint64_t places = WORD;

	if (!window)
		return NULL;
	while (places < (uint64_t)limit + 1)
		places *= 2;
	window->limit = limit;
	window->mask = (uint32_t)(places - 1);
	window->low = first;
	window->high = first + 1;
	window->used = calloc(places / WORD, sizeof(*window->used));
	if (!window->used) {
		smb2_window_destroy(window);
		return NULL;
	}
	return window;
}

void smb2_window_destroy(struct smb2_window *window)
{
	if (!window)
		return;
	free(window->used);
	free(window);
}

static bool is_used(const struct smb2_window *window, uint64_t id)
{
	uint64_t place = id & window->mask;

	return window->used[place / WORD] >> place % WORD & 1;
}

static void turn(struct smb2_window *window, uint64_t id)
{
	uint64_t place = id & window->mask;

	window->used[place / WORD] ^= UINT64_C(1) << place % WORD;
}

bool smb2_window_may_take(const struct smb2_window *window, uint64_t id, uint32_t charge)
{
	if (id < window->low || id >= window->high || charge > window->high - id)
		return false;
	for (uint64_t one = id; window->ahead && one < id + charge; one++)
		if (is_used(window, one))
			return false;
	return true;
}

bool smb2_window_take(struct smb2_window *window, uint64_t id, uint32_t charge)
{
	if (!smb2_window_may_take(window, id, charge))
		return false;
	if (id == window->low && !window->ahead) {
		window->low += charge;
		return true;
	}
	for (uint64_t one = id; one < id + charge; one++)
		turn(window, one);
	window->ahead += charge;
	while (window->ahead && is_used(window, window->low)) {
		turn(window, window->low++);
		window->ahead--;
	}
	return true;
}

uint32_t smb2_window_grant(struct smb2_window *window, uint32_t wanted)
{
	uint64_t open = window->high - window->low;
	uint64_t room = open < window->limit ? window->limit - open : 0;
	uint32_t granted = wanted < room ? wanted : (uint32_t)room;

	if (!open && !granted)
		granted = 1;
	window->high += granted;
	return granted;
}
