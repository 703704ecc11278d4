#include "engine_events.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int event_queue_open(struct event_queue *queue)
{
	queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->fd < 0)
		return -errno;
	pthread_mutex_init(&queue->mutex, NULL);
	queue->first = NULL;
	queue->end = &queue->first;
	queue->count = 0;
	return 0;
}

void event_queue_close(struct event_queue *queue)
{
	struct event_node *node;

	while ((node = queue->first)) {
		queue->first = node->next;
		if (node->event.fd >= 0)
			close(node->event.fd);
		free(node);
	}
	pthread_mutex_destroy(&queue->mutex);
	close(queue->fd);
}

void event_queue_push(struct event_queue *queue, struct event_node *node)
{
	node->next = NULL;
	pthread_mutex_lock(&queue->mutex);
	*queue->end = node;
	queue->end = &node->next;
	if (queue->count++ == 0)
		eventfd_write(queue->fd, 1);
	pthread_mutex_unlock(&queue->mutex);
}

bool event_queue_take(struct event_queue *queue, struct engine_event *ret)
{
	struct event_node *node;
	eventfd_t value;

	pthread_mutex_lock(&queue->mutex);
	node = queue->first;
	if (node) {
		queue->first = node->next;
		if (--queue->count == 0) {
			queue->end = &queue->first;
			eventfd_read(queue->fd, &value);
		}
	}
	pthread_mutex_unlock(&queue->mutex);
	if (!node)
		return false;
	*ret = node->event;
	free(node);
	return true;
}

size_t event_queue_count(struct event_queue *queue)
{
	size_t count;

	pthread_mutex_lock(&queue->mutex);
	count = queue->count;
	pthread_mutex_unlock(&queue->mutex);
	return count;
}
