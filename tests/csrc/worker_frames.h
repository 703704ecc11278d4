/*
 * The worker's side of a channel for tests: frames written and numbers read by hand, apart from the code under test.
 */
#ifndef WORKER_FRAMES_H
#define WORKER_FRAMES_H

#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static inline size_t put_header(uint8_t *place, uint8_t type, size_t length)
{
	place[0] = type;
	place[1] = (uint8_t)(length >> 16);
	place[2] = (uint8_t)(length >> 8);
	place[3] = (uint8_t)length;
	return 4;
}

static inline void put64(uint8_t *place, uint64_t value)
{
	value = htole64(value);
	memcpy(place, &value, 8);
}

static inline void put32(uint8_t *place, uint32_t value)
{
	value = htole32(value);
	memcpy(place, &value, 4);
}

static inline uint32_t get32(const uint8_t *place)
{
	uint32_t value;

	memcpy(&value, place, 4);
	return le32toh(value);
}

static inline uint64_t get64(const uint8_t *place)
{
	uint64_t value;

	memcpy(&value, place, 8);
	return le64toh(value);
}

static inline size_t put_transfer(uint8_t *place, uint8_t type, uint64_t operation, uint32_t pool,
				  uint64_t offset, uint64_t length)
{
	put_header(place, type, 48);
	put64(place + 4, operation);
	put32(place + 12, pool);
	put32(place + 16, 1);
	put64(place + 20, offset);
	put64(place + 28, length);
	put64(place + 36, 0x1000);
	put32(place + 44, 0xabcd);
	put32(place + 48, (uint32_t)length);
	return 52;
}

/* Writes bytes and passes descriptors with the first of them. */
static inline void pass(int worker, const void *bytes, size_t length, const int *fds, size_t count)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(64 * sizeof(int))];
	} control = {0};
	struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr message = {.msg_iov = &vector,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(part), fds, count * sizeof(int));
	CHECK(sendmsg(worker, &message, 0) == (ssize_t)length);
}

static inline void read_all(int fd, void *place, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t got = read(fd, (uint8_t *)place + done, length - done);

		CHECK(got > 0);
		done += (size_t)got;
	}
}

static inline void write_all(int fd, const void *place, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t written = write(fd, (const uint8_t *)place + done, length - done);

		CHECK(written > 0);
		done += (size_t)written;
	}
}

#endif
