/* SOURCES: mpa.c crc32c.c */
#include "mpa.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "crc32c.h"

/* What Linux siw sends for a mount of cifs.ko. */
static const uint8_t siw_request[32] =
	"MPA ID Req Frame\x10\x02\x00\x0C\x00\x20\x00\x00\x20\x00\x00\x00\x01\x00\x00";

static void test_request_of_siw(void)
{
	struct mpa_frame frame;
	const char *words;
	uint8_t bytes[MPA_FRAME_MAX];

	CHECK(mpa_frame_size(siw_request, 1, false) == MPA_HEADER_SIZE);
	CHECK(mpa_frame_size(siw_request, MPA_HEADER_SIZE, false) == 32);
	CHECK(mpa_frame_parse(siw_request, 32, &frame, &words) == 0);
	CHECK(!frame.reply && !frame.crc && !frame.markers && frame.enhanced &&
	      frame.revision == 2);
	CHECK(frame.ird == 32 && frame.ord == 0 && !frame.peer_to_peer && !frame.ready);
	CHECK(frame.private_data_length == 8 && frame.private_data[0] == 0x20 &&
	      frame.private_data[4] == 1);
	CHECK(mpa_frame_build(&frame, bytes, sizeof(bytes)) == 32 &&
	      memcmp(bytes, siw_request, 32) == 0);
}

static void test_every_field_comes_back(void)
{
	const struct mpa_frame sent = {
		.reply = true,
		.markers = true,
		.crc = true,
		.rejected = true,
		.revision = 2,
		.enhanced = true,
		.peer_to_peer = true,
		.ready = MPA_READY_ZERO_FPDU | MPA_READY_ZERO_READ,
		.ird = 16,
		.ord = MPA_DEPTH_UNKNOWN,
		.private_data = (const uint8_t *)"abc",
		.private_data_length = 3,
	};
	struct mpa_frame got;
	const char *words;
	uint8_t bytes[MPA_FRAME_MAX];
	int length = mpa_frame_build(&sent, bytes, sizeof(bytes));

	CHECK(length == MPA_HEADER_SIZE + 7);
	CHECK(mpa_frame_size(bytes, (size_t)length, true) == length);
	CHECK(mpa_frame_parse(bytes, (size_t)length, &got, &words) == 0);
	CHECK(got.reply && got.markers && got.crc && got.rejected && got.peer_to_peer);
	CHECK(got.ready == sent.ready && got.ird == 16 && got.ord == MPA_DEPTH_UNKNOWN);
	CHECK(got.private_data_length == 3 && memcmp(got.private_data, "abc", 3) == 0);
	CHECK(mpa_frame_build(&sent, bytes, MPA_HEADER_SIZE + 6) == -EMSGSIZE);
}

static void test_revision_1(void)
{
	const struct mpa_frame sent = {.revision = 1, .crc = true};
	struct mpa_frame got;
	const char *words;
	uint8_t bytes[MPA_HEADER_SIZE];

	CHECK(mpa_frame_build(&sent, bytes, sizeof(bytes)) == MPA_HEADER_SIZE);
	CHECK(mpa_frame_parse(bytes, sizeof(bytes), &got, &words) == 0);
	CHECK(got.revision == 1 && got.crc && !got.enhanced && got.private_data_length == 0);
}

static void refuse(size_t at, uint8_t byte, size_t length)
{
	struct mpa_frame frame;
	const char *words = NULL;
	uint8_t bytes[32];

	memcpy(bytes, siw_request, sizeof(bytes));
	bytes[at] = byte;
	CHECK(mpa_frame_parse(bytes, length, &frame, &words) == -EPROTO && words);
}

static void test_refused_frames(void)
{
	uint8_t bytes[32];

	refuse(0, 'm', 32);
	refuse(17, 0, 32); /* revision */
	refuse(17, 3, 32);
	refuse(19, 3, 23);  /* enhanced, and no room for IRD and ORD */
	refuse(19, 13, 32); /* more private data than there is */
	memcpy(bytes, siw_request, sizeof(bytes));
	bytes[18] = 2;
	bytes[19] = 1; /* 513 bytes of private data */
	CHECK(mpa_frame_size(bytes, sizeof(bytes), false) == -EPROTO);
	CHECK(mpa_frame_size(siw_request, 32, true) == -EPROTO);
	CHECK(mpa_frame_size((const uint8_t *)"\0", 1, false) ==
	      -EPROTO); /* SMB over TCP begins so */
}

static void test_fpdu_sizes(void)
{
	/*
	 * The worked start of a session: ULPDUs of 38, 50 and 122 bytes make FPDUs of 44, 56 and
	 * 128.
	 */
	CHECK(mpa_fpdu_size(38) == 44 && mpa_fpdu_size(50) == 56 && mpa_fpdu_size(122) == 128);
	CHECK(mpa_pad(38) == 0 && mpa_pad(39) == 3 && mpa_pad(40) == 2 && mpa_pad(41) == 1);
	CHECK(mpa_fpdu_size(MPA_ULPDU_MAX) % 4 == 0);
}

static void test_trailer(void)
{
	uint8_t fpdu[64] = {0, 39};
	uint32_t state = crc32c_update(CRC32C_START, fpdu, 41);

	CHECK(mpa_trailer_build(fpdu + 41, 39, true, state) == 7);
	CHECK(mpa_trailer_check(fpdu + 41, 39, state));
	fpdu[47] ^= 1;
	CHECK(!mpa_trailer_check(fpdu + 41, 39, state));
	CHECK(mpa_trailer_build(fpdu + 41, 39, false, state) == 7 && fpdu[44] == 0 &&
	      fpdu[47] == 0);
	/* 32 zero bytes, length field included: AA 36 91 8A on the wire. */
	CHECK(mpa_trailer_build(fpdu, 30, true,
				crc32c_update(CRC32C_START, (uint8_t[32]){0}, 32)) == 4);
	CHECK(memcmp(fpdu, "\xAA\x36\x91\x8A", 4) == 0);
}

int main(void)
{
	test_request_of_siw();
	test_every_field_comes_back();
	test_revision_1();
	test_refused_frames();
	test_fpdu_sizes();
	test_trailer();
	return 0;
}
