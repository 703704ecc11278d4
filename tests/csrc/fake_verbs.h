/*
 * An adapter and its connection manager, played in this process: what a struct verbs_library calls.
 *
 * Work requests are carried out when they are posted, or when `fake.hold` ends; completions, events and errors come as
 * verbs has them. It is stricter than adapters are: what is destroyed in the wrong order, or not at all, fails the test.
 */
#ifndef FAKE_VERBS_H
#define FAKE_VERBS_H

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "verbs.h"

enum {
	FAKE_QUEUE = 1024, /* entries of any queue */
	FAKE_KEYS = 4096,  /* registrations and windows, ever */
	FAKE_PORT = 1,
};

struct fake_cq {
	struct ibv_cq base;
	struct ibv_wc entries[FAKE_QUEUE];
	uint32_t first, next;
	uint32_t unacknowledged;
	bool armed;
};

struct fake_qp {
	struct ibv_qp base;
	struct fake_qp *peer, *next;
	struct ibv_qp_init_attr attributes;
	struct {
		uint64_t wr_id;
		struct ibv_sge sge;
	} receives[FAKE_QUEUE];
	uint32_t receive_first, receive_next;
	struct ibv_send_wr works[FAKE_QUEUE];
	struct ibv_sge sges[FAKE_QUEUE][VERBS_SGES_MAX];
	uint8_t inlined[FAKE_QUEUE][VERBS_INLINE];
	uint32_t work_first, work_next;
	bool broken;
};

/* What a token or a local key stands for. */
struct fake_key {
	uintptr_t address;
	size_t length;
	unsigned int access;
	bool valid;
	struct ibv_qp *qp; /* of a memory window */
};

struct fake_id {
	struct rdma_cm_id base;
	struct fake_id *peer, *next;
	struct rdma_conn_param parameters;
	uint32_t qp_num;
	bool listening, connected;
	uint32_t unacknowledged;
};

struct fake_event {
	struct rdma_cm_event base;
	struct fake_event *next;
	uint8_t data[64];
};

static struct {
	struct ibv_device device;
	struct ibv_context context;
	struct ibv_device_attr attributes;
	struct ibv_comp_channel completions;
	struct rdma_event_channel channel;
	struct fake_cq *ready[FAKE_QUEUE]; /* completion events not taken */
	uint32_t ready_count;
	struct ibv_async_event async[16];
	uint32_t async_count;
	struct fake_event *events, **events_end;
	struct fake_id *ids;
	struct fake_qp *qps;
	struct fake_key keys[FAKE_KEYS];
	uint32_t key_count;
	uint32_t numbers;
	int contexts, pds, mrs, mws, cqs, qp_count, id_count;
	bool hold;
	uint32_t no_inline;	/* create_qp refuses inline data */
	uint32_t most_send_wr;	/* create_qp refuses more; 0: any */
	uint32_t signalled;	/* completions asked for */
	bool repeat_completion; /* each completion comes twice */
	bool lose_establish;	/* the responder's ESTABLISHED never comes */
} fake;

/* Keys: the index above the byte that a window's binding changes. */

static struct fake_key *fake_key(uint32_t key)
{
	CHECK(key >> 8 < FAKE_KEYS);
	return &fake.keys[key >> 8];
}

static struct ibv_mr *fake_reg_mr(struct ibv_pd *pd, void *address, size_t length, int access)
{
	struct ibv_mr *mr = calloc(1, sizeof(*mr));

	mr->context = pd->context;
	mr->pd = pd;
	mr->lkey = mr->rkey = ++fake.key_count << 8;
	*fake_key(mr->lkey) = (struct fake_key){.address = (uintptr_t)address,
						.length = length,
						.access = (unsigned int)access,
						.valid = true};
	fake.mrs++;
	return mr;
}

static int fake_dereg_mr(struct ibv_mr *mr)
{
	fake_key(mr->lkey)->valid = false;
	free(mr);
	fake.mrs--;
	return 0;
}

static struct ibv_mw *fake_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct ibv_mw *mw = calloc(1, sizeof(*mw));

	CHECK(type == IBV_MW_TYPE_2);
	mw->context = pd->context;
	mw->rkey = ++fake.key_count << 8;
	fake.mws++;
	return mw;
}

