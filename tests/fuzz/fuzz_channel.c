/* SOURCES: channel.c channel_in.c channel_out.c channel_frames.c pool.c loop.c trace.c path.c */
/*
 * A worker that sends anything: the input is what it writes into its end of a channel, cut into pieces, with answers
 * of the connection in between. The first byte of each piece says how long it is and what happens after it.
 */
#include <errno.h>

#include "../csrc/channel_peer.h"
#include "../csrc/worker_frames.h"
#include "loop.h"

enum {
	POOL = 1 << 16,
};

static struct loop *loop;
static struct channel *channel;
static int worker, memfd;

static void on_established(void *owner, struct channel *which, nanoseconds now)
{
	(void)owner;
	(void)now;
	worker = channel_take_worker_end(which);
}

static void on_closed(void *owner, struct channel *which, enum close_reason reason,
		      const char *words, nanoseconds now)
{
	(void)owner;
	(void)reason;
	(void)words;
	(void)now;
	channel_destroy(which);
	channel = NULL;
}

static const struct channel_events events = {.established = on_established, .closed = on_closed};

static void turn(void)
{
	CHECK(loop_turn(loop, 0) == 0);
	CHECK(loop_turn(loop, 0) == 0);
}

/* What the connection does of its own: complete a transfer, deliver, be full or empty, end. */
static void answer(uint8_t what)
{
	struct smbd_message *message;

	peer.refusal = what & 8 ? -EINVAL : 0;
	peer.full = (what & 7) == 1;
	if ((what & 7) == 2 && peer.transfer_count > peer.completed)
		peer.events->transferred(peer.owner, peer.completed++, FABRIC_OK, 1, 1);
	if ((what & 7) == 3) {
		message = smbd_message_create(5000);
		memset(message->data, what, 5000);
		peer.events->message(peer.owner, message, 1);
	}
	if ((what & 7) == 4)
		peer.events->writable(peer.owner, 1);
}

static void check_pools(void)
{
	for (uint32_t index = 0; index < peer.transfer_count && index < PEER_KEPT; index++) {
		const struct smbd_transfer *transfer = &peer.transfers[index];
		const uint8_t *base = transfer->region->base;

		CHECK(transfer->address >= base && transfer->length <= POOL &&
		      transfer->address + transfer->length <= base + transfer->region->length);
		CHECK(transfer->descriptor_count <= MAX_DESCRIPTORS);
	}
}

static void open_pool(void)
{
	uint8_t frame[12];

	put_header(frame, CHANNEL_POOL, 8);
	put64(frame + 4, POOL);
	pass(worker, frame, sizeof(frame), &memfd, 1);
	turn();
}

static void work(const uint8_t *data, size_t size)
{
	uint8_t drain[4096];

	while (size > 2 && channel && peer.reason == CLOSE_NONE) {
		size_t length = data[0] < size - 2 ? data[0] : size - 2;

		if (write(worker, data + 2, length) < 0)
			CHECK(errno == EAGAIN || errno == EPIPE);
		turn();
		if (channel)
			answer(data[1]);
		if (data[1] & 0x10 && read(worker, drain, sizeof(drain)) < 0)
			CHECK(errno == EAGAIN);
		turn();
		check_pools();
		data += 2 + length;
		size -= 2 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smbd_config config = {0};
	struct pool_table *pools;

	if (!memfd) {
		memfd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		CHECK(memfd > 0 && ftruncate(memfd, POOL) == 0);
		CHECK(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	}
	CHECK(loop_create(&loop) == 0 && pool_table_create(0, &pools) == 0);
	CHECK(channel_create(loop, pools, &stub_qp, SMBD_SERVER, &config, &events, NULL, 1,
			     &channel) == 0);
	peer.events->established(peer.owner, 1);
	CHECK(fcntl(worker, F_SETFL, O_NONBLOCK) == 0);
	turn();
	open_pool();
	work(data, size);
	if (channel)
		peer.events->closed(peer.owner, CLOSE_PEER_LOST, "the end", 1);
	CHECK(channel == NULL && pool_table_count(pools) == 0 && stub_device.region_count == 0);
	pool_table_destroy(pools);
	loop_destroy(loop);
	close(worker);
	return 0;
}
