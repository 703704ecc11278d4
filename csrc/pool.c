#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "trace.h"

enum {
	WORDS = 256, /* bytes of a sentence for the worker and the log */
};

struct pool {
	struct pool_table *table;
	struct pool *next;
	dev_t device;
	ino_t inode;
	uint8_t *base;
	uint64_t size;
	uint32_t references;
	uint32_t region_count;
	struct fabric_region *regions[POOL_DEVICES_MAX];
};

struct pool_table {
	struct pool *pools; /* one per worker: few, and searched only when a POOL frame comes */
	uint64_t limit;
	uint64_t bytes;
	uint32_t count;
};

int pool_table_create(uint64_t limit, struct pool_table **ret)
{
	struct pool_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->limit = limit;
	*ret = table;
	return 0;
}

void pool_table_destroy(struct pool_table *table)
{
	free(table);
}

uint64_t pool_table_bytes(const struct pool_table *table)
{
	return table->bytes;
}

uint32_t pool_table_count(const struct pool_table *table)
{
	return table->count;
}

/*
 * Only memory that cannot vanish under the mapping: a memfd of ordinary pages, sealed against shrinking. The seals
 * come first: asking for them never leaves the kernel's own memory, while fstat of a worker's file system may block.
 */
static int check_file(int fd, struct stat *status, char words[WORDS])
{
	struct statfs filesystem;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, status) < 0 || fstatfs(fd, &filesystem) < 0 ||
	    !S_ISREG(status->st_mode) || filesystem.f_type != TMPFS_MAGIC) {
		snprintf(words, WORDS,
			 "the pool's descriptor is not a memfd of ordinary pages; make it with "
			 "memfd_create and "
			 "MFD_ALLOW_SEALING, without MFD_HUGETLB");
		return -EPERM;
	}
	if (!(seals & F_SEAL_SHRINK)) {
		snprintf(words, WORDS,
			 "the pool's memfd may shrink; seal it first: fcntl(fd, F_ADD_SEALS, "
			 "F_SEAL_SHRINK)");
		return -EPERM;
	}
	return 0;
}

static int check_size(const struct stat *status, uint64_t size, char words[WORDS])
{
	if (size == 0 || size > POOL_SIZE_MAX) {
		snprintf(words, WORDS,
			 "a pool of %" PRIu64 " bytes was asked for; it may have 1 to %" PRIu64,
			 size, POOL_SIZE_MAX);
		return -EINVAL;
	}
	if (status->st_size < 0 || size > (uint64_t)status->st_size) {
		snprintf(words, WORDS,
			 "a pool of %" PRIu64 " bytes was asked for, but its memfd has %" PRIu64
			 "; set its size with ftruncate first",
			 size, (uint64_t)status->st_size);
		return -EINVAL;
	}
	return 0;
}

static int check_limit(const struct pool_table *table, uint64_t size, char words[WORDS])
{
	if (table->limit == 0 || (size <= table->limit && table->bytes <= table->limit - size))
		return 0;
	snprintf(words, WORDS,
		 "a pool of %" PRIu64 " bytes was asked for; %" PRIu64 " of the limit of %" PRIu64
		 " bytes are in use; raise the proxy's memory limit",
		 size, table->bytes, table->limit);
	return -EDQUOT;
}

static struct pool *find_pool(const struct pool_table *table, const struct stat *status)
{
	for (struct pool *pool = table->pools; pool; pool = pool->next) {
		if (pool->device == status->st_dev && pool->inode == status->st_ino)
			return pool;
	}
	return NULL;
}

static int map_pool(struct pool_table *table, int fd, const struct stat *status, uint64_t size,
		    char words[WORDS], struct pool **ret)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	void *base = MAP_FAILED;
	int error = ENOMEM;

	if (pool) {
		base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		error = errno;
	}
	if (base == MAP_FAILED) {
		free(pool);
		trace_count(TRACE_POOL_MAP_FAILURES);
		snprintf(words, WORDS, "the pool of %" PRIu64 " bytes cannot be mapped: %s%s", size,
			 strerror(error),
			 error == EACCES || error == EPERM
				 ? "; its memfd must be open and not sealed for writing"
				 : "");
		return error == ENOMEM ? -ENOMEM : -EPERM;
	}
	pool->table = table;
	pool->device = status->st_dev;
	pool->inode = status->st_ino;
	pool->base = base;
	pool->size = size;
	pool->references = 1;
	pool->next = table->pools;
	table->pools = pool;
	table->bytes += size;
	table->count++;
	trace_count(TRACE_POOL_MAPPED);
	*ret = pool;
	return 0;
}

