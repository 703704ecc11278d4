/* Two ends of user-space iWARP over loopback. */
#ifndef IWARP_PAIR_H
#define IWARP_PAIR_H

#include "fabric_pair.h"

static inline void pair_listen(struct pair *pair, const struct fabric_iwarp_config *config)
{
	pair_create_loop(pair);
	CHECK(fabric_iwarp_create(pair->loop, config, &pair->fabric) == 0);
	pair_listen_on(pair, "127.0.0.1");
}

static inline void pair_create(struct pair *pair, const struct fabric_iwarp_config *config)
{
	pair_listen(pair, config);
	pair_begin(pair);
}

#endif
