#include "smb2_quick.h"

#include "channel_frames.h"
#include "smb2_commands.h"
#include "smb2_request.h"
#include "smb2_wire.h"

enum {
	DONE_SIZE = 24,
};

/* Whatever became of an RDMA_WRITE, its range is free: a failure ends the connection. */
static bool take_done(struct smb2_quick *quick, const uint8_t *body, uint32_t length)
{
	int number = length == DONE_SIZE ? smb2_range_of(quick, get_le64(body)) : -1;
	struct smb2_range *range;
	uint64_t moved;

	if (number < 0 || smb2_quick_room(quick) < SMB2_ANSWER_MAX)
		return false;
	range = &quick->ranges->ranges[number];
	moved = get_le64(body + 16);
	if (range->waiting.open) {
		quick->bytes_read += moved;
		smb2_write_arrived(quick, range,
				   get_le32(body + 8) == CHANNEL_STATUS_DONE &&
					   moved == range->waiting.length);
	} else {
		quick->bytes_written += moved;
	}
	smb2_ranges_give_back(quick->ranges, number);
	quick->in_flight--;
	return true;
}

static bool serve_frame(struct smb2_quick *quick, enum channel_frame type, const uint8_t *body,
			uint32_t length)
{
	if (type == CHANNEL_DONE)
		return take_done(quick, body, length);
	if (type != CHANNEL_MESSAGE ||
	    !(smb2_read(quick, body, length) || smb2_write(quick, body, length)))
		return false;
	quick->messages_received++;
	quick->bytes_received += length;
	return true;
}

size_t smb2_quick_serve(struct smb2_quick *quick, const uint8_t *frames, size_t length)
{
	size_t taken = 0;

	quick->replies_length = quick->moving = 0;
	quick->frames = 0;
	quick->failed_error = 0;
	while (length - taken >= CHANNEL_HEADER_SIZE && quick->frames < SMB2_FRAMES_MAX &&
	       quick->replies_length + quick->moving < SMB2_REPLIES_DUE && !quick->failed_error) {
		const uint8_t *frame = frames + taken;
		uint32_t body;
		enum channel_frame type = channel_parse_header(frame, &body);

		if (body > length - taken - CHANNEL_HEADER_SIZE ||
		    !serve_frame(quick, type, frame + CHANNEL_HEADER_SIZE, body))
			break;
		taken += CHANNEL_HEADER_SIZE + (size_t)body;
		quick->frames++;
	}
	return taken;
}

bool smb2_quick_has_session(const struct smb2_quick *quick, uint64_t session_id)
{
	for (uint32_t i = 0; i < quick->session_count; i++)
		if (quick->sessions[i] == session_id)
			return true;
	return false;
}

bool smb2_quick_add_session(struct smb2_quick *quick, uint64_t session_id)
{
	if (smb2_quick_has_session(quick, session_id))
		return true;
	if (quick->session_count == SMB2_SESSIONS_MAX)
		return false;
	quick->sessions[quick->session_count++] = session_id;
	return true;
}

void smb2_quick_drop_session(struct smb2_quick *quick, uint64_t session_id)
{
	for (uint32_t i = 0; i < quick->session_count; i++)
		if (quick->sessions[i] == session_id) {
			quick->sessions[i] = quick->sessions[--quick->session_count];
			return;
		}
}

void smb2_quick_end(struct smb2_quick *quick)
{
	struct smb2_ranges *ranges = quick->ranges;

	quick->session_count = 0;
	quick->in_flight = 0;
	for (unsigned int i = 0; ranges && i < ranges->count; i++) {
		struct smb2_waiting *waiting = &ranges->ranges[i].waiting;

		if (ranges->ranges[i].owner != quick)
			continue;
		if (waiting->open)
			smb2_open_end(waiting->open, waiting->sequence);
		smb2_ranges_give_back(ranges, (int)i);
	}
}
