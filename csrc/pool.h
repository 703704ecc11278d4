/*
 * A worker's memory as the proxy sees it: a sealed memfd, mapped once, registered once per device, however many
 * channels name it.
 *
 * Two channels name the same pool when their descriptors are of the same inode. A pool lives while a channel, or a
 * transfer of a channel, holds a reference; with the last one the registrations and the mapping go. F_SEAL_SHRINK is
 * demanded before mapping: without it a worker could truncate the file and the proxy would take SIGBUS. Memory of
 * huge pages is refused for the same reason: a hole punched into it cannot always be filled again.
 *
 * The proxy never writes to a pool except by an RDMA Read that the worker asked for, or where the worker exposed it.
 */
#ifndef POOL_H
#define POOL_H

#include "fabric.h"
#include "path.h"

struct pool_table; /* all pools of the proxy, with the limit on their sum */
struct pool;

enum {
	POOL_DEVICES_MAX = 16, /* devices that one pool is registered with */
};
#define POOL_SIZE_MAX                                                                              \
	((uint64_t)16 << 30) /* bytes of one pool: far above what one worker keeps in flight */

int pool_table_create(uint64_t limit,
		      struct pool_table **ret); /* limit: bytes of all pools together; 0 = none */
void pool_table_destroy(struct pool_table *table); /* every pool must be released */
uint64_t pool_table_bytes(const struct pool_table *table);
uint32_t pool_table_count(const struct pool_table *table);

/*
 * Finds or maps the pool behind `fd` (which stays the caller's). A pool that is mapped already keeps its size. On failure `words` (256 bytes) says what was asked,
 * what the limit or state is, and what to change. -EPERM: not a memfd or no F_SEAL_SHRINK; -EINVAL: size;
 * -EDQUOT: the limit.
 */
int pool_acquire(struct pool_table *table, int fd, uint64_t size, char words[256],
		 struct pool **ret);
struct pool *pool_reference(struct pool *pool);
void pool_release(struct pool *pool); /* NULL is fine */

/* The pool's registration with a device, made on first use. `words` as above (memlock is the usual reason). */
int pool_region(struct pool *pool, struct fabric_device *device, char words[256],
		struct fabric_region **ret);
/* A device is going away: forget its registrations in all pools. */
void pool_table_forget_device(struct pool_table *table, struct fabric_device *device);

uint64_t pool_size(const struct pool *pool); /* bytes that a range may name */

/* The address of [offset, offset + length) if it lies inside the pool, else NULL. */
uint8_t *pool_range(const struct pool *pool, uint64_t offset, uint64_t length);

#endif
