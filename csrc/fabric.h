/*
 * What RDMA is to us: the one interface that SMB Direct knows, and that three fabrics implement.
 *
 *   fabric_iwarp.c   RFC 5040, 5041, 5044 and 6581 in user space over TCP sockets; needs no device
 *   fabric_verbs.c   libibverbs and librdmacm: InfiniBand, RoCE, hardware iWARP
 *   fabric_memory.c  two ends in one process, every step scripted; for tests
 *
 * The words are those of verbs, because verbs is the strictest of the three:
 *   - a receive must be posted before the peer may send into it;
 *   - posting gives nothing back; what became of a work request arrives later as a completion, in
 *     batches;
 *   - work requests of one queue pair start in the order in which they were posted, Writes and Sends
 *     take effect at the peer in that order, a Read may finish later than a Send posted after it;
 *   - an unsignalled request completes silently; a later signalled one of the same queue vouches for
 *     it (Reads are always signalled here);
 *   - local memory must be registered with the queue pair's device before a request may name it;
 *   - the number of outstanding requests, Reads, SGEs and bytes is limited by `struct fabric_limits`;
 *     the caller keeps within them, posting more is refused with -ENOSPC and changes nothing;
 *   - any error on a queue pair ends it: what is outstanding is flushed, then `disconnected` is
 *     called.
 *
 * Life of a queue pair, server: listener's `request` -> the owner sets events and owner, posts
 *   receives, fabric_accept (or fabric_reject, which destroys) -> `established` -> `completions` ...
 *   -> `disconnected` -> fabric_destroy.
 * Client: fabric_connect -> the owner posts receives at once -> `established` or `disconnected` ->
 *   as above.
 *
 * fabric_disconnect asks for the end; `disconnected` follows exactly once for every queue pair that
 * was accepted or connected, whoever ended it, never from inside a call of the owner's, and no
 * completion follows it. fabric_destroy may be called at any moment, also from inside a callback of
 * this queue pair; nothing is called afterwards, and no posted memory is touched afterwards.
 *
 * All functions belong to the thread of the loop that the fabric was created with.
 */
#ifndef FABRIC_H
#define FABRIC_H

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "loop.h"
#include "path.h"

struct fabric;	      /* one way of doing RDMA */
struct fabric_device; /* what memory is registered with: one adapter, or all of user-space iWARP */
struct fabric_region; /* registered memory of this process */
struct fabric_window; /* a part of a region that the peer of one queue pair may touch */
struct fabric_listener; /* a bound address */
struct fabric_qp;	/* one reliable connection */

enum fabric_transport {
	FABRIC_TRANSPORT_IWARP,	     /* SMB Direct on port 5445; 8 bytes of private data */
	FABRIC_TRANSPORT_INFINIBAND, /* InfiniBand and RoCE: port 445, no private data */
	FABRIC_TRANSPORT_MEMORY,
};

enum fabric_opcode {
	FABRIC_SEND,
	FABRIC_SEND_INVALIDATE,
	FABRIC_WRITE,
	FABRIC_READ,
	FABRIC_RECEIVE, /* completions only */
	FABRIC_EXPOSE,	/* completions only */
	FABRIC_REVOKE,	/* completions only */
};

enum fabric_status {
	FABRIC_OK = 0,
	FABRIC_FLUSHED,	      /* the queue pair ended before this request was carried out */
	FABRIC_REMOTE_ACCESS, /* the peer refused token or range */
	FABRIC_LOCAL_ERROR,   /* our side: length, memory, device */
	FABRIC_TRANSPORT_ERROR,
};

enum fabric_access {
	FABRIC_PEER_READS = 1,	/* the peer may RDMA Read the window */
	FABRIC_PEER_WRITES = 2, /* the peer may RDMA Write it */
};

/*
 * What one queue pair can do. Fixed when the connection is established; before that, what is asked
 * for.
 */
struct fabric_limits {
	uint32_t send_queue;	  /* work requests outstanding: Sends, Writes, Reads, binds */
	uint32_t receive_queue;	  /* receives posted at one time */
	uint32_t send_sges;	  /* scatter/gather elements of one Send or Write */
	uint32_t read_sges;	  /* of one Read (1 on iWARP adapters) */
	uint32_t initiator_depth; /* Reads that we may have outstanding (ORD) */
	uint32_t responder_depth; /* Reads that the peer may have outstanding with us (IRD) */
	uint64_t transfer_bytes;  /* one Write or Read */
};

struct fabric_sge {
	void *address;
	uint32_t length; /* bytes */
	struct fabric_region *region;
};

/*
 * One request for the send queue. The structure and its SGE array may be reused as soon as
 * fabric_post returns.
 */
struct fabric_work {
	uint64_t id; /* the owner's: a tag and an index, comes back with the completion */
	enum fabric_opcode opcode;
	bool signalled;
	uint32_t sge_count;
	const struct fabric_sge *sges;
	uint64_t remote_offset; /* Write, Read */
	uint32_t remote_token;	/* Write, Read; for Send with Invalidate: the token to invalidate */
	struct fabric_work *next;
};

