/*
 * Adapters: opened once, what they report, their removal.
 *
 * Each adapter has three sources of events in the loop: one completion channel for the completion queues of all its
 * queue pairs (a descriptor per adapter, not per connection; a completion queue per queue pair, so that none can
 * overflow another's and all of its entries go with it), its asynchronous events, and the kernel's uevents.
 *
 * Removal. An adapter goes in one of three ways: rdma_cm says DEVICE_REMOVAL to an identifier, the adapter says
 * DEVICE_FATAL, or the kernel says by uevent that its character device was removed. The last is the only sign where the
 * driver cannot take resources away from a process (rxe): then the kernel waits until everything is given back. So
 * all three lead to verbs_device_lost, and there
 *   1. every queue pair is ended and closed at once; listeners go,
 *   2. in the tasks of this turn: the queue pairs' owners are told, and after all of them the fabric's owner, who
 *      gives registrations back that outlive connections,
 *   3. with the last queue pair and registration the adapter is closed, and what librdmacm still has of it
 *      (foreign_close); the kernel goes on.
 */
#include "verbs.h"

#if VERBS_BUILT
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	UEVENT_SIZE = 8192, /* bytes; the kernel's own limit is 2048 of environment and a path */
	UEVENT_GROUP = 1,   /* the kernel's, not udev's */
};

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Completion events: the queue pair polls in its task, at the end of this turn. */
static void completions_ready(struct loop_watch *watch, uint32_t events)
{
	struct verbs_device *device = watch->owner;
	const struct verbs_library *library = verbs_of(device->base.fabric);

	(void)events;
	for (int i = 0; i < VERBS_EVENTS_PER_TURN; i++) {
		struct verbs_qp *qp;
		struct ibv_cq *cq;
		void *context;

		if (library->get_cq_event(device->completions, &cq, &context))
			return;
		qp = context;
		qp->armed = false;
		if (++qp->unacknowledged == VERBS_ACKNOWLEDGE) {
			library->ack_cq_events(cq, qp->unacknowledged);
			qp->unacknowledged = 0;
		}
		verbs_schedule(qp);
	}
}

static void port_lost(struct verbs_device *device, int port)
{
	for (struct verbs_qp *qp = device->qps; qp; qp = qp->next)
		if (qp->endpoint.id->port_num == port && qp->state != VERBS_NEW)
			verbs_end(qp, CLOSE_PEER_LOST, "port %d of %s went down", port,
				  device->base.name);
}

/* False: the device is lost. */
static bool async_event(struct verbs_device *device, enum ibv_event_type type, struct verbs_qp *qp,
			int port)
{
	switch (type) {
	case IBV_EVENT_COMM_EST:
		verbs_established(qp);
		return true;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_CQ_ERR:
		verbs_end(qp, CLOSE_LIMIT, "%s reports a fatal error of the queue pair",
			  device->base.name);
		return true;
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		verbs_end(qp, CLOSE_PROTOCOL_ERROR,
			  "the peer asked for something that %s had to refuse", device->base.name);
		return true;
	case IBV_EVENT_PORT_ERR:
		port_lost(device, port);
		return true;
	case IBV_EVENT_DEVICE_FATAL:
		verbs_device_lost(device, "reports that it cannot go on");
		return false;
	default:
		return true;
	}
}

/* The queue pair that an event is about; it is not destroyed before the event is acknowledged. */
static struct verbs_qp *async_qp(const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		return event->element.qp->qp_context;
	case IBV_EVENT_CQ_ERR:
		return event->element.cq->cq_context;
	default:
		return NULL;
	}
}

static void async_ready(struct loop_watch *watch, uint32_t events)
{
	struct verbs_device *device = watch->owner;
	const struct verbs_library *library = verbs_of(device->base.fabric);

	(void)events;
	for (int i = 0; i < VERBS_EVENTS_PER_TURN; i++) {
		struct ibv_async_event event;
		struct verbs_qp *qp;

		if (library->get_async_event(device->context, &event))
			return;
		qp = async_qp(&event);
		library->ack_async_event(&event);
		if (!async_event(device, event.event_type, qp, event.element.port_num))
			return;
	}
}

/* Opening and closing. */

