/* SOURCES: loop.c crc32c.c mpa.c ddp.c trace.c iwarp_queue.c iwarp_send.c iwarp_receive.c iwarp_memory.c */
/*
 * The bytes of a peer into a live connection, over a socket pair.
 *
 * The first byte of the input says how the rest is meant: from the first byte of the stream on;
 * behind a proper MPA request; or as a recipe for FPDUs that are nearly right, so that the deeper
 * checks are reached. The queue pair has receives posted, windows exposed, Reads under way and
 * Sends to say.
 */
#include "../../csrc/fabric_iwarp.c"

#include "check.h"
#include "crc32c.h"

enum {
	RECEIVES = 8,
	RECEIVE_SIZE = 256,
	READS = 2,
	READ = 63 * 16,
	MEMORY = 1 << 16,
	STREAM_MAX = 1 << 16,
	STEP = 8, /* bytes of the recipe for one FPDU */
	TURNS_MAX = 10000,
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static struct loop *loop;
static struct fabric *fabric;
static struct iwarp_listener listener;
static struct fabric_region *region;
static struct fabric_window *window;
static struct fabric_qp *live;
static uint8_t memory[MEMORY];
static bool disconnected;

static void on_established(struct fabric_qp *qp, nanoseconds now)
{
	(void)now;
	CHECK(qp == live && !disconnected);
}

static void on_completions(struct fabric_qp *qp, const struct fabric_completion *completions,
			   size_t count, nanoseconds now)
{
	(void)now;
	CHECK(qp == live && !disconnected);
	for (size_t i = 0; i < count; i++) {
		const struct fabric_completion *completion = &completions[i];
		const struct fabric_sge sge = {memory + completion->id, RECEIVE_SIZE, region};

		if (completion->opcode != FABRIC_RECEIVE)
			continue;
		CHECK(completion->bytes <= RECEIVE_SIZE && completion->id % RECEIVE_SIZE == 0);
		if (completion->status == FABRIC_OK && completion->bytes != 7)
			CHECK(fabric_post_receive(qp, completion->id, &sge) == 0);
	}
}

static void on_disconnected(struct fabric_qp *qp, enum close_reason reason, const char *words,
			    nanoseconds now)
{
	(void)now;
	CHECK(qp == live && !disconnected && reason != CLOSE_NONE && words[0]);
	disconnected = true;
}

static const struct fabric_events events = {on_established, on_completions, on_disconnected};

static bool on_request(struct fabric_listener *base, struct fabric_qp *qp)
{
	const struct fabric_parameters parameters = {
		.limits = {.send_queue = 16,
			   .receive_queue = RECEIVES,
			   .send_sges = 4,
			   .initiator_depth = READS,
			   .responder_depth = 4},
	};
	struct fabric_sge sge = {memory + MEMORY / 2, READ, region};
	struct fabric_work work = {.opcode = FABRIC_READ, .sge_count = 1, .sges = &sge};

	(void)base;
	qp->events = &events;
	live = qp;
	for (uint64_t i = 0; i < RECEIVES; i++) {
		const struct fabric_sge receive = {memory + i * RECEIVE_SIZE, RECEIVE_SIZE, region};

		CHECK(fabric_post_receive(qp, i * RECEIVE_SIZE, &receive) == 0);
	}
	CHECK(fabric_accept(qp, &parameters) == 0);
	CHECK(fabric_expose(qp, region, memory + MEMORY / 4, 4096,
			    FABRIC_PEER_READS | FABRIC_PEER_WRITES, 0, &window) == 0);
	for (int i = 0; i < READS; i++)
		if (qp->limits.initiator_depth == READS)
			CHECK(fabric_post(qp, &work) == 0);
	return true;
}

static void create_once(void)
{
	const struct fabric_iwarp_config config = {.max_ulpdu = 512};

	if (loop)
		return;
	CHECK(loop_create(&loop) == 0 && fabric_iwarp_create(loop, &config, &fabric) == 0);
	CHECK(fabric_register(&iwarp_fabric(fabric)->device, memory, sizeof(memory), &region) == 0);
	listener = (struct iwarp_listener){
		.base = {.fabric = fabric}, .watch = {.fd = -1}, .request = on_request};
}

/* Turns until nothing happens any more: the peer has said everything and listens to nothing. */
static void push(int fd, const uint8_t *bytes, size_t length)
{
	for (int turns = 0; turns < TURNS_MAX && length; turns++) {
		ssize_t sent = send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return;
		bytes += sent > 0 ? sent : 0;
		length -= sent > 0 ? (size_t)sent : 0;
		CHECK(loop_turn(loop, 0) == 0);
	}
}

static size_t request(uint8_t *stream, bool crc)
{
	const struct mpa_frame frame = {.revision = 2,
					.enhanced = true,
					.ird = READS,
					.ord = 4,
					.crc = crc,
					.peer_to_peer = false};

	return (size_t)mpa_frame_build(&frame, stream, MPA_FRAME_MAX);
}

/*
 * One FPDU from STEP bytes: the value that would be right, and a little beside it where the recipe
 * says so.
 */
static size_t nearly_right(uint8_t *stream, const uint8_t step[STEP], uint32_t msn[DDP_QUEUES],
			   bool crc)
{
	struct ddp_segment segment = {.opcode = step[0] & 7, .last = !(step[0] & 8)};
	bool request = segment.opcode == RDMAP_READ_REQUEST;
	uint32_t payload = request ? 0 : step[1], length, size;
	bool tagged = segment.opcode == RDMAP_WRITE || segment.opcode == RDMAP_READ_RESPONSE;
	int queue = request ? DDP_QUEUE_READ_REQUEST : DDP_QUEUE_SEND;

	payload *= tagged ? 16 : 1;
	segment.stag = window->token + (int8_t)step[2];
	if (segment.opcode == RDMAP_READ_RESPONSE)
		segment.stag = (uint32_t)(step[2] + 1) << 8 | step[3];
	segment.to = segment.opcode == RDMAP_WRITE ? window->offset + (uint64_t)(int8_t)step[3] * 16
						   : step[4] * 16u;
	segment.msn = msn[queue] + step[5] % 64 / 63;
	segment.mo = step[6];
	segment.read = (struct rdmap_read_request){
		.sink_stag = step[7],
		.size = step[1] * 16u,
		.source_stag = window->token + (int8_t)step[2],
		.source_to = window->offset + (uint64_t)(int8_t)step[3] * 16,
	};
	msn[queue] += segment.last;
	length = ddp_build(&segment, stream + MPA_LENGTH_SIZE);
	memset(stream + MPA_LENGTH_SIZE + length, step[7], payload);
	length += payload;
	stream[0] = (uint8_t)(length >> 8);
	stream[1] = (uint8_t)length;
	size = MPA_LENGTH_SIZE + length;
	mpa_trailer_build(stream + size, length, crc, crc32c_update(CRC32C_START, stream, size));
	return mpa_fpdu_size(length);
}

static void push_recipe(int fd, const uint8_t *bytes, size_t length, bool crc)
{
	uint32_t msn[DDP_QUEUES] = {1, 1, 1};
	uint8_t stream[255 * 16 + 64];

	for (; length >= STEP && live && !disconnected; bytes += STEP, length -= STEP)
		push(fd, stream, nearly_right(stream, bytes, msn, crc));
}

static void run(int fd, const uint8_t *bytes, size_t length)
{
	uint8_t how = bytes[0], stream[MPA_FRAME_MAX];

	bytes++;
	length--;
	if (how % 4)
		push(fd, stream, request(stream, how & 4));
	if (how % 4 > 1)
		push_recipe(fd, bytes, length, how & 4);
	else
		push(fd, bytes, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	const struct sockaddr_storage nobody = {0};
	int ends[2];

	if (!length || length > STREAM_MAX)
		return 0;
	create_once();
	iwarp_fabric(fabric)->random = 1;
	live = NULL;
	disconnected = false;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	accepted(&listener, ends[0], &nobody);
	run(ends[1], bytes, length);
	shutdown(ends[1], SHUT_WR);
	for (int turns = 0;
	     turns < TURNS_MAX && (live ? !disconnected : iwarp_fabric(fabric)->half_open_count);
	     turns++)
		CHECK(loop_turn(loop, 0) == 0);
	CHECK(live ? disconnected : !iwarp_fabric(fabric)->half_open_count);
	fabric_qp_destroy(live);
	close(ends[1]);
	return 0;
}