struct fabric_completion {
	uint64_t id;
	enum fabric_opcode opcode;
	enum fabric_status status;
	uint32_t bytes;		    /* Receive: what arrived; Read, Write: what moved */
	bool invalidated;	    /* Receive: the peer sent Send with Invalidate ... */
	uint32_t invalidated_token; /* ... of this token */
};

enum {
	/* Completions handed over in one call, and handled before others get a turn. */
	FABRIC_COMPLETION_BATCH = 64,
	/*
	 * Private data of a connection request or reply that we keep: more than SMB Direct ever
	 * uses.
	 */
	FABRIC_MAX_PRIVATE_DATA = 64,
};

/* What a queue pair tells its owner (`owner` of struct fabric_qp). */
struct fabric_events {
	void (*established)(struct fabric_qp *qp, nanoseconds now);
	void (*completions)(struct fabric_qp *qp, const struct fabric_completion *completions,
			    size_t count, nanoseconds now);
	/* `words` is a sentence for the log; valid during the call. */
	void (*disconnected)(struct fabric_qp *qp, enum close_reason reason, const char *words,
			     nanoseconds now);
};

struct fabric_parameters {
	struct fabric_limits limits; /* asked for; the fabric lowers what it cannot give */
	const void *private_data;
	size_t private_data_length; /* <= FABRIC_MAX_PRIVATE_DATA */
};

struct fabric_ops {
	const char *name; /* "iwarp", "verbs", "memory" */
	void (*destroy)(struct fabric *fabric);
	/*
	 * `request` is called for every connection request. Its callee either owns the queue pair
	 * from then on (accept or reject it, now or later), or returns false: then the fabric
	 * rejects and destroys it.
	 */
	int (*listen)(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		      bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp),
		      void *owner, struct fabric_listener **ret);
	void (*unlisten)(struct fabric_listener *listener);
	int (*connect)(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
		       const struct fabric_parameters *parameters,
		       const struct fabric_events *events, void *owner, struct fabric_qp **ret);
	int (*accept)(struct fabric_qp *qp, const struct fabric_parameters *parameters);
	void (*reject)(struct fabric_qp *qp);
	void (*disconnect)(struct fabric_qp *qp);
	void (*qp_destroy)(struct fabric_qp *qp);

	int (*register_memory)(struct fabric_device *device, void *base, size_t length,
			       struct fabric_region **ret);
	void (*deregister_memory)(struct fabric_region *region);

	int (*post_receive)(struct fabric_qp *qp, uint64_t id, const struct fabric_sge *sge);
	int (*post)(struct fabric_qp *qp, const struct fabric_work *first);
	/*
	 * Completes with FABRIC_EXPOSE, id as given; token and offset of *ret are valid from then
	 * on. What the peer may only write, and has not written, is undefined while it is exposed.
	 */
	int (*expose)(struct fabric_qp *qp, struct fabric_region *region, void *base, size_t length,
		      unsigned access, uint64_t id, struct fabric_window **ret);
	/*
	 * Completes with FABRIC_REVOKE and frees the window; a window that the peer invalidated is
	 * fine.
	 */
	int (*revoke)(struct fabric_window *window, uint64_t id);
	/*
	 * Whether the memory of posted receives holds nothing and is not pinned, so that its pages may be given back to
	 * the system. NULL: never.
	 */
	bool (*may_discard)(const struct fabric_qp *qp);
};

struct fabric {
	const struct fabric_ops *ops;
	struct loop *loop;
};

struct fabric_device {
	struct fabric *fabric;
	char name[64]; /* "iwarp", "rxe0", "mlx5_0" */
	enum fabric_transport transport;
	size_t registered_bytes; /* of all regions, kept by the implementation */
	uint32_t region_count;
};

struct fabric_region {
	struct fabric_device *device;
	void *base;
	size_t length;
};

struct fabric_window {
	struct fabric_qp *qp;
	uint32_t token;
	uint64_t offset;
	size_t length;
};

struct fabric_listener {
	struct fabric *fabric;
	void *owner;
	struct sockaddr_storage address; /* the one really bound: port 0 has become a number */
	socklen_t address_length;
};

struct fabric_qp {
	struct fabric *fabric;
	struct fabric_device *device;
	const struct fabric_events *events; /* set by the owner before fabric_accept */
	void *owner;
	struct fabric_limits limits;
	bool invalidation; /* the peer's Send with Invalidate may name a window; else it breaks the queue pair */
	struct sockaddr_storage local, remote;
	uint8_t private_data[FABRIC_MAX_PRIVATE_DATA]; /* the peer's */
	size_t private_data_length;
};

/* Zero or -errno where an int is returned. */

static inline void fabric_destroy(struct fabric *fabric)
{
	if (fabric)
		fabric->ops->destroy(fabric);
}