static int device_open(struct verbs_device *device)
{
	struct verbs_fabric *fabric = verbs_fabric(device->base.fabric);
	const struct verbs_library *library = &fabric->library;
	int error;

	device->context = library->open_device(device->adapter);
	if (!device->context)
		return -errno;
	error = library->query_device(device->context, &device->attributes);
	if (error)
		return -error;
	device->pd = library->alloc_pd(device->context);
	if (!device->pd)
		return -errno;
	device->completions = library->create_comp_channel(device->context);
	if (!device->completions)
		return -errno;
	device->completion_watch = (struct loop_watch){.fd = device->completions->fd,
						       .events = EPOLLIN,
						       .ready = completions_ready,
						       .owner = device};
	device->async_watch = (struct loop_watch){.fd = device->context->async_fd,
						  .events = EPOLLIN,
						  .ready = async_ready,
						  .owner = device};
	error = set_nonblocking(device->completion_watch.fd);
	if (!error)
		error = set_nonblocking(device->async_watch.fd);
	if (!error)
		error = loop_watch_add(fabric->base.loop, &device->completion_watch);
	return error ? error : loop_watch_add(fabric->base.loop, &device->async_watch);
}

/*
 * Quirk of librdmacm, seen with rdma-core 44: its own context of an adapter stays open when the last identifier is gone,
 * until it hears of another adapter. A driver that cannot take resources away (rxe) lets the removal wait for that, which
 * may be for ever. So the descriptors are closed under the unused context; librdmacm will free the rest of it.
 */
static void foreign_note(struct verbs_foreign_context *foreign, const struct ibv_context *context)
{
	struct stat status;

	foreign->command_fd = -1;
	if (context->cmd_fd < 0 || fstat(context->cmd_fd, &status) < 0)
		return;
	*foreign = (struct verbs_foreign_context){.command_fd = context->cmd_fd,
						  .async_fd = context->async_fd,
						  .device = status.st_dev,
						  .inode = status.st_ino};
}

/* If it is another file by now, librdmacm has closed the context itself. */
static void foreign_close(const struct verbs_foreign_context *foreign)
{
	struct stat status;
	int nothing;

	if (foreign->command_fd < 0 || fstat(foreign->command_fd, &status) < 0 ||
	    status.st_dev != foreign->device || status.st_ino != foreign->inode)
		return;
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nothing < 0)
		return;
	dup3(nothing, foreign->command_fd, O_CLOEXEC);
	dup3(nothing, foreign->async_fd, O_CLOEXEC);
	close(nothing);
}

static void device_close(struct verbs_device *device)
{
	const struct verbs_library *library = verbs_of(device->base.fabric);
	struct loop *loop = device->base.fabric->loop;

	loop_task_cancel(loop, &device->part);
	loop_watch_remove(loop, &device->async_watch);
	loop_watch_remove(loop, &device->completion_watch);
	if (device->completions)
		library->destroy_comp_channel(device->completions);
	if (device->pd)
		library->dealloc_pd(device->pd);
	if (device->context)
		library->close_device(device->context);
	if (device->parting)
		foreign_close(&device->foreign);
	free(device);
}

/* The capabilities that decide how we work, not how much. */
static void capabilities_set(struct verbs_device *device)
{
	const struct verbs_fabric *fabric = verbs_fabric(device->base.fabric);
	unsigned int flags = device->attributes.device_cap_flags;

	device->base.transport = device->adapter->transport_type == IBV_TRANSPORT_IWARP
					 ? FABRIC_TRANSPORT_IWARP
					 : FABRIC_TRANSPORT_INFINIBAND;
	device->invalidate = flags & IBV_DEVICE_MEM_MGT_EXTENSIONS;
	device->windows = !fabric->config.no_windows &&
			  flags & (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B);
}

static void device_part(struct loop_task *task, nanoseconds now);

int verbs_device_find(struct verbs_fabric *fabric, const struct rdma_cm_id *id,
		      struct verbs_device **ret)
{
	struct verbs_device *device;
	int error;

