#include "ddp.h"

#include <errno.h>
#include <string.h>

#include "bigendian.h"

enum {
	CONTROL_TAGGED = 0x8000,
	CONTROL_LAST = 0x4000,
	CONTROL_DDP_VERSION = 0x0300,
	CONTROL_RDMAP_VERSION = 0x00C0,
	CONTROL_OPCODE = 0x000F,
	DDP_VERSION_1 = 0x0100,
	RDMAP_VERSION_1 = 0x0040,

	TERMINATE_LENGTH_VALID = 0x80, /* M */
	TERMINATE_DDP_HEADER = 0x40,   /* D */
	TERMINATE_RDMAP_HEADER = 0x20, /* R */
};

/* What RFC 5040 section 4.3, figure 4 says of each opcode. */
static const struct {
	bool tagged;
	uint8_t queue;
	uint8_t header_size;
} opcodes[] = {
	[RDMAP_WRITE] = {true, 0, DDP_TAGGED_SIZE},
	[RDMAP_READ_REQUEST] = {false, DDP_QUEUE_READ_REQUEST, DDP_READ_REQUEST_SIZE},
	[RDMAP_READ_RESPONSE] = {true, 0, DDP_TAGGED_SIZE},
	[RDMAP_SEND] = {false, DDP_QUEUE_SEND, DDP_UNTAGGED_SIZE},
	[RDMAP_SEND_INVALIDATE] = {false, DDP_QUEUE_SEND, DDP_UNTAGGED_SIZE},
	[RDMAP_SEND_SOLICITED] = {false, DDP_QUEUE_SEND, DDP_UNTAGGED_SIZE},
	[RDMAP_SEND_SOLICITED_INVALIDATE] = {false, DDP_QUEUE_SEND, DDP_UNTAGGED_SIZE},
	[RDMAP_TERMINATE] = {false, DDP_QUEUE_TERMINATE, DDP_UNTAGGED_SIZE},
};

int ddp_header_size(uint16_t control, enum rdmap_error *error)
{
	bool tagged = control & CONTROL_TAGGED;
	unsigned opcode = control & CONTROL_OPCODE;

	if ((control & CONTROL_DDP_VERSION) != DDP_VERSION_1)
		*error = tagged ? DDP_TAGGED_VERSION : DDP_UNTAGGED_VERSION;
	else if ((control & CONTROL_RDMAP_VERSION) != RDMAP_VERSION_1)
		*error = RDMAP_VERSION;
	else if (opcode > RDMAP_TERMINATE || opcodes[opcode].tagged != tagged)
		*error = RDMAP_UNEXPECTED_OPCODE;
	else
		return opcodes[opcode].header_size;
	return -EPROTO;
}

static int parse_untagged(const uint8_t *header, uint32_t ulpdu_length, struct ddp_segment *ret,
			  enum rdmap_error *error)
{
	ret->stag = get_be32(header + 2);
	ret->queue = get_be32(header + 6);
	ret->msn = get_be32(header + 10);
	ret->mo = get_be32(header + 14);
	if (ret->queue != opcodes[ret->opcode].queue) {
		*error = ret->queue < DDP_QUEUES ? RDMAP_UNEXPECTED_OPCODE : DDP_UNTAGGED_QUEUE;
		return -EPROTO;
	}
	if (ret->opcode != RDMAP_READ_REQUEST)
		return 0;
	if (ulpdu_length != DDP_READ_REQUEST_SIZE || !ret->last || ret->mo != 0) {
		*error = ret->mo ? DDP_UNTAGGED_MO : RDMAP_STREAM_CATASTROPHIC;
		return -EPROTO;
	}
	ret->read.sink_stag = get_be32(header + 18);
	ret->read.sink_to = get_be64(header + 22);
	ret->read.size = get_be32(header + 30);
	ret->read.source_stag = get_be32(header + 34);
	ret->read.source_to = get_be64(header + 38);
	return 0;
}

