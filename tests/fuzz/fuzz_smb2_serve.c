/* SOURCES: smb2_serve.c smb2_connection.c smb2_signing.c smb2_request.c smb2_read.c smb2_write.c smb2_opens.c smb2_ranges.c smb2_window.c channel_frames.c -lcrypto */
/*
 * A stream of frames, each made of three bytes of the input: a READ or WRITE, every other one signed, of which one byte
 * may be bent, a DONE, or the end of the open. What is taken leaves replies that are whole frames, inside their memory; ranges and requests
 * stay in balance.
 */
#include "smb2_requests.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum {
	KINDS = 6,
	DATA = 9001,
};

static struct served served;
static uint8_t frame[REQUEST + DATA + 64], data[DATA];
static const uint8_t key[16] = "a key of no use";

static size_t put_frame(const uint8_t *bytes, uint64_t id)
{
	uint32_t size = 1 + (bytes[0] >> 6) * 3000u;
	uint32_t channel = 1 + (bytes[0] >> 5 & 1);

	switch (bytes[0] % KINDS) {
	case 0:
		return put_read(frame, id, bytes[1], size);
	case 1:
		return put_read_by_rdma(frame, id, 0, size, channel, 2);
	case 2:
		return put_write(frame, id, bytes[1], data, size);
	case 3:
		return put_write_by_rdma(frame, id, bytes[1], size, channel, 2);
	default:
		return put_done(frame, UINT64_C(1) << 63 | bytes[1] % 3, bytes[2] & 1, size);
	}
}

static void check_replies(void)
{
	const struct smb2_connection *connection = &served.connection;
	size_t at = 0;

	while (at < connection->replies_length)
		at += 4 + ((size_t)served.replies[at + 1] << 16 | served.replies[at + 2] << 8 |
			   served.replies[at + 3]);
	CHECK(at == connection->replies_length && at <= REPLIES);
	CHECK(connection->in_flight + served.ranges.free_count == RANGES);
	if (served.open)
		CHECK(served.open->requests + served.open->earlier_requests <=
		      connection->in_flight);
}

static void end_the_open(void)
{
	int fd;

	if (!served.open)
		return;
	fd = served.open->fd;
	smb2_opens_remove(served.connection.opens, served.open);
	served.open = NULL;
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	uint64_t id = 0;

	struct smb2_signing *client = smb2_signing_create(SMB2_AES_GMAC, key, sizeof(key));

	served_begin(&served, 100);
	CHECK(smb2_connection_add_session(&served.connection, SESSION, false,
					  smb2_signing_create(SMB2_AES_GMAC, key, sizeof(key))));
	for (; length >= 3; bytes += 3, length -= 3) {
		size_t whole = put_frame(bytes, id++);

		if (frame[0] == 0 && id % 2)
			sign_request(client, frame, whole);

		if (bytes[0] & 16)
			frame[bytes[1] % whole] = bytes[2];
		else if (bytes[1] == 0xff && bytes[2] == 0xff)
			end_the_open();
		CHECK(smb2_serve(&served.connection, frame, whole) <= whole);
		check_replies();
	}
	CHECK(smb2_serve(&served.connection, bytes, length) == 0); /* an end that is no frame */
	served_end(&served);
	smb2_signing_destroy(client);
	return 0;
}
