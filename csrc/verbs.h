/*
 * Verbs, the inside: what fabric_verbs.c and the verbs_*.c share. Nobody else includes this.
 *
 *   fabric_verbs.c    the fabric, queue pairs from birth to destruction
 *   verbs_library.c   libibverbs and librdmacm, found when the fabric is created
 *   verbs_device.c    adapters: opened once, what they report, their removal
 *   verbs_memory.c    registrations; what the peer may touch: memory windows of type 2, or a registration per range
 *   verbs_connect.c   rdma_cm: listeners, connection requests, connecting, disconnecting
 *   verbs_queue.c     work requests in, completions out
 *
 * The libraries' contexts: librdmacm opens an adapter for itself and closes it with its last identifier. Registrations
 * live longer than that, so the fabric opens each adapter once more and owns protection domain, queue pairs and
 * registrations there; an identifier carries the number of the queue pair only.
 *
 * Without the libraries' headers at build time these files are empty and fabric_verbs_create says -ENOTSUP.
 */
#ifndef VERBS_H
#define VERBS_H

#include "fabric.h"
#include "trace.h"

#if __has_include(<infiniband/verbs.h>) && __has_include(<rdma/rdma_cma.h>)
#define VERBS_BUILT 1
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

enum {
	VERBS_SGES_MAX = 16, /* of one work request */
	VERBS_INLINE =
		256,	  /* bytes of a Send that ride in the work request, where the device can */
	VERBS_CHAIN = 64, /* work requests in one call of the library */
	VERBS_ACKNOWLEDGE =
		64, /* completion events acknowledged at a time: each time takes a mutex */
	VERBS_EVENTS_PER_TURN = 64, /* of one event source, before others have a turn */
	VERBS_RECEIVES_EARLY = 32,  /* posted before fabric_accept says how many there will be */
	VERBS_WORDS = 192,	    /* bytes of the sentence that says why a queue pair ended */
};

/* A function of the libraries by its name: its result and its parameters are those of the manual page. */
#define VERBS_FUNCTIONS(X)                                                                         \
	X(ibverbs, int, query_device, (struct ibv_context *, struct ibv_device_attr *))            \
	X(ibverbs, struct ibv_context *, open_device, (struct ibv_device *))                       \
	X(ibverbs, int, close_device, (struct ibv_context *))                                      \
	X(ibverbs, const char *, get_device_name, (struct ibv_device *))                           \
	X(ibverbs, int, get_async_event, (struct ibv_context *, struct ibv_async_event *))         \
	X(ibverbs, void, ack_async_event, (struct ibv_async_event *))                              \
	X(ibverbs, struct ibv_pd *, alloc_pd, (struct ibv_context *))                              \
	X(ibverbs, int, dealloc_pd, (struct ibv_pd *))                                             \
	X(ibverbs, struct ibv_mr *, reg_mr, (struct ibv_pd *, void *, size_t, int))                \
	X(ibverbs, int, dereg_mr, (struct ibv_mr *))                                               \
	X(ibverbs, struct ibv_comp_channel *, create_comp_channel, (struct ibv_context *))         \
	X(ibverbs, int, destroy_comp_channel, (struct ibv_comp_channel *))                         \
	X(ibverbs, struct ibv_cq *, create_cq,                                                     \
	  (struct ibv_context *, int, void *, struct ibv_comp_channel *, int))                     \
	X(ibverbs, int, destroy_cq, (struct ibv_cq *))                                             \
	X(ibverbs, int, get_cq_event, (struct ibv_comp_channel *, struct ibv_cq **, void **))      \
	X(ibverbs, void, ack_cq_events, (struct ibv_cq *, unsigned int))                           \
	X(ibverbs, struct ibv_qp *, create_qp, (struct ibv_pd *, struct ibv_qp_init_attr *))       \
	X(ibverbs, int, modify_qp, (struct ibv_qp *, struct ibv_qp_attr *, int))                   \
	X(ibverbs, int, destroy_qp, (struct ibv_qp *))                                             \
	X(ibverbs, const char *, wc_status_str, (enum ibv_wc_status))                              \
	X(rdmacm, struct rdma_event_channel *, create_event_channel, (void))                       \
	X(rdmacm, void, destroy_event_channel, (struct rdma_event_channel *))                      \
	X(rdmacm, int, create_id,                                                                  \
	  (struct rdma_event_channel *, struct rdma_cm_id **, void *, enum rdma_port_space))       \
	X(rdmacm, int, destroy_id, (struct rdma_cm_id *))                                          \
	X(rdmacm, int, set_option, (struct rdma_cm_id *, int, int, void *, size_t))                \
	X(rdmacm, int, bind_addr, (struct rdma_cm_id *, struct sockaddr *))                        \
	X(rdmacm, int, resolve_addr,                                                               \
	  (struct rdma_cm_id *, struct sockaddr *, struct sockaddr *, int))                        \
	X(rdmacm, int, resolve_route, (struct rdma_cm_id *, int))                                  \
	X(rdmacm, int, connect, (struct rdma_cm_id *, struct rdma_conn_param *))                   \
	X(rdmacm, int, establish, (struct rdma_cm_id *))                                           \
	X(rdmacm, int, listen, (struct rdma_cm_id *, int))                                         \
	X(rdmacm, int, accept, (struct rdma_cm_id *, struct rdma_conn_param *))                    \
	X(rdmacm, int, reject, (struct rdma_cm_id *, const void *, uint8_t))                       \
	X(rdmacm, int, notify, (struct rdma_cm_id *, enum ibv_event_type))                         \
	X(rdmacm, int, disconnect, (struct rdma_cm_id *))                                          \
	X(rdmacm, int, init_qp_attr, (struct rdma_cm_id *, struct ibv_qp_attr *, int *))           \
	X(rdmacm, int, get_cm_event, (struct rdma_event_channel *, struct rdma_cm_event **))       \
	X(rdmacm, int, ack_cm_event, (struct rdma_cm_event *))

