/* SOURCES: mpa.c ddp.c crc32c.c */
/*
 * Reads one direction of an iWARP connection from a file and says what is in it, one word and
 * number per line.
 *
 *     read_stream FILE
 *
 * Ends with 1 and the place if a frame does not parse, is not what the builders build, or breaks
 * the order of its queue.
 */
#include <string.h>

#include "check.h"
#include "ddp.h"
#include "mpa.h"

enum { STREAM_MAX = 16 << 20 };

static const char *const names[] = {
	[RDMAP_WRITE] = "write",
	[RDMAP_READ_REQUEST] = "read_request",
	[RDMAP_READ_RESPONSE] = "read_response",
	[RDMAP_SEND] = "send",
	[RDMAP_SEND_INVALIDATE] = "send_invalidate",
	[RDMAP_SEND_SOLICITED] = "send_solicited",
	[RDMAP_SEND_SOLICITED_INVALIDATE] = "send_solicited_invalidate",
	[RDMAP_TERMINATE] = "terminate",
};

static unsigned long segments[8], messages[8], payload_bytes[8], requested_bytes;
static uint32_t msn[DDP_QUEUES] = {1, 1, 1}, mo[DDP_QUEUES];

static size_t read_mpa_frame(const uint8_t *bytes, size_t length)
{
	bool reply = length > 7 && bytes[7] == 'R' && bytes[9] == 'p';
	struct mpa_frame frame;
	const char *words;
	uint8_t built[MPA_FRAME_MAX];
	int size = mpa_frame_size(bytes, length, reply);

	CHECK(size >= MPA_HEADER_SIZE && (size_t)size <= length);
	CHECK(mpa_frame_parse(bytes, (size_t)size, &frame, &words) == 0);
	CHECK(mpa_frame_build(&frame, built, sizeof(built)) == size);
	CHECK(memcmp(built, bytes, (size_t)size) == 0);
	CHECK(frame.enhanced && !frame.markers && !frame.crc && frame.private_data_length == 8);
	printf("%s 1\nird %u\nord %u\n", frame.reply ? "reply" : "request", frame.ird, frame.ord);
	return (size_t)size;
}

static void check_order(const struct ddp_segment *segment, uint32_t payload)
{
	if (segment->tagged)
		return;
	CHECK(segment->msn == msn[segment->queue] && segment->mo == mo[segment->queue]);
	mo[segment->queue] = segment->last ? 0 : mo[segment->queue] + payload;
	msn[segment->queue] += segment->last;
}

static size_t read_fpdu(const uint8_t *bytes, size_t length)
{
	uint32_t ulpdu_length, payload;
	struct ddp_segment segment;
	enum rdmap_error error;
	uint8_t built[DDP_HEADER_MAX];
	int header;

	CHECK(length >= MPA_LENGTH_SIZE + DDP_CONTROL_SIZE);
	ulpdu_length = (uint32_t)bytes[0] << 8 | bytes[1];
	CHECK(length >= mpa_fpdu_size(ulpdu_length));
	header = ddp_header_size((uint16_t)(bytes[2] << 8 | bytes[3]), &error);
	CHECK(header > 0 && ddp_parse(bytes + 2, ulpdu_length, &segment, &error) == 0);
	CHECK(ddp_build(&segment, built) == (uint32_t)header);
	CHECK(memcmp(built, bytes + 2, (size_t)header) == 0);
	payload = ulpdu_length - (uint32_t)header;
	check_order(&segment, payload);
	segments[segment.opcode]++;
	messages[segment.opcode] += segment.last;
	payload_bytes[segment.opcode] += payload;
	requested_bytes += segment.read.size;
	return mpa_fpdu_size(ulpdu_length);
}

int main(int argc, char **argv)
{
	static uint8_t bytes[STREAM_MAX];
	FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
	size_t length, at;

	CHECK(file);
	length = fread(bytes, 1, sizeof(bytes), file);
	CHECK(length > 0 && length < sizeof(bytes));
	fclose(file);
	for (at = read_mpa_frame(bytes, length); at < length;)
		at += read_fpdu(bytes + at, length - at);
	CHECK(at == length);
	for (int i = 0; i < 8; i++)
		if (segments[i])
			printf("%s %lu\n%s_segments %lu\n%s_bytes %lu\n", names[i], messages[i],
			       names[i], segments[i], names[i], payload_bytes[i]);
	printf("requested_bytes %lu\n", requested_bytes);
	return 0;
}
