/* SOURCES: mpa.c crc32c.c */
/* Any bytes as an MPA frame: what parses can be built again and then means the same. */
#include <string.h>

#include "check.h"
#include "mpa.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	uint8_t built[MPA_FRAME_MAX];
	struct mpa_frame frame, again;
	const char *words = NULL;
	bool reply = length && bytes[0] & 1;
	int size;

	if (!length--)
		return 0;
	size = mpa_frame_size(++bytes, length, reply);
	if (size < 0 || (size_t)size > length)
		return 0;
	if (mpa_frame_parse(bytes, (size_t)size, &frame, &words) < 0) {
		CHECK(words);
		return 0;
	}
	CHECK(mpa_frame_build(&frame, built, sizeof(built)) == size);
	CHECK(mpa_frame_parse(built, (size_t)size, &again, &words) == 0);
	CHECK(again.reply == frame.reply && again.crc == frame.crc &&
	      again.rejected == frame.rejected);
	CHECK(again.ird == frame.ird && again.ord == frame.ord && again.ready == frame.ready);
	CHECK(again.private_data_length == frame.private_data_length);
	return 0;
}
