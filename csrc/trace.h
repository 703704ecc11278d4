/*
 * Counters and trace points: how one sees from outside what the loop's thread does.
 *
 * A counter belongs to the process, is only ever added to, and is named after what happened, in the plural. Every
 * refusal and every wait has one. A layer adds its counter to the list below, under its heading; nothing else is
 * needed for it to be seen in `rdmaproxy status` and in the metrics.
 *
 * A trace point is a line of a ring buffer that is off by default; then it costs one load and one branch. What it
 * records is structured: when, which point, which object, two numbers.
 */
#ifndef TRACE_H
#define TRACE_H

#include <stdatomic.h>

#include "path.h"

/* clang-format off */
#define TRACE_COUNTERS(X)                                                                                   \
	/* user-space iWARP */                                                                              \
	X(IWARP_ACCEPTED, iwarp_accepted)                             /* TCP connections accepted */        \
	X(IWARP_HALF_OPEN_REFUSALS, iwarp_half_open_refusals)         /* too many without finished MPA */   \
	X(IWARP_DESCRIPTOR_REFUSALS, iwarp_descriptor_refusals)       /* EMFILE or ENFILE at accept */      \
	X(IWARP_MPA_ERRORS, iwarp_mpa_errors)                         /* bad start-up frame or FPDU */      \
	X(IWARP_MPA_TIMEOUTS, iwarp_mpa_timeouts)                     \
	X(IWARP_CRC_ERRORS, iwarp_crc_errors)                         \
	X(IWARP_DDP_ERRORS, iwarp_ddp_errors)                         \
	X(IWARP_RDMAP_ERRORS, iwarp_rdmap_errors)                     \
	X(IWARP_ACCESS_REFUSALS, iwarp_access_refusals)               /* the peer's token or range is bad */\
	X(IWARP_TERMINATES_SENT, iwarp_terminates_sent)               \
	X(IWARP_TERMINATES_RECEIVED, iwarp_terminates_received)       \
	/* verbs */                                                                                         \
	X(VERBS_REQUEST_REFUSALS, verbs_request_refusals)             /* no device, memory for a request */ \
	X(VERBS_DEVICES_LOST, verbs_devices_lost)                     /* removed, or broken */              \
	X(VERBS_LISTENERS_LOST, verbs_listeners_lost)                 /* with their device; begin again */  \
	/* SMB Direct */                                                                                    \
	X(SMBD_ESTABLISHED, smbd_established)                         /* negotiations that succeeded */     \
	X(SMBD_NEGOTIATION_REFUSALS, smbd_negotiation_refusals)       \
	X(SMBD_PROTOCOL_ERRORS, smbd_protocol_errors)                 \
	X(SMBD_TIMEOUTS, smbd_timeouts)                               \
	X(SMBD_RESTS, smbd_rests)                                     /* quiet: memory given back */        \
	X(SMBD_STALLS_SEND_CREDIT, smbd_stalls_send_credit)           \
	X(SMBD_STALLS_SEND_QUEUE, smbd_stalls_send_queue)             \
	X(SMBD_STALLS_READ_DEPTH, smbd_stalls_read_depth)             \
	X(SMBD_STALLS_UNCONSUMED, smbd_stalls_unconsumed)             \
	X(SMBD_TRANSFER_REFUSALS, smbd_transfer_refusals)             /* smbd_rdma said no */               \
	X(SMBD_REMOTE_ACCESS_ERRORS, smbd_remote_access_errors)       /* the peer refused our Read, Write */\
	/* pools */                                                                                         \
	X(POOL_MAPPED, pool_mapped)                                   /* pools mapped, ever */              \
	X(POOL_RELEASED, pool_released)                               \
	X(POOL_SEAL_REFUSALS, pool_seal_refusals)                     /* not a memfd, or may shrink */      \
	X(POOL_SIZE_REFUSALS, pool_size_refusals)                     \
	X(POOL_LIMIT_REFUSALS, pool_limit_refusals)                   /* the sum of all pools */            \
	X(POOL_MAP_FAILURES, pool_map_failures)                       \
	X(POOL_REGISTRATION_FAILURES, pool_registration_failures)     \
	/* channels */                                                                                      \
	X(CHANNEL_OPENED, channel_opened)                             \
	X(CHANNEL_CLOSED, channel_closed)                             \
	X(CHANNEL_FRAMES_IN, channel_frames_in)                       \
	X(CHANNEL_FRAMES_OUT, channel_frames_out)                     \
	X(CHANNEL_BAD_FRAMES, channel_bad_frames)                     /* not to be parsed: channel ended */ \
	X(CHANNEL_RANGE_ERRORS, channel_range_errors)                 /* outside the pool: channel ended */ \
	X(CHANNEL_FLOODS, channel_floods)                             /* descriptors without a POOL */      \
	X(CHANNEL_OPERATION_REFUSALS, channel_operation_refusals)     /* DONE or EXPOSED with status 3 */   \
	X(CHANNEL_STALLS_PEER, channel_stalls_peer)                   /* worker not read: peer is slow */   \
	X(CHANNEL_STALLS_WORKER, channel_stalls_worker)               /* worker's socket was full */        \
	X(CHANNEL_STALLS_TRANSFERS, channel_stalls_transfers)         /* too many transfers under way */    \
	X(CHANNEL_STALLS_REPLIES, channel_stalls_replies)             /* worker asks, does not read */      \
	X(CHANNEL_DESCRIPTORS_DROPPED, channel_descriptors_dropped)   /* passed with no POOL frame */       \
	X(CHANNEL_LOST_WORKERS, channel_lost_workers)                 /* ended with transfers under way */  \
	/* engine */                                                                                        \
	X(ENGINE_CONNECTION_REFUSALS, engine_connection_refusals)     /* max_connections, draining */       \
	X(ENGINE_RESOURCE_REFUSALS, engine_resource_refusals)         /* no memory or descriptor for it */  \
	X(ENGINE_EVENTS_DROPPED, engine_events_dropped)               /* refusals that nobody took */
