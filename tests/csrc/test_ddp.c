/* SOURCES: ddp.c */
#include "ddp.h"

#include <errno.h>
#include <string.h>

#include "check.h"

/* Headers built again from what was parsed are the same bytes. */
static struct ddp_segment round_trip(const uint8_t *header, int size, uint32_t ulpdu_length)
{
	uint8_t bytes[DDP_HEADER_MAX];
	struct ddp_segment segment;
	enum rdmap_error error;

	CHECK(ddp_header_size((uint16_t)(header[0] << 8 | header[1]), &error) == size);
	CHECK(ddp_parse(header, ulpdu_length, &segment, &error) == 0);
	CHECK(ddp_build(&segment, bytes) == (uint32_t)size);
	CHECK(memcmp(bytes, header, (size_t)size) == 0);
	return segment;
}

static void test_tagged(void)
{
	const uint8_t write[] = {0xC1, 0x40, 1, 2, 3, 4, 0xFF, 0, 0, 0, 0, 0, 0x10, 0};
	const uint8_t response[] = {0x81, 0x42, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 8};
	struct ddp_segment segment = round_trip(write, DDP_TAGGED_SIZE, DDP_TAGGED_SIZE);

	CHECK(segment.opcode == RDMAP_WRITE && segment.tagged && segment.last);
	CHECK(segment.stag == 0x01020304 && segment.to == 0xFF00000000001000);
	segment = round_trip(response, DDP_TAGGED_SIZE, 1000);
	CHECK(segment.opcode == RDMAP_READ_RESPONSE && !segment.last && segment.to == 8);
}

