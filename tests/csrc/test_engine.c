/* SOURCES: channel.c channel_frames.c channel_in.c channel_out.c crc32c.c ddp.c engine.c engine_connections.c engine_events.c engine_report.c fabric_iwarp.c iwarp_memory.c iwarp_queue.c iwarp_receive.c iwarp_send.c loop.c mpa.c path.c pool.c smbd_buffers.c smbd_connection.c smbd_completions.c smbd_posting.c smbd_timers.c smbd_credits.c smbd_fragments.c smbd_negotiation.c smbd_queue.c smbd_rdma.c smbd_windows.c smbd_wire.c trace.c fabric_verbs.c verbs_connect.c verbs_device.c verbs_library.c verbs_memory.c verbs_queue.c capture.c */
/*
 * An engine that connects to itself over loopback: real iWARP, real sockets, two workers played by this thread. What
 * the engine held before is what it must hold after.
 */
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>

#include "path.h"
#include "worker_frames.h"

enum {
	POOL = 8 << 20,
	PATIENCE_MS = 20000, /* for anything that must happen */
	FULL_MS = 20,	     /* a socket that takes nothing for so long is full */
	STATUS_REMOTE = 2,
	STATUS_REFUSED = 3,
};

static struct engine *engine;
static pthread_t thread;
static uint64_t listener;
static uint16_t port;
static char words[256];

/* One worker: its end of a channel, and its pool. */
struct worker {
	int fd;
	uint64_t connection;
	int memfd;
	uint8_t *memory;
};

static struct worker client, server;

static void *run(void *argument)
{
	CHECK(engine_run(argument) == 0);
	return NULL;
}

static void start(struct engine_config config)
{
	engine = engine_create(&config, words, sizeof(words));
	CHECK(engine);
	CHECK(pthread_create(&thread, NULL, run, engine) == 0);
	CHECK(engine_listen(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", 0, &listener, &port, words,
			    sizeof(words)) == 0);
	CHECK(port != 0);
}

static void stop(void)
{
	engine_stop(engine);
	CHECK(pthread_join(thread, NULL) == 0);
	engine_destroy(engine);
}

static struct engine_event next_event(void)
{
	struct pollfd ready = {.fd = engine_event_fd(engine), .events = POLLIN};
	struct engine_event event;

	CHECK(poll(&ready, 1, PATIENCE_MS) == 1);
	CHECK(engine_next_event(engine, &event) == 1);
	return event;
}

static struct engine_event expect_event(enum engine_event_kind kind, uint32_t reason)
{
	struct engine_event event = next_event();

	CHECK(event.kind == kind && event.reason == reason);
	return event;
}

static void take(struct worker *worker, const struct engine_event *event)
{
	struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};

	*worker = (struct worker){
		.fd = event->fd, .connection = event->connection.connection, .memfd = -1};
	CHECK(worker->fd >= 0);
	CHECK(setsockopt(worker->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
}

static void connect_workers(void)
{
	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", port, 77, words,
			     sizeof(words)) == 0);
	for (int count = 0; count < 2; count++) {
		struct engine_event event = expect_event(ENGINE_EVENT_CHANNEL, CLOSE_NONE);

		CHECK(event.connection.request == (event.connection.client_role ? 77 : 0));
		CHECK(event.connection.listener == (event.connection.client_role ? 0 : listener));
		take(event.connection.client_role ? &client : &server, &event);
	}
}