static int fake_dealloc_mw(struct ibv_mw *mw)
{
	fake_key(mw->rkey)->valid = false;
	free(mw);
	fake.mws--;
	return 0;
}

/* Completion queues. */

static struct ibv_cq *fake_create_cq(struct ibv_context *context, int entries, void *cq_context,
				     struct ibv_comp_channel *channel, int vector)
{
	struct fake_cq *cq = calloc(1, sizeof(*cq));

	CHECK(entries > 0 && entries <= fake.attributes.max_cqe && vector == 0);
	cq->base.context = context;
	cq->base.channel = channel;
	cq->base.cq_context = cq_context;
	fake.cqs++;
	return &cq->base;
}

static int fake_destroy_cq(struct ibv_cq *base)
{
	struct fake_cq *cq = (struct fake_cq *)base;
	uint32_t kept = 0;

	CHECK(cq->unacknowledged == 0); /* the library would wait for ever */
	for (struct fake_qp *qp = fake.qps; qp; qp = qp->next)
		CHECK(qp->base.send_cq != base);
	for (uint32_t i = 0; i < fake.ready_count; i++)
		if (fake.ready[i] != cq)
			fake.ready[kept++] = fake.ready[i];
	fake.ready_count = kept;
	free(cq);
	fake.cqs--;
	return 0;
}

static void fake_complete(struct ibv_cq *base, const struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)base;

	for (int times = 0; times <= fake.repeat_completion; times++) {
		CHECK(cq->next - cq->first < FAKE_QUEUE);
		cq->entries[cq->next++ % FAKE_QUEUE] = *wc;
	}
	if (cq->armed) {
		cq->armed = false;
		fake.ready[fake.ready_count++] = cq;
		eventfd_write(fake.completions.fd, 1);
	}
}

static int fake_poll_cq(struct ibv_cq *base, int most, struct ibv_wc *wcs)
{
	struct fake_cq *cq = (struct fake_cq *)base;
	int count = 0;

	CHECK(most > 0 && most <= FABRIC_COMPLETION_BATCH);
	while (count < most && cq->first < cq->next)
		wcs[count++] = cq->entries[cq->first++ % FAKE_QUEUE];
	return count;
}

static int fake_req_notify_cq(struct ibv_cq *cq, int solicited)
{
	CHECK(!solicited);
	((struct fake_cq *)cq)->armed = true;
	return 0;
}

static int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context)
{
	eventfd_t value;

	if (fake.ready_count == 0) {
		eventfd_read(channel->fd, &value);
		errno = EAGAIN;
		return -1;
	}
	*cq = &fake.ready[0]->base;
	*context = (*cq)->cq_context;
	fake.ready[0]->unacknowledged++;
	memmove(fake.ready, fake.ready + 1, --fake.ready_count * sizeof(fake.ready[0]));
	return 0;
}

static void fake_ack_cq_events(struct ibv_cq *cq, unsigned int count)
{
	CHECK(((struct fake_cq *)cq)->unacknowledged >= count);
	((struct fake_cq *)cq)->unacknowledged -= count;
}

/* Queue pairs. */

static struct ibv_qp *fake_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attributes)
{
	struct ibv_qp_cap *cap = &attributes->cap;
	struct fake_qp *qp;

	CHECK(cap->max_send_wr && cap->max_recv_wr && cap->max_send_sge && cap->max_recv_sge);
	if ((fake.no_inline && cap->max_inline_data) ||
	    (fake.most_send_wr && cap->max_send_wr > fake.most_send_wr) ||
	    cap->max_send_wr > (uint32_t)fake.attributes.max_qp_wr ||
	    cap->max_send_sge > (uint32_t)fake.attributes.max_sge) {
		errno = EINVAL;
		return NULL;
	}
	qp = calloc(1, sizeof(*qp));
	qp->base.context = pd->context;
	qp->base.qp_context = attributes->qp_context;
	qp->base.send_cq = qp->base.recv_cq = attributes->send_cq;
	qp->base.qp_num = ++fake.numbers;
	qp->attributes = *attributes;
	qp->next = fake.qps;
	fake.qps = qp;
	fake.qp_count++;
	return &qp->base;
}

