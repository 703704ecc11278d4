/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c fabric_iwarp.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
/*
 * How fast user-space iWARP moves 1 MiB payloads over loopback, held against a raw TCP stream of
 * the same run.
 *
 *     gcc -O2 -D_GNU_SOURCE -Icsrc -Itests/csrc tests/csrc/bench_iwarp.c csrc/{loop,...}.c -o bench
 *     ./bench [rounds]
 *
 * Two processes, one per end. In every round: raw stream, RDMA Write, RDMA Read. Prints medians and
 * ratios.
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
};

enum command { COMMAND_WRITE = 1, COMMAND_READ };

/* What the client says: a window for every chunk, each used once, as a file client does. */
struct message {
	enum command command;
	struct {
		uint32_t token;
		uint64_t offset;
	} windows[CHUNKS];
};

struct bench {
	struct loop *loop;
	struct fabric *fabric;
	struct fabric_listener *listener;
	struct fabric_qp *qp;
	struct fabric_region *region, *to_receive, *to_send;
	struct fabric_window *windows[CHUNKS];
	uint8_t *memory;
	struct message received, sent;
	bool server, established, done;
	/* server: the transfer asked for */
	uint32_t posted, completed;
};

/* Of this process, the client: its share of a transfer does not depend on who else is running. */
static double cpu_seconds(void)
{
	struct timespec at;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static double seconds(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void post(struct bench *bench, enum fabric_opcode opcode, uint32_t chunk)
{
	struct fabric_sge message = {&bench->sent, sizeof(bench->sent), bench->to_send};
	struct fabric_sge payload = {bench->memory + chunk % DEPTH * CHUNK, CHUNK, bench->region};
	struct fabric_work work = {
		.opcode = opcode,
		.signalled = true,
		.sge_count = 1,
		.sges = opcode == FABRIC_SEND ? &message : &payload,
		.remote_token = bench->received.windows[chunk].token,
		.remote_offset = bench->received.windows[chunk].offset,
	};

	CHECK(fabric_post(bench->qp, &work) == 0);
}

static void post_receive(struct bench *bench)
{
	struct fabric_sge sge = {&bench->received, sizeof(bench->received), bench->to_receive};

	CHECK(fabric_post_receive(bench->qp, 0, &sge) == 0);
}

/*
 * The transfers of the command that came, DEPTH at a time; the receive for the next one only then.
 */
static void post_more(struct bench *bench)
{
	enum fabric_opcode opcode =
		bench->received.command == COMMAND_WRITE ? FABRIC_WRITE : FABRIC_READ;

	for (; bench->posted < CHUNKS && bench->posted - bench->completed < DEPTH; bench->posted++)
		post(bench, opcode, bench->posted);
	if (bench->completed < CHUNKS)
		return;
	post_receive(bench);
	post(bench, FABRIC_SEND, 0);
}

static void received(struct bench *bench)
{
	bench->done = true;
	if (bench->server) {
		bench->posted = bench->completed = 0;
		post_more(bench);
	} else {
		post_receive(bench);
	}
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
	CHECK(fabric_register(qp->device, &bench->received, sizeof(bench->received),
			      &bench->to_receive) == 0);
	CHECK(fabric_register(qp->device, &bench->sent, sizeof(bench->sent), &bench->to_send) == 0);
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

static void expose(struct bench *bench, enum command command)
{
	unsigned access = command == COMMAND_WRITE ? FABRIC_PEER_WRITES : FABRIC_PEER_READS;

	bench->sent.command = command;
	for (int i = 0; i < CHUNKS; i++) {
		CHECK(fabric_expose(bench->qp, bench->region, bench->memory + i % DEPTH * CHUNK,
				    CHUNK, access, 0, &bench->windows[i]) == 0);
		bench->sent.windows[i].token = bench->windows[i]->token;
		bench->sent.windows[i].offset = bench->windows[i]->offset;
	}
}

static double run(struct bench *bench, enum command command)
{
	double begin = seconds();

	expose(bench, command);
	bench->done = false;
	post(bench, FABRIC_SEND, 0);
	while (!bench->done)
		CHECK(loop_turn(bench->loop, SECOND) == 0);
	for (int i = 0; i < CHUNKS; i++)
		CHECK(fabric_revoke(bench->windows[i], 0) == 0);
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
	static double cpu[3][ROUNDS_MAX];
	int rounds = argc > 1 ? atoi(argv[1]) : 5, raw_listener, raw_fd;
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in raw_address = address;
	const struct fabric_iwarp_config config = {
		.crc = getenv("BENCH_CRC") != NULL,
		.max_ulpdu = getenv("BENCH_ULPDU") ? (uint32_t)atoi(getenv("BENCH_ULPDU")) : 0,
	};
	socklen_t length = sizeof(raw_address);
	static struct bench bench, client;
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
	/*
	 * The child accepts; here an epoll descriptor and a listener of our own would share its
	 * events.
	 */
	CHECK(loop_create(&client.loop) == 0 &&
	      fabric_iwarp_create(client.loop, &config, &client.fabric) == 0);
	client.listener = bench.listener;
	connect_iwarp(&client);
	run(&client, COMMAND_WRITE);
	for (int i = 0; i < rounds; i++) {
		double at[4] = {cpu_seconds()};

		raw[i] = run_raw(raw_fd);
		at[1] = cpu_seconds();
		writes[i] = run(&client, COMMAND_WRITE);
		at[2] = cpu_seconds();
		reads[i] = run(&client, COMMAND_READ);
		at[3] = cpu_seconds();
		for (int j = 0; j < 3; j++)
			cpu[j][i] = at[j + 1] - at[j];
	}
	base = median(raw, rounds);
	printf("raw_tcp_stream %.0f MiB/s (%.0f to %.0f)\n", base, raw[0], raw[rounds - 1]);
	printf("rdma_write %.0f MiB/s, ratio %.2f\n", median(writes, rounds),
	       median(writes, rounds) / base);
	printf("rdma_read %.0f MiB/s, ratio %.2f\n", median(reads, rounds),
	       median(reads, rounds) / base);
	printf("client's CPU seconds per GiB: raw %.3f, written to %.3f, read from %.3f\n",
	       median(cpu[0], rounds), median(cpu[1], rounds), median(cpu[2], rounds));
	return 0;
}
