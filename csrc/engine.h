/*
 * The engine: one thread, one loop, all fabrics, listeners and channels of the proxy.
 *
 * engine_run is the thread. Every other function here may be called from another thread (Python's control plane):
 * commands are handed to the loop and waited for, they never block for longer than one turn of the loop; events
 * wait in a bounded queue, engine_event_fd becomes readable when there is one.
 *
 * This header is what Python may call: engine.cdef repeats it for cffi, a test compares the two.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stddef.h>
#include <stdint.h>

struct engine;

enum engine_fabric {
	ENGINE_FABRIC_IWARP = 0,
	ENGINE_FABRIC_VERBS = 1, /* opened by the first listen or connect that wants it */
};

/* Zero in a field means its default, see struct smbd_config. */
struct engine_config {
	uint64_t memory_limit;	  /* bytes of all workers' pools together; 0 = none */
	uint32_t max_connections; /* [16384] refused beyond */
	uint32_t receive_credits, send_credits;
	uint32_t max_send_size, max_receive_size, max_fragmented_size, max_read_write_size;
	uint32_t read_depth;
	uint32_t negotiate_timeout_ms, idle_timeout_ms, keepalive_interval_ms, keepalive_timeout_ms,
		send_timeout_ms;
	uint32_t iwarp_crc;	  /* 1: ask for CRC32C */
	uint32_t iwarp_max_ulpdu; /* bytes; 0 = 65535 */
	/* Verbs devices are used as if they gave no more than this; 0 = what they give. */
	uint32_t verbs_send_queue, verbs_receive_queue, verbs_sges, verbs_read_depth;
	uint32_t verbs_no_windows; /* 1: a registration for each exposed range */
};

enum engine_event_kind {
	ENGINE_EVENT_CHANNEL = 1,	 /* `fd` is the worker's end, now the caller's */
	ENGINE_EVENT_CONNECT_FAILED = 2, /* `request` failed, see reason and words */
	ENGINE_EVENT_CLOSED = 3,	 /* a connection that was handed over ended */
	ENGINE_EVENT_REFUSED = 4,	 /* an incoming one ended before it was handed over */
};

/* One connection: what was agreed on and what has moved. Sizes and byte counts in bytes, times in ns. */
struct engine_connection {
	uint64_t connection;   /* number, never used twice in one run */
	uint64_t listener;     /* that accepted it, or 0 */
	uint64_t request;      /* engine_connect's, or 0 */
	uint32_t fabric;       /* enum engine_fabric */
	uint32_t client_role;  /* 1: we connected */
	uint32_t invalidation; /* 1: the peer may end an exposure by Send with Invalidate */
	char device[64];
	char local_address[64], remote_address[64]; /* numeric */
	uint32_t local_port, remote_port;
	uint32_t max_send_size, max_receive_size, max_fragmented_send_size,
		max_fragmented_receive_size;
	uint32_t max_read_write_size, read_depth;
	uint32_t send_credits, receive_credits, send_credit_target, receive_credit_target;
	uint64_t messages_sent, messages_received, bytes_sent, bytes_received;
	uint64_t rdma_written_bytes, rdma_read_bytes;
	uint64_t stalls_send_credit, stalls_send_queue, stalls_read_depth, stalls_unconsumed;
	uint64_t queued_bytes, unconsumed_bytes;
	uint64_t age_ns;
};

struct engine_event {
	uint32_t kind; /* enum engine_event_kind */
	int32_t fd;
	uint32_t reason; /* enum close_reason */
	char words[256];
	struct engine_connection connection;
};

struct engine_totals {
	uint64_t connections, half_open, listeners;
	uint64_t pools, pool_bytes, memory_limit;
	uint64_t regions, registered_bytes;
	uint64_t wakeups, loop_cpu_ns;
};

/* Returns NULL with the reason in `words`. */
struct engine *engine_create(const struct engine_config *config, char *words, size_t words_size);
void engine_destroy(struct engine *engine); /* after engine_run returned */
int engine_run(struct engine *engine);	    /* until engine_stop; 0 or -errno */
void engine_stop(struct engine *engine);

/* `listener` is a number for engine_unlisten and for events; `bound_port` tells which port 0 became. 0 or -errno. */
int engine_listen(struct engine *engine, uint32_t fabric, const char *address, uint16_t port,
		  uint64_t *listener, uint16_t *bound_port, char *words, size_t words_size);
int engine_unlisten(struct engine *engine, uint64_t listener);
/* `request` is the caller's number: comes back in ENGINE_EVENT_CHANNEL or ENGINE_EVENT_CONNECT_FAILED. */
int engine_connect(struct engine *engine, uint32_t fabric, const char *address, uint16_t port,
		   uint64_t request, char *words, size_t words_size);
int engine_close(struct engine *engine, uint64_t connection); /* -ENOENT */
int engine_drain(struct engine *engine); /* stop listening, end every connection gracefully */

int engine_event_fd(struct engine *engine);
/* 1: one was taken; 0: none. */
int engine_next_event(struct engine *engine, struct engine_event *ret);

/* Connections with a number above `after`, in order; how many were written. */
size_t engine_connections(struct engine *engine, uint64_t after, struct engine_connection *ret,
			  size_t count);
void engine_totals(struct engine *engine, struct engine_totals *ret);
/* Counters of trace.h by number; NULL name: no such counter. */
const char *engine_counter_name(uint32_t counter);
uint64_t engine_counter(uint32_t counter);
const char *engine_close_reason_name(uint32_t reason);

/* Messages of capture.h, of the whole process: 0, -EBUSY or -ENOMEM; `room` is CAPTURE_ROOM at least. */
int engine_capture_start(void);
void engine_capture_stop(void);
size_t engine_capture_take(void *ret, size_t room, uint64_t *lost);

/* Trace points of trace.h, of the whole process; off until engine_trace(1). */
struct engine_trace_event {
	uint64_t time_ns; /* of the monotonic clock */
	uint32_t point;
	uint64_t object, a, b;
};

void engine_trace(int on);
/* Events from *position on (start with 0), which moves behind them; how many were written. */
size_t engine_trace_read(uint64_t *position, struct engine_trace_event *ret, size_t count);
const char *engine_trace_name(uint32_t point); /* NULL: no such point */

#endif
