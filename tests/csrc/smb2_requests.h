/* READ and WRITE requests written by hand, and a connection with one open to send them to. */
#ifndef SMB2_REQUESTS_H
#define SMB2_REQUESTS_H

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "smb2_serve.h"
#include "smb2_wire.h"

enum {
	SESSION = 0x1234,
	TREE = 5,
	VOLATILE = 4097 * 3,
	PERSISTENT = 77,
	SEQUENCE = 9,
	CONTENT = 300000,  /* bytes of the file */
	RANGE = 128 << 10, /* bytes of a range of the pool */
	RANGES = 2,
	REPLIES = 300 << 10,
	REQUEST = 4 + 64 + 48 + 1, /* bytes of a frame without descriptors and data */
};

struct served {
	struct smb2_connection connection;
	struct smb2_open *open;
	struct smb2_ranges ranges;
	uint32_t locked, readers;
	uint8_t content[CONTENT], pool[RANGES * RANGE], replies[REPLIES];
};

static inline void served_begin(struct served *served, uint32_t credits)
{
	struct smb2_open open = {.session_id = SESSION,
				 .persistent_id = PERSISTENT,
				 .volatile_id = VOLATILE,
				 .tree_id = TREE,
				 .reads = true,
				 .writes = true,
				 .channel_sequence = SEQUENCE,
				 .locked = &served->locked,
				 .readers = &served->readers};

	memset(&served->connection, 0, sizeof(served->connection));
	memset(&served->ranges, 0, sizeof(served->ranges));
	served->locked = served->readers = 0;
	for (size_t i = 0; i < CONTENT; i++)
		served->content[i] = (uint8_t)(i * 31 + i / 256);
	open.fd = memfd_create("content", 0);
	CHECK(open.fd >= 0 && write(open.fd, served->content, CONTENT) == CONTENT);
	served->connection.opens = smb2_opens_create();
	served->open = smb2_opens_add(served->connection.opens, &open);
	served->ranges.length = RANGE;
	for (unsigned int i = 0; i < RANGES; i++)
		CHECK(smb2_ranges_add(&served->ranges, served->pool + (size_t)i * RANGE,
				      i * RANGE));
	served->connection.ranges = &served->ranges;
	served->connection.window = smb2_window_create(1000, 0);
	smb2_window_grant(served->connection.window, credits - 1);
	served->connection.max_read_size = served->connection.max_write_size = 1 << 20;
	served->connection.written_max = 1 << 30;
	served->connection.max_inline = 65535;
	served->connection.channel_max = SMB2_CHANNEL_RDMA_V1_INVALIDATE;
	served->connection.pool = 3;
	served->connection.large_mtu = served->connection.counts_sequences = true;
	served->connection.replies = served->replies;
	served->connection.replies_size = REPLIES;
	CHECK(smb2_connection_add_session(&served->connection, SESSION, false, NULL));
}

static inline void served_end(struct served *served)
{
	smb2_connection_end(&served->connection);
	if (served->open)
		close(served->open->fd);
	CHECK(served->ranges.free_count == RANGES);
	smb2_opens_destroy(served->connection.opens);
	smb2_window_destroy(served->connection.window);
}

static inline void put_length(uint8_t *frame, size_t whole)
{
	frame[1] = (uint8_t)((whole - 4) >> 16);
	frame[2] = (uint8_t)((whole - 4) >> 8);
	frame[3] = (uint8_t)(whole - 4);
}