	if (!id->verbs)
		return -ENODEV;
	for (device = fabric->devices; device; device = device->next) {
		if (device->adapter == id->verbs->device && !device->lost) {
			*ret = device;
			return 0;
		}
	}
	if (id->verbs->device->transport_type != IBV_TRANSPORT_IWARP &&
	    id->verbs->device->transport_type != IBV_TRANSPORT_IB)
		return -EPROTONOSUPPORT;
	device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;
	device->adapter = id->verbs->device;
	device->base.fabric = &fabric->base;
	device->part = (struct loop_task){.run = device_part, .owner = device};
	device->completion_watch.fd = device->async_watch.fd = -1;
	snprintf(device->base.name, sizeof(device->base.name), "%s",
		 fabric->library.get_device_name(device->adapter));
	foreign_note(&device->foreign, id->verbs);
	error = device_open(device);
	if (error < 0) {
		device_close(device);
		return error;
	}
	capabilities_set(device);
	device->next = fabric->devices;
	fabric->devices = device;
	*ret = device;
	return 0;
}

/* Removal. */

/* Behind the tasks of the queue pairs: who still names a registration of the device has heard of its end by now. */
static void device_part(struct loop_task *task, nanoseconds now)
{
	struct verbs_device *device = task->owner;
	const struct fabric_verbs_config *config = &verbs_fabric(device->base.fabric)->config;

	(void)now;
	if (config->device_gone)
		config->device_gone(config->owner, &device->base);
	device->parting = true;
	verbs_device_forget(device);
}

void verbs_device_lost(struct verbs_device *device, const char *words)
{
	struct verbs_fabric *fabric = verbs_fabric(device->base.fabric);

	if (device->lost)
		return;
	device->lost = true;
	trace_count(TRACE_VERBS_DEVICES_LOST);
	loop_watch_remove(fabric->base.loop, &device->async_watch);
	loop_watch_remove(fabric->base.loop, &device->completion_watch);
	for (struct verbs_qp *qp = device->qps; qp; qp = qp->next) {
		verbs_end(qp, CLOSE_PEER_LOST, "%s %s", device->base.name, words);
		verbs_qp_close(qp);
	}
	verbs_listeners_lose(fabric, device->adapter);
	loop_task_add(fabric->base.loop, &device->part);
}

void verbs_device_forget(struct verbs_device *device)
{
	struct verbs_device **place = &verbs_fabric(device->base.fabric)->devices;

	if (!device->parting || device->qps || device->base.region_count)
		return;
	while (*place != device)
		place = &(*place)->next;
	*place = device->next;
	device_close(device);
}

void verbs_devices_destroy(struct verbs_fabric *fabric)
{
	struct verbs_device *device;

	while ((device = fabric->devices)) {
		fabric->devices = device->next;
		device_close(device);
	}
}

/* "remove@/devices/virtual/infiniband_verbs/uverbs0" is how a uevent begins. */
static void uevent(struct verbs_fabric *fabric, const char *text)
{
	const char *name = strrchr(text, '/');

	if (strncmp(text, "add@", 4) == 0 &&
	    (strstr(text, "/infiniband") || strstr(text, "/rdma_cm")))
		verbs_listeners_retry(fabric);
	if (strncmp(text, "remove@", 7) != 0 || !strstr(text, "/infiniband_verbs/") || !name)
		return;
	for (struct verbs_device *device = fabric->devices; device; device = device->next) {
		if (!device->lost && strcmp(device->adapter->dev_name, name + 1) == 0) {
			verbs_device_lost(device, "was removed");
			return;
		}
	}
}

static void kernel_events_ready(struct loop_watch *watch, uint32_t events)
{
	char text[UEVENT_SIZE + 1];

	(void)events;
	for (int i = 0; i < VERBS_EVENTS_PER_TURN; i++) {
		struct sockaddr_nl from = {0};
		socklen_t length = sizeof(from);
		ssize_t size = recvfrom(watch->fd, text, UEVENT_SIZE, MSG_DONTWAIT,
					(struct sockaddr *)&from, &length);

		if (size < 0)
			return;
		text[size] = 0;
		if (from.nl_pid == 0) /* the kernel itself */
			uevent(watch->owner, text);
	}
}

int verbs_kernel_events_open(struct verbs_fabric *fabric)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = UEVENT_GROUP};
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return -errno;
	fabric->kernel_events = (struct loop_watch){
		.fd = fd, .events = EPOLLIN, .ready = kernel_events_ready, .owner = fabric};
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return loop_watch_add(fabric->base.loop, &fabric->kernel_events);
}

#endif
