#include "smb2_serve.h"

#include "channel_frames.h"
#include "smb2_commands.h"
#include "smb2_request.h"
#include "smb2_wire.h"

enum {
	DONE_SIZE = 24,
};

/* Whatever became of an RDMA_WRITE, its range is free: a failure ends the connection. */
static bool take_done(struct smb2_connection *connection, const uint8_t *body, uint32_t length)
{
	int number = length == DONE_SIZE ? smb2_range_of(connection, get_le64(body)) : -1;
	struct smb2_range *range;
	uint64_t moved;

	if (number < 0 || smb2_connection_room(connection) < SMB2_ANSWER_MAX)
		return false;
	range = &connection->ranges->ranges[number];
	moved = get_le64(body + 16);
	if (range->waiting.open) {
		connection->bytes_read += moved;
		smb2_write_arrived(connection, range,
				   get_le32(body + 8) == CHANNEL_STATUS_DONE &&
					   moved == range->waiting.length);
	} else {
		connection->bytes_written += moved;
	}
	smb2_ranges_give_back(connection->ranges, number);
	connection->in_flight--;
	return true;
}

static bool serve_frame(struct smb2_connection *connection, enum channel_frame type,
			const uint8_t *body, uint32_t length)
{
	if (type == CHANNEL_DONE)
		return take_done(connection, body, length);
	if (type != CHANNEL_MESSAGE ||
	    !(smb2_read(connection, body, length) || smb2_write(connection, body, length)))
		return false;
	connection->messages_received++;
	connection->bytes_received += length;
	return true;
}

size_t smb2_serve(struct smb2_connection *connection, const uint8_t *frames, size_t length)
{
	size_t taken = 0;

	connection->replies_length = connection->moving = 0;
	connection->frames = 0;
	connection->failed_error = 0;
	while (length - taken >= CHANNEL_HEADER_SIZE && connection->frames < SMB2_FRAMES_MAX &&
	       connection->replies_length + connection->moving < SMB2_REPLIES_DUE &&
	       !connection->failed_error) {
		const uint8_t *frame = frames + taken;
		uint32_t body;
		enum channel_frame type = channel_parse_header(frame, &body);

		if (body > length - taken - CHANNEL_HEADER_SIZE ||
		    !serve_frame(connection, type, frame + CHANNEL_HEADER_SIZE, body))
			break;
		taken += CHANNEL_HEADER_SIZE + (size_t)body;
		connection->frames++;
	}
	return taken;
}