/* Reads one frame; its body's length. */
static size_t read_frame(const struct worker *worker, uint8_t *type, void *body, size_t room)
{
	uint8_t header[4];
	size_t length;

	read_all(worker->fd, header, 4);
	*type = header[0];
	length = (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
	CHECK(length <= room);
	read_all(worker->fd, body, length);
	return length;
}

static void expect_message(const struct worker *worker, const void *data, size_t length)
{
	uint8_t type, *body = malloc(length);

	CHECK(read_frame(worker, &type, body, length) == length && type == 0);
	CHECK(memcmp(body, data, length) == 0);
	free(body);
}

static void send_message(const struct worker *worker, const void *data, size_t length)
{
	uint8_t header[4];

	put_header(header, 0, length);
	write_all(worker->fd, header, 4);
	write_all(worker->fd, data, length);
}

static void expect_done(const struct worker *worker, uint64_t operation, uint32_t status,
			uint64_t bytes)
{
	uint8_t type, body[24];

	CHECK(read_frame(worker, &type, body, sizeof(body)) == 24 && type == 0x84);
	CHECK(get64(body) == operation && get32(body + 8) == status && get64(body + 16) == bytes);
}

/* The last frame, whatever DONE comes before it. */
static void expect_closed(const struct worker *worker, uint32_t reason)
{
	uint8_t type, body[512], byte;

	do {
		read_frame(worker, &type, body, sizeof(body));
		CHECK(type == 0x84 || type == 0x89);
	} while (type != 0x89);
	CHECK(get32(body) == reason);
	CHECK(read(worker->fd, &byte, 1) == 0);
}

static void open_pool(struct worker *worker)
{
	uint8_t frame[12], type, body[512];

	worker->memfd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(worker->memfd >= 0 && ftruncate(worker->memfd, POOL) == 0);
	CHECK(fcntl(worker->memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	worker->memory = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_SHARED, worker->memfd, 0);
	CHECK(worker->memory != MAP_FAILED);
	put_header(frame, 0x80, 8);
	put64(frame + 4, POOL);
	pass(worker->fd, frame, sizeof(frame), &worker->memfd, 1);
	CHECK(read_frame(worker, &type, body, sizeof(body)) == 16 && type == 0x81);
	CHECK(get32(body) == 0 && get32(body + 4) == 1);
}

static void connect_with_pools(void)
{
	connect_workers();
	open_pool(&client);
	open_pool(&server);
}

/* What a worker leaves behind when it is killed. */
static void leave(struct worker *worker)
{
	if (worker->memory) {
		munmap(worker->memory, POOL);
		close(worker->memfd);
	}
	close(worker->fd);
	worker->memory = NULL;
}

static struct engine_totals expect_nothing_left(void)
{
	struct engine_totals totals;

	engine_totals(engine, &totals);
	CHECK(totals.connections == 0 && totals.half_open == 0 && totals.pools == 0);
	CHECK(totals.pool_bytes == 0 && totals.regions == 0 && totals.registered_bytes == 0);
	return totals;
}

static void part(void)
{
	leave(&client);
	expect_closed(&server, CLOSE_BY_PEER);
	leave(&server);
	CHECK(next_event().kind == ENGINE_EVENT_CLOSED && next_event().kind == ENGINE_EVENT_CLOSED);
	expect_nothing_left();
}

static void fill(uint8_t *place, size_t length, uint32_t seed)
{
	for (size_t index = 0; index < length; index++) {
		seed = seed * 1664525 + 1013904223;
		place[index] = (uint8_t)(seed >> 24);
	}
}

/* The client lets the server touch a range; its descriptor, as it would stand in a READ request. */
static void expose(uint32_t access, uint64_t offset, uint64_t length, uint8_t descriptor[16])
{
	uint8_t frame[36], type, body[32];

	put_header(frame, 0x86, 32);
	put64(frame + 4, 5);
	put32(frame + 12, 1);
	put32(frame + 16, access);
	put64(frame + 20, offset);
	put64(frame + 28, length);
	write_all(client.fd, frame, sizeof(frame));
	CHECK(read_frame(&client, &type, body, sizeof(body)) == 32 && type == 0x87);
	CHECK(get64(body) == 5 && get32(body + 8) == 0 && get32(body + 28) == length);
	memcpy(descriptor, body + 16, 16);
}

static size_t transfer_frame(uint8_t *frame, uint8_t type, uint64_t operation, uint64_t offset,
			     uint64_t length, const void *descriptors, uint32_t count)
{
	put_transfer(frame, type, operation, 1, offset, length);
	put_header(frame, type, 32 + 16 * count);
	put32(frame + 16, count);
	memcpy(frame + 36, descriptors, 16 * (size_t)count);
	return 36 + 16 * (size_t)count;
}

static void server_transfers(uint8_t type, uint64_t operation, uint64_t offset, uint64_t length,
			     const void *descriptors, uint32_t count)
{
	uint8_t frame[512];

	write_all(server.fd, frame,
		  transfer_frame(frame, type, operation, offset, length, descriptors, count));
}

/* The tests. */

static void test_messages_both_ways(void)
{
	size_t length = 1000000;
	uint8_t *large = malloc(length);
	struct engine_connection seen[4];

	connect_workers();
	fill(large, length, 1);
	send_message(&client, "negotiate", 9);
	expect_message(&server, "negotiate", 9);
	send_message(&server, large, length);
	expect_message(&client, large, length);
	send_message(&client, large, length);
	expect_message(&server, large, length);
	for (int count = 0; count < 1000; count++) {
		send_message(&client, large + count, 100);
		if (count % 2)
			send_message(&server, large, 50);
	}
	for (int count = 0; count < 1000; count++) {
		expect_message(&server, large + count, 100);
		if (count % 2)
			expect_message(&client, large, 50);
	}
	CHECK(engine_connections(engine, 0, seen, 4) == 2);
	CHECK(seen[0].connection < seen[1].connection);
	CHECK(seen[0].messages_sent == seen[1].messages_received);
	CHECK(seen[0].bytes_sent == seen[1].bytes_received && seen[0].bytes_sent >= length);
	CHECK(seen[0].queued_bytes == 0 && seen[0].unconsumed_bytes == 0);
	CHECK(engine_connections(engine, seen[0].connection, seen, 4) == 1);
	free(large);
	part();
}

static void expect_numbered(const struct worker *worker, uint8_t *body, size_t length,
			    uint32_t count)
{
	for (uint32_t number = 0; number < count; number++) {
		put32(body, number);
		expect_message(worker, body, length);
	}
}

/*
 * Nobody reads until everything is full; then both do, and nothing may be missing. Each end writes in a thread of its
 * own, which waits in the middle of a message.
 */
struct flood {
	struct worker *worker;
	size_t length;
	uint32_t count;
};

static void *write_flood(void *argument)
{
	struct flood *flood = argument;
	uint8_t *body = calloc(1, flood->length);

	for (uint32_t number = 0; number < flood->count; number++) {
		put32(body, number);
		send_message(flood->worker, body, flood->length);
	}
	free(body);
	return NULL;
}

static void *read_flood(void *argument)
{
	struct flood *flood = argument;
	uint8_t *body = calloc(1, flood->length);

	expect_numbered(flood->worker, body, flood->length, flood->count);
	free(body);
	return NULL;
}

static void flood_both_ways(size_t length, uint32_t count)
{
	struct flood floods[2] = {{&client, length, count}, {&server, length, count}};
	struct pollfd full[2] = {{.events = POLLOUT}, {.events = POLLOUT}};
	uint8_t *body = calloc(1, length);
	pthread_t threads[2], reader;

	connect_workers();
	for (int index = 0; index < 2; index++)
		CHECK(pthread_create(&threads[index], NULL, write_flood, &floods[index]) == 0);
	full[0].fd = client.fd;
	full[1].fd = server.fd;
	while (poll(full, 2, FULL_MS) > 0)
		poll(NULL, 0, FULL_MS);
	CHECK(pthread_create(&reader, NULL, read_flood, &floods[1]) == 0);
	expect_numbered(&client, body, length, count);
	CHECK(pthread_join(reader, NULL) == 0);
	for (int index = 0; index < 2; index++)
		CHECK(pthread_join(threads[index], NULL) == 0);
	free(body);
	part();
}
static void test_floods_both_ways(void)
{
	flood_both_ways(1 << 20, 24);
	flood_both_ways(100, 60000);
	flood_both_ways(20000, 1000);
}

static void test_rdma_write_and_read(void)
{
	uint8_t descriptors[2 * 16];

	connect_with_pools();
	fill(server.memory, POOL, 2);
	expose(3, 4096, 1 << 20, descriptors);
	expose(3, 4 << 20, 3 << 20, descriptors + 16);
	server_transfers(0x82, 1, 0, 3 << 20, descriptors, 2);
	expect_done(&server, 1, 0, 3 << 20);
	send_message(&server, "written", 7);
	expect_message(&client, "written", 7);
	CHECK(memcmp(client.memory + 4096, server.memory, 1 << 20) == 0);
	CHECK(memcmp(client.memory + (4 << 20), server.memory + (1 << 20), 2 << 20) == 0);
	CHECK(client.memory[(4 << 20) + (2 << 20)] == 0);
	fill(client.memory, POOL, 3);
	server_transfers(0x83, 2, 100, 4000000, descriptors, 2);
	expect_done(&server, 2, 0, 4000000);
	CHECK(memcmp(server.memory + 100, client.memory + 4096, 1 << 20) == 0);
	CHECK(memcmp(server.memory + 100 + (1 << 20), client.memory + (4 << 20),
		     4000000 - (1 << 20)) == 0);
	part();
}

/* When the message is there, so is what was written before it: nobody waits in between. */
static void test_a_write_and_its_message_keep_their_order(void)
{
	uint8_t descriptor[16], frames[128];
	size_t length;

	connect_with_pools();
	expose(2, 0, 1 << 20, descriptor);
	for (int round = 0; round < 50; round++) {
		fill(server.memory, 1 << 20, (uint32_t)round);
		length = transfer_frame(frames, 0x82, (uint64_t)round, 0, 1 << 20, descriptor, 1);
		length += put_header(frames + length, 0, 4);
		memcpy(frames + length, "read", 4);
		write_all(server.fd, frames, length + 4);
		expect_message(&client, "read", 4);
		CHECK(memcmp(client.memory, server.memory, 1 << 20) == 0);
		expect_done(&server, (uint64_t)round, 0, 1 << 20);
	}
	part();
}

static void test_many_transfers_at_once(void)
{
	enum { COUNT = 600, SIZE = 8192 };
	uint8_t descriptor[16];
	bool seen[COUNT] = {false};

	connect_with_pools();
	fill(client.memory, COUNT * SIZE, 4);
	expose(1, 0, COUNT * SIZE, descriptor);
	for (uint64_t number = 0; number < COUNT; number++) {
		uint8_t part_of[16];

		memcpy(part_of, descriptor, 16);
		put64(part_of, get64(descriptor) + number * SIZE);
		put32(part_of + 12, SIZE);
		server_transfers(0x83, number, number * SIZE, SIZE, part_of, 1);
	}
	for (int count = 0; count < COUNT; count++) {
		uint8_t type, body[24];

		CHECK(read_frame(&server, &type, body, 24) == 24 && get64(body) < COUNT);
		CHECK(get32(body + 8) == 0 && !seen[get64(body)]);
		seen[get64(body)] = true;
	}
	CHECK(memcmp(client.memory, server.memory, COUNT * SIZE) == 0);
	part();
}

static void test_revoke(void)
{
	uint8_t descriptor[16], frame[20];

	connect_with_pools();
	expose(3, 0, 4096, descriptor);
	put_header(frame, 0x88, 16);
	put64(frame + 4, 6);
	put32(frame + 12, get32(descriptor + 8));
	write_all(client.fd, frame, sizeof(frame));
	expect_done(&client, 6, 0, 0);
	write_all(client.fd, frame, sizeof(frame));
	expect_done(&client, 6, STATUS_REFUSED, 0);
	server_transfers(0x82, 1, 0, 4096, descriptor, 1);
	expect_closed(&server, CLOSE_REMOTE_ACCESS);
	leave(&server);
	leave(&client);
	next_event();
	next_event();
	expect_nothing_left();
}

static void test_send_invalidate_ends_the_exposure(void)
{
	uint8_t descriptor[16], frames[64] = {0}, revoke[20], type, token[4];
	size_t length;

	connect_with_pools();
	expose(3, 0, 4096, descriptor);
	length = put_header(frames, 0x85, 4);
	memcpy(frames + length, descriptor + 8, 4);
	length += 4;
	length += put_header(frames + length, 0, 5);
	memcpy(frames + length, "final", 5);
	write_all(server.fd, frames, length + 5);
	CHECK(read_frame(&client, &type, token, sizeof(token)) == 4 && type == 0x8a);
	CHECK(memcmp(token, descriptor + 8, 4) == 0);
	expect_message(&client, "final", 5);
	put_header(revoke, 0x88, 16);
	put64(revoke + 4, 6);
	put32(revoke + 12, get32(descriptor + 8));
	write_all(client.fd, revoke, sizeof(revoke));
	expect_done(&client, 6, 0, 0);
	server_transfers(0x83, 1, 0, 4096, descriptor, 1);
	expect_closed(&server, CLOSE_REMOTE_ACCESS);
	leave(&server);
	leave(&client);
	next_event();
	next_event();
	expect_nothing_left();
}

static void test_refused_here(void)
{
	uint8_t descriptor[16];

	connect_with_pools();
	expose(3, 0, 4096, descriptor);
	server_transfers(0x82, 1, 0, 4097, descriptor, 1);
	expect_done(&server, 1, STATUS_REFUSED, 0);
	server_transfers(0x82, 2, 0, 0, descriptor, 1);
	expect_done(&server, 2, STATUS_REFUSED, 0);
	server_transfers(0x82, 3, 0, 10, descriptor, 0);
	expect_done(&server, 3, STATUS_REFUSED, 0);
	server_transfers(0x82, 4, 0, 4096, descriptor, 1);
	expect_done(&server, 4, 0, 4096);
	part();
}

static void peer_refuses(uint8_t type, uint32_t access, uint64_t more_offset, uint32_t length)
{
	uint8_t descriptor[16];

	connect_with_pools();
	expose(access, 0, 4096, descriptor);
	put64(descriptor, get64(descriptor) + more_offset);
	put32(descriptor + 12, length);
	server_transfers(type, 9, 0, length, descriptor, 1);
	if (type == 0x83)
		expect_done(&server, 9, STATUS_REMOTE, 0);
	expect_closed(&server, CLOSE_REMOTE_ACCESS);
	leave(&server);
	leave(&client);
	next_event();
	next_event();
	expect_nothing_left();
}

static void test_the_peer_refuses(void)
{
	peer_refuses(0x83, 3, 0, 4097);
	peer_refuses(0x82, 3, 0, 4097);
	peer_refuses(0x83, 3, 4096, 1);
	peer_refuses(0x82, 3, UINT64_MAX, 1);
	peer_refuses(0x82, 1, 0, 4096);
	peer_refuses(0x83, 2, 0, 4096);
}

static void worker_error(uint32_t pool, uint64_t offset, uint64_t length)
{
	uint8_t descriptor[16], frame[64];

	connect_with_pools();
	expose(3, 0, 4096, descriptor);
	transfer_frame(frame, 0x82, 1, offset, length, descriptor, 1);
	put32(frame + 12, pool);
	write_all(server.fd, frame, 52);
	expect_closed(&server, CLOSE_WORKER_ERROR);
	leave(&server);
	leave(&client);
	next_event();
	next_event();
	expect_nothing_left();
}

static void test_worker_errors(void)
{
	worker_error(2, 0, 4096);
	worker_error(1, POOL - 4095, 4096);
	worker_error(1, UINT64_MAX, 4096);
}

static void test_a_pool_that_may_shrink_is_refused(void)
{
	uint8_t frame[12], type, body[512];
	int fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	connect_workers();
	CHECK(ftruncate(fd, POOL) == 0);
	put_header(frame, 0x80, 8);
	put64(frame + 4, POOL);
	pass(server.fd, frame, sizeof(frame), &fd, 1);
	CHECK(read_frame(&server, &type, body, sizeof(body)) > 16 && type == 0x81);
	CHECK(get32(body) == STATUS_REFUSED && memmem(body + 16, 256, "F_SEAL_SHRINK", 13));
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	pass(server.fd, frame, sizeof(frame), &fd, 1);
	CHECK(read_frame(&server, &type, body, sizeof(body)) == 16 && get32(body) == 0);
	CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
	close(fd);
	part();
}

/* Both ends vanish while transfers run: `which` first. */
static void kill_during_transfers(struct worker *first, struct worker *second)
{
	uint8_t descriptor[16];

	connect_with_pools();
	expose(3, 0, 1 << 20, descriptor);
	for (uint64_t number = 0; number < 200; number++)
		server_transfers(number % 2 ? 0x82 : 0x83, number, 1 << 20, 1 << 20, descriptor, 1);
	leave(first);
	CHECK(next_event().kind == ENGINE_EVENT_CLOSED);
	CHECK(next_event().kind == ENGINE_EVENT_CLOSED);
	leave(second);
	expect_nothing_left();
}

static void test_a_worker_dies_during_transfers(void)
{
	kill_during_transfers(&server, &client);
	kill_during_transfers(&client, &server);
}

static void test_one_memfd_on_two_channels_is_one_pool(void)
{
	struct worker old_client, old_server;
	struct engine_totals totals;
	uint8_t frame[12], type, body[64];

	connect_with_pools();
	old_client = client;
	old_server = server;
	connect_workers();
	put_header(frame, 0x80, 8);
	put64(frame + 4, POOL);
	pass(server.fd, frame, sizeof(frame), &old_server.memfd, 1);
	CHECK(read_frame(&server, &type, body, sizeof(body)) == 16 && get32(body) == 0);
	engine_totals(engine, &totals);
	CHECK(totals.pools == 2 && totals.pool_bytes == 2 * (uint64_t)POOL);
	leave(&old_client);
	expect_closed(&old_server, CLOSE_BY_PEER);
	leave(&old_server);
	next_event();
	next_event();
	engine_totals(engine, &totals);
	CHECK(totals.connections == 2 && totals.pools == 1);
	part();
}

static void test_commands_say_why_not(void)
{
	uint64_t number;
	uint16_t bound;

	CHECK(engine_listen(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", port, &number, &bound, words,
			    sizeof(words)) == -EADDRINUSE);
	CHECK(strstr(words, "127.0.0.1"));
	CHECK(engine_listen(engine, 99, "127.0.0.1", 0, &number, &bound, words, sizeof(words)) ==
	      -ENOTSUP);
	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "host.invalid", 1, 1, words,
			     sizeof(words)) == -EINVAL);
	CHECK(strstr(words, "host.invalid"));
	CHECK(engine_close(engine, 12345678) == -ENOENT && engine_close(engine, 0) == -ENOENT);
	CHECK(engine_unlisten(engine, 12345678) == -ENOENT);
}

