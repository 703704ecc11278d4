#include "smbd_queue.h"

#include "capture.h"

bool smbd_queue_retire(struct smbd_queue *queue, uint64_t number, struct smbd_ordered *ret)
{
	if (number >= queue->next || queue->first > number)
		return false;
	*ret = queue->ring[queue->first++ % SMBD_SEND_QUEUE];
	queue->used--;
	return true;
}

void smbd_queue_finish(struct smbd_queue *queue)
{
	queue->used--;
}

void smbd_chain_begin(struct smbd_chain *chain, struct fabric_qp *qp, struct smbd_queue *queue,
		      struct fabric_region *slots)
{
	chain->qp = qp;
	chain->queue = queue;
	chain->slots = slots;
	chain->count = 0;
	chain->ordered = NULL;
	chain->error = 0;
}

static struct fabric_work *add(struct smbd_chain *chain, const struct fabric_sge *sge)
{
	struct fabric_work *work;

	if (chain->count == SMBD_CHAIN_MAX)
		smbd_chain_post(chain);
	work = &chain->works[chain->count];
	chain->sges[chain->count] = *sge;
	*work = (struct fabric_work){.sge_count = 1, .sges = &chain->sges[chain->count]};
	if (chain->count > 0)
		work[-1].next = work;
	chain->count++;
	chain->queue->used++;
	return work;
}

static struct fabric_work *add_ordered(struct smbd_chain *chain, const struct fabric_sge *sge,
				       const struct smbd_ordered *ordered)
{
	struct smbd_queue *queue = chain->queue;
	struct fabric_work *work = add(chain, sge);

	work->id = smbd_id(SMBD_TAG_ORDERED, queue->next);
	queue->ring[queue->next++ % SMBD_SEND_QUEUE] = *ordered;
	work->signalled = ++queue->unsignalled >= SMBD_SIGNAL_EVERY;
	if (work->signalled)
		queue->unsignalled = 0;
	chain->ordered = work;
	return work;
}

void smbd_chain_send(struct smbd_chain *chain, uint32_t slot, uint8_t *address, uint32_t length,
		     bool invalidate, uint32_t token)
{
	struct fabric_sge sge = {.address = address, .length = length, .region = chain->slots};
	struct smbd_ordered ordered = {.slot = slot};
	struct fabric_work *work = add_ordered(chain, &sge, &ordered);

	work->opcode = invalidate ? FABRIC_SEND_INVALIDATE : FABRIC_SEND;
	work->remote_token = invalidate ? token : 0;
	capture_message(chain->qp, CAPTURE_SENT | (invalidate ? CAPTURE_INVALIDATES : 0),
			work->remote_token, address, length);
}

void smbd_chain_write(struct smbd_chain *chain, struct smbd_rdma_transfer *transfer,
		      const struct fabric_sge *sge, uint64_t remote_offset, uint32_t remote_token)
{
	struct smbd_ordered ordered = {.transfer = transfer, .bytes = sge->length};
	struct fabric_work *work = add_ordered(chain, sge, &ordered);

	work->opcode = FABRIC_WRITE;
	work->remote_offset = remote_offset;
	work->remote_token = remote_token;
}

void smbd_chain_read(struct smbd_chain *chain, uint32_t place, const struct fabric_sge *sge,
		     uint64_t remote_offset, uint32_t remote_token)
{
	struct fabric_work *work = add(chain, sge);

	work->id = smbd_id(SMBD_TAG_READ, place);
	work->opcode = FABRIC_READ;
	work->signalled = true;
	work->remote_offset = remote_offset;
	work->remote_token = remote_token;
}

int smbd_chain_post(struct smbd_chain *chain)
{
	if (chain->ordered) {
		chain->ordered->signalled = true;
		chain->queue->unsignalled = 0;
	}
	if (chain->count > 0 && !chain->error)
		chain->error = fabric_post(chain->qp, chain->works);
	chain->count = 0;
	chain->ordered = NULL;
	return chain->error;
}
