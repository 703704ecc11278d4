#include "channel_frames.h"

#include <string.h>

#include "littleendian.h"

/* From the worker. */

enum channel_frame channel_parse_header(const uint8_t header[CHANNEL_HEADER_SIZE], uint32_t *length)
{
	*length = (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 | header[3];
	return (enum channel_frame)header[0];
}

bool channel_parse_pool(const uint8_t *body, size_t length, uint64_t *size)
{
	if (length != 8)
		return false;
	*size = get_le64(body);
	return true;
}

bool channel_parse_transfer(const uint8_t *body, size_t length, struct channel_transfer *ret)
{
	if (length < CHANNEL_TRANSFER_SIZE)
		return false;
	ret->operation = get_le64(body);
	ret->pool = get_le32(body + 8);
	ret->count = get_le32(body + 12);
	ret->offset = get_le64(body + 16);
	ret->length = get_le64(body + 24);
	if (ret->count > MAX_DESCRIPTORS ||
	    length != CHANNEL_TRANSFER_SIZE + (size_t)ret->count * BUFFER_DESCRIPTOR_SIZE)
		return false;
	for (uint32_t index = 0; index < ret->count; index++) {
		const uint8_t *place =
			body + CHANNEL_TRANSFER_SIZE + (size_t)index * BUFFER_DESCRIPTOR_SIZE;

		ret->descriptors[index] = (struct buffer_descriptor){
			.offset = get_le64(place),
			.token = get_le32(place + 8),
			.length = get_le32(place + 12),
		};
	}
	return true;
}

bool channel_parse_send_invalidate(const uint8_t *body, size_t length, uint32_t *token)
{
	if (length != 4)
		return false;
	*token = get_le32(body);
	return true;
}

bool channel_parse_expose(const uint8_t *body, size_t length, struct channel_expose *ret)
{
	if (length != 32)
		return false;
	*ret = (struct channel_expose){
		.operation = get_le64(body),
		.pool = get_le32(body + 8),
		.access = get_le32(body + 12),
		.offset = get_le64(body + 16),
		.length = get_le64(body + 24),
	};
	return ret->access >= 1 && ret->access <= 3;
}

bool channel_parse_revoke(const uint8_t *body, size_t length, struct channel_revoke *ret)
{
	if (length != 16)
		return false;
	*ret = (struct channel_revoke){.operation = get_le64(body), .token = get_le32(body + 8)};
	return true;
}

/* To the worker. */

void channel_build_header(uint8_t header[CHANNEL_HEADER_SIZE], enum channel_frame type,
			  uint32_t length)
{
	header[0] = (uint8_t)type;
	header[1] = (uint8_t)(length >> 16);
	header[2] = (uint8_t)(length >> 8);
	header[3] = (uint8_t)length;
}

static size_t finish(uint8_t *frame, enum channel_frame type, size_t length)
{
	channel_build_header(frame, type, (uint32_t)length);
	return CHANNEL_HEADER_SIZE + length;
}

static size_t put_words(uint8_t *place, const char *words)
{
	size_t length = strnlen(words, CHANNEL_WORDS_MAX);

	memcpy(place, words, length);
	return length;
}

size_t channel_build_pool_ready(uint8_t frame[CHANNEL_NOTICE_MAX], enum channel_status status,
				uint32_t pool, uint64_t size, const char *words)
{
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	put_le32(body, status);
	put_le32(body + 4, pool);
	put_le64(body + 8, size);
	return finish(frame, CHANNEL_POOL_READY, 16 + put_words(body + 16, words));
}

size_t channel_build_done(uint8_t frame[CHANNEL_REPLY_MAX], uint64_t operation,
			  enum channel_status status, uint64_t bytes)
{
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	put_le64(body, operation);
	put_le32(body + 8, status);
	put_le32(body + 12, 0);
	put_le64(body + 16, bytes);
	return finish(frame, CHANNEL_DONE, 24);
}

size_t channel_build_exposed(uint8_t frame[CHANNEL_REPLY_MAX], uint64_t operation,
			     enum channel_status status, const struct buffer_descriptor *descriptor)
{
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	put_le64(body, operation);
	put_le32(body + 8, status);
	put_le32(body + 12, 0);
	put_le64(body + 16, descriptor ? descriptor->offset : 0);
	put_le32(body + 24, descriptor ? descriptor->token : 0);
	put_le32(body + 28, descriptor ? descriptor->length : 0);
	return finish(frame, CHANNEL_EXPOSED, 32);
}

size_t channel_build_invalidated(uint8_t frame[CHANNEL_INVALIDATED_SIZE], uint32_t token)
{
	put_le32(frame + CHANNEL_HEADER_SIZE, token);
	return finish(frame, CHANNEL_INVALIDATED, 4);
}

size_t channel_build_closed(uint8_t frame[CHANNEL_NOTICE_MAX], enum close_reason reason,
			    const char *words)
{
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	put_le32(body, reason);
	return finish(frame, CHANNEL_CLOSED, 4 + put_words(body + 4, words));
}
