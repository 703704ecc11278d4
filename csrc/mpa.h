/*
 * MPA: what lies between TCP's stream of bytes and DDP's segments. RFC 5044, and RFC 6581 for
 * revision 2.
 *
 *   MPA frames   one request and one reply at the start of a connection: markers, CRC, revision,
 *                private data, and in revision 2 how many RDMA Reads each side may have outstanding
 *   FPDUs        from then on: length, one DDP segment (the ULPDU), padding, CRC field
 *
 *     0      2                    2 + n             multiple of 4   + 4
 *     | n    | ULPDU, n bytes     | 0..3 zero bytes | CRC32C        |
 *
 * The CRC field is always there; it counts only if either side asked for CRC. Markers are never
 * used. Parsers and builders here know nothing of sockets.
 */
#ifndef MPA_H
#define MPA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MPA_HEADER_SIZE = 20,	    /* key, flags, revision, length of the private data */
	MPA_ENHANCED_SIZE = 4,	    /* IRD and ORD words of revision 2, first in the private data */
	MPA_PRIVATE_DATA_MAX = 512, /* RFC 5044 section 7.1.1, with the IRD and ORD words */
	MPA_FRAME_MAX = MPA_HEADER_SIZE + MPA_PRIVATE_DATA_MAX,
	MPA_DEPTH_UNKNOWN = 0x3FFF, /* RFC 6581 section 9.1: not negotiated */
	MPA_LENGTH_SIZE = 2,	    /* of an FPDU */
	MPA_CRC_SIZE = 4,
	MPA_TRAILER_MAX = 3 + MPA_CRC_SIZE,
	MPA_ULPDU_MAX = 65535,
};

/* Ways in which a peer-to-peer initiator can say "ready to receive": RFC 6581 section 9. */
enum mpa_ready {
	MPA_READY_ZERO_FPDU = 1,
	MPA_READY_ZERO_WRITE = 2,
	MPA_READY_ZERO_READ = 4,
};

struct mpa_frame {
	bool reply;
	bool markers;  /* its sender wants markers in what it receives */
	bool crc;      /* its sender wants CRCs */
	bool rejected; /* reply only */
	uint8_t revision;
	bool enhanced; /* revision 2: the four fields below are there */
	bool peer_to_peer;
	unsigned ready; /* set of enum mpa_ready */
	uint16_t ird, ord;
	const uint8_t *private_data; /* without the IRD and ORD words; into the parsed bytes */
	size_t private_data_length;
};

/*
 * How many bytes long the frame is that begins with these bytes, as far as can be told:
 * MPA_HEADER_SIZE until the header is complete. -EPROTO as soon as it cannot become a frame of the
 * wanted kind.
 */
int mpa_frame_size(const uint8_t *bytes, size_t length, bool reply);
/* 0, or -EPROTO with the reason in *words. `length` is what mpa_frame_size said. */
int mpa_frame_parse(const uint8_t *bytes, size_t length, struct mpa_frame *ret, const char **words);
/* Bytes written to `bytes`, or -EMSGSIZE. */
int mpa_frame_build(const struct mpa_frame *frame, uint8_t *bytes, size_t size);

static inline uint32_t mpa_pad(uint32_t ulpdu_length)
{
	return (0u - MPA_LENGTH_SIZE - ulpdu_length) & 3;
}

static inline uint32_t mpa_trailer_size(uint32_t ulpdu_length)
{
	return mpa_pad(ulpdu_length) + MPA_CRC_SIZE;
}

/* Bytes of the whole FPDU. */
static inline uint32_t mpa_fpdu_size(uint32_t ulpdu_length)
{
	return MPA_LENGTH_SIZE + ulpdu_length + mpa_trailer_size(ulpdu_length);
}

/*
 * Padding and CRC; `state` is the running CRC32C over length and ULPDU. Returns the bytes written.
 */
uint32_t mpa_trailer_build(uint8_t *trailer, uint32_t ulpdu_length, bool crc, uint32_t state);
/* Whether the CRC field is right. */
bool mpa_trailer_check(const uint8_t *trailer, uint32_t ulpdu_length, uint32_t state);

#endif
