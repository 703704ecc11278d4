#include "mpa.h"

#include <errno.h>
#include <string.h>

#include "bigendian.h"
#include "crc32c.h"

/* RFC 5044 section 7.1.1, figure 6; RFC 6581 section 9 */
enum {
	KEY_SIZE = 16,
	FLAGS_AT = 16,
	LENGTH_AT = 18,

	FLAG_MARKERS = 0x8000,
	FLAG_CRC = 0x4000,
	FLAG_REJECTED = 0x2000,
	FLAG_ENHANCED = 0x1000,
	REVISION_MASK = 0x00FF,
	REVISION_MAX = 2,

	DEPTH_MASK = 0x3FFF,
	WORD_HIGH = 0x8000, /* IRD word: peer-to-peer; ORD word: zero-length Write */
	WORD_LOW = 0x4000,  /* IRD word: zero-length FPDU; ORD word: zero-length Read */
};

static const char request_key[KEY_SIZE + 1] = "MPA ID Req Frame";
static const char reply_key[KEY_SIZE + 1] = "MPA ID Rep Frame";

int mpa_frame_size(const uint8_t *bytes, size_t length, bool reply)
{
	const char *key = reply ? reply_key : request_key;
	uint16_t private_data;

	if (memcmp(bytes, key, length < KEY_SIZE ? length : KEY_SIZE) != 0)
		return -EPROTO;
	if (length < MPA_HEADER_SIZE)
		return MPA_HEADER_SIZE;
	private_data = get_be16(bytes + LENGTH_AT);
	if (private_data > MPA_PRIVATE_DATA_MAX)
		return -EPROTO;
	return MPA_HEADER_SIZE + private_data;
}

static void parse_enhanced(const uint8_t *words, struct mpa_frame *ret)
{
	uint16_t ird = get_be16(words), ord = get_be16(words + 2);

	ret->ird = ird & DEPTH_MASK;
	ret->ord = ord & DEPTH_MASK;
	ret->peer_to_peer = ird & WORD_HIGH;
	ret->ready = (ird & WORD_LOW ? MPA_READY_ZERO_FPDU : 0) |
		     (ord & WORD_HIGH ? MPA_READY_ZERO_WRITE : 0) |
		     (ord & WORD_LOW ? MPA_READY_ZERO_READ : 0);
}

int mpa_frame_parse(const uint8_t *bytes, size_t length, struct mpa_frame *ret, const char **words)
{
	bool reply = length >= KEY_SIZE && memcmp(bytes, reply_key, KEY_SIZE) == 0;
	uint16_t flags;

	*ret = (struct mpa_frame){.reply = reply};
	if (length < MPA_HEADER_SIZE || mpa_frame_size(bytes, length, reply) != (int)length) {
		*words = "not an MPA frame";
		return -EPROTO;
	}
	flags = get_be16(bytes + FLAGS_AT);
	ret->markers = flags & FLAG_MARKERS;
	ret->crc = flags & FLAG_CRC;
	ret->rejected = reply && flags & FLAG_REJECTED;
	ret->revision = flags & REVISION_MASK;
	ret->private_data = bytes + MPA_HEADER_SIZE;
	ret->private_data_length = length - MPA_HEADER_SIZE;
	if (ret->revision < 1 || ret->revision > REVISION_MAX) {
		*words = "an MPA revision other than 1 and 2";
		return -EPROTO;
	}
	ret->enhanced = ret->revision == 2 && flags & FLAG_ENHANCED;
	if (!ret->enhanced)
		return 0;
	if (ret->private_data_length < MPA_ENHANCED_SIZE) {
		*words = "an enhanced MPA frame without its IRD and ORD";
		return -EPROTO;
	}
	parse_enhanced(ret->private_data, ret);
	ret->private_data += MPA_ENHANCED_SIZE;
	ret->private_data_length -= MPA_ENHANCED_SIZE;
	return 0;
}

int mpa_frame_build(const struct mpa_frame *frame, uint8_t *bytes, size_t size)
{
	size_t enhanced = frame->enhanced ? MPA_ENHANCED_SIZE : 0;
	size_t private_data = enhanced + frame->private_data_length;
	uint8_t *at = bytes + MPA_HEADER_SIZE;

	if (frame->private_data_length > MPA_PRIVATE_DATA_MAX ||
	    private_data > MPA_PRIVATE_DATA_MAX || MPA_HEADER_SIZE + private_data > size)
		return -EMSGSIZE;
	memcpy(bytes, frame->reply ? reply_key : request_key, KEY_SIZE);
	put_be16(bytes + FLAGS_AT,
		 (uint16_t)((frame->markers ? FLAG_MARKERS : 0) | (frame->crc ? FLAG_CRC : 0) |
			    (frame->rejected ? FLAG_REJECTED : 0) |
			    (frame->enhanced ? FLAG_ENHANCED : 0) | frame->revision));
	put_be16(bytes + LENGTH_AT, (uint16_t)private_data);
	if (enhanced) {
		put_be16(at, (uint16_t)((frame->ird & DEPTH_MASK) |
					(frame->peer_to_peer ? WORD_HIGH : 0) |
					(frame->ready & MPA_READY_ZERO_FPDU ? WORD_LOW : 0)));
		put_be16(at + 2, (uint16_t)((frame->ord & DEPTH_MASK) |
					    (frame->ready & MPA_READY_ZERO_WRITE ? WORD_HIGH : 0) |
					    (frame->ready & MPA_READY_ZERO_READ ? WORD_LOW : 0)));
	}
	if (frame->private_data_length)
		memcpy(at + enhanced, frame->private_data, frame->private_data_length);
	return (int)(MPA_HEADER_SIZE + private_data);
}

/* RFC 5044 section 4.4: over the length field, the ULPDU and the padding. */
static void crc_bytes(uint8_t field[MPA_CRC_SIZE], uint32_t state)
{
	uint32_t value = crc32c_finish(state);

	for (int i = 0; i < MPA_CRC_SIZE; i++)
		field[i] = (uint8_t)(value >> (8 * i));
}

uint32_t mpa_trailer_build(uint8_t *trailer, uint32_t ulpdu_length, bool crc, uint32_t state)
{
	uint32_t pad = mpa_pad(ulpdu_length);

	memset(trailer, 0, pad + MPA_CRC_SIZE);
	if (crc)
		crc_bytes(trailer + pad, crc32c_update(state, trailer, pad));
	return pad + MPA_CRC_SIZE;
}

bool mpa_trailer_check(const uint8_t *trailer, uint32_t ulpdu_length, uint32_t state)
{
	uint32_t pad = mpa_pad(ulpdu_length);
	uint8_t expected[MPA_CRC_SIZE];

	crc_bytes(expected, crc32c_update(state, trailer, pad));
	return memcmp(trailer + pad, expected, MPA_CRC_SIZE) == 0;
}
