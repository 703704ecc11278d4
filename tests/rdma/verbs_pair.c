/* SOURCES: loop.c path.c trace.c fabric_verbs.c verbs_connect.c verbs_device.c verbs_library.c verbs_memory.c verbs_queue.c */
/*
 * verbs_pair ADDRESS [CYCLES]: the cases of verbs_cases.h on the device behind ADDRESS, with memory windows and
 * without, then CYCLES connections one after another.
 */
#include "verbs_cases.h"

static const char *address;
static bool no_windows;

static void pair_open(struct pair *pair)
{
	struct fabric_verbs_config config = {.no_windows = no_windows};
	char words[256] = "";

	pair_create_loop(pair);
	if (fabric_verbs_create(pair->loop, &config, words, &pair->fabric) < 0) {
		fprintf(stderr, "%s\n", words);
		exit(2);
	}
	pair_listen_on(pair, address);
}

static void cycle(struct pair *pair)
{
	pair->client = pair->server = (struct end){0};
	pair_begin(pair);
	fabric_disconnect(pair->client.qp);
	TURN_UNTIL(pair, pair->client.disconnected && pair->server.disconnected);
	end_destroy(&pair->client);
	end_destroy(&pair->server);
}

int main(int count, char **words)
{
	static struct pair pair;
	int cycles = count > 2 ? atoi(words[2]) : 0;

	CHECK(count > 1);
	address = words[1];
	verbs_cases(true);
	no_windows = true;
	verbs_cases(false);
	pair_open(&pair);
	for (int i = 0; i < cycles; i++)
		cycle(&pair);
	fabric_unlisten(pair.listener);
	fabric_destroy(pair.fabric);
	loop_destroy(pair.loop);
	return 0;
}
