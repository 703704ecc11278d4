/*
 * Registrations, and what the peer may touch.
 *
 * A registration of ours gives nothing to a peer: it is for local use. What the peer may touch is a window, for one
 * queue pair and one range: a memory window of type 2 where the device has them (bound and invalidated on the queue
 * pair, also by the peer's Send with Invalidate), otherwise a registration of its own, made and removed at once. That
 * one is weaker in two ways, as verbs has it: a Send with Invalidate that names it breaks the queue pair (so peers are
 * not asked for it, `invalidation` of struct fabric_qp), and it is open to all queue pairs of the adapter that know its
 * token, not to one.
 *
 * Memory windows are expensive to make and cheap to bind: what was revoked is spare and bound again.
 */
#include "verbs.h"

#if VERBS_BUILT
#include <errno.h>
#include <stdlib.h>

/* The iWARP way of reading: the peer answers with a Write to us, so the sink must be writable for it. */
static int local_access(const struct verbs_device *device)
{
	int access = IBV_ACCESS_LOCAL_WRITE;

	if (device->base.transport == FABRIC_TRANSPORT_IWARP)
		access |= IBV_ACCESS_REMOTE_WRITE;
	if (device->windows)
		access |= IBV_ACCESS_MW_BIND;
	return access;
}

int verbs_register(struct fabric_device *base, void *address, size_t length,
		   struct fabric_region **ret)
{
	struct verbs_device *device = (struct verbs_device *)base;
	struct verbs_region *region;

	if (device->lost)
		return -ENODEV;
	region = malloc(sizeof(*region));
	if (!region)
		return -ENOMEM;
	region->base = (struct fabric_region){.device = base, .base = address, .length = length};
	region->mr =
		verbs_of(base->fabric)->reg_mr(device->pd, address, length, local_access(device));
	if (!region->mr) {
		int error = errno;

		free(region);
		return error ? -error : -EIO;
	}
	base->registered_bytes += length;
	base->region_count++;
	*ret = &region->base;
	return 0;
}

void verbs_deregister(struct fabric_region *base)
{
	struct verbs_region *region = (struct verbs_region *)base;
	struct fabric_device *device = base->device;

	verbs_of(device->fabric)->dereg_mr(region->mr);
	device->registered_bytes -= base->length;
	device->region_count--;
	free(region);
	verbs_device_forget((struct verbs_device *)device);
}

/* Windows. */

static int remote_access(unsigned access)
{
	return (access & FABRIC_PEER_READS ? IBV_ACCESS_REMOTE_READ : 0) |
	       (access & FABRIC_PEER_WRITES ? IBV_ACCESS_REMOTE_WRITE : 0);
}

static struct verbs_window *window_create(struct verbs_qp *qp)
{
	struct verbs_device *device = verbs_device_of(qp);
	struct verbs_window *window = qp->spare_windows;

	if (window) {
		qp->spare_windows = window->next;
		return window;
	}
	window = calloc(1, sizeof(*window));
	if (!window || !device->windows)
		return window;
	window->mw = ibv_alloc_mw(device->pd, IBV_MW_TYPE_2);
	if (!window->mw) {
		free(window);
		return NULL;
	}
	return window;
}

static void window_spare(struct verbs_qp *qp, struct verbs_window *window)
{
	window->next = qp->spare_windows;
	qp->spare_windows = window;
}

static void window_unlink(struct verbs_qp *qp, struct verbs_window *window)
{
	struct verbs_window **place = &qp->windows;

	while (*place != window)
		place = &(*place)->next;
	*place = window->next;
}

static int window_bind(struct verbs_qp *qp, struct verbs_window *window,
		       const struct verbs_region *region, void *address, unsigned access,
		       uint64_t id)
{
	struct ibv_send_wr request = {
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = {
			.mw = window->mw,
			.rkey = ibv_inc_rkey(window->mw->rkey),
			.bind_info = {.mr = region->mr,
				      .addr = (uintptr_t)address,
				      .length = window->base.length,
				      .mw_access_flags = (unsigned int)remote_access(access)},
		}};
	struct verbs_work work = {
		.id = id, .opcode = FABRIC_EXPOSE, .signalled = true, .window = window};
	int error;

	if (!verbs_work_take(qp, &work, &request.wr_id))
		return -ENOSPC;
	window->base.token = request.bind_mw.rkey;
	error = verbs_post_one(qp, &request);
	return error;
}

