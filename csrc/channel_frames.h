/*
 * The frames of docs/channel.md as bytes: nothing here knows a socket, a pool or a connection.
 *
 * Parsers take a body whose length the header announced, and say false unless it is exactly what its type demands.
 * Builders write a whole frame, header included, and return its bytes. Numbers in bodies are little-endian.
 */
#ifndef CHANNEL_FRAMES_H
#define CHANNEL_FRAMES_H

#include "path.h"

/* Type byte of a frame; a 24-bit big-endian length follows. */
enum channel_frame {
	CHANNEL_MESSAGE = 0x00,
	CHANNEL_POOL = 0x80,
	CHANNEL_POOL_READY = 0x81,
	CHANNEL_RDMA_WRITE = 0x82,
	CHANNEL_RDMA_READ = 0x83,
	CHANNEL_DONE = 0x84,
	CHANNEL_SEND_INVALIDATE = 0x85,
	CHANNEL_EXPOSE = 0x86,
	CHANNEL_EXPOSED = 0x87,
	CHANNEL_REVOKE = 0x88,
	CHANNEL_CLOSED = 0x89,
	CHANNEL_INVALIDATED = 0x8a,
};

/* `status` of DONE, EXPOSED and POOL_READY. */
enum channel_status {
	CHANNEL_STATUS_DONE = 0,
	CHANNEL_STATUS_ENDED = 1,     /* the connection ended before it was carried out */
	CHANNEL_STATUS_REMOTE = 2,    /* the peer refused token or range */
	CHANNEL_STATUS_REFUSED = 3,   /* refused here */
	CHANNEL_STATUS_TRANSPORT = 4, /* the transport failed */
};

enum {
	CHANNEL_HEADER_SIZE = 4,
	CHANNEL_TRANSFER_SIZE = 32, /* body of RDMA_WRITE and RDMA_READ before the descriptors */
	/* The largest frame from a worker that is not a MESSAGE: a transfer with all its descriptors. */
	CHANNEL_FRAME_MAX = CHANNEL_HEADER_SIZE + CHANNEL_TRANSFER_SIZE +
			    MAX_DESCRIPTORS * BUFFER_DESCRIPTOR_SIZE,
	CHANNEL_REPLY_MAX = CHANNEL_HEADER_SIZE + 32, /* DONE, EXPOSED */
	CHANNEL_INVALIDATED_SIZE = CHANNEL_HEADER_SIZE + 4,
	CHANNEL_WORDS_MAX = 255, /* bytes of a sentence in POOL_READY and CLOSED */
	CHANNEL_NOTICE_MAX = CHANNEL_HEADER_SIZE + 16 + CHANNEL_WORDS_MAX, /* POOL_READY, CLOSED */
};

/* RDMA_WRITE, RDMA_READ */
struct channel_transfer {
	uint64_t operation;
	uint32_t pool, count;
	uint64_t offset, length;
	struct buffer_descriptor descriptors[MAX_DESCRIPTORS];
};

struct channel_expose {
	uint64_t operation;
	uint32_t pool, access;
	uint64_t offset, length;
};

struct channel_revoke {
	uint64_t operation;
	uint32_t token;
};

enum channel_frame channel_parse_header(const uint8_t header[CHANNEL_HEADER_SIZE],
					uint32_t *length);
bool channel_parse_pool(const uint8_t *body, size_t length, uint64_t *size);
bool channel_parse_transfer(const uint8_t *body, size_t length, struct channel_transfer *ret);
bool channel_parse_send_invalidate(const uint8_t *body, size_t length, uint32_t *token);
bool channel_parse_expose(const uint8_t *body, size_t length, struct channel_expose *ret);
bool channel_parse_revoke(const uint8_t *body, size_t length, struct channel_revoke *ret);

void channel_build_header(uint8_t header[CHANNEL_HEADER_SIZE], enum channel_frame type,
			  uint32_t length);
size_t channel_build_pool_ready(uint8_t frame[CHANNEL_NOTICE_MAX], enum channel_status status,
				uint32_t pool, uint64_t size, const char *words);
size_t channel_build_done(uint8_t frame[CHANNEL_REPLY_MAX], uint64_t operation,
			  enum channel_status status, uint64_t bytes);
size_t channel_build_exposed(uint8_t frame[CHANNEL_REPLY_MAX], uint64_t operation,
			     enum channel_status status,
			     const struct buffer_descriptor *descriptor); /* NULL: all zero */
size_t channel_build_invalidated(uint8_t frame[CHANNEL_INVALIDATED_SIZE], uint32_t token);
size_t channel_build_closed(uint8_t frame[CHANNEL_NOTICE_MAX], enum close_reason reason,
			    const char *words);

#endif
