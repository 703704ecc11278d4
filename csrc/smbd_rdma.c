#include "smbd_rdma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 1. A transfer comes from the channel. */

static bool descriptors_cover(const struct smbd_transfer *request)
{
	uint64_t sum = 0;

	if (request->descriptor_count == 0 || request->descriptor_count > MAX_DESCRIPTORS)
		return false;
	for (uint32_t i = 0; i < request->descriptor_count; i++) {
		const struct buffer_descriptor *descriptor = &request->descriptors[i];

		if (descriptor->length == 0 || descriptor->length > UINT64_MAX - descriptor->offset)
			return false;
		sum += descriptor->length;
	}
	return sum >= request->length;
}

static bool in_region(const struct smbd_transfer *request)
{
	uintptr_t base = (uintptr_t)request->region->base, address = (uintptr_t)request->address;

	return address >= base && address - base <= request->region->length &&
	       request->length <= request->region->length - (address - base);
}

static void append_waiting(struct smbd_transfer_list *list, struct smbd_rdma_transfer *transfer)
{
	if (list->last)
		list->last->waiting = transfer;
	else
		list->first = transfer;
	list->last = transfer;
}

static void append(struct smbd_rdma *rdma, struct smbd_rdma_transfer *transfer)
{
	transfer->previous = rdma->all.last;
	if (rdma->all.last)
		rdma->all.last->next = transfer;
	else
		rdma->all.first = transfer;
	rdma->all.last = transfer;
	rdma->count++;
	append_waiting(transfer->request.direction == SMBD_RDMA_WRITE ? &rdma->writes
								      : &rdma->reads,
		       transfer);
}

int smbd_rdma_add(struct smbd_rdma *rdma, const struct smbd_transfer *request, uint64_t messages)
{
	size_t size = (size_t)request->descriptor_count * sizeof(*request->descriptors);
	struct smbd_rdma_transfer *transfer;

	if (request->length == 0 || !descriptors_cover(request) || !in_region(request))
		return -EINVAL;
	if (request->direction == SMBD_RDMA_READ && rdma->depth == 0)
		return -ENOTSUP;
	if (rdma->count >= SMBD_TRANSFERS_MAX)
		return -EBUSY;
	transfer = malloc(sizeof(*transfer) + size);
	if (!transfer)
		return -ENOMEM;
	*transfer = (struct smbd_rdma_transfer){
		.request = *request, .messages = messages, .status = FABRIC_FLUSHED};
	memcpy(transfer->descriptors, request->descriptors, size);
	transfer->request.descriptors = transfer->descriptors;
	append(rdma, transfer);
	return 0;
}

/* 2. It is cut into pieces. */

struct piece {
	struct fabric_sge sge;
	uint64_t remote_offset;
	uint32_t remote_token;
};

static uint64_t smallest(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* The descriptors cover the length, so there is one for every byte that is left. */
static struct piece cut(struct smbd_rdma *rdma, struct smbd_transfer_list *list)
{
	struct smbd_rdma_transfer *transfer = list->first;
	const struct buffer_descriptor *descriptor = &transfer->descriptors[transfer->descriptor];
	uint64_t length = smallest(transfer->request.length - transfer->cut,
				   descriptor->length - transfer->place, rdma->transfer_bytes);
	struct piece piece = {
		.sge = {.address = transfer->request.address + transfer->cut,
			.length = (uint32_t)length,
			.region = transfer->request.region},
		.remote_offset = descriptor->offset + transfer->place,
		.remote_token = descriptor->token,
	};

	transfer->cut += length;
	transfer->place += (uint32_t)length;
	if (transfer->place == descriptor->length) {
		transfer->descriptor++;
		transfer->place = 0;
	}
	if (transfer->cut == transfer->request.length) {
		list->first = transfer->waiting;
		if (!list->first)
			list->last = NULL;
	}
	return piece;
}

void smbd_rdma_post_write(struct smbd_rdma *rdma, struct smbd_chain *chain)
{
	struct smbd_rdma_transfer *transfer = rdma->writes.first;
	struct piece piece = cut(rdma, &rdma->writes);

	smbd_chain_write(chain, transfer, &piece.sge, piece.remote_offset, piece.remote_token);
}

void smbd_rdma_post_read(struct smbd_rdma *rdma, struct smbd_chain *chain)
{
	struct smbd_rdma_transfer *transfer = rdma->reads.first;
	struct piece piece = cut(rdma, &rdma->reads);
	uint32_t place = 0;

	while (rdma->outstanding_reads[place].transfer)
		place++;
	rdma->outstanding_reads[place] =
		(struct smbd_read){.transfer = transfer, .bytes = piece.sge.length};
	rdma->outstanding++;
	smbd_chain_read(chain, place, &piece.sge, piece.remote_offset, piece.remote_token);
}

/* 3. The pieces complete. */

static void remove_from_all(struct smbd_rdma *rdma, struct smbd_rdma_transfer *transfer)
{
	if (transfer->previous)
		transfer->previous->next = transfer->next;
	else
		rdma->all.first = transfer->next;
	if (transfer->next)
		transfer->next->previous = transfer->previous;
	else
		rdma->all.last = transfer->previous;
	rdma->count--;
}

static struct smbd_rdma_transfer *moved(struct smbd_rdma *rdma, struct smbd_rdma_transfer *transfer,
					uint32_t bytes)
{
	transfer->moved += bytes;
	if (transfer->moved < transfer->request.length)
		return NULL;
	remove_from_all(rdma, transfer);
	transfer->status = FABRIC_OK;
	return transfer;
}

struct smbd_rdma_transfer *smbd_rdma_written(struct smbd_rdma *rdma,
					     struct smbd_rdma_transfer *transfer, uint32_t bytes)
{
	rdma->written_bytes += bytes;
	return moved(rdma, transfer, bytes);
}

static struct smbd_read *find_read(struct smbd_rdma *rdma, uint64_t place)
{
	if (place >= SMBD_READ_DEPTH_MAX || !rdma->outstanding_reads[place].transfer)
		return NULL;
	return &rdma->outstanding_reads[place];
}

struct smbd_rdma_transfer *smbd_rdma_read(struct smbd_rdma *rdma, uint64_t place)
{
	struct smbd_read *read = find_read(rdma, place);
	struct smbd_rdma_transfer *transfer;

	if (!read)
		return NULL;
	transfer = read->transfer;
	read->transfer = NULL;
	rdma->outstanding--;
	rdma->read_bytes += read->bytes;
	return moved(rdma, transfer, read->bytes);
}

/* Its place stays taken: the queue pair is ending, and no other Read may start. */
void smbd_rdma_read_failed(struct smbd_rdma *rdma, uint64_t place, enum fabric_status status)
{
	struct smbd_read *read = find_read(rdma, place);

	if (read && status != FABRIC_FLUSHED)
		read->transfer->status = status;
}

struct smbd_rdma_transfer *smbd_rdma_take(struct smbd_rdma *rdma)
{
	struct smbd_rdma_transfer *transfer = rdma->all.first;

	if (!transfer)
		return NULL;
	remove_from_all(rdma, transfer);
	rdma->writes = rdma->reads = (struct smbd_transfer_list){0};
	return transfer;
}
