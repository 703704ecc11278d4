#include "smbd_buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static int slots_create(struct smbd_slots *slots, uint8_t *base)
{
	slots->base = base;
	slots->stack = malloc(slots->count * sizeof(*slots->stack));
	if (!slots->stack)
		return -ENOMEM;
	for (uint32_t slot = slots->count; slot > 0; slot--)
		smbd_slots_give(slots, slot - 1);
	return 0;
}

int smbd_buffers_create(struct fabric_device *device, struct smbd_buffers *ret)
{
	size_t send_length = (size_t)ret->send.count * ret->send.size;
	void *mapping;
	int error;

	ret->length = send_length + (size_t)ret->receive.count * ret->receive.size;
	mapping = mmap(NULL, ret->length, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapping == MAP_FAILED)
		return -errno;
	/* A huge page would bring 2 MiB with the first byte. */
	madvise(mapping, ret->length, MADV_NOHUGEPAGE);
	ret->mapping = mapping;
	error = slots_create(&ret->send, ret->mapping);
	if (!error)
		error = slots_create(&ret->receive, ret->mapping + send_length);
	if (!error)
		error = fabric_register(device, ret->mapping, ret->length, &ret->region);
	if (error)
		smbd_buffers_destroy(ret);
	return error;
}

void smbd_buffers_discard(struct smbd_buffers *buffers)
{
	madvise(buffers->mapping, buffers->length, MADV_DONTNEED);
}

void smbd_buffers_destroy(struct smbd_buffers *buffers)
{
	fabric_deregister(buffers->region);
	buffers->region = NULL;
	free(buffers->send.stack);
	free(buffers->receive.stack);
	buffers->send.stack = buffers->receive.stack = NULL;
	if (buffers->mapping)
		munmap(buffers->mapping, buffers->length);
	buffers->mapping = NULL;
}
