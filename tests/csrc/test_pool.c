/* SOURCES: pool.c trace.c path.c */
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "trace.h"

enum {
	PAGE = 4096,
};

static char words[256];

/* A fabric that only registers, and says no when told to. */
static int registration_error;

static int stub_register(struct fabric_device *device, void *base, size_t length,
			 struct fabric_region **ret)
{
	struct fabric_region *region;

	if (registration_error)
		return registration_error;
	region = malloc(sizeof(*region));
	*region = (struct fabric_region){.device = device, .base = base, .length = length};
	device->region_count++;
	*ret = region;
	return 0;
}

static void stub_deregister(struct fabric_region *region)
{
	region->device->region_count--;
	free(region);
}

static const struct fabric_ops stub_ops = {
	.name = "stub",
	.register_memory = stub_register,
	.deregister_memory = stub_deregister,
};
static struct fabric stub_fabric = {.ops = &stub_ops};

static int make_memfd(uint64_t size, int seals)
{
	int fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	CHECK(ftruncate(fd, (off_t)size) == 0);
	CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static void refuse(struct pool_table *table, int fd, uint64_t size, int error, const char *part)
{
	struct pool *pool = NULL;

	words[0] = 0;
	CHECK(pool_acquire(table, fd, size, words, &pool) == error);
	CHECK(pool == NULL && strstr(words, part));
	CHECK(pool_table_count(table) == 0 && pool_table_bytes(table) == 0);
	close(fd);
}

static void test_what_is_refused(void)
{
	struct pool_table *table;
	char path[] = "/tmp/test_pool.XXXXXX";
	int pipes[2], file = mkstemp(path);

	CHECK(pool_table_create(0, &table) == 0 && pipe(pipes) == 0 && file >= 0);
	unlink(path);
	CHECK(ftruncate(file, PAGE) == 0);
	refuse(table, file, PAGE, -EPERM, "not a memfd");
	refuse(table, pipes[0], PAGE, -EPERM, "not a memfd");
	close(pipes[1]);
	refuse(table, make_memfd(PAGE, 0), PAGE, -EPERM, "F_SEAL_SHRINK");
	refuse(table, make_memfd(PAGE, F_SEAL_GROW), PAGE, -EPERM, "F_SEAL_SHRINK");
	refuse(table, make_memfd(PAGE, F_SEAL_SHRINK | F_SEAL_WRITE), PAGE, -EPERM, "writing");
	refuse(table, make_memfd(PAGE, F_SEAL_SHRINK), PAGE + 1, -EINVAL, "ftruncate");
	refuse(table, make_memfd(PAGE, F_SEAL_SHRINK), 0, -EINVAL, "1 to");
	refuse(table, make_memfd(POOL_SIZE_MAX + PAGE, F_SEAL_SHRINK), POOL_SIZE_MAX + 1, -EINVAL,
	       "1 to");
	refuse(table, -1, PAGE, -EPERM, "not a memfd");
	CHECK(trace_counter_value(TRACE_POOL_SEAL_REFUSALS) == 5);
	CHECK(trace_counter_value(TRACE_POOL_SIZE_REFUSALS) == 3);
	CHECK(trace_counter_value(TRACE_POOL_MAP_FAILURES) == 1);
	pool_table_destroy(table);
}

static void test_one_inode_is_one_pool(void)
{
	struct pool_table *table;
	struct pool *first, *second, *third;
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK), copy = dup(fd);

	CHECK(pool_table_create(0, &table) == 0);
	CHECK(pool_acquire(table, fd, 2 * PAGE, words, &first) == 0);
	CHECK(pool_acquire(table, copy, PAGE, words, &second) == 0);
	CHECK(first == second && pool_table_count(table) == 1 &&
	      pool_table_bytes(table) == 2 * PAGE);
	CHECK(pool_acquire(table, fd, 3 * PAGE, words, &third) == -EINVAL &&
	      strstr(words, "mapped already"));
	pool_release(first);
	CHECK(pool_table_count(table) == 1);
	CHECK(pool_reference(second) == second);
	pool_release(second);
	CHECK(pool_size(second) == 2 * PAGE);
	pool_release(second);
	CHECK(pool_table_count(table) == 0 && pool_table_bytes(table) == 0);
	pool_release(NULL);
	pool_table_destroy(table);
	close(fd);
	close(copy);
}

static void test_the_mapping_is_the_workers_memory(void)
{
	struct pool_table *table;
	struct pool *pool;
	int fd = make_memfd(PAGE, F_SEAL_SHRINK);
	char seen[5];

	CHECK(pool_table_create(0, &table) == 0);
	CHECK(pool_acquire(table, fd, PAGE, words, &pool) == 0);
	memcpy(pool_range(pool, 100, 5), "bytes", 5);
	CHECK(pread(fd, seen, 5, 100) == 5 && memcmp(seen, "bytes", 5) == 0);
	CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
	pool_release(pool);
	pool_table_destroy(table);
	close(fd);
}