static void test_close_and_unlisten(void)
{
	uint64_t number;
	uint16_t bound;
	struct engine_event event;

	connect_workers();
	CHECK(engine_close(engine, server.connection) == 0);
	expect_closed(&server, CLOSE_SHUTDOWN);
	expect_closed(&client, CLOSE_BY_PEER);
	leave(&client);
	leave(&server);
	next_event();
	next_event();
	CHECK(engine_listen(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", 0, &number, &bound, words,
			    sizeof(words)) == 0);
	CHECK(engine_unlisten(engine, number) == 0 && engine_unlisten(engine, number) == -ENOENT);
	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", bound, 78, words,
			     sizeof(words)) == 0);
	event = expect_event(ENGINE_EVENT_CONNECT_FAILED, CLOSE_PEER_LOST);
	CHECK(event.connection.request == 78 && event.words[0]);
	expect_nothing_left();
}

/* A peer that finishes MPA and then says nothing. */
static void test_a_silent_peer_is_refused_in_time(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	write_all(fd, "MPA ID Req Frame\0\1\0\10\0\0\0\40\0\0\0\40", 28);
	expect_event(ENGINE_EVENT_REFUSED, CLOSE_TIMEOUT);
	close(fd);
	expect_nothing_left();
}

static void test_most_connections(void)
{
	connect_workers();
	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", port, 79, words,
			     sizeof(words)) == -EUSERS);
	CHECK(strstr(words, "max_connections"));
	part();
}