/* What is called of the libraries; a test fills it with functions of its own. */
struct verbs_library {
	void *ibverbs, *rdmacm; /* of dlopen */
#define VERBS_FUNCTION(library, result, name, parameters) result(*name) parameters;
	VERBS_FUNCTIONS(VERBS_FUNCTION)
#undef VERBS_FUNCTION
};

struct verbs_qp;
struct verbs_listener;

struct verbs_fabric {
	struct fabric base;
	struct fabric_verbs_config config;
	struct verbs_library library;
	struct rdma_event_channel *channel; /* opened with the first device */
	struct loop_watch watch;	    /* of the channel */
	struct loop_watch kernel_events;    /* uevents: an adapter comes or goes */
	struct verbs_device *devices;
	struct verbs_listener *listeners;
	/* A chain on its way into the library; empty between calls. */
	struct ibv_send_wr requests[VERBS_CHAIN];
	struct ibv_sge sges[VERBS_CHAIN + VERBS_SGES_MAX];
};

/* The descriptors of librdmacm's own context of an adapter, and what tells that the first is still that file. */
struct verbs_foreign_context {
	int command_fd, async_fd;
	dev_t device;
	ino_t inode;
};

struct verbs_device {
	struct fabric_device base;
	struct verbs_device *next;
	struct ibv_device *adapter;
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct verbs_foreign_context foreign;
	struct ibv_device_attr attributes;
	struct ibv_comp_channel *completions; /* of all queue pairs' completion queues */
	struct loop_watch completion_watch;
	struct loop_watch async_watch;
	struct verbs_qp *qps;
	bool windows;	       /* memory windows of type 2 */
	bool invalidate;       /* Send with Invalidate */
	bool lost;	       /* removed or broken: nothing new can be made */
	struct loop_task part; /* after its queue pairs' owners were told */
	bool parting;	       /* everybody knows: freed with its last queue pair and region */
};

struct verbs_region {
	struct fabric_region base;
	struct ibv_mr *mr;
};

enum verbs_window_state {
	VERBS_WINDOW_BINDING,
	VERBS_WINDOW_EXPOSED,
	VERBS_WINDOW_INVALIDATED, /* by the peer */
	VERBS_WINDOW_REVOKING,
};

struct verbs_window {
	struct fabric_window base;
	struct verbs_window *next; /* of the queue pair's exposed ones, or of its spare ones */
	enum verbs_window_state state;
	struct ibv_mw *mw; /* or */
	struct ibv_mr *mr; /* a registration of its own */
};