int ddp_parse(const uint8_t *header, uint32_t ulpdu_length, struct ddp_segment *ret,
	      enum rdmap_error *error)
{
	uint16_t control = get_be16(header);
	int size = ddp_header_size(control, error);

	*ret = (struct ddp_segment){0};
	if (size < 0)
		return size;
	if (ulpdu_length < (uint32_t)size) {
		*error = MPA_LENGTH_ERROR;
		return -EPROTO;
	}
	ret->opcode = control & CONTROL_OPCODE;
	ret->tagged = control & CONTROL_TAGGED;
	ret->last = control & CONTROL_LAST;
	if (!ret->tagged)
		return parse_untagged(header, ulpdu_length, ret, error);
	ret->stag = get_be32(header + 2);
	ret->to = get_be64(header + 6);
	return 0;
}

uint32_t ddp_build(const struct ddp_segment *segment, uint8_t *header)
{
	bool tagged = opcodes[segment->opcode].tagged;

	put_be16(header,
		 (uint16_t)((tagged ? CONTROL_TAGGED : 0) | (segment->last ? CONTROL_LAST : 0) |
			    DDP_VERSION_1 | RDMAP_VERSION_1 | segment->opcode));
	put_be32(header + 2, segment->stag);
	if (tagged) {
		put_be64(header + 6, segment->to);
		return DDP_TAGGED_SIZE;
	}
	put_be32(header + 6, opcodes[segment->opcode].queue);
	put_be32(header + 10, segment->msn);
	put_be32(header + 14, segment->mo);
	if (segment->opcode != RDMAP_READ_REQUEST)
		return DDP_UNTAGGED_SIZE;
	put_be32(header + 18, segment->read.sink_stag);
	put_be64(header + 22, segment->read.sink_to);
	put_be32(header + 30, segment->read.size);
	put_be32(header + 34, segment->read.source_stag);
	put_be64(header + 38, segment->read.source_to);
	return DDP_READ_REQUEST_SIZE;
}

/*
 * Linux's siw fills the control field through C bit fields: on little-endian hosts layer and error
 * type change places, and so do the M, D and R bits. No valid layer is above 2 and no valid type is
 * above 2, so the first byte alone cannot tell; a set bit among the low three of the third byte,
 * reserved in the RFC, can.
 */
static void terminate_unswap(uint8_t control[RDMAP_TERMINATE_SIZE])
{
	static const uint8_t reversed[8] = {0x00, 0x80, 0x40, 0xC0, 0x20, 0xA0, 0x60, 0xE0};
	uint8_t low = control[2] & 0x07;

	if (!low || control[2] & 0xE0)
		return;
	control[0] = (uint8_t)(control[0] << 4 | control[0] >> 4);
	control[2] = reversed[low];
}

int rdmap_terminate_parse(const uint8_t *bytes, size_t length, struct rdmap_terminate *ret)
{
	uint8_t control[RDMAP_TERMINATE_SIZE] = {0};
	enum rdmap_error ignored;
	int size;

	*ret = (struct rdmap_terminate){0};
	if (length < 2)
		return -EPROTO;
	memcpy(control, bytes, length < sizeof(control) ? length : sizeof(control));
	terminate_unswap(control);
	ret->error = get_be16(control);
	bytes += RDMAP_TERMINATE_SIZE;
	if (!(control[2] & TERMINATE_LENGTH_VALID) || length < RDMAP_TERMINATE_SIZE + 2)
		return 0;
	ret->segment_length = get_be16(bytes);
	length -= RDMAP_TERMINATE_SIZE + 2;
	if (!(control[2] & TERMINATE_DDP_HEADER) || length < DDP_CONTROL_SIZE)
		return 0;
	size = ddp_header_size(get_be16(bytes + 2), &ignored);
	if (size < 0 || length < (size_t)size)
		return 0;
	memcpy(ret->header, bytes + 2, (size_t)size);
	ret->header_length = (size_t)size;
	return 0;
}