static void test_drain(void)
{
	struct engine_totals totals;
	uint64_t number;
	uint16_t bound;

	connect_workers();
	CHECK(engine_drain(engine) == 0);
	expect_closed(&client, CLOSE_SHUTDOWN);
	expect_closed(&server, CLOSE_SHUTDOWN);
	next_event();
	next_event();
	leave(&client);
	leave(&server);
	totals = expect_nothing_left();
	CHECK(totals.listeners == 0 && totals.wakeups > 0 && totals.loop_cpu_ns > 0);
	CHECK(engine_listen(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", 0, &number, &bound, words,
			    sizeof(words)) == -ESHUTDOWN);
	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", port, 1, words,
			     sizeof(words)) == -ESHUTDOWN);
}

static void test_stop_with_open_channels(void)
{
	connect_with_pools();
	engine_stop(engine);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(engine_close(engine, 1) == -ESHUTDOWN);
	engine_destroy(engine);
	expect_closed(&client, CLOSE_SHUTDOWN);
	expect_closed(&server, CLOSE_SHUTDOWN);
	leave(&client);
	leave(&server);
}

static void test_events_not_taken_are_closed(void)
{
	struct pollfd ready = {.events = POLLIN};

	CHECK(engine_connect(engine, ENGINE_FABRIC_IWARP, "127.0.0.1", port, 1, words,
			     sizeof(words)) == 0);
	ready.fd = engine_event_fd(engine);
	CHECK(poll(&ready, 1, PATIENCE_MS) == 1);
	stop();
}

