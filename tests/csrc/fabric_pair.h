/*
 * Two ends of a fabric in one loop, and what each of them was told.
 *
 * The loop is turned until a condition holds; a condition that never comes true ends the test after
 * WAIT_SECONDS.
 */
#ifndef FABRIC_PAIR_H
#define FABRIC_PAIR_H

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "fabric.h"

enum {
	WAIT_SECONDS = 20,
	END_COMPLETIONS = 4096,
	END_MEMORY = 4 << 20, /* bytes of registered memory of each end */
	RECEIVE_SIZE = 8192,
};

struct end {
	struct fabric_qp *qp;
	struct fabric_region *region;
	uint8_t *memory;
	bool established, disconnected;
	enum close_reason reason;
	char words[256];
	struct fabric_completion completions[END_COMPLETIONS];
	size_t count;
	size_t largest_batch;
	bool destroy_on_completion;
};

struct pair {
	struct loop *loop;
	struct fabric *fabric;
	struct fabric_listener *listener;
	struct end client, server;
	struct fabric_limits limits;
	bool refuse;  /* the server says no */
	int requests; /* connection requests that the server heard of */
};

static void on_established(struct fabric_qp *qp, nanoseconds now)
{
	struct end *end = qp->owner;

	(void)now;
	CHECK(!end->established && !end->disconnected);
	end->established = true;
}

static void on_completions(struct fabric_qp *qp, const struct fabric_completion *completions,
			   size_t count, nanoseconds now)
{
	struct end *end = qp->owner;

	(void)now;
	CHECK(!end->disconnected && count > 0 && count <= FABRIC_COMPLETION_BATCH);
	CHECK(end->count + count <= END_COMPLETIONS);
	if (count > end->largest_batch)
		end->largest_batch = count;
	if (end->destroy_on_completion) {
		fabric_qp_destroy(qp);
		end->qp = NULL;
	}
	memcpy(end->completions + end->count, completions, count * sizeof(*completions));
	end->count += count;
}

static void on_disconnected(struct fabric_qp *qp, enum close_reason reason, const char *words,
			    nanoseconds now)
{
	struct end *end = qp->owner;

	(void)now;
	CHECK(!end->disconnected);
	end->disconnected = true;
	end->reason = reason;
	snprintf(end->words, sizeof(end->words), "%s", words);
}

static const struct fabric_events end_events = {
	.established = on_established,
	.completions = on_completions,
	.disconnected = on_disconnected,
};

static void end_memory(struct pair *pair, struct end *end, struct fabric_device *device)
{
	(void)pair;
	end->memory = calloc(1, END_MEMORY);
	CHECK(end->memory);
	CHECK(fabric_register(device, end->memory, END_MEMORY, &end->region) == 0);
}

static struct fabric_sge end_sge(struct end *end, size_t offset, uint32_t length)
{
	return (struct fabric_sge){end->memory + offset, length, end->region};
}

static void end_receive(struct end *end, uint64_t id, size_t offset, uint32_t length)
{
	struct fabric_sge sge = end_sge(end, offset, length);

	CHECK(fabric_post_receive(end->qp, id, &sge) == 0);
}

static int end_post(struct end *end, enum fabric_opcode opcode, uint64_t id, size_t offset,
		    uint32_t length, uint32_t token, uint64_t remote_offset)
{
	struct fabric_sge sge = end_sge(end, offset, length);
	struct fabric_work work = {
		.id = id,
		.opcode = opcode,
		.signalled = true,
		.sge_count = 1,
		.sges = &sge,
		.remote_token = token,
		.remote_offset = remote_offset,
	};

	return fabric_post(end->qp, &work);
}

static inline const struct fabric_completion *end_find(const struct end *end,
						       enum fabric_opcode opcode, uint64_t id)
{
	for (size_t i = 0; i < end->count; i++)
		if (end->completions[i].opcode == opcode && end->completions[i].id == id)
			return &end->completions[i];
	return NULL;
}

#define TURN_UNTIL(pair, condition)                                                                \
	do {                                                                                       \
		nanoseconds turn_end = loop_now((pair)->loop) + WAIT_SECONDS * SECOND;             \
		while (!(condition)) {                                                             \
			CHECK(loop_turn((pair)->loop, 100 * MILLISECOND) == 0);                    \
			if (loop_now((pair)->loop) > turn_end) {                                   \
				fprintf(stderr, "client: %s\nserver: %s\n", (pair)->client.words,  \
					(pair)->server.words);                                     \
				CHECK(!"came true in time: " #condition);                          \
			}                                                                          \
		}                                                                                  \
	} while (0)

static bool on_request(struct fabric_listener *listener, struct fabric_qp *qp)
{
	struct pair *pair = listener->owner;
	struct fabric_parameters parameters = {
		.limits = pair->limits,
		.private_data = "replied!",
		.private_data_length = 8,
	};

	pair->requests++;
	if (pair->refuse)
		return false;
	pair->server.qp = qp;
	qp->events = &end_events;
	qp->owner = &pair->server;
	end_memory(pair, &pair->server, qp->device);
	end_receive(&pair->server, 1000, 0, RECEIVE_SIZE);
	CHECK(fabric_accept(qp, &parameters) == 0);
	return true;
}

static inline void pair_create_loop(struct pair *pair)
{
	memset(pair, 0, sizeof(*pair));
	pair->limits = (struct fabric_limits){
		.send_queue = 256,
		.receive_queue = 256,
		.send_sges = 8,
		.initiator_depth = 16,
		.responder_depth = 16,
		.transfer_bytes = 8 << 20,
	};
	CHECK(loop_create(&pair->loop) == 0);
}

/* `pair->fabric` is there. */
static inline void pair_listen_on(struct pair *pair, const char *address)
{
	struct sockaddr_in place = {.sin_family = AF_INET};

	CHECK(inet_pton(AF_INET, address, &place.sin_addr) == 1);
	CHECK(fabric_listen(pair->fabric, (struct sockaddr *)&place, sizeof(place), on_request,
			    pair, &pair->listener) == 0);
}

static inline void pair_connect(struct pair *pair)
{
	struct fabric_parameters parameters = {
		.limits = pair->limits,
		.private_data = "request!",
		.private_data_length = 8,
	};

	CHECK(fabric_connect(pair->fabric, (struct sockaddr *)&pair->listener->address,
			     pair->listener->address_length, &parameters, &end_events,
			     &pair->client, &pair->client.qp) == 0);
	end_memory(pair, &pair->client, pair->client.qp->device);
	end_receive(&pair->client, 2000, 0, RECEIVE_SIZE);
}

/* Connected, and the client's first Send has arrived, so that both may speak. */
static inline void pair_begin(struct pair *pair)
{
	pair_connect(pair);
	TURN_UNTIL(pair, pair->client.established && pair->server.established);
	CHECK(end_post(&pair->client, FABRIC_SEND, 1, 0, 20, 0, 0) == 0);
	TURN_UNTIL(pair, end_find(&pair->server, FABRIC_RECEIVE, 1000));
	pair->client.count = pair->server.count = 0;
}

static inline void end_destroy(struct end *end)
{
	fabric_qp_destroy(end->qp);
	fabric_deregister(end->region);
	free(end->memory);
	memset(end, 0, sizeof(*end));
}

static inline void pair_destroy(struct pair *pair)
{
	end_destroy(&pair->client);
	end_destroy(&pair->server);
	fabric_unlisten(pair->listener);
	fabric_destroy(pair->fabric);
	loop_destroy(pair->loop);
}

#endif
