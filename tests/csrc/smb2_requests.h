/* READ requests written by hand, and a reader with one open to send them to. */
#ifndef SMB2_REQUESTS_H
#define SMB2_REQUESTS_H

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "smb2_reader.h"
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
	REQUEST = 4 + 64 + 48 + 1, /* bytes of a READ's frame without descriptors */
};

struct served {
	struct smb2_reader reader;
	struct smb2_open *open;
	struct smb2_ranges ranges;
	uint32_t locked;
	uint8_t content[CONTENT], pool[RANGES * RANGE], replies[REPLIES];
};

static inline void served_begin(struct served *served, uint32_t credits)
{
	struct smb2_open open = {.session_id = SESSION,
				 .persistent_id = PERSISTENT,
				 .volatile_id = VOLATILE,
				 .tree_id = TREE,
				 .channel_sequence = SEQUENCE,
				 .locked = &served->locked};

	memset(&served->reader, 0, sizeof(served->reader));
	memset(&served->ranges, 0, sizeof(served->ranges));
	served->locked = 0;
	for (size_t i = 0; i < CONTENT; i++)
		served->content[i] = (uint8_t)(i * 31 + i / 256);
	open.fd = memfd_create("content", 0);
	CHECK(open.fd >= 0 && write(open.fd, served->content, CONTENT) == CONTENT);
	served->reader.opens = smb2_opens_create();
	served->open = smb2_opens_add(served->reader.opens, &open);
	served->ranges.length = RANGE;
	for (unsigned int i = 0; i < RANGES; i++)
		CHECK(smb2_ranges_add(&served->ranges, served->pool + (size_t)i * RANGE,
				      i * RANGE));
	served->reader.ranges = &served->ranges;
	served->reader.window = smb2_window_create(1000, 0);
	smb2_window_grant(served->reader.window, credits - 1);
	served->reader.max_read_size = 1 << 20;
	served->reader.max_inline = 65535;
	served->reader.channel_max = SMB2_CHANNEL_RDMA_V1_INVALIDATE;
	served->reader.pool = 3;
	served->reader.large_mtu = served->reader.counts_sequences = true;
	served->reader.replies = served->replies;
	served->reader.replies_size = REPLIES;
	CHECK(smb2_reader_add_session(&served->reader, SESSION));
}

static inline void served_end(struct served *served)
{
	close(served->open->fd);
	smb2_reader_end(&served->reader);
	CHECK(served->ranges.free_count == RANGES);
	smb2_opens_destroy(served->reader.opens);
	smb2_window_destroy(served->reader.window);
}

/* A whole frame; descriptors can be put behind it. */
static inline size_t put_read(uint8_t *frame, uint64_t id, uint64_t offset, uint32_t length)
{
	uint8_t *message = frame + 4;

	memset(frame, 0, REQUEST);
	frame[3] = REQUEST - 4;
	memcpy(message, "\xfeSMB", 4);
	put_le16(message + SMB2_STRUCTURE_SIZE, SMB2_HEADER_SIZE);
	put_le16(message + SMB2_CREDIT_CHARGE, (uint16_t)(1 + (length - 1) / 65536));
	put_le16(message + SMB2_CHANNEL_SEQUENCE, SEQUENCE);
	put_le16(message + SMB2_COMMAND, SMB2_READ);
	put_le16(message + SMB2_CREDITS, 2);
	put_le64(message + SMB2_MESSAGE_ID, id);
	put_le32(message + SMB2_TREE_ID, TREE);
	put_le64(message + SMB2_SESSION_ID, SESSION);
	put_le16(message + SMB2_HEADER_SIZE, SMB2_READ_REQUEST_SIZE);
	put_le32(message + SMB2_READ_LENGTH, length);
	put_le64(message + SMB2_READ_OFFSET, offset);
	put_le64(message + SMB2_READ_PERSISTENT, PERSISTENT);
	put_le64(message + SMB2_READ_VOLATILE, VOLATILE);
	return REQUEST;
}

static inline size_t put_read_by_rdma(uint8_t *frame, uint64_t id, uint64_t offset, uint32_t length,
				      uint32_t channel, uint32_t descriptors)
{
	uint8_t *message = frame + 4;
	size_t end = REQUEST - 1;

	put_read(frame, id, offset, length);
	put_le32(message + SMB2_READ_CHANNEL, channel);
	put_le16(message + SMB2_READ_INFO_OFFSET, SMB2_READ_REQUEST_END);
	put_le16(message + SMB2_READ_INFO_LENGTH, (uint16_t)(descriptors * 16));
	for (uint32_t i = 0; i < descriptors; i++, end += 16) {
		put_le64(frame + end, 0x1000 * i);
		put_le32(frame + end + 8, 0xabcd + i);
		put_le32(frame + end + 12, (length + descriptors - 1) / descriptors);
	}
	frame[2] = (uint8_t)((end - 4) >> 8);
	frame[3] = (uint8_t)(end - 4);
	return end;
}

#endif
