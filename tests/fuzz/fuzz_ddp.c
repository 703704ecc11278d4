/* SOURCES: ddp.c */
/* Any bytes as a DDP segment and as the payload of a Terminate. */
#include <string.h>

#include "check.h"
#include "ddp.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void read_segment(const uint8_t *bytes, size_t length)
{
	struct ddp_segment segment, again;
	enum rdmap_error error;
	uint8_t built[DDP_HEADER_MAX];
	int size;

	if (length < DDP_CONTROL_SIZE)
		return;
	size = ddp_header_size((uint16_t)(bytes[0] << 8 | bytes[1]), &error);
	if (size < 0 || length < (size_t)size)
		return;
	if (ddp_parse(bytes, (uint32_t)length, &segment, &error) < 0)
		return;
	CHECK(ddp_build(&segment, built) == (uint32_t)size);
	CHECK(ddp_parse(built, (uint32_t)length, &again, &error) == 0);
	CHECK(again.stag == segment.stag && again.to == segment.to && again.msn == segment.msn);
	CHECK(again.read.source_to == segment.read.source_to);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct rdmap_terminate terminate;
	uint8_t built[RDMAP_TERMINATE_MAX];

	read_segment(bytes, length);
	if (rdmap_terminate_parse(bytes, length, &terminate) == 0) {
		CHECK(rdmap_error_words(terminate.error));
		CHECK(rdmap_terminate_build(&terminate, built) <= sizeof(built));
	}
	return 0;
}