static int fake_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attributes, int mask)
{
	CHECK(mask & IBV_QP_STATE);
	/* INIT may follow INIT; otherwise one step at a time. */
	CHECK(attributes->qp_state == qp->state + 1 ||
	      (attributes->qp_state == IBV_QPS_INIT && qp->state == IBV_QPS_INIT));
	qp->state = attributes->qp_state;
	return 0;
}

static int fake_destroy_qp(struct ibv_qp *base)
{
	struct fake_qp *qp = (struct fake_qp *)base, **place = &fake.qps;

	while (*place != qp)
		place = &(*place)->next;
	*place = qp->next;
	if (qp->peer)
		qp->peer->peer = NULL;
	free(qp);
	fake.qp_count--;
	return 0;
}

static int fake_post_recv(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;

	(void)bad;
	CHECK(base->state != IBV_QPS_RESET && wr->num_sge == 1 && !wr->next);
	CHECK(qp->receive_next - qp->receive_first < qp->attributes.cap.max_recv_wr);
	CHECK(fake_key(wr->sg_list->lkey)->valid);
	qp->receives[qp->receive_next % FAKE_QUEUE].wr_id = wr->wr_id;
	qp->receives[qp->receive_next++ % FAKE_QUEUE].sge = *wr->sg_list;
	return 0;
}

static uint32_t fake_length(const struct ibv_send_wr *wr)
{
	uint32_t length = 0;

	for (int i = 0; i < wr->num_sge; i++)
		length += wr->sg_list[i].length;
	return length;
}

/* Between the request's pieces and one stretch of memory. */
static void fake_move(const struct ibv_send_wr *wr, uintptr_t at, bool out)
{
	for (int i = 0; i < wr->num_sge; i++) {
		void *ours = (void *)(uintptr_t)wr->sg_list[i].addr, *theirs = (void *)at;

		if (out)
			memcpy(theirs, ours, wr->sg_list[i].length);
		else
			memcpy(ours, theirs, wr->sg_list[i].length);
		at += wr->sg_list[i].length;
	}
}

static void fake_break(struct fake_qp *qp)
{
	struct ibv_wc wc = {.status = IBV_WC_WR_FLUSH_ERR, .opcode = 77};

	qp->broken = true;
	for (; qp->work_first < qp->work_next; qp->work_first++) {
		wc.wr_id = qp->works[qp->work_first % FAKE_QUEUE].wr_id;
		fake_complete(qp->base.send_cq, &wc);
	}
	for (; qp->receive_first < qp->receive_next; qp->receive_first++) {
		wc.wr_id = qp->receives[qp->receive_first % FAKE_QUEUE].wr_id;
		fake_complete(qp->base.recv_cq, &wc);
	}
}

