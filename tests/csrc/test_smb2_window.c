/* SOURCES: smb2_window.c */
#include "smb2_window.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum {
	LIMIT = 100, /* no power of two, so that the places of `used` are more than the ids */
	STEPS = 200000,
};

static void test_in_order_and_out_of_order(void)
{
	struct smb2_window *window = smb2_window_create(LIMIT, 0);

	CHECK(smb2_window_take(window, 0, 1));
	CHECK(!smb2_window_take(window, 0, 1));
	CHECK(!smb2_window_take(window, 1, 1));
	CHECK(smb2_window_grant(window, 10) == 10);
	CHECK(smb2_window_take(window, 5, 2));
	CHECK(!smb2_window_take(window, 6, 2));
	CHECK(window->low == 1 && window->ahead == 2);
	CHECK(smb2_window_take(window, 1, 4));
	CHECK(window->low == 7 && window->ahead == 0);
	CHECK(!smb2_window_take(window, 10, 2));
	CHECK(!smb2_window_take(window, UINT64_MAX, 1));
	CHECK(!smb2_window_take(window, 7, UINT32_MAX));
	smb2_window_destroy(window);
	smb2_window_destroy(NULL);
}

static void test_a_client_is_never_left_without_credits(void)
{
	struct smb2_window *window = smb2_window_create(4, 0);

	CHECK(smb2_window_take(window, 0, 1));
	CHECK(smb2_window_grant(window, 0) == 1);
	CHECK(smb2_window_grant(window, 100) == 3);
	CHECK(smb2_window_grant(window, 100) == 0);
	window->high = 2000; /* a connection that was passed on may have more than the limit */
	CHECK(smb2_window_grant(window, 1) == 0);
	smb2_window_destroy(window);
}

/* Against a list of every id, round the places many times. */
static void test_random_ids(void)
{
	static bool used[STEPS * 4];
	struct smb2_window *window = smb2_window_create(LIMIT, 0);
	uint64_t high = 1;

	srandom(1);
	for (unsigned int step = 0; step < STEPS; step++) {
		uint64_t id = window->low + (uint64_t)random() % (LIMIT + 8);
		uint32_t charge = 1 + (uint32_t)random() % 4;
		bool fits = id + charge <= high;

		for (uint64_t one = id; fits && one < id + charge; one++)
			fits = !used[one];
		CHECK(smb2_window_take(window, id, charge) == fits);
		for (uint64_t one = id; fits && one < id + charge; one++)
			used[one] = true;
		CHECK(!used[window->low]);
		high += smb2_window_grant(window, (uint32_t)random() % 4);
		CHECK(window->high == high && high - window->low <= LIMIT);
		if (!(step % 7) && window->low < high) {
			used[window->low] = true;
			CHECK(smb2_window_take(window, window->low, 1));
		}
	}
	CHECK(window->low > LIMIT * 10);
	smb2_window_destroy(window);
}

int main(void)
{
	test_in_order_and_out_of_order();
	test_a_client_is_never_left_without_credits();
	test_random_ids();
	return 0;
}