static void test_ranges(void)
{
	struct pool_table *table;
	struct pool *pool;
	int fd = make_memfd(PAGE, F_SEAL_SHRINK);

	CHECK(pool_table_create(0, &table) == 0);
	CHECK(pool_acquire(table, fd, PAGE, words, &pool) == 0);
	CHECK(pool_range(pool, 0, PAGE) && pool_range(pool, PAGE - 1, 1) &&
	      pool_range(pool, PAGE, 0));
	CHECK(!pool_range(pool, 0, PAGE + 1) && !pool_range(pool, PAGE, 1) &&
	      !pool_range(pool, 1, PAGE));
	CHECK(!pool_range(pool, UINT64_MAX, 1) && !pool_range(pool, 1, UINT64_MAX));
	CHECK(!pool_range(pool, UINT64_MAX, UINT64_MAX) &&
	      !pool_range(pool, UINT64_MAX - PAGE + 1, PAGE));
	pool_release(pool);
	pool_table_destroy(table);
	close(fd);
}

static void test_the_limit_counts_all_pools(void)
{
	struct pool_table *table;
	struct pool *first, *second;
	int one = make_memfd(2 * PAGE, F_SEAL_SHRINK), other = make_memfd(2 * PAGE, F_SEAL_SHRINK);

	CHECK(pool_table_create(3 * PAGE, &table) == 0);
	CHECK(pool_acquire(table, one, 2 * PAGE, words, &first) == 0);
	CHECK(pool_acquire(table, other, 2 * PAGE, words, &second) == -EDQUOT &&
	      strstr(words, "12288"));
	CHECK(pool_acquire(table, one, 2 * PAGE, words, &second) == 0);
	pool_release(second);
	pool_release(first);
	CHECK(pool_acquire(table, other, 2 * PAGE, words, &second) == 0);
	pool_release(second);
	pool_table_destroy(table);
	close(one);
	close(other);
}

static void test_registered_once_per_device(void)
{
	static struct fabric_device devices[POOL_DEVICES_MAX + 1];
	struct pool_table *table;
	struct pool *pool;
	struct fabric_region *region, *again;
	int fd = make_memfd(PAGE, F_SEAL_SHRINK);

	CHECK(pool_table_create(0, &table) == 0);
	CHECK(pool_acquire(table, fd, PAGE, words, &pool) == 0);
	for (int index = 0; index <= POOL_DEVICES_MAX; index++)
		devices[index].fabric = &stub_fabric;
	CHECK(pool_region(pool, &devices[0], words, &region) == 0 && region->length == PAGE);
	CHECK(pool_region(pool, &devices[0], words, &again) == 0 && again == region);
	CHECK(devices[0].region_count == 1);
	for (int index = 1; index < POOL_DEVICES_MAX; index++)
		CHECK(pool_region(pool, &devices[index], words, &region) == 0);
	CHECK(pool_region(pool, &devices[POOL_DEVICES_MAX], words, &region) == -ENOSPC);
	pool_table_forget_device(table, &devices[0]);
	CHECK(devices[0].region_count == 0);
	CHECK(pool_region(pool, &devices[POOL_DEVICES_MAX], words, &region) == 0);
	pool_release(pool);
	for (int index = 0; index <= POOL_DEVICES_MAX; index++)
		CHECK(devices[index].region_count == 0);
	pool_table_destroy(table);
	close(fd);
}

static void test_registration_failure_names_the_limit(void)
{
	struct fabric_device device = {.fabric = &stub_fabric, .name = "rxe0"};
	struct pool_table *table;
	struct pool *pool;
	struct fabric_region *region = NULL;
	int fd = make_memfd(PAGE, F_SEAL_SHRINK);

	CHECK(pool_table_create(0, &table) == 0);
	CHECK(pool_acquire(table, fd, PAGE, words, &pool) == 0);
	registration_error = -EIO;
	CHECK(pool_region(pool, &device, words, &region) == -EIO && strstr(words, "rxe0"));
	registration_error = -ENOMEM;
	words[0] = 0;
	CHECK(pool_region(pool, &device, words, &region) == -ENOMEM && region == NULL);
	CHECK(strstr(words, "MEMLOCK") || strstr(words, "Cannot allocate"));
	registration_error = 0;
	CHECK(pool_region(pool, &device, words, &region) == 0);
	pool_release(pool);
	pool_table_destroy(table);
	close(fd);
}

int main(void)
{
	test_what_is_refused();
	test_one_inode_is_one_pool();
	test_the_mapping_is_the_workers_memory();
	test_ranges();
	test_the_limit_counts_all_pools();
	test_registered_once_per_device();
	test_registration_failure_names_the_limit();
	return 0;
}
