/*
 * The fields of SMB2 that READ and WRITE consist of ([MS-SMB2] 2.2.1.2, 2.2.19 to 2.2.22), as offsets in the message.
 *
 * All numbers are little-endian and stand at any address.
 */
#ifndef SMB2_WIRE_H
#define SMB2_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

enum {
	SMB2_HEADER_SIZE = 64,
	SMB2_STRUCTURE_SIZE = 4,
	SMB2_CREDIT_CHARGE = 6,
	SMB2_CHANNEL_SEQUENCE = 8, /* of a request, where a response has its Status */
	SMB2_STATUS = 8,
	SMB2_COMMAND = 12,
	SMB2_CREDITS = 14,
	SMB2_FLAGS = 16,
	SMB2_NEXT_COMMAND = 20,
	SMB2_MESSAGE_ID = 24,
	SMB2_TREE_ID = 36,
	SMB2_SESSION_ID = 40,
	SMB2_SIGNATURE = 48,

	SMB2_READ = 0x0008,
	SMB2_WRITE = 0x0009,

	SMB2_FLAG_RESPONSE = 0x00000001,
	SMB2_FLAG_PRIORITY = 0x00000070,

	SMB2_READ_REQUEST_SIZE = 49,
	SMB2_READ_LENGTH = SMB2_HEADER_SIZE + 4,
	SMB2_READ_OFFSET = SMB2_HEADER_SIZE + 8,
	SMB2_READ_PERSISTENT = SMB2_HEADER_SIZE + 16,
	SMB2_READ_VOLATILE = SMB2_HEADER_SIZE + 24,
	SMB2_READ_MINIMUM = SMB2_HEADER_SIZE + 32,
	SMB2_READ_CHANNEL = SMB2_HEADER_SIZE + 36,
	SMB2_READ_INFO_OFFSET = SMB2_HEADER_SIZE + 44,
	SMB2_READ_INFO_LENGTH = SMB2_HEADER_SIZE + 46,
	SMB2_READ_REQUEST_END = SMB2_HEADER_SIZE + 48,

	SMB2_READ_RESPONSE_SIZE = 17,
	SMB2_READ_DATA_OFFSET = SMB2_HEADER_SIZE + 2,
	SMB2_READ_DATA_LENGTH = SMB2_HEADER_SIZE + 4,
	SMB2_READ_DATA_REMAINING = SMB2_HEADER_SIZE + 8,
	SMB2_READ_RESPONSE_END = SMB2_HEADER_SIZE + 16,

	SMB2_WRITE_REQUEST_SIZE = 49,
	SMB2_WRITE_DATA_OFFSET = SMB2_HEADER_SIZE + 2,
	SMB2_WRITE_LENGTH = SMB2_HEADER_SIZE + 4,
	SMB2_WRITE_OFFSET = SMB2_HEADER_SIZE + 8,
	SMB2_WRITE_PERSISTENT = SMB2_HEADER_SIZE + 16,
	SMB2_WRITE_VOLATILE = SMB2_HEADER_SIZE + 24,
	SMB2_WRITE_CHANNEL = SMB2_HEADER_SIZE + 32,
	SMB2_WRITE_REMAINING = SMB2_HEADER_SIZE + 36,
	SMB2_WRITE_INFO_OFFSET = SMB2_HEADER_SIZE + 40,
	SMB2_WRITE_INFO_LENGTH = SMB2_HEADER_SIZE + 42,
	SMB2_WRITE_FLAGS = SMB2_HEADER_SIZE + 44,
	SMB2_WRITE_REQUEST_END = SMB2_HEADER_SIZE + 48,

	SMB2_WRITE_UNBUFFERED = 0x00000002,

	SMB2_WRITE_RESPONSE_SIZE = 17,
	SMB2_WRITE_COUNT = SMB2_HEADER_SIZE + 4,
	SMB2_WRITE_RESPONSE_END = SMB2_HEADER_SIZE + 16,
};

/* Channel: how the client's memory is named, and who ends the access to it. */
enum smb2_channel {
	SMB2_CHANNEL_NONE = 0,
	SMB2_CHANNEL_RDMA_V1 = 1,
	SMB2_CHANNEL_RDMA_V1_INVALIDATE = 2,
};

static inline uint16_t get_le16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static inline uint32_t get_le32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static inline uint64_t get_le64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static inline void put_le16(uint8_t *at, uint16_t value)
{
	value = htole16(value);
	memcpy(at, &value, sizeof(value));
}

static inline void put_le32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static inline void put_le64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

#endif