static void test_untagged(void)
{
	const uint8_t send[] = {0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
	const uint8_t invalidate[] = {0x01, 0x44, 9, 8, 7, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0};
	struct ddp_segment segment = round_trip(send, DDP_UNTAGGED_SIZE, 38);

	CHECK(segment.opcode == RDMAP_SEND && !segment.tagged && segment.last && segment.msn == 1 &&
	      segment.mo == 0);
	segment = round_trip(invalidate, DDP_UNTAGGED_SIZE, 38);
	CHECK(segment.opcode == RDMAP_SEND_INVALIDATE && !segment.last &&
	      segment.stag == 0x09080706 && segment.mo == 256);
}

static const uint8_t read_request[DDP_READ_REQUEST_SIZE] = {
	0x41, 0x41, 0,	 0,   0,    0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, /* queue 1, MSN 5 */
	0,    0,    2,	 3,   0,    0, 0, 0, 0, 0, 0, 4,		   /* sink */
	0,    0x10, 0,	 0,						   /* 1 MiB */
	0xA,  0xB,  0xC, 0xD, 0x80, 0, 0, 0, 0, 0, 0, 1,		   /* source */
};

static void test_read_request(void)
{
	struct ddp_segment segment =
		round_trip(read_request, DDP_READ_REQUEST_SIZE, DDP_READ_REQUEST_SIZE);

	CHECK(segment.msn == 5 && segment.read.sink_stag == 0x203 && segment.read.sink_to == 4);
	CHECK(segment.read.size == 1 << 20 && segment.read.source_stag == 0x0A0B0C0D);
	CHECK(segment.read.source_to == 0x8000000000000001);
}

static void refuse(const uint8_t *header, size_t at, uint8_t byte, uint32_t length,
		   enum rdmap_error expected)
{
	uint8_t bytes[DDP_HEADER_MAX] = {0};
	struct ddp_segment segment;
	enum rdmap_error error = RDMAP_CATASTROPHIC;

	memcpy(bytes, header, DDP_READ_REQUEST_SIZE);
	bytes[at] = byte;
	CHECK(ddp_parse(bytes, length, &segment, &error) == -EPROTO && error == expected);
}

static void test_refused_segments(void)
{
	uint8_t send[DDP_HEADER_MAX] = {0x41, 0x43}, write[DDP_HEADER_MAX] = {0xC1, 0x40};

	refuse(send, 0, 0x42, 18, DDP_UNTAGGED_VERSION);
	refuse(write, 0, 0xC2, 14, DDP_TAGGED_VERSION);
	refuse(send, 1, 0x83, 18, RDMAP_VERSION);
	refuse(send, 1, 0x48, 18, RDMAP_UNEXPECTED_OPCODE);
	refuse(send, 1, 0x40, 18, RDMAP_UNEXPECTED_OPCODE);  /* a Write that is not tagged */
	refuse(write, 1, 0x43, 14, RDMAP_UNEXPECTED_OPCODE); /* a Send that is */
	refuse(send, 1, 0x43, 17, MPA_LENGTH_ERROR);
	refuse(write, 1, 0x40, 13, MPA_LENGTH_ERROR);
	refuse(send, 9, 1, 18, RDMAP_UNEXPECTED_OPCODE); /* a Send on the queue of Read Requests */
	refuse(send, 9, 3, 18, DDP_UNTAGGED_QUEUE);
	refuse(read_request, 17, 1, DDP_READ_REQUEST_SIZE, DDP_UNTAGGED_MO);
	refuse(read_request, 0, 0x41, DDP_READ_REQUEST_SIZE + 1, RDMAP_STREAM_CATASTROPHIC);
	refuse(read_request, 0, 0x01, DDP_READ_REQUEST_SIZE,
	       RDMAP_STREAM_CATASTROPHIC); /* not the last segment */
}

static void test_terminate(void)
{
	struct rdmap_terminate sent = {
		.error = RDMAP_BOUNDS,
		.segment_length = DDP_READ_REQUEST_SIZE,
		.header_length = DDP_READ_REQUEST_SIZE,
	};
	struct rdmap_terminate got;
	uint8_t bytes[RDMAP_TERMINATE_MAX];
	uint32_t length;

	memcpy(sent.header, read_request, sizeof(read_request));
	length = rdmap_terminate_build(&sent, bytes);
	CHECK(length == RDMAP_TERMINATE_MAX && bytes[0] == 0x01 && bytes[1] == 0x01 &&
	      bytes[2] == 0xE0);
	CHECK(rdmap_terminate_parse(bytes, length, &got) == 0);
	CHECK(got.error == RDMAP_BOUNDS && got.header_length == DDP_READ_REQUEST_SIZE);
	CHECK(memcmp(got.header, read_request, sizeof(read_request)) == 0);
	for (uint32_t cut = 0; cut < length; cut++)
		CHECK(rdmap_terminate_parse(bytes, cut, &got) == (cut < 2 ? -EPROTO : 0));

	sent.header_length = 0;
	CHECK(rdmap_terminate_build(&sent, bytes) == RDMAP_TERMINATE_SIZE && bytes[2] == 0);
	CHECK(rdmap_error_is_access(RDMAP_BOUNDS) &&
	      rdmap_error_is_access(DDP_TAGGED_INVALID_STAG));
	CHECK(!rdmap_error_is_access(MPA_CRC_ERROR) &&
	      !rdmap_error_is_access(DDP_UNTAGGED_NO_BUFFER));
}

/*
 * Linux siw on a little-endian host: layer and type, and the three bits, are at the other ends of
 * their bytes.
 */
static void test_terminate_of_siw(void)
{
	const uint8_t bytes[] = {0x10, 0x01, 0x01, 0, 0, 0x2E};
	struct rdmap_terminate got;

	CHECK(rdmap_terminate_parse(bytes, sizeof(bytes), &got) == 0);
	CHECK(got.error == RDMAP_BOUNDS && got.segment_length == 0x2E && got.header_length == 0);
}

int main(void)
{
	test_tagged();
	test_untagged();
	test_read_request();
	test_refused_segments();
	test_terminate();
	test_terminate_of_siw();
	return 0;
}
