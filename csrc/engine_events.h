/*
 * What the engine tells its owner: a queue with an eventfd that is readable while an event waits.
 *
 * The loop's thread pushes, any other thread takes; one mutex guards the list and keeps the eventfd in step with it.
 * The queue is bounded by its users: each connection brings the memory of its events along, so that a connection's
 * end can always be told.
 */
#ifndef ENGINE_EVENTS_H
#define ENGINE_EVENTS_H

#include <pthread.h>
#include <stdbool.h>

#include "engine.h"

struct event_node {
	struct event_node *next;
	struct engine_event event;
};

struct event_queue {
	pthread_mutex_t mutex;
	struct event_node *first, **end;
	size_t count;
	int fd;
};

int event_queue_open(struct event_queue *queue); /* 0 or -errno */
void event_queue_close(
	struct event_queue *queue); /* closes the descriptors of events that nobody took */
void event_queue_push(struct event_queue *queue, struct event_node *node); /* takes the node over */
bool event_queue_take(struct event_queue *queue, struct engine_event *ret);
size_t event_queue_count(struct event_queue *queue);

#endif
