#include "smb2_request.h"

#include "smb2_wire.h"

enum {
	CREDIT_UNIT = 65536, /* bytes of payload that one credit pays for, [MS-SMB2] 3.3.5.2.5 */
	DESCRIPTOR_LENGTH = 12,
};

/* Operations with this bit are ours, and the rest is the range's number; Python counts its own from one. */
#define OURS (UINT64_C(1) << 63)

static bool is_plain(const struct smb2_fields *fields, const uint8_t *message, size_t length)
{
	static const uint8_t protocol_id[4] = {0xfe, 'S', 'M', 'B'};

	return length >= fields->end && !memcmp(message, protocol_id, 4) &&
	       get_le16(message + SMB2_STRUCTURE_SIZE) == SMB2_HEADER_SIZE &&
	       get_le16(message + SMB2_COMMAND) == fields->command &&
	       !(get_le32(message + SMB2_FLAGS) &
		 ~(uint32_t)(SMB2_FLAG_PRIORITY | SMB2_FLAG_SIGNED)) &&
	       !get_le32(message + SMB2_NEXT_COMMAND) &&
	       get_le16(message + SMB2_HEADER_SIZE) == fields->structure_size;
}

static struct smb2_open *find_open(const struct smb2_connection *connection,
				   const struct smb2_fields *fields, const uint8_t *message)
{
	struct smb2_open *open =
		smb2_opens_find(connection->opens, get_le64(message + fields->volatile_id));

	if (!open || open->persistent_id != get_le64(message + fields->persistent) ||
	    open->session_id != get_le64(message + SMB2_SESSION_ID) ||
	    open->tree_id != get_le32(message + SMB2_TREE_ID))
		return NULL;
	if (connection->counts_sequences &&
	    open->channel_sequence != get_le16(message + SMB2_CHANNEL_SEQUENCE))
		return NULL;
	return open;
}

bool smb2_request_parse(const struct smb2_connection *connection, const struct smb2_fields *fields,
			const uint8_t *message, size_t length, struct smb2_request *ret)
{
	uint16_t charge;

	if (!connection->window || !is_plain(fields, message, length))
		return false;
	charge = get_le16(message + SMB2_CREDIT_CHARGE);
	*ret = (struct smb2_request){
		.message = message,
		.message_length = length,
		.open = find_open(connection, fields, message),
		.offset = get_le64(message + fields->offset),
		.channel = get_le32(message + fields->channel),
		.charge = connection->large_mtu && charge ? charge : 1,
	};
	/* Whether the bytes are locked, and by whom, is a question for Python. */
	return ret->open && !*ret->open->locked &&
	       smb2_connection_find_session(connection, message, &ret->signing);
}

/* The descriptors lie inside the message and make up at least the length. */
static bool find_descriptors(const struct smb2_fields *fields, struct smb2_request *request)
{
	uint16_t offset = get_le16(request->message + fields->info_offset);
	uint16_t length = get_le16(request->message + fields->info_length);
	uint64_t room = 0;

	if (!length || length % BUFFER_DESCRIPTOR_SIZE ||
	    length > MAX_DESCRIPTORS * BUFFER_DESCRIPTOR_SIZE || offset < fields->end ||
	    (size_t)offset + length > request->message_length)
		return false;
	request->descriptors = request->message + offset;
	request->descriptors_length = length;
	for (uint16_t at = 0; at < length; at += BUFFER_DESCRIPTOR_SIZE)
		room += get_le32(request->descriptors + at + DESCRIPTOR_LENGTH);
	return room >= request->length;
}

bool smb2_request_check(const struct smb2_connection *connection, const struct smb2_fields *fields,
			uint32_t limit, struct smb2_request *request)
{
	if (!request->length || request->length > limit ||
	    request->offset > (uint64_t)INT64_MAX - request->length ||
	    (connection->large_mtu && request->length > (uint64_t)CREDIT_UNIT * request->charge))
		return false;
	if (request->channel == SMB2_CHANNEL_NONE)
		return true;
	return request->channel <= connection->channel_max &&
	       request->length <= connection->ranges->length && find_descriptors(fields, request);
}

bool smb2_request_is_genuine(const struct smb2_request *request)
{
	return !request->signing ||
	       smb2_signing_verify(request->signing, request->message, request->message_length);
}

bool smb2_request_take_ids(struct smb2_connection *connection, const struct smb2_request *request)
{
	return smb2_window_take(connection->window, get_le64(request->message + SMB2_MESSAGE_ID),
				request->charge);
}

size_t smb2_put_transfer(const struct smb2_connection *connection,
			 const struct smb2_request *request, uint8_t *frame,
			 enum channel_frame type, int range, uint32_t length)
{
	uint32_t size = CHANNEL_TRANSFER_SIZE + request->descriptors_length;
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	channel_build_header(frame, type, size);
	put_le64(body, OURS | (uint64_t)range);
	put_le32(body + 8, connection->pool);
	put_le32(body + 12, request->descriptors_length / BUFFER_DESCRIPTOR_SIZE);
	put_le64(body + 16, connection->ranges->ranges[range].offset);
	put_le64(body + 24, length);
	memcpy(body + CHANNEL_TRANSFER_SIZE, request->descriptors, request->descriptors_length);
	return CHANNEL_HEADER_SIZE + size;
}

size_t smb2_put_invalidate(uint8_t *frame, uint32_t token)
{
	channel_build_header(frame, CHANNEL_SEND_INVALIDATE,
			     SMB2_INVALIDATE_FRAME - CHANNEL_HEADER_SIZE);
	put_le32(frame + CHANNEL_HEADER_SIZE, token);
	return SMB2_INVALIDATE_FRAME;
}

uint8_t *smb2_put_response(struct smb2_connection *connection, const uint8_t *request_header,
			   uint8_t *frame, uint32_t length)
{
	uint8_t *message = frame + CHANNEL_HEADER_SIZE;
	uint16_t asked = get_le16(request_header + SMB2_CREDITS);
	uint16_t charge = get_le16(request_header + SMB2_CREDIT_CHARGE);
	uint32_t wanted = asked > charge ? asked : charge;
	uint32_t flags = get_le32(request_header + SMB2_FLAGS) | SMB2_FLAG_RESPONSE;
	uint32_t credits = smb2_window_grant(connection->window, wanted ? wanted : 1);

	channel_build_header(frame, CHANNEL_MESSAGE, length);
	memcpy(message, request_header, SMB2_SIGNATURE);
	memset(message + SMB2_SIGNATURE, 0, SMB2_HEADER_SIZE - SMB2_SIGNATURE);
	put_le32(message + SMB2_STATUS, 0);
	put_le16(message + SMB2_CREDITS, (uint16_t)credits);
	put_le32(message + SMB2_FLAGS, flags);
	connection->messages_sent++;
	connection->bytes_sent += length;
	return message;
}

int smb2_range_of(const struct smb2_connection *connection, uint64_t operation)
{
	uint64_t number = operation & ~OURS;

	if (!(operation & OURS) || !connection->ranges || number >= connection->ranges->count ||
	    connection->ranges->ranges[number].owner != connection)
		return -1;
	return (int)number;
}