int pool_acquire(struct pool_table *table, int fd, uint64_t size, char words[256],
		 struct pool **ret)
{
	struct stat status;
	struct pool *pool;
	int error;

	error = check_file(fd, &status, words);
	if (error < 0) {
		trace_count(TRACE_POOL_SEAL_REFUSALS);
		return error;
	}
	error = check_size(&status, size, words);
	if (error < 0) {
		trace_count(TRACE_POOL_SIZE_REFUSALS);
		return error;
	}
	pool = find_pool(table, &status);
	if (pool && size > pool->size) {
		trace_count(TRACE_POOL_SIZE_REFUSALS);
		snprintf(words, WORDS,
			 "this memfd is mapped already with %" PRIu64 " bytes, %" PRIu64
			 " were asked for; name its full size on its first channel",
			 pool->size, size);
		return -EINVAL;
	}
	if (pool) {
		*ret = pool_reference(pool);
		return 0;
	}
	error = check_limit(table, size, words);
	if (error < 0) {
		trace_count(TRACE_POOL_LIMIT_REFUSALS);
		return error;
	}
	return map_pool(table, fd, &status, size, words, ret);
}

struct pool *pool_reference(struct pool *pool)
{
	pool->references++;
	return pool;
}

static void unlink_pool(struct pool *pool)
{
	struct pool **place = &pool->table->pools;

	while (*place != pool)
		place = &(*place)->next;
	*place = pool->next;
}

void pool_release(struct pool *pool)
{
	if (!pool || --pool->references > 0)
		return;
	unlink_pool(pool);
	for (uint32_t index = 0; index < pool->region_count; index++)
		fabric_deregister(pool->regions[index]);
	munmap(pool->base, pool->size);
	pool->table->bytes -= pool->size;
	pool->table->count--;
	trace_count(TRACE_POOL_RELEASED);
	free(pool);
}

static void say_why_not_registered(const struct pool *pool, const struct fabric_device *device,
				   int error, char words[WORDS])
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (error == -ENOMEM && limit.rlim_cur != RLIM_INFINITY)
		snprintf(words, WORDS,
			 "%s cannot register %" PRIu64 " bytes: RLIMIT_MEMLOCK is %" PRIu64
			 " bytes; raise it for the proxy (LimitMEMLOCK=, ulimit -l)",
			 device->name, pool->size, (uint64_t)limit.rlim_cur);
	else
		snprintf(words, WORDS, "%s cannot register %" PRIu64 " bytes: %s", device->name,
			 pool->size, strerror(-error));
}

int pool_region(struct pool *pool, struct fabric_device *device, char words[256],
		struct fabric_region **ret)
{
	int error;

	for (uint32_t index = 0; index < pool->region_count; index++) {
		if (pool->regions[index]->device == device) {
			*ret = pool->regions[index];
			return 0;
		}
	}
	if (pool->region_count == POOL_DEVICES_MAX) {
		trace_count(TRACE_POOL_REGISTRATION_FAILURES);
		snprintf(words, WORDS,
			 "the pool is registered with %d devices already, the most there may be",
			 POOL_DEVICES_MAX);
		return -ENOSPC;
	}
	error = fabric_register(device, pool->base, pool->size, &pool->regions[pool->region_count]);
	if (error < 0) {
		trace_count(TRACE_POOL_REGISTRATION_FAILURES);
		say_why_not_registered(pool, device, error, words);
		return error;
	}
	*ret = pool->regions[pool->region_count++];
	return 0;
}

void pool_table_forget_device(struct pool_table *table, struct fabric_device *device)
{
	for (struct pool *pool = table->pools; pool; pool = pool->next) {
		uint32_t kept = 0;

		for (uint32_t index = 0; index < pool->region_count; index++) {
			struct fabric_region *region = pool->regions[index];

			if (region->device == device)
				fabric_deregister(region);
			else
				pool->regions[kept++] = region;
		}
		pool->region_count = kept;
	}
}

uint64_t pool_size(const struct pool *pool)
{
	return pool->size;
}

uint8_t *pool_range(const struct pool *pool, uint64_t offset, uint64_t length)
{
	if (length > pool->size || offset > pool->size - length)
		return NULL;
	return pool->base + offset;
}