/* What both have; READ and WRITE have offset and FileId in the same places. */
static inline uint8_t *put_request(uint8_t *frame, uint16_t command, uint64_t id, uint64_t offset,
				   uint32_t length)
{
	uint8_t *message = frame + 4;

	memset(frame, 0, REQUEST);
	put_length(frame, REQUEST);
	memcpy(message, "\xfeSMB", 4);
	put_le16(message + SMB2_STRUCTURE_SIZE, SMB2_HEADER_SIZE);
	put_le16(message + SMB2_CREDIT_CHARGE, (uint16_t)(1 + (length - 1) / 65536));
	put_le16(message + SMB2_CHANNEL_SEQUENCE, SEQUENCE);
	put_le16(message + SMB2_COMMAND, command);
	put_le16(message + SMB2_CREDITS, 2);
	put_le64(message + SMB2_MESSAGE_ID, id);
	put_le32(message + SMB2_TREE_ID, TREE);
	put_le64(message + SMB2_SESSION_ID, SESSION);
	put_le16(message + SMB2_HEADER_SIZE, SMB2_READ_REQUEST_SIZE);
	put_le64(message + SMB2_READ_OFFSET, offset);
	put_le64(message + SMB2_READ_PERSISTENT, PERSISTENT);
	put_le64(message + SMB2_READ_VOLATILE, VOLATILE);
	return message;
}

static inline size_t put_descriptors(uint8_t *frame, uint32_t length, uint32_t descriptors)
{
	size_t end = REQUEST - 1;

	for (uint32_t i = 0; i < descriptors; i++, end += 16) {
		put_le64(frame + end, 0x1000 * i);
		put_le32(frame + end + 8, 0xabcd + i);
		put_le32(frame + end + 12, (length + descriptors - 1) / descriptors);
	}
	put_length(frame, end);
	return end;
}

static inline size_t put_read(uint8_t *frame, uint64_t id, uint64_t offset, uint32_t length)
{
	put_le32(put_request(frame, SMB2_READ, id, offset, length) + SMB2_READ_LENGTH, length);
	return REQUEST;
}

static inline size_t put_read_by_rdma(uint8_t *frame, uint64_t id, uint64_t offset, uint32_t length,
				      uint32_t channel, uint32_t descriptors)
{
	uint8_t *message = frame + 4;

	put_read(frame, id, offset, length);
	put_le32(message + SMB2_READ_CHANNEL, channel);
	put_le16(message + SMB2_READ_INFO_OFFSET, SMB2_READ_REQUEST_END);
	put_le16(message + SMB2_READ_INFO_LENGTH, (uint16_t)(descriptors * 16));
	return put_descriptors(frame, length, descriptors);
}

static inline size_t put_write(uint8_t *frame, uint64_t id, uint64_t offset, const uint8_t *data,
			       uint32_t length)
{
	uint8_t *message = put_request(frame, SMB2_WRITE, id, offset, length);

	put_le16(message + SMB2_WRITE_DATA_OFFSET, SMB2_WRITE_REQUEST_END);
	put_le32(message + SMB2_WRITE_LENGTH, length);
	memcpy(message + SMB2_WRITE_REQUEST_END, data, length);
	put_length(frame, REQUEST - 1 + length);
	return REQUEST - 1 + length;
}

static inline size_t put_write_by_rdma(uint8_t *frame, uint64_t id, uint64_t offset,
				       uint32_t length, uint32_t channel, uint32_t descriptors)
{
	uint8_t *message = put_request(frame, SMB2_WRITE, id, offset, length);

	put_le32(message + SMB2_WRITE_CHANNEL, channel);
	put_le32(message + SMB2_WRITE_REMAINING, length);
	put_le16(message + SMB2_WRITE_INFO_OFFSET, SMB2_WRITE_REQUEST_END);
	put_le16(message + SMB2_WRITE_INFO_LENGTH, (uint16_t)(descriptors * 16));
	return put_descriptors(frame, length, descriptors);
}

static inline void sign_request(struct smb2_signing *signing, uint8_t *frame, size_t whole)
{
	uint8_t *message = frame + 4;

	put_le32(message + SMB2_FLAGS, get_le32(message + SMB2_FLAGS) | SMB2_FLAG_SIGNED);
	smb2_signing_sign(signing, message, whole - 4);
}

static inline size_t put_done(uint8_t *frame, uint64_t operation, uint32_t status, uint64_t moved)
{
	memset(frame, 0, 28);
	frame[0] = 0x84;
	frame[3] = 24;
	put_le64(frame + 4, operation);
	put_le32(frame + 12, status);
	put_le64(frame + 20, moved);
	return 28;
}

#endif