enum verbs_state {
	VERBS_NEW,	   /* a listener's request is not answered yet */
	VERBS_RESOLVING,   /* initiator: address, then route */
	VERBS_CONNECTING,  /* initiator: the reply is awaited */
	VERBS_ACCEPTED,	   /* responder: the reply is out */
	VERBS_ESTABLISHED, /* work may be posted since VERBS_ACCEPTED or since here */
	VERBS_ENDED,	   /* no queue pair any more; flushing and `disconnected` are due */
	VERBS_CLOSED,	   /* `disconnected` was delivered; only destruction is left */
};

/* What lies on the send queue, by number: the number is the work request's wr_id, with a tag. */
struct verbs_work {
	uint64_t id;
	enum fabric_opcode opcode;
	bool signalled; /* the owner hears of it */
	uint32_t bytes;
	struct verbs_window *window; /* Expose, Revoke */
};

struct verbs_receive {
	uint64_t id;
	struct ibv_sge sge;
};

/* The numbers [first, next) are posted and not completed; number n stands in place n % room. */
struct verbs_ring {
	uint64_t first, next;
	uint32_t room;
};

static inline uint32_t verbs_ring_used(const struct verbs_ring *ring)
{
	return (uint32_t)(ring->next - ring->first);
}

/* Who an identifier of rdma_cm belongs to: its context. */
struct verbs_endpoint {
	struct verbs_fabric *fabric;
	struct rdma_cm_id *id;
	void (*event)(struct verbs_endpoint *endpoint, const struct rdma_cm_event *event);
	void *owner;
};

struct verbs_qp {
	struct fabric_qp base;
	struct verbs_endpoint endpoint;
	enum verbs_state state;
	struct verbs_qp *previous, *next; /* of the device's */
	struct loop_task task;
	struct loop_timer
		timer; /* of the set-up; later: between the first flushed request and its reason */
	bool *alive;   /* during a call of the owner's function: cleared by destruction */
	bool established_due;
	bool armed; /* the completion queue will tell of the next completion */

	struct ibv_qp *qp;
	struct ibv_cq *cq;
	uint32_t unacknowledged; /* completion events of cq */
	uint32_t inline_bytes;
	struct verbs_ring work_ring, receive_ring;
	struct verbs_work *works;
	struct verbs_receive *receives;
	uint32_t quiet; /* requests posted since the last one that will complete */
	uint32_t reads;
	struct verbs_window *windows, *spare_windows;
	struct fabric_completion *due; /* completions that no work request stands for */
	uint32_t due_count, due_room;

	struct rdma_conn_param offer; /* depths: what the peer asks for, then what is agreed on */
	uint8_t private_data[FABRIC_MAX_PRIVATE_DATA];
	size_t private_data_length;
	enum close_reason reason;
	char words[VERBS_WORDS];
};

struct verbs_listener {
	struct fabric_listener base;
	struct verbs_endpoint endpoint; /* id NULL: its device is gone, `retry` is set */
	struct verbs_listener *next;
	struct loop_timer retry;
	bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp);
};

static inline struct verbs_fabric *verbs_fabric(struct fabric *fabric)
{
	return (struct verbs_fabric *)fabric;
}

static inline struct verbs_fabric *verbs_fabric_of(const struct verbs_qp *qp)
{
	return (struct verbs_fabric *)qp->base.fabric;
}

static inline const struct verbs_library *verbs_of(const struct fabric *fabric)
{
	return &((const struct verbs_fabric *)fabric)->library;
}

static inline struct verbs_device *verbs_device_of(const struct verbs_qp *qp)
{
	return (struct verbs_device *)qp->base.device;
}

static inline struct verbs_qp *verbs_qp(struct fabric_qp *qp)
{
	return (struct verbs_qp *)qp;
}

/* verbs_library.c */

int verbs_library_open(struct verbs_library *library, char *words, size_t size);
void verbs_library_close(struct verbs_library *library);

/* fabric_verbs.c */

int verbs_channel_open(struct verbs_fabric *fabric); /* -ENODEV: no device yet */
int verbs_qp_create(struct verbs_fabric *fabric, struct rdma_cm_id *id, enum verbs_state state,
		    struct verbs_qp **ret); /* takes the identifier over, also on failure */