static enum ibv_wc_status fake_send(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
	struct fake_qp *peer = qp->peer;
	struct ibv_wc wc = {.byte_len = fake_length(wr), .opcode = IBV_WC_RECV};
	struct ibv_sge *sge = &peer->receives[peer->receive_first % FAKE_QUEUE].sge;

	if (peer->receive_first == peer->receive_next)
		return IBV_WC_RNR_RETRY_EXC_ERR;
	wc.wr_id = peer->receives[peer->receive_first++ % FAKE_QUEUE].wr_id;
	if (wc.byte_len > sge->length) {
		wc.status = IBV_WC_LOC_LEN_ERR;
		fake_complete(peer->base.recv_cq, &wc);
		fake_break(peer);
		return IBV_WC_REM_INV_REQ_ERR;
	}
	CHECK(fake_key(sge->lkey)->valid);
	fake_move(wr, sge->addr, true);
	if (wr->opcode == IBV_WR_SEND_WITH_INV) {
		wc.wc_flags = IBV_WC_WITH_INV;
		wc.invalidated_rkey = wr->invalidate_rkey;
		fake_key(wr->invalidate_rkey)->valid = false;
	}
	fake_complete(peer->base.recv_cq, &wc);
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status fake_rdma(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
	bool write = wr->opcode == IBV_WR_RDMA_WRITE;
	unsigned int access = write ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;
	const struct fake_key *key = fake_key(wr->wr.rdma.rkey);
	uint64_t length = fake_length(wr);

	if (!key->valid || !(key->access & access) || wr->wr.rdma.remote_addr < key->address ||
	    length > key->length || wr->wr.rdma.remote_addr - key->address > key->length - length ||
	    (key->qp && key->qp != &qp->peer->base))
		return IBV_WC_REM_ACCESS_ERR;
	fake_move(wr, wr->wr.rdma.remote_addr, write);
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status fake_bind(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
	struct fake_key *key = fake_key(wr->bind_mw.rkey);

	CHECK(fake_key(wr->bind_mw.bind_info.mr->lkey)->access & IBV_ACCESS_MW_BIND);
	CHECK(wr->bind_mw.rkey >> 8 == wr->bind_mw.mw->rkey >> 8);
	if (key->valid)
		return IBV_WC_MW_BIND_ERR;
	*key = (struct fake_key){.address = wr->bind_mw.bind_info.addr,
				 .length = wr->bind_mw.bind_info.length,
				 .access = wr->bind_mw.bind_info.mw_access_flags,
				 .valid = true,
				 .qp = &qp->base};
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status fake_carry_out(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
	switch (wr->opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_INV:
		return qp->peer ? fake_send(qp, wr) : IBV_WC_RETRY_EXC_ERR;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_READ:
		return qp->peer ? fake_rdma(qp, wr) : IBV_WC_RETRY_EXC_ERR;
	case IBV_WR_BIND_MW:
		return fake_bind(qp, wr);
	case IBV_WR_LOCAL_INV:
		if (!fake_key(wr->invalidate_rkey)->valid)
			return IBV_WC_LOC_QP_OP_ERR;
		fake_key(wr->invalidate_rkey)->valid = false;
		return IBV_WC_SUCCESS;
	default:
		CHECK(!"a known opcode");
		return IBV_WC_GENERAL_ERR;
	}
}

static void fake_run(struct fake_qp *qp)
{
	while (!fake.hold && qp->work_first < qp->work_next) {
		struct ibv_send_wr *wr = &qp->works[qp->work_first % FAKE_QUEUE];
		struct ibv_wc wc = {.wr_id = wr->wr_id, .opcode = IBV_WC_SEND};

		qp->work_first++;
		wc.status = fake_carry_out(qp, wr);
		if (wc.status != IBV_WC_SUCCESS)
			wc.opcode = 77; /* undefined, says the manual */
		if (wc.status != IBV_WC_SUCCESS || wr->send_flags & IBV_SEND_SIGNALED)
			fake_complete(qp->base.send_cq, &wc);
		if (wc.status != IBV_WC_SUCCESS)
			fake_break(qp);
	}
}

static int fake_post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;

	(void)bad;
	CHECK(base->state == IBV_QPS_RTS);
	for (; wr; wr = wr->next) {
		uint32_t place = qp->work_next % FAKE_QUEUE;
		struct ibv_send_wr *copy = &qp->works[place];

		CHECK(qp->work_next - qp->work_first < qp->attributes.cap.max_send_wr);
		qp->work_next++;
		*copy = *wr;
		copy->sg_list = qp->sges[place];
		for (int i = 0; i < wr->num_sge; i++) {
			copy->sg_list[i] = wr->sg_list[i];
			if (!(wr->send_flags & IBV_SEND_INLINE)) {
				CHECK(fake_key(wr->sg_list[i].lkey)->valid);
				continue;
			}
			CHECK(wr->sg_list[i].length <= qp->attributes.cap.max_inline_data);
			memcpy(qp->inlined[place], (void *)(uintptr_t)wr->sg_list[i].addr,
			       wr->sg_list[i].length);
			copy->sg_list[i].addr = (uintptr_t)qp->inlined[place];
		}
		fake.signalled += (wr->send_flags & IBV_SEND_SIGNALED) != 0;
	}
	if (qp->broken)
		fake_break(qp);
	fake_run(qp);
	return 0;
}

static inline void fake_release(void)
{
	fake.hold = false;
	for (struct fake_qp *qp = fake.qps; qp; qp = qp->next)
		fake_run(qp);
}

/* The device. */

static int fake_query_device(struct ibv_context *context, struct ibv_device_attr *ret)
{
	(void)context;
	*ret = fake.attributes;
	return 0;
}

static struct ibv_context *fake_open_device(struct ibv_device *device)
{
	CHECK(device == &fake.device);
	fake.contexts++;
	return &fake.context;
}

static int fake_close_device(struct ibv_context *context)
{
	(void)context;
	CHECK(fake.pds == 0 && fake.cqs == 0);
	fake.contexts--;
	return 0;
}

static const char *fake_get_device_name(struct ibv_device *device)
{
	return device->name;
}

static struct ibv_pd *fake_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	pd->context = context;
	fake.pds++;
	return pd;
}

static int fake_dealloc_pd(struct ibv_pd *pd)
{
	CHECK(fake.mrs == 0 && fake.mws == 0 && fake.qp_count == 0);
	free(pd);
	fake.pds--;
	return 0;
}

static struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context)
{
	fake.completions.context = context;
	return &fake.completions;
}

