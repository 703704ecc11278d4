/*
 * WRITE ([MS-SMB2] 3.3.5.13): the data stands in the request, or is fetched by RDMA Read into a range of the pool.
 *
 * By RDMA there are two steps. `smb2_write` asks for the payload, and what the answer will need waits with the range;
 * `smb2_write_arrived` writes the file and answers. From the first step on the request is ours, so a failure is told
 * to Python, which makes a refusal of it.
 */
#include <errno.h>
#include <sys/uio.h>

#include "smb2_commands.h"
#include "smb2_request.h"
#include "smb2_wire.h"

static const struct smb2_fields fields = {
	.command = SMB2_WRITE,
	.structure_size = SMB2_WRITE_REQUEST_SIZE,
	.end = SMB2_WRITE_REQUEST_END,
	.offset = SMB2_WRITE_OFFSET,
	.persistent = SMB2_WRITE_PERSISTENT,
	.volatile_id = SMB2_WRITE_VOLATILE,
	.channel = SMB2_WRITE_CHANNEL,
	.info_offset = SMB2_WRITE_INFO_OFFSET,
	.info_length = SMB2_WRITE_INFO_LENGTH,
};

/* Writes all of it; an errno, or 0. */
static int write_all(int fd, const uint8_t *data, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		struct iovec rest = {.iov_base = (void *)(uintptr_t)(data + done),
				     .iov_len = length - done};
		ssize_t written = pwritev(fd, &rest, 1, (off_t)(offset + done));

		if (written < 0)
			return errno;
		done += (size_t)written;
	}
	return 0;
}

static void put_write_response(struct smb2_connection *connection, const uint8_t *request_header,
			       struct smb2_signing *signing, uint32_t count)
{
	uint8_t *frame = connection->replies + connection->replies_length;
	uint8_t *message =
		smb2_put_response(connection, request_header, frame, SMB2_WRITE_RESPONSE_END);

	memset(message + SMB2_HEADER_SIZE, 0, SMB2_WRITE_RESPONSE_END - SMB2_HEADER_SIZE);
	put_le16(message + SMB2_HEADER_SIZE, SMB2_WRITE_RESPONSE_SIZE);
	put_le32(message + SMB2_WRITE_COUNT, count);
	if (signing)
		smb2_signing_sign(signing, message, SMB2_WRITE_RESPONSE_END);
	connection->replies_length += CHANNEL_HEADER_SIZE + SMB2_WRITE_RESPONSE_END;
}

static bool answer_inline(struct smb2_connection *connection, const struct smb2_request *request)
{
	uint16_t start = get_le16(request->message + SMB2_WRITE_DATA_OFFSET);

	if (start < SMB2_WRITE_REQUEST_END || request->length > connection->max_inline ||
	    (size_t)start + request->length > request->message_length ||
	    smb2_connection_room(connection) < CHANNEL_HEADER_SIZE + SMB2_WRITE_RESPONSE_END)
		return false;
	/* Ids that are not the client's must not change the file; a disk that is full Python finds full again. */
	if (!smb2_window_may_take(connection->window, get_le64(request->message + SMB2_MESSAGE_ID),
				  request->charge) ||
	    !smb2_request_is_genuine(request) ||
	    write_all(request->open->fd, request->message + start, request->length,
		      request->offset) ||
	    !smb2_request_take_ids(connection, request))
		return false;
	put_write_response(connection, request->message, request->signing, request->length);
	return true;
}

static void wait_for_payload(struct smb2_range *range, const struct smb2_request *request)
{
	struct smb2_waiting *waiting = &range->waiting;

	waiting->open = request->open;
	waiting->sequence = smb2_open_begin(request->open);
	waiting->offset = request->offset;
	waiting->length = request->length;
	waiting->invalidates = request->channel == SMB2_CHANNEL_RDMA_V1_INVALIDATE;
	waiting->token = get_le32(request->descriptors + SMB2_DESCRIPTOR_TOKEN);
	memcpy(waiting->header, request->message, SMB2_HEADER_SIZE);
}

static bool fetch(struct smb2_connection *connection, const struct smb2_request *request)
{
	int range;

	if (smb2_connection_room(connection) < CHANNEL_FRAME_MAX ||
	    !smb2_request_is_genuine(request))
		return false;
	range = smb2_ranges_take(connection->ranges, connection);
	if (range < 0)
		return false;
	if (!smb2_request_take_ids(connection, request)) {
		smb2_ranges_give_back(connection->ranges, range);
		return false;
	}
	connection->replies_length += smb2_put_transfer(
		connection, request, connection->replies + connection->replies_length,
		CHANNEL_RDMA_READ, range, request->length);
	wait_for_payload(&connection->ranges->ranges[range], request);
	connection->moving += request->length;
	connection->in_flight++;
	return true;
}

static bool may_write(const struct smb2_open *open)
{
	return open->writes && (open->alone || !*open->readers);
}

bool smb2_write(struct smb2_connection *connection, const uint8_t *message, size_t length)
{
	struct smb2_request request;
	uint32_t inline_length;

	if (!smb2_request_parse(connection, &fields, message, length, &request) ||
	    !may_write(request.open) ||
	    get_le32(message + SMB2_WRITE_FLAGS) & ~(uint32_t)SMB2_WRITE_UNBUFFERED)
		return false;
	inline_length = get_le32(message + SMB2_WRITE_LENGTH);
	request.length = request.channel ? get_le32(message + SMB2_WRITE_REMAINING) : inline_length;
	if (!smb2_request_check(connection, &fields, connection->max_write_size, &request) ||
	    request.offset + request.length > connection->written_max)
		return false;
	if (!request.channel)
		return answer_inline(connection, &request);
	/* Payload comes from one place only. */
	if (inline_length || get_le16(message + SMB2_WRITE_DATA_OFFSET))
		return false;
	return fetch(connection, &request);
}

void smb2_write_arrived(struct smb2_connection *connection, const struct smb2_range *range,
			bool arrived)
{
	const struct smb2_waiting *waiting = &range->waiting;
	struct smb2_signing *signing = NULL;
	int error = EPIPE;

	if (arrived)
		error = write_all(waiting->open->fd, range->memory, waiting->length,
				  waiting->offset);
	if (error) {
		connection->failed_error = error;
		connection->failed_invalidates = waiting->invalidates;
		connection->failed_token = waiting->token;
		memcpy(connection->failed_header, waiting->header, SMB2_HEADER_SIZE);
	} else {
		if (waiting->invalidates)
			connection->replies_length += smb2_put_invalidate(
				connection->replies + connection->replies_length, waiting->token);
		/* The session may have ended meanwhile: nobody waits for the answer then. */
		smb2_connection_find_session(connection, waiting->header, &signing);
		put_write_response(connection, waiting->header, signing, waiting->length);
	}
	smb2_open_end(waiting->open, waiting->sequence);
}