static inline int
fabric_listen(struct fabric *fabric, const struct sockaddr *address, socklen_t length,
	      bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp), void *owner,
	      struct fabric_listener **ret)
{
	return fabric->ops->listen(fabric, address, length, request, owner, ret);
}

static inline void fabric_unlisten(struct fabric_listener *listener)
{
	if (listener)
		listener->fabric->ops->unlisten(listener);
}

static inline int fabric_connect(struct fabric *fabric, const struct sockaddr *address,
				 socklen_t length, const struct fabric_parameters *parameters,
				 const struct fabric_events *events, void *owner,
				 struct fabric_qp **ret)
{
	return fabric->ops->connect(fabric, address, length, parameters, events, owner, ret);
}

static inline int fabric_accept(struct fabric_qp *qp, const struct fabric_parameters *parameters)
{
	return qp->fabric->ops->accept(qp, parameters);
}

static inline void fabric_reject(struct fabric_qp *qp)
{
	qp->fabric->ops->reject(qp);
}

static inline void fabric_disconnect(struct fabric_qp *qp)
{
	qp->fabric->ops->disconnect(qp);
}

static inline void fabric_qp_destroy(struct fabric_qp *qp)
{
	if (qp)
		qp->fabric->ops->qp_destroy(qp);
}

static inline int fabric_register(struct fabric_device *device, void *base, size_t length,
				  struct fabric_region **ret)
{
	return device->fabric->ops->register_memory(device, base, length, ret);
}

static inline void fabric_deregister(struct fabric_region *region)
{
	if (region)
		region->device->fabric->ops->deregister_memory(region);
}

static inline int fabric_post_receive(struct fabric_qp *qp, uint64_t id,
				      const struct fabric_sge *sge)
{
	return qp->fabric->ops->post_receive(qp, id, sge);
}

static inline int fabric_post(struct fabric_qp *qp, const struct fabric_work *first)
{
	return qp->fabric->ops->post(qp, first);
}

static inline int fabric_expose(struct fabric_qp *qp, struct fabric_region *region, void *base,
				size_t length, unsigned access, uint64_t id,
				struct fabric_window **ret)
{
	return qp->fabric->ops->expose(qp, region, base, length, access, id, ret);
}

static inline int fabric_revoke(struct fabric_window *window, uint64_t id)
{
	return window->qp->fabric->ops->revoke(window, id);
}

static inline bool fabric_may_discard(const struct fabric_qp *qp)
{
	return qp->fabric->ops->may_discard && qp->fabric->ops->may_discard(qp);
}

/* What implementations ask of every request. */

static inline bool fabric_region_holds(const struct fabric_region *region, const void *address,
				       uint64_t length)
{
	uintptr_t base, at = (uintptr_t)address;

	if (!region)
		return false;
	base = (uintptr_t)region->base;
	return at >= base && length <= region->length && at - base <= region->length - length;
}

static inline int fabric_work_check(const struct fabric_qp *qp, const struct fabric_work *work)
{
	const struct fabric_limits *limits = &qp->limits;
	uint64_t length = 0;

	if (work->opcode > FABRIC_READ)
		return -EINVAL;
	if (work->sge_count > (work->opcode == FABRIC_READ ? limits->read_sges : limits->send_sges))
		return -ENOSPC;
	for (uint32_t i = 0; i < work->sge_count; i++) {
		if (!fabric_region_holds(work->sges[i].region, work->sges[i].address,
					 work->sges[i].length))
			return -EINVAL;
		length += work->sges[i].length;
	}
	return length > limits->transfer_bytes ? -ENOSPC : 0;
}

/* The implementations. */

struct fabric_iwarp_config {
	bool crc;		 /* ask for CRC32C; it is used anyway when the peer asks */
	uint32_t max_ulpdu;	 /* bytes of one FPDU's ULPDU that we send; 0 = the most, 65535 */
	nanoseconds mpa_timeout; /* from TCP connection to the end of MPA set-up; 0 = 10 s */
	uint32_t max_half_open;	 /* TCP connections that have not finished MPA; 0 = 256 */
};

int fabric_iwarp_create(struct loop *loop, const struct fabric_iwarp_config *config,
			struct fabric **ret);

struct verbs_library;

struct fabric_verbs_config {
	struct fabric_limits
		most; /* of one queue pair, below what the device gives; 0: as the device gives */
	bool no_windows; /* a registration per exposed range even where there are memory windows */
	/* A device is going away: regions of it must be given back, none can be made. */
	void (*device_gone)(void *owner, struct fabric_device *device);
	void *owner;
	const struct verbs_library
		*library; /* NULL: libibverbs and librdmacm; a test has its own */
};

/*
 * -ENOTSUP: built without the libraries; -ENOENT: they are not installed; `words` (256 bytes) say so. No device is needed:
 * fabric_listen on 0.0.0.0 or :: waits for one, all else is refused with -ENODEV.
 */
int fabric_verbs_create(struct loop *loop, const struct fabric_verbs_config *config,
			char words[256], struct fabric **ret);

#endif