static int fake_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	(void)channel;
	CHECK(fake.cqs == 0);
	return 0;
}

static inline void fake_async(enum ibv_event_type type, struct ibv_qp *qp)
{
	struct ibv_async_event *event = &fake.async[fake.async_count++];

	event->event_type = type;
	event->element.qp = qp;
	if (!qp)
		event->element.port_num = FAKE_PORT;
	eventfd_write(fake.context.async_fd, 1);
}

static int fake_get_async_event(struct ibv_context *context, struct ibv_async_event *ret)
{
	eventfd_t value;

	if (fake.async_count == 0) {
		eventfd_read(context->async_fd, &value);
		errno = EAGAIN;
		return -1;
	}
	*ret = fake.async[0];
	memmove(fake.async, fake.async + 1, --fake.async_count * sizeof(fake.async[0]));
	return 0;
}

static void fake_ack_async_event(struct ibv_async_event *event)
{
	(void)event;
}

static const char *fake_wc_status_str(enum ibv_wc_status status)
{
	return status == IBV_WC_REM_ACCESS_ERR ? "remote access error" : "another error";
}

#include "fake_rdmacm.h"

static const struct verbs_library fake_library = {
#define FAKE(library, result, name, parameters) .name = fake_##name,
	VERBS_FUNCTIONS(FAKE)
#undef FAKE
};

static void fake_start(void)
{
	int fds[3];

	memset(&fake, 0, sizeof(fake));
	fake.events_end = &fake.events;
	for (int i = 0; i < 3; i++)
		CHECK((fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0);
	fake.channel.fd = fds[0];
	fake.completions.fd = fds[1];
	fake.context.async_fd = fds[2];
	fake.context.cmd_fd = -1;
	fake.context.device = &fake.device;
	fake.context.ops.poll_cq = fake_poll_cq;
	fake.context.ops.req_notify_cq = fake_req_notify_cq;
	fake.context.ops.post_send = fake_post_send;
	fake.context.ops.post_recv = fake_post_recv;
	fake.context.ops.alloc_mw = fake_alloc_mw;
	fake.context.ops.dealloc_mw = fake_dealloc_mw;
	fake.device.node_type = IBV_NODE_CA;
	fake.device.transport_type = IBV_TRANSPORT_IB;
	strcpy(fake.device.name, "fake0");
	strcpy(fake.device.dev_name, "uverbs_of_nobody");
	fake.attributes = (struct ibv_device_attr){
		.max_qp_wr = 1000,
		.max_cqe = 1000,
		.max_sge = 8,
		.max_sge_rd = 8,
		.max_qp_rd_atom = 16,
		.max_qp_init_rd_atom = 16,
		.device_cap_flags = IBV_DEVICE_MEM_MGT_EXTENSIONS | IBV_DEVICE_MEM_WINDOW_TYPE_2B,
	};
}

static void fake_stop(void)
{
	CHECK(fake.contexts == 0 && fake.pds == 0 && fake.mrs == 0 && fake.mws == 0);
	CHECK(fake.cqs == 0 && fake.qp_count == 0 && fake.id_count == 0);
	close(fake.channel.fd);
	close(fake.completions.fd);
	close(fake.context.async_fd);
}

#endif
