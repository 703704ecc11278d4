/* READ ([MS-SMB2] 3.3.5.12): the data goes into the reply, or into a range of the pool and by RDMA Write ahead of it. */
#include <errno.h>
#include <sys/uio.h>

#include "smb2_commands.h"
#include "smb2_request.h"
#include "smb2_wire.h"

static const struct smb2_fields fields = {
	.command = SMB2_READ,
	.structure_size = SMB2_READ_REQUEST_SIZE,
	.end = SMB2_READ_REQUEST_END,
	.offset = SMB2_READ_OFFSET,
	.persistent = SMB2_READ_PERSISTENT,
	.volatile_id = SMB2_READ_VOLATILE,
	.channel = SMB2_READ_CHANNEL,
	.info_offset = SMB2_READ_INFO_OFFSET,
	.info_length = SMB2_READ_INFO_LENGTH,
};

/* Bytes read, fewer only at the end of the file; -1: it would take longer, or failed. */
static ssize_t read_now(struct smb2_open *open, uint8_t *into, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		struct iovec rest = {.iov_base = into + done, .iov_len = length - done};
		ssize_t got = preadv2(open->fd, &rest, 1, (off_t)(offset + done),
				      open->always_cached ? 0 : RWF_NOWAIT);

		if (got < 0 && errno == EOPNOTSUPP && !open->always_cached) {
			open->always_cached = true;
			continue;
		}
		if (got < 0)
			return -1;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

/* Reads all that the client must get, or says false: END_OF_FILE is Python's to tell. */
static bool read_enough(const struct smb2_request *request, uint8_t *into, uint32_t *got)
{
	ssize_t count = read_now(request->open, into, request->length, request->offset);

	if (count <= 0 || (uint64_t)count < get_le32(request->message + SMB2_READ_MINIMUM))
		return false;
	*got = (uint32_t)count;
	return true;
}

static void put_read_response(struct smb2_connection *connection,
			      const struct smb2_request *request, uint8_t *frame,
			      uint32_t inline_length, uint32_t placed)
{
	uint8_t *message = smb2_put_response(connection, request->message, frame,
					     SMB2_READ_RESPONSE_END + inline_length);

	memset(message + SMB2_HEADER_SIZE, 0, SMB2_READ_RESPONSE_END - SMB2_HEADER_SIZE);
	put_le16(message + SMB2_HEADER_SIZE, SMB2_READ_RESPONSE_SIZE);
	message[SMB2_READ_DATA_OFFSET] = SMB2_READ_RESPONSE_END;
	put_le32(message + SMB2_READ_DATA_LENGTH, inline_length);
	put_le32(message + SMB2_READ_DATA_REMAINING, placed);
	if (request->signing)
		smb2_signing_sign(request->signing, message,
				  SMB2_READ_RESPONSE_END + inline_length);
	request->open->position = request->offset + request->length;
}

static bool answer_inline(struct smb2_connection *connection, const struct smb2_request *request)
{
	uint8_t *frame = connection->replies + connection->replies_length;
	size_t head = CHANNEL_HEADER_SIZE + SMB2_READ_RESPONSE_END;
	uint32_t got;

	if (smb2_connection_room(connection) < head + request->length ||
	    !smb2_request_is_genuine(request) || !read_enough(request, frame + head, &got) ||
	    !smb2_request_take_ids(connection, request))
		return false;
	put_read_response(connection, request, frame, got, 0);
	connection->replies_length += head + got;
	return true;
}

static bool answer_by_rdma(struct smb2_connection *connection, const struct smb2_request *request)
{
	uint8_t *frame = connection->replies + connection->replies_length;
	int range;
	uint32_t got;

	if (smb2_connection_room(connection) < CHANNEL_FRAME_MAX + SMB2_INVALIDATE_FRAME +
						       CHANNEL_HEADER_SIZE +
						       SMB2_READ_RESPONSE_END ||
	    !smb2_request_is_genuine(request))
		return false;
	range = smb2_ranges_take(connection->ranges, connection);
	if (range < 0)
		return false;
	if (!read_enough(request, connection->ranges->ranges[range].memory, &got) ||
	    !smb2_request_take_ids(connection, request)) {
		smb2_ranges_give_back(connection->ranges, range);
		return false;
	}
	frame += smb2_put_transfer(connection, request, frame, CHANNEL_RDMA_WRITE, range, got);
	if (request->channel == SMB2_CHANNEL_RDMA_V1_INVALIDATE)
		frame += smb2_put_invalidate(
			frame, get_le32(request->descriptors + SMB2_DESCRIPTOR_TOKEN));
	/* Exactly 80 bytes: clients count on no byte following. */
	put_read_response(connection, request, frame, 0, got);
	frame += CHANNEL_HEADER_SIZE + SMB2_READ_RESPONSE_END;
	connection->replies_length = (size_t)(frame - connection->replies);
	connection->moving += got;
	connection->in_flight++;
	return true;
}

bool smb2_read(struct smb2_connection *connection, const uint8_t *message, size_t length)
{
	struct smb2_request request;

	if (!smb2_request_parse(connection, &fields, message, length, &request) ||
	    !request.open->reads)
		return false;
	request.length = get_le32(message + SMB2_READ_LENGTH);
	if (!smb2_request_check(connection, &fields, connection->max_read_size, &request))
		return false;
	if (request.channel)
		return answer_by_rdma(connection, &request);
	return request.length <= connection->max_inline && answer_inline(connection, &request);
}
