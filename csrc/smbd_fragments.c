#include "smbd_fragments.h"

#include <stdlib.h>
#include <string.h>

enum {
	LARGE_MESSAGE =
		64
		<< 10, /* bytes from which a message's memory is worth keeping; room is a multiple of it */
	SPARES_MAX = 4, /* kept per thread: a message in and out of each of two busy connections */
	SPARE_MAX = 2 << 20, /* bytes; larger ones are rare, and are given back */
};

static _Thread_local struct smbd_message *spares;
static _Thread_local unsigned spare_count;
static _Thread_local unsigned
	spare_users; /* connections of this thread; without any, nothing is kept */

void smbd_spares_hold(void)
{
	spare_users++;
}

void smbd_spares_release(void)
{
	if (--spare_users > 0)
		return;
	for (; spare_count > 0; spare_count--) {
		struct smbd_message *message = spares;

		spares = message->next;
		free(message);
	}
}

static struct smbd_message *take_spare(uint32_t length)
{
	for (struct smbd_message **place = &spares; *place; place = &(*place)->next) {
		struct smbd_message *message = *place;

		if (message->room < length)
			continue;
		*place = message->next;
		spare_count--;
		return message;
	}
	return NULL;
}

struct smbd_message *smbd_message_create(uint32_t length)
{
	uint64_t room = length;
	struct smbd_message *message = NULL;

	if (length >= LARGE_MESSAGE) {
		room = ((uint64_t)length + LARGE_MESSAGE - 1) / LARGE_MESSAGE * LARGE_MESSAGE;
		message = take_spare(length);
	}
	if (message)
		room = message->room;
	else
		message = malloc(sizeof(*message) + room);
	if (!message)
		return NULL;
	*message = (struct smbd_message){.length = length,
					 .room = (uint32_t)(room < UINT32_MAX ? room : UINT32_MAX)};
	return message;
}

void smbd_message_destroy(struct smbd_message *message)
{
	if (!message || message->room < LARGE_MESSAGE || message->room > SPARE_MAX ||
	    spare_count == SPARES_MAX || spare_users == 0) {
		free(message);
		return;
	}
	message->next = spares;
	spares = message;
	spare_count++;
}

void smbd_outgoing_add(struct smbd_outgoing *outgoing, struct smbd_message *message)
{
	message->next = NULL;
	message->done = 0;
	if (outgoing->last)
		outgoing->last->next = message;
	else
		outgoing->first = message;
	outgoing->last = message;
	outgoing->bytes += smbd_message_cost(message);
	outgoing->queued++;
}

static struct smbd_message *take_first(struct smbd_outgoing *outgoing)
{
	struct smbd_message *message = outgoing->first;

	outgoing->first = message->next;
	if (!outgoing->first)
		outgoing->last = NULL;
	outgoing->bytes -= smbd_message_cost(message);
	message->next = NULL;
	return message;
}

struct smbd_message *smbd_outgoing_cut(struct smbd_outgoing *outgoing, uint32_t size,
				       uint8_t *payload, struct smbd_data_transfer *header)
{
	struct smbd_message *message = outgoing->first;
	uint32_t left = message->length - message->done;

	header->length = left < size ? left : size;
	header->remaining = left - header->length;
	memcpy(payload, message->data + message->done, header->length);
	message->done += header->length;
	if (header->remaining > 0)
		return NULL;
	outgoing->sent++;
	return take_first(outgoing);
}

void smbd_outgoing_clear(struct smbd_outgoing *outgoing)
{
	while (outgoing->first)
		smbd_message_destroy(take_first(outgoing));
}

static const char *begin(struct smbd_incoming *incoming, uint64_t total)
{
	if (total > incoming->size_max)
		return "the peer announced a message larger than our MaxFragmentedSize";
	incoming->message = smbd_message_create((uint32_t)total);
	if (incoming->message)
		return NULL;
	incoming->out_of_memory = true;
	return "no memory for the peer's message";
}

const char *smbd_incoming_add(struct smbd_incoming *incoming,
			      const struct smbd_data_transfer *header, const uint8_t *payload,
			      struct smbd_message **complete)
{
	uint64_t total = (uint64_t)header->length + header->remaining;
	const char *words = NULL;
	struct smbd_message *message;

	*complete = NULL;
	if (!incoming->message)
		words = begin(incoming, total);
	else if (total != incoming->message->length - incoming->message->done)
		words = "a segment does not add up with the one before it";
	if (words)
		return words;
	message = incoming->message;
	memcpy(message->data + message->done, payload, header->length);
	message->done += header->length;
	if (header->remaining > 0)
		return NULL;
	incoming->message = NULL;
	*complete = message;
	return NULL;
}

void smbd_incoming_clear(struct smbd_incoming *incoming)
{
	smbd_message_destroy(incoming->message);
	incoming->message = NULL;
}