void verbs_qp_destroy(struct fabric_qp *qp);
void verbs_qp_close(struct verbs_qp *qp); /* after it the device touches no memory any more */
/* Sizes of what was asked for as far as the device gives them, and the rings for them. */
int verbs_qp_open(struct verbs_qp *qp, const struct fabric_limits *asked);
/*
 * Tells the owner what there is to tell. False: the owner has destroyed the queue pair, nothing of it may be
 * touched any more.
 */
bool verbs_deliver(struct verbs_qp *qp);
/* The same for one batch of completions. */
bool verbs_hand_over(struct verbs_qp *qp, const struct fabric_completion *batch, size_t count);
void verbs_schedule(struct verbs_qp *qp);
/* The end: the first reason counts; the rest follows from the loop. */
__attribute__((format(printf, 3, 4))) void verbs_end(struct verbs_qp *qp, enum close_reason reason,
						     const char *format, ...);
void verbs_disconnect(struct fabric_qp *qp);

/* verbs_device.c */

/* The device behind an identifier, opened on first use; it has an adapter. */
int verbs_device_find(struct verbs_fabric *fabric, const struct rdma_cm_id *id,
		      struct verbs_device **ret);
void verbs_device_lost(struct verbs_device *device, const char *words);
int verbs_kernel_events_open(struct verbs_fabric *fabric);
void verbs_device_forget(struct verbs_device *device); /* frees it if it is parting and empty */
void verbs_devices_destroy(struct verbs_fabric *fabric);
/* verbs_connect.c */

void verbs_listeners_lose(struct verbs_fabric *fabric, const struct ibv_device *adapter);
void verbs_listeners_retry(struct verbs_fabric *fabric); /* an adapter appeared */

void verbs_cm_ready(struct loop_watch *watch, uint32_t events);
int verbs_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		 bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp),
		 void *owner, struct fabric_listener **ret);
void verbs_unlisten(struct fabric_listener *listener);
int verbs_connect(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		  const struct fabric_parameters *parameters, const struct fabric_events *events,
		  void *owner, struct fabric_qp **ret);
int verbs_accept(struct fabric_qp *qp, const struct fabric_parameters *parameters);
void verbs_reject(struct fabric_qp *qp);
void verbs_qp_event(struct verbs_endpoint *endpoint, const struct rdma_cm_event *event);
void verbs_established(struct verbs_qp *qp); /* once; the owner hears of it from the loop */

/* verbs_queue.c */

int verbs_post_receive(struct fabric_qp *qp, uint64_t id, const struct fabric_sge *sge);
int verbs_post_early_receives(
	struct verbs_qp *qp); /* those that came before the queue pair was opened */
int verbs_post(struct fabric_qp *qp, const struct fabric_work *first);
bool verbs_may_post(const struct verbs_qp *qp);
/* The next free number of the send queue with its place filled, or NULL. Given back only by completing. */
struct verbs_work *verbs_work_take(struct verbs_qp *qp, const struct verbs_work *work,
				   uint64_t *wr_id);
int verbs_post_one(struct verbs_qp *qp, struct ibv_send_wr *request);
void verbs_poll(struct verbs_qp *qp);	   /* poll, arm, poll again; may destroy the queue pair */
bool verbs_poll_last(struct verbs_qp *qp); /* all that is there; false: destroyed */
bool verbs_flush(struct verbs_qp *qp);	   /* what is left in the rings; false: destroyed */
int verbs_due_add(struct verbs_qp *qp, const struct fabric_completion *completion);

/* verbs_memory.c */

int verbs_register(struct fabric_device *device, void *base, size_t length,
		   struct fabric_region **ret);
void verbs_deregister(struct fabric_region *region);

int verbs_expose(struct fabric_qp *qp, struct fabric_region *region, void *base, size_t length,
		 unsigned access, uint64_t id, struct fabric_window **ret);
int verbs_revoke(struct fabric_window *window, uint64_t id);
void verbs_window_bound(struct verbs_window *window);
void verbs_window_unbound(struct verbs_qp *qp, struct verbs_window *window);
bool verbs_window_invalidated(struct verbs_qp *qp, uint32_t token); /* false: no such window */
void verbs_windows_close(struct verbs_qp *qp); /* the peer may touch nothing any more */
void verbs_windows_destroy(struct verbs_qp *qp);

#else
#define VERBS_BUILT 0
#endif

#endif
