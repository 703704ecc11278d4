#include "capture.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

atomic_bool capture_enabled;

/* Guards what follows: the loop's thread adds, another one takes, both only while somebody looks. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *waiting; /* CAPTURE_ROOM bytes; NULL: off */
static size_t used;
static uint64_t lost_messages;

static uint16_t take_address(const struct sockaddr_storage *address, uint8_t bytes[16],
			     uint16_t *port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET) {
		memcpy(bytes, &v4->sin_addr, sizeof(v4->sin_addr));
		*port = ntohs(v4->sin_port);
	} else if (address->ss_family == AF_INET6) {
		memcpy(bytes, &v6->sin6_addr, sizeof(v6->sin6_addr));
		*port = ntohs(v6->sin6_port);
	}
	return address->ss_family;
}

void capture_add(const struct fabric_qp *qp, unsigned flags, uint32_t token, const void *bytes,
		 uint32_t length)
{
	struct capture_record record = {
		.flow = (uintptr_t)qp, .length = length, .token = token, .flags = (uint16_t)flags};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	record.time = (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
	take_address(&qp->local, record.local, &record.local_port);
	record.family = take_address(&qp->remote, record.remote, &record.remote_port);
	pthread_mutex_lock(&mutex);
	if (waiting && length + sizeof(record) <= CAPTURE_ROOM - used) {
		memcpy(waiting + used, &record, sizeof(record));
		memcpy(waiting + used + sizeof(record), bytes, length);
		used += sizeof(record) + length;
	} else if (waiting) {
		lost_messages++;
	}
	pthread_mutex_unlock(&mutex);
}

int capture_start(void)
{
	int error = -EBUSY;

	pthread_mutex_lock(&mutex);
	if (!waiting) {
		waiting = malloc(CAPTURE_ROOM);
		error = waiting ? 0 : -ENOMEM;
		used = 0;
		lost_messages = 0;
	}
	pthread_mutex_unlock(&mutex);
	if (!error)
		atomic_store(&capture_enabled, true);
	return error;
}

void capture_stop(void)
{
	atomic_store(&capture_enabled, false);
	pthread_mutex_lock(&mutex);
	free(waiting);
	waiting = NULL;
	used = 0;
	pthread_mutex_unlock(&mutex);
}

size_t capture_take(void *ret, size_t room, uint64_t *lost)
{
	size_t length;

	pthread_mutex_lock(&mutex);
	length = used <= room ? used : 0;
	if (length)
		memcpy(ret, waiting, length);
	used -= length;
	*lost = lost_messages;
	pthread_mutex_unlock(&mutex);
	return length;
}