static int window_register(struct verbs_qp *qp, struct verbs_window *window, void *address,
			   unsigned access, uint64_t id)
{
	struct fabric_completion completion = {.id = id, .opcode = FABRIC_EXPOSE};
	int flags = remote_access(access);
	int error;

	/* Verbs wants it so: what others may write we must be allowed to write. */
	if (access & FABRIC_PEER_WRITES)
		flags |= IBV_ACCESS_LOCAL_WRITE;
	window->mr = verbs_of(qp->base.fabric)
			     ->reg_mr(verbs_device_of(qp)->pd, address, window->base.length, flags);
	if (!window->mr)
		return errno ? -errno : -EIO;
	window->base.token = window->mr->rkey;
	window->state = VERBS_WINDOW_EXPOSED;
	error = verbs_due_add(qp, &completion);
	if (error < 0) {
		verbs_of(qp->base.fabric)->dereg_mr(window->mr);
		window->mr = NULL;
	}
	return error;
}

int verbs_expose(struct fabric_qp *base, struct fabric_region *region, void *address, size_t length,
		 unsigned access, uint64_t id, struct fabric_window **ret)
{
	struct verbs_qp *qp = verbs_qp(base);
	struct verbs_window *window;
	int error;

	if (!verbs_may_post(qp))
		return -ENOTCONN;
	if (length == 0 || !fabric_region_holds(region, address, length))
		return -EINVAL;
	window = window_create(qp);
	if (!window)
		return -ENOMEM;
	window->base =
		(struct fabric_window){.qp = base, .offset = (uintptr_t)address, .length = length};
	window->state = VERBS_WINDOW_BINDING;
	if (window->mw)
		error = window_bind(qp, window, (struct verbs_region *)region, address, access, id);
	else
		error = window_register(qp, window, address, access, id);
	if (error < 0) {
		window_spare(qp, window);
		return error;
	}
	window->next = qp->windows;
	qp->windows = window;
	*ret = &window->base;
	return 0;
}

void verbs_window_bound(struct verbs_window *window)
{
	window->mw->rkey = window->base.token;
	window->state = VERBS_WINDOW_EXPOSED;
}

void verbs_window_unbound(struct verbs_qp *qp, struct verbs_window *window)
{
	window_unlink(qp, window);
	window_spare(qp, window);
}

bool verbs_window_invalidated(struct verbs_qp *qp, uint32_t token)
{
	for (struct verbs_window *window = qp->windows; window; window = window->next) {
		if (window->base.token == token && window->state == VERBS_WINDOW_EXPOSED) {
			window->state = VERBS_WINDOW_INVALIDATED;
			return true;
		}
	}
	return false;
}

/* What the device need not be asked for: a registration, and what the peer has invalidated already. */
static int revoke_at_once(struct verbs_qp *qp, struct verbs_window *window, uint64_t id)
{
	struct fabric_completion completion = {.id = id, .opcode = FABRIC_REVOKE};
	int error = verbs_due_add(qp, &completion);

	if (error < 0)
		return error;
	if (window->mr)
		verbs_of(qp->base.fabric)->dereg_mr(window->mr);
	window->mr = NULL;
	verbs_window_unbound(qp, window);
	return 0;
}

int verbs_revoke(struct fabric_window *base, uint64_t id)
{
	struct verbs_window *window = (struct verbs_window *)base;
	struct verbs_qp *qp = verbs_qp(base->qp);
	struct ibv_send_wr request = {
		.opcode = IBV_WR_LOCAL_INV,
		.send_flags = IBV_SEND_SIGNALED,
		.invalidate_rkey = base->token,
	};
	struct verbs_work work = {
		.id = id, .opcode = FABRIC_REVOKE, .signalled = true, .window = window};

	if (!verbs_may_post(qp))
		return -ENOTCONN;
	if (window->mr || window->state == VERBS_WINDOW_INVALIDATED)
		return revoke_at_once(qp, window, id);
	if (!verbs_work_take(qp, &work, &request.wr_id))
		return -ENOSPC;
	window->state = VERBS_WINDOW_REVOKING;
	return verbs_post_one(qp, &request);
}

static void list_close(struct verbs_qp *qp, struct verbs_window *window)
{
	for (; window; window = window->next) {
		if (window->mw)
			ibv_dealloc_mw(window->mw);
		if (window->mr)
			verbs_of(qp->base.fabric)->dereg_mr(window->mr);
		window->mw = NULL;
		window->mr = NULL;
	}
}

void verbs_windows_close(struct verbs_qp *qp)
{
	list_close(qp, qp->windows);
	list_close(qp, qp->spare_windows);
}

static void list_destroy(struct verbs_window *window)
{
	while (window) {
		struct verbs_window *next = window->next;

		free(window);
		window = next;
	}
}

void verbs_windows_destroy(struct verbs_qp *qp)
{
	list_destroy(qp->windows);
	list_destroy(qp->spare_windows);
	qp->windows = qp->spare_windows = NULL;
}

#endif
