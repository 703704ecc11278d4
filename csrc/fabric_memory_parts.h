/* What the in-process fabric consists of: for its two files only. */
#ifndef FABRIC_MEMORY_PARTS_H
#define FABRIC_MEMORY_PARTS_H

#include "fabric_memory.h"

struct receive {
	uint64_t id;
	struct fabric_sge sge;
};

struct result {
	struct fabric_completion completion;
	uint32_t releases; /* places of the send queue that come back with it */
	struct result *next;
};

struct window {
	struct fabric_window base;
	uint8_t *address;
	unsigned access;
	bool valid;
	struct window *next;
};

enum state {
	STATE_NEW,	  /* not accepted, not connected */
	STATE_CONNECTING, /* `established` is to come */
	STATE_ESTABLISHED,
	STATE_ENDING, /* flushed; `disconnected` follows the last completion */
	STATE_DISCONNECTED,
};

struct memory_qp {
	struct fabric_qp base;
	struct memory_qp *next;
	struct memory_qp *peer;		  /* NULL: the test is the other end */
	struct fabric_listener *listener; /* whose `request` is to be called */
	enum state state;
	bool single, accepted;
	unsigned hold;
	uint64_t works, calls;
	uint32_t used, reads, quiet; /* send queue; Reads; unsignalled ones that were carried out */
	struct fabric_memory_work *posted;
	struct receive *receives; /* a ring of limits.receive_queue */
	uint32_t receive_first, receive_count, receive_size;
	struct result *results, **results_end;
	struct window *windows;
	enum close_reason reason;
	const char *words;
};

struct memory_listener {
	struct fabric_listener base;
	bool (*request)(struct fabric_listener *listener, struct fabric_qp *qp);
	struct memory_listener *next;
};

struct memory_fabric {
	struct fabric base;
	struct fabric_device device;
	struct fabric_limits limits;
	struct memory_qp *qps;
	struct memory_listener *listeners;
	uint32_t next_token, next_port;
	uint32_t refuse_in;
	int refuse_error;
};

static inline struct memory_fabric *memory(struct fabric *fabric)
{
	return (struct memory_fabric *)fabric;
}

static inline struct memory_qp *memory_of(const struct fabric_qp *qp)
{
	return (struct memory_qp *)qp;
}

/* fabric_memory.c */
int memory_refused(struct fabric *fabric);
void memory_scatter(const struct fabric_memory_work *work, const uint8_t *bytes);
void memory_add_result(struct memory_qp *qp, const struct fabric_completion *completion,
		       uint32_t releases);
struct fabric_memory_work *memory_unlink_work(struct memory_qp *qp, uint64_t number);
void memory_free_work(struct fabric_memory_work *work);
void memory_end(struct memory_qp *qp, enum close_reason reason, const char *words);

/* fabric_memory_work.c */
int memory_post_receive(struct fabric_qp *base, uint64_t id, const struct fabric_sge *sge);
int memory_post(struct fabric_qp *base, const struct fabric_work *first);
int memory_expose(struct fabric_qp *base, struct fabric_region *region, void *address,
		  size_t length, unsigned access, uint64_t id, struct fabric_window **ret);
int memory_revoke(struct fabric_window *base, uint64_t id);

#endif
