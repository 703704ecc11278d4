#include "smbd_fragments.h"

#include <stdlib.h>
#include <string.h>

struct smbd_message *smbd_message_create(uint32_t length)
{
	struct smbd_message *message = malloc(sizeof(*message) + (size_t)length);

	if (!message)
		return NULL;
	*message = (struct smbd_message){.length = length};
	return message;
}

void smbd_message_destroy(struct smbd_message *message)
{
	free(message);
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

struct smbd_message *smbd_outgoing_cut(struct smbd_outgoing *outgoing, uint32_t size, uint8_t *payload,
				       struct smbd_data_transfer *header)
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

const char *smbd_incoming_add(struct smbd_incoming *incoming, const struct smbd_data_transfer *header,
			      const uint8_t *payload, struct smbd_message **complete)
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
