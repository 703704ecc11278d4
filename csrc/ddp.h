/*
 * DDP segments and the RDMAP messages in them: RFC 5041 section 4, RFC 5040 section 4.
 *
 * Every segment begins with a control word: DDP's flags and RDMAP's opcode.
 *
 *     0x8000 T: tagged           0x0300 DDP version, 1      0x000F opcode
 *     0x4000 L: last segment     0x00C0 RDMAP version, 1
 *
 *   tagged     14 bytes: control, STag, TO               RDMA Write, Read Response
 *   untagged   18 bytes: control, STag to invalidate     Send in four kinds (queue 0),
 *              or 0, queue number, MSN, MO               Read Request (1), Terminate (2)
 *
 * A Read Request adds 28 bytes, which count as header here; what a Terminate adds is its payload.
 *
 * All integers are big-endian. Everything here begins behind MPA's length field and knows nothing
 * of sockets.
 */
#ifndef DDP_H
#define DDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rdmap_opcode {
	RDMAP_WRITE = 0,
	RDMAP_READ_REQUEST = 1,
	RDMAP_READ_RESPONSE = 2,
	RDMAP_SEND = 3,
	RDMAP_SEND_INVALIDATE = 4,
	RDMAP_SEND_SOLICITED = 5,
	RDMAP_SEND_SOLICITED_INVALIDATE = 6,
	RDMAP_TERMINATE = 7,
};

enum {
	DDP_CONTROL_SIZE = 2,
	DDP_TAGGED_SIZE = 14,
	DDP_UNTAGGED_SIZE = 18,
	DDP_READ_REQUEST_SIZE = 46,
	DDP_HEADER_MAX = DDP_READ_REQUEST_SIZE,

	DDP_QUEUE_SEND = 0,
	DDP_QUEUE_READ_REQUEST = 1,
	DDP_QUEUE_TERMINATE = 2,
	DDP_QUEUES = 3,

	RDMAP_TERMINATE_SIZE = 4, /* the control field; a segment's length and headers may follow */
	RDMAP_TERMINATE_MAX = RDMAP_TERMINATE_SIZE + 2 + DDP_READ_REQUEST_SIZE,
};

/*
 * What a Terminate says: layer, error type and error code as in its first two bytes. RFC 5040
 * section 4.8, RFC 5041 section 7.1, RFC 5044 section 8, RFC 6581 section 6.
 */
enum rdmap_error {
	RDMAP_CATASTROPHIC = 0x0000,
	RDMAP_INVALID_STAG = 0x0100,
	RDMAP_BOUNDS = 0x0101,
	RDMAP_ACCESS = 0x0102,
	RDMAP_STAG_NOT_ASSOCIATED = 0x0103,
	RDMAP_TO_WRAP = 0x0104,
	RDMAP_CANNOT_INVALIDATE = 0x0109,
	RDMAP_VERSION = 0x0205,
	RDMAP_UNEXPECTED_OPCODE = 0x0206,
	RDMAP_STREAM_CATASTROPHIC = 0x0207,
	DDP_CATASTROPHIC = 0x1000,
	DDP_TAGGED_INVALID_STAG = 0x1100,
	DDP_TAGGED_BOUNDS = 0x1101,
	DDP_TAGGED_NOT_ASSOCIATED = 0x1102,
	DDP_TAGGED_TO_WRAP = 0x1103,
	DDP_TAGGED_VERSION = 0x1104,
	DDP_UNTAGGED_QUEUE = 0x1201,
	DDP_UNTAGGED_NO_BUFFER = 0x1202,
	DDP_UNTAGGED_MSN = 0x1203,
	DDP_UNTAGGED_MO = 0x1204,
	DDP_UNTAGGED_TOO_LONG = 0x1205,
	DDP_UNTAGGED_VERSION = 0x1206,
	MPA_CLOSED = 0x2001,
	MPA_CRC_ERROR = 0x2002,
	MPA_LENGTH_ERROR = 0x2003,
	MPA_FRAME_ERROR = 0x2004,
	MPA_INSUFFICIENT_IRD = 0x2006,
	MPA_NO_READY_FRAME = 0x2007,
};

struct rdmap_read_request {
	uint32_t sink_stag;
	uint64_t sink_to;
	uint32_t size; /* bytes */
	uint32_t source_stag;
	uint64_t source_to;
};

struct ddp_segment {
	enum rdmap_opcode opcode;
	bool tagged;
	bool last;
	uint32_t stag;		 /* tagged: where to; untagged: the STag to invalidate */
	uint64_t to;		 /* tagged */
	uint32_t queue, msn, mo; /* untagged */
	struct rdmap_read_request read;
};

struct rdmap_terminate {
	uint16_t error;			/* enum rdmap_error, or another peer's idea of it */
	uint16_t segment_length;	/* ULPDU length of the segment it is about */
	uint8_t header[DDP_HEADER_MAX]; /* that segment's header ... */
	size_t header_length;		/* ... 0: none was attached */
};

/*
 * How long the header is that begins with this control word. -EPROTO with the error that a
 * Terminate names when no segment can begin so.
 */
int ddp_header_size(uint16_t control, enum rdmap_error *error);
/* `header` has ddp_header_size bytes, `ulpdu_length` is MPA's. 0, or -EPROTO and the error. */
int ddp_parse(const uint8_t *header, uint32_t ulpdu_length, struct ddp_segment *ret,
	      enum rdmap_error *error);
/* The size of the header written; `header` has room for DDP_HEADER_MAX bytes. */
uint32_t ddp_build(const struct ddp_segment *segment, uint8_t *header);

/* The payload of a Terminate. A short one gives what there is; fewer than 2 bytes: -EPROTO. */
int rdmap_terminate_parse(const uint8_t *bytes, size_t length, struct rdmap_terminate *ret);
/* Bytes written, at most RDMAP_TERMINATE_MAX. */
uint32_t rdmap_terminate_build(const struct rdmap_terminate *terminate, uint8_t *bytes);

const char *rdmap_error_words(uint16_t error);
/* Whether the error means that a token or a range of a request was refused. */
bool rdmap_error_is_access(uint16_t error);

#endif