static void *ask(void *argument)
{
	struct engine_totals totals;

	for (int count = 0; count < 200; count++)
		engine_totals(argument, &totals);
	return NULL;
}

static void test_many_threads_ask(void)
{
	pthread_t threads[4];

	for (int index = 0; index < 4; index++)
		CHECK(pthread_create(&threads[index], NULL, ask, engine) == 0);
	for (int index = 0; index < 4; index++)
		CHECK(pthread_join(threads[index], NULL) == 0);
}

int main(void)
{
	start((struct engine_config){.negotiate_timeout_ms = 300, .max_connections = 4});
	test_messages_both_ways();
	test_floods_both_ways();
	test_rdma_write_and_read();
	test_a_write_and_its_message_keep_their_order();
	test_many_transfers_at_once();
	test_revoke();
	test_send_invalidate_ends_the_exposure();
	test_refused_here();
	test_the_peer_refuses();
	test_worker_errors();
	test_a_pool_that_may_shrink_is_refused();
	test_a_worker_dies_during_transfers();
	test_one_memfd_on_two_channels_is_one_pool();
	test_commands_say_why_not();
	test_close_and_unlisten();
	test_a_silent_peer_is_refused_in_time();
	test_many_threads_ask();
	test_drain();
	stop();
	start((struct engine_config){.max_connections = 2});
	test_most_connections();
	test_stop_with_open_channels();
	start((struct engine_config){.iwarp_crc = 1});
	test_rdma_write_and_read();
	test_events_not_taken_are_closed();
	return 0;
}