/* clang-format on */

enum trace_counter {
#define TRACE_COUNTER(upper, lower) TRACE_##upper,
	TRACE_COUNTERS(TRACE_COUNTER)
#undef TRACE_COUNTER
		TRACE_COUNTER_COUNT,
};

extern atomic_uint_fast64_t trace_counters[TRACE_COUNTER_COUNT];

static inline void trace_add(enum trace_counter counter, uint64_t more)
{
	atomic_fetch_add_explicit(&trace_counters[counter], more, memory_order_relaxed);
}

static inline void trace_count(enum trace_counter counter)
{
	trace_add(counter, 1);
}

uint64_t trace_counter_value(enum trace_counter counter);
const char *trace_counter_name(uint32_t counter); /* NULL: no such counter */

/* clang-format off */
#define TRACE_POINTS(X)                                                                                     \
	X(QP_ESTABLISHED, qp_established)           /* object: queue pair */                                \
	X(QP_DISCONNECTED, qp_disconnected)         /* a: close reason */                                   \
	X(SMBD_STATE, smbd_state)                   /* object: connection, a: state left, b: state entered */\
	X(MESSAGE_RECEIVED, message_received)       /* a: bytes */                                          \
	X(MESSAGE_SENT, message_sent)               /* a: bytes */                                          \
	X(FRAME_IN, frame_in)                       /* object: channel, a: type, b: bytes */                \
	X(FRAME_OUT, frame_out)                     /* a: type, b: bytes */                                 \
	X(TRANSFER_STARTED, transfer_started)       /* a: operation, b: bytes */                            \
	X(TRANSFER_DONE, transfer_done)             /* a: operation, b: status */                           \
	X(CHANNEL_ENDED, channel_ended)             /* a: close reason */
/* clang-format on */

enum trace_point {
#define TRACE_POINT(upper, lower) TRACE_POINT_##upper,
	TRACE_POINTS(TRACE_POINT)
#undef TRACE_POINT
		TRACE_POINT_COUNT,
};

struct trace_event {
	nanoseconds time;
	enum trace_point point;
	uint64_t object; /* its address: the same for all events of one object while it lives */
	uint64_t a, b;
};

enum {
	TRACE_RING = 8192, /* events kept; a power of two */
};

extern atomic_bool trace_enabled;

void trace_record(enum trace_point point, const void *object, uint64_t a, uint64_t b);

static inline void trace_point(enum trace_point point, const void *object, uint64_t a, uint64_t b)
{
	if (atomic_load_explicit(&trace_enabled, memory_order_relaxed))
		trace_record(point, object, a, b);
}

void trace_enable(bool on);
/*
 * Copies events from *position on, oldest first, and moves *position behind them; start with 0. What the ring has
 * overwritten in between is skipped. May be called from any thread. How many were copied.
 */
size_t trace_read(uint64_t *position, struct trace_event *ret, size_t count);
const char *trace_point_name(uint32_t point); /* NULL: no such point */

#endif
