/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
/*
 * How fast user-space iWARP moves 1 MiB payloads over loopback, held against a raw TCP stream of the same run.
 *
 *     gcc -O2 -D_GNU_SOURCE -Icsrc -Itests/csrc tests/csrc/bench_iwarp.c csrc/{loop,...}.c -o bench && ./bench [rounds]
 *
 * Two processes, one per end. In every round: raw stream, RDMA Write, RDMA Read. Prints medians and ratios.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fabric.h"

enum {
	CHUNK = 1 << 20,
	CHUNKS = 1024, /* of one measurement */
	DEPTH = 8,
	ROUNDS_MAX = 99,
	MESSAGE = 64, /* bytes of the Sends that steer the run */
};

enum command { COMMAND_WRITE = 1, COMMAND_READ };

struct bench {
	struct loop *loop;
	struct fabric *fabric;
	struct fabric_listener *listener;
	struct fabric_qp *qp;
	struct fabric_region *region, *control;
	struct fabric_window *window;
	uint8_t *memory, messages[2 * MESSAGE];
	bool server, established, done;
	/* server: the transfer asked for */
	enum fabric_opcode opcode;
	uint32_t token, posted, completed;
	uint64_t offset;
};

static double seconds(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void post(struct bench *bench, enum fabric_opcode opcode, void *address, uint32_t length,
		 struct fabric_region *region)
{
	struct fabric_sge sge = {address, length, region};
	struct fabric_work work = {
		.opcode = opcode,
		.signalled = true,
		.sge_count = 1,
		.sges = &sge,
		.remote_token = bench->token,
		.remote_offset = bench->offset,
	};

	CHECK(fabric_post(bench->qp, &work) == 0);
}

static void post_receive(struct bench *bench)
{
	struct fabric_sge sge = {bench->messages, MESSAGE, bench->control};

	CHECK(fabric_post_receive(bench->qp, 0, &sge) == 0);
}

static void post_more(struct bench *bench)
{
	while (bench->posted < CHUNKS && bench->posted - bench->completed < DEPTH)
		post(bench, bench->opcode, bench->memory + (bench->posted++ % DEPTH) * CHUNK, CHUNK,
		     bench->region);
	if (bench->completed == CHUNKS)
		post(bench, FABRIC_SEND, bench->messages + MESSAGE, MESSAGE, bench->control);
}

static void received(struct bench *bench)
{
	if (bench->server) {
		bench->opcode = bench->messages[0] == COMMAND_WRITE ? FABRIC_WRITE : FABRIC_READ;
		memcpy(&bench->token, bench->messages + 8, sizeof(bench->token));
		memcpy(&bench->offset, bench->messages + 16, sizeof(bench->offset));
		bench->posted = bench->completed = 0;
	}
	post_receive(bench);
	if (bench->server)
		post_more(bench);
	else
		bench->done = true;
}

static void on_completions(struct fabric_qp *qp, const struct fabric_completion *completions,
			   size_t count, nanoseconds now)
{
	struct bench *bench = qp->owner;

	(void)now;
	for (size_t i = 0; i < count; i++) {
		if (completions[i].status == FABRIC_FLUSHED)
			continue;
		CHECK(completions[i].status == FABRIC_OK);
		if (completions[i].opcode == FABRIC_RECEIVE) {
			received(bench);
		} else if (completions[i].opcode == FABRIC_WRITE ||
			   completions[i].opcode == FABRIC_READ) {
			bench->completed++;
			post_more(bench);
		}
	}
}

static void on_established(struct fabric_qp *qp, nanoseconds now)
{
	(void)now;
	((struct bench *)qp->owner)->established = true;
}

static void on_disconnected(struct fabric_qp *qp, enum close_reason reason, const char *words,
			    nanoseconds now)
{
	struct bench *bench = qp->owner;

	(void)now;
	if (reason != CLOSE_BY_PEER)
		fprintf(stderr, "%s: %s\n", bench->server ? "server" : "client", words);
	bench->done = true;
	loop_stop(bench->loop);
}

static const struct fabric_events events = {on_established, on_completions, on_disconnected};

static const struct fabric_parameters parameters = {
	.limits = {.send_queue = 64,
		   .receive_queue = 8,
		   .send_sges = 4,
		   .initiator_depth = 16,
		   .responder_depth = 16},
};

static void prepare(struct bench *bench, struct fabric_qp *qp)
{
	bench->qp = qp;
	bench->memory = malloc((size_t)CHUNK * DEPTH);
	CHECK(bench->memory);
	memset(bench->memory, 7, (size_t)CHUNK * DEPTH);
	CHECK(fabric_register(qp->device, bench->memory, (size_t)CHUNK * DEPTH, &bench->region) ==
	      0);
	CHECK(fabric_register(qp->device, bench->messages, sizeof(bench->messages),
			      &bench->control) == 0);
	post_receive(bench);
}

static bool on_request(struct fabric_listener *listener, struct fabric_qp *qp)
{
	struct bench *bench = listener->owner;

	qp->events = &events;
	qp->owner = bench;
	prepare(bench, qp);
	CHECK(fabric_accept(qp, &parameters) == 0);
	return true;
}

static double run(struct bench *bench, enum command command)
{
	uint8_t *message = bench->messages + MESSAGE;
	double begin = seconds();

	message[0] = (uint8_t)command;
	memcpy(message + 8, &bench->window->token, sizeof(bench->window->token));
	memcpy(message + 16, &bench->window->offset, sizeof(bench->window->offset));
	bench->done = false;
	post(bench, FABRIC_SEND, message, MESSAGE, bench->control);
	while (!bench->done)
		CHECK(loop_turn(bench->loop, SECOND) == 0);
	return (double)CHUNKS * CHUNK / (1 << 20) / (seconds() - begin);
}

static void serve_iwarp(struct bench *bench)
{
	bench->server = true;
	CHECK(loop_run(bench->loop) == 0);
	_exit(0);
}

static void connect_iwarp(struct bench *bench)
{
	struct fabric_qp *qp;

	CHECK(fabric_connect(bench->fabric, (struct sockaddr *)&bench->listener->address,
			     bench->listener->address_length, &parameters, &events, bench,
			     &qp) == 0);
	prepare(bench, qp);
	while (!bench->established)
		CHECK(loop_turn(bench->loop, SECOND) == 0);
	CHECK(fabric_expose(qp, bench->region, bench->memory, CHUNK,
			    FABRIC_PEER_READS | FABRIC_PEER_WRITES, 0, &bench->window) == 0);
}

/* The raw stream: 1 MiB buffers, one connection. */

static void serve_raw(int listener)
{
	uint8_t *buffer = malloc(CHUNK), go;
	int fd = accept(listener, NULL, NULL);

	CHECK(buffer && fd >= 0);
	memset(buffer, 9, CHUNK);
	while (read(fd, &go, 1) == 1)
		for (int i = 0; i < CHUNKS; i++)
			for (size_t sent = 0; sent < CHUNK;) {
				ssize_t result = write(fd, buffer + sent, CHUNK - sent);

				CHECK(result > 0);
				sent += (size_t)result;
			}
	_exit(0);
}

static double run_raw(int fd)
{
	static uint8_t buffer[CHUNK];
	double begin = seconds();

	CHECK(write(fd, "g", 1) == 1);
	for (size_t left = (size_t)CHUNKS * CHUNK; left;) {
		ssize_t result = read(fd, buffer, left < CHUNK ? left : CHUNK);

		CHECK(result > 0);
		left -= (size_t)result;
	}
	return (double)CHUNKS * CHUNK / (1 << 20) / (seconds() - begin);
}

static int compare(const void *a, const void *b)
{
	return *(const double *)a < *(const double *)b ? -1 : 1;
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(values[0]), compare);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	static double raw[ROUNDS_MAX], writes[ROUNDS_MAX], reads[ROUNDS_MAX];
	int rounds = argc > 1 ? atoi(argv[1]) : 5, raw_listener, raw_fd;
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in raw_address = address;
	const struct fabric_iwarp_config config = {
		.crc = getenv("BENCH_CRC") != NULL,
		.max_ulpdu = getenv("BENCH_ULPDU") ? (uint32_t)atoi(getenv("BENCH_ULPDU")) : 0,
	};
	socklen_t length = sizeof(raw_address);
	struct bench bench = {0};
	double base;

	CHECK(rounds > 0 && rounds <= ROUNDS_MAX);
	raw_listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(raw_listener, (struct sockaddr *)&raw_address, length) == 0 &&
	      listen(raw_listener, 1) == 0);
	CHECK(getsockname(raw_listener, (struct sockaddr *)&raw_address, &length) == 0);
	if (fork() == 0)
		serve_raw(raw_listener);
	raw_fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(raw_fd, (struct sockaddr *)&raw_address, length) == 0);
	CHECK(loop_create(&bench.loop) == 0 &&
	      fabric_iwarp_create(bench.loop, &config, &bench.fabric) == 0);
	CHECK(fabric_listen(bench.fabric, (struct sockaddr *)&address, sizeof(address), on_request,
			    &bench, &bench.listener) == 0);
	if (fork() == 0)
		serve_iwarp(&bench);
	/* The child accepts; here an epoll descriptor and a listener of our own would share its events. */
	struct bench client = {0};
	CHECK(loop_create(&client.loop) == 0 &&
	      fabric_iwarp_create(client.loop, &config, &client.fabric) == 0);
	client.listener = bench.listener;
	connect_iwarp(&client);
	run(&client, COMMAND_WRITE);
	for (int i = 0; i < rounds; i++) {
		raw[i] = run_raw(raw_fd);
		writes[i] = run(&client, COMMAND_WRITE);
		reads[i] = run(&client, COMMAND_READ);
	}
	base = median(raw, rounds);
	printf("raw_tcp_stream %.0f MiB/s (%.0f to %.0f)\n", base, raw[0], raw[rounds - 1]);
	printf("rdma_write %.0f MiB/s, ratio %.2f\n", median(writes, rounds),
	       median(writes, rounds) / base);
	printf("rdma_read %.0f MiB/s, ratio %.2f\n", median(reads, rounds),
	       median(reads, rounds) / base);
	return 0;
}