uint32_t rdmap_terminate_build(const struct rdmap_terminate *terminate, uint8_t *bytes)
{
	bool request = terminate->header_length == DDP_READ_REQUEST_SIZE;

	put_be16(bytes, terminate->error);
	put_be16(bytes + 2, 0);
	if (!terminate->header_length)
		return RDMAP_TERMINATE_SIZE;
	bytes[2] = (uint8_t)(TERMINATE_LENGTH_VALID | TERMINATE_DDP_HEADER |
			     (request ? TERMINATE_RDMAP_HEADER : 0));
	put_be16(bytes + RDMAP_TERMINATE_SIZE, terminate->segment_length);
	memcpy(bytes + RDMAP_TERMINATE_SIZE + 2, terminate->header, terminate->header_length);
	return (uint32_t)(RDMAP_TERMINATE_SIZE + 2 + terminate->header_length);
}

static const struct {
	enum rdmap_error error;
	const char *words;
} errors[] = {
	{RDMAP_CATASTROPHIC, "RDMAP: local catastrophic error"},
	{RDMAP_INVALID_STAG, "RDMAP: invalid STag"},
	{RDMAP_BOUNDS, "RDMAP: base or bounds violation"},
	{RDMAP_ACCESS, "RDMAP: access rights violation"},
	{RDMAP_STAG_NOT_ASSOCIATED, "RDMAP: STag of another stream"},
	{RDMAP_TO_WRAP, "RDMAP: tagged offset wraps"},
	{RDMAP_CANNOT_INVALIDATE, "RDMAP: STag cannot be invalidated"},
	{RDMAP_VERSION, "RDMAP: invalid version"},
	{RDMAP_UNEXPECTED_OPCODE, "RDMAP: unexpected opcode"},
	{RDMAP_STREAM_CATASTROPHIC, "RDMAP: catastrophic error of this stream"},
	{DDP_CATASTROPHIC, "DDP: local catastrophic error"},
	{DDP_TAGGED_INVALID_STAG, "DDP: invalid STag"},
	{DDP_TAGGED_BOUNDS, "DDP: base or bounds violation"},
	{DDP_TAGGED_NOT_ASSOCIATED, "DDP: STag of another stream"},
	{DDP_TAGGED_TO_WRAP, "DDP: tagged offset wraps"},
	{DDP_TAGGED_VERSION, "DDP: invalid version in a tagged segment"},
	{DDP_UNTAGGED_QUEUE, "DDP: invalid queue number"},
	{DDP_UNTAGGED_NO_BUFFER, "DDP: no receive posted"},
	{DDP_UNTAGGED_MSN, "DDP: message number out of order"},
	{DDP_UNTAGGED_MO, "DDP: message offset out of order"},
	{DDP_UNTAGGED_TOO_LONG, "DDP: message longer than the posted receive"},
	{DDP_UNTAGGED_VERSION, "DDP: invalid version in an untagged segment"},
	{MPA_CLOSED, "MPA: TCP connection lost"},
	{MPA_CRC_ERROR, "MPA: CRC does not match"},
	{MPA_LENGTH_ERROR, "MPA: FPDU length does not fit its header"},
	{MPA_FRAME_ERROR, "MPA: invalid request or reply frame"},
	{MPA_INSUFFICIENT_IRD, "MPA: insufficient IRD"},
	{MPA_NO_READY_FRAME, "MPA: no common way to say ready"},
};

const char *rdmap_error_words(uint16_t error)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].error == error)
			return errors[i].words;
	return "unknown error";
}

bool rdmap_error_is_access(uint16_t error)
{
	unsigned kind = error >> 8; /* layer and type */

	return kind == RDMAP_INVALID_STAG >> 8 || kind == DDP_TAGGED_INVALID_STAG >> 8;
}
