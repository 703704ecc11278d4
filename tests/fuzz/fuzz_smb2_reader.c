/* SOURCES: smb2_reader.c smb2_opens.c smb2_ranges.c smb2_window.c channel_frames.c */
/*
 * A stream of frames of which some are READs bent by the fuzzer: each input byte triple changes one place of a good
 * request. What is taken leaves replies that are whole frames, inside their memory; ids and ranges stay in balance.
 */
#include "smb2_requests.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static struct served served;
static uint8_t stream[1 << 16];

static size_t put_bent(uint8_t *frame, const uint8_t *bytes, uint64_t id)
{
	uint32_t size = 1 + bytes[0] % 4 * 3000u;
	size_t whole = bytes[0] & 4
			       ? put_read_by_rdma(frame, id, 0, size, 1 + (bytes[0] >> 4 & 1), 2)
			       : put_read(frame, id, bytes[1], size);

	if (bytes[0] & 8)
		frame[4 + bytes[1] % (whole - 4)] = bytes[2];
	return whole;
}

static void check_replies(void)
{
	size_t at = 0;

	while (at < served.reader.replies_length)
		at += 4 + ((size_t)served.replies[at + 1] << 16 | served.replies[at + 2] << 8 |
			   served.replies[at + 3]);
	CHECK(at == served.reader.replies_length && at <= REPLIES);
	CHECK(served.reader.in_flight + served.ranges.free_count == RANGES);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	uint64_t id = 0;
	size_t end = 0;

	served_begin(&served, 100);
	for (; length >= 3 && end < sizeof(stream) - 2 * REQUEST; bytes += 3, length -= 3)
		end += put_bent(stream + end, bytes, id++);
	memcpy(stream + end, bytes, length); /* and an end that is no frame */
	for (size_t at = 0; at < end + length;) {
		size_t taken = smb2_reader_serve(&served.reader, stream + at, end + length - at);

		CHECK(taken <= end + length - at);
		check_replies();
		if (!taken)
			taken = REQUEST; /* Python's turn; with RDMA this lands inside a frame: all the better */
		at += taken;
	}
	served_end(&served);
	return 0;
}
