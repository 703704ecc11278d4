/*
 * The yardstick: one TCP stream, blocking sockets, one buffer. Nothing between the program and the kernel.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	RAW_BUFFER = 1 << 20, /* bytes of one send and one receive */
};

/* Both return the bytes moved, or -errno. */
static int64_t raw_send(int fd, int64_t bytes)
{
	char *buffer = calloc(1, RAW_BUFFER);
	int64_t moved = 0;

	if (!buffer)
		return -ENOMEM;
	while (moved < bytes) {
		int64_t left = bytes - moved;
		ssize_t sent =
			send(fd, buffer, left < RAW_BUFFER ? left : RAW_BUFFER, MSG_NOSIGNAL);

		if (sent < 0) {
			moved = -errno;
			break;
		}
		moved += sent;
	}
	free(buffer);
	return moved;
}

static int64_t raw_receive(int fd)
{
	char *buffer = calloc(1, RAW_BUFFER);
	int64_t moved = 0;

	if (!buffer)
		return -ENOMEM;
	for (;;) {
		ssize_t received = recv(fd, buffer, RAW_BUFFER, 0);

		if (received <= 0) {
			moved = received < 0 ? -errno : moved;
			break;
		}
		moved += received;
	}
	free(buffer);
	return moved;
}
