#include "smb2_reader.h"

#include <errno.h>
#include <sys/uio.h>

#include "channel_frames.h"
#include "smb2_wire.h"

enum {
	CREDIT_UNIT = 65536, /* bytes of payload that one credit pays for, [MS-SMB2] 3.3.5.2.5 */
	DONE_SIZE = 24,
	INVALIDATE_SIZE = 4,
	TOKEN = 8, /* of a buffer descriptor */
	DESCRIPTOR_LENGTH = 12,
};

/* Operations with this bit are ours, and the rest is the range's number; Python counts its own from one. */
#define OURS (UINT64_C(1) << 63)

struct read {
	const uint8_t *message;
	size_t message_length;
	struct smb2_open *open;
	uint64_t offset;
	uint32_t length, minimum, channel;
	uint16_t charge;
	const uint8_t *descriptors;
	uint16_t descriptors_length;
};

/* 1. a READ, alone and plain */

static bool is_bound(const struct smb2_reader *reader, uint64_t session_id)
{
	for (uint32_t i = 0; i < reader->session_count; i++)
		if (reader->sessions[i] == session_id)
			return true;
	return false;
}

static bool is_plain_read(const uint8_t *message, size_t length)
{
	static const uint8_t protocol_id[4] = {0xfe, 'S', 'M', 'B'};

	return length >= SMB2_READ_REQUEST_END && !memcmp(message, protocol_id, 4) &&
	       get_le16(message + SMB2_STRUCTURE_SIZE) == SMB2_HEADER_SIZE &&
	       get_le16(message + SMB2_COMMAND) == SMB2_READ &&
	       !(get_le32(message + SMB2_FLAGS) & ~(uint32_t)SMB2_FLAG_PRIORITY) &&
	       !get_le32(message + SMB2_NEXT_COMMAND) &&
	       get_le16(message + SMB2_HEADER_SIZE) == SMB2_READ_REQUEST_SIZE;
}

/* 2. its open, and the range */

static struct smb2_open *find_open(const struct smb2_reader *reader, const uint8_t *message)
{
	uint64_t session_id = get_le64(message + SMB2_SESSION_ID);
	struct smb2_open *open =
		smb2_opens_find(reader->opens, get_le64(message + SMB2_READ_VOLATILE));

	if (!open || open->persistent_id != get_le64(message + SMB2_READ_PERSISTENT) ||
	    open->session_id != session_id || open->tree_id != get_le32(message + SMB2_TREE_ID))
		return NULL;
	if (reader->counts_sequences &&
	    open->channel_sequence != get_le16(message + SMB2_CHANNEL_SEQUENCE))
		return NULL;
	return is_bound(reader, session_id) ? open : NULL;
}

/* The descriptors lie inside the message and make up at least the length. */
static bool parse_descriptors(struct read *read)
{
	uint16_t offset = get_le16(read->message + SMB2_READ_INFO_OFFSET);
	uint16_t length = get_le16(read->message + SMB2_READ_INFO_LENGTH);
	uint64_t room = 0;

	if (!length || length % BUFFER_DESCRIPTOR_SIZE ||
	    length > MAX_DESCRIPTORS * BUFFER_DESCRIPTOR_SIZE || offset < SMB2_READ_REQUEST_END ||
	    (size_t)offset + length > read->message_length)
		return false;
	read->descriptors = read->message + offset;
	read->descriptors_length = length;
	for (uint16_t at = 0; at < length; at += BUFFER_DESCRIPTOR_SIZE)
		room += get_le32(read->descriptors + at + DESCRIPTOR_LENGTH);
	return room >= read->length;
}

static bool parse(const struct smb2_reader *reader, const uint8_t *message, size_t length,
		  struct read *read)
{
	uint16_t charge;

	if (!reader->window || !is_plain_read(message, length))
		return false;
	charge = get_le16(message + SMB2_CREDIT_CHARGE);
	*read = (struct read){
		.message = message,
		.message_length = length,
		.offset = get_le64(message + SMB2_READ_OFFSET),
		.length = get_le32(message + SMB2_READ_LENGTH),
		.minimum = get_le32(message + SMB2_READ_MINIMUM),
		.channel = get_le32(message + SMB2_READ_CHANNEL),
		.charge = reader->large_mtu && charge ? charge : 1,
	};
	if (!read->length || read->length > reader->max_read_size ||
	    read->offset > (uint64_t)INT64_MAX - read->length ||
	    (reader->large_mtu && read->length > (uint64_t)CREDIT_UNIT * read->charge))
		return false;
	read->open = find_open(reader, message);
	if (!read->open || *read->open->locked)
		return false;
	if (read->channel == SMB2_CHANNEL_NONE)
		return read->length <= reader->max_inline;
	return read->channel <= reader->channel_max && read->length <= reader->ranges->length &&
	       parse_descriptors(read);
}

/* 3. the data */

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
static bool read_enough(const struct read *read, uint8_t *into, uint32_t *got)
{
	ssize_t count = read_now(read->open, into, read->length, read->offset);

	if (count <= 0 || (uint64_t)count < read->minimum)
		return false;
	*got = (uint32_t)count;
	return true;
}

/* 4. and 5. the reply */

static void build_response(struct smb2_reader *reader, const struct read *read, uint8_t *frame,
			   uint32_t inline_length, uint32_t placed)
{
	uint8_t *message = frame + CHANNEL_HEADER_SIZE;
	uint16_t asked = get_le16(read->message + SMB2_CREDITS);
	uint16_t charge = get_le16(read->message + SMB2_CREDIT_CHARGE);
	uint32_t wanted = asked > charge ? asked : charge;
	uint32_t flags = get_le32(read->message + SMB2_FLAGS) | SMB2_FLAG_RESPONSE;
	uint32_t credits = smb2_window_grant(reader->window, wanted ? wanted : 1);
	uint32_t length = SMB2_READ_RESPONSE_END + inline_length;

	channel_build_header(frame, CHANNEL_MESSAGE, length);
	memcpy(message, read->message, SMB2_HEADER_SIZE);
	put_le32(message + SMB2_STATUS, 0);
	put_le16(message + SMB2_CREDITS, (uint16_t)credits);
	put_le32(message + SMB2_FLAGS, flags);
	memset(message + SMB2_SIGNATURE, 0, SMB2_READ_RESPONSE_END - SMB2_SIGNATURE);
	put_le16(message + SMB2_HEADER_SIZE, SMB2_READ_RESPONSE_SIZE);
	message[SMB2_READ_DATA_OFFSET] = SMB2_READ_RESPONSE_END;
	put_le32(message + SMB2_READ_DATA_LENGTH, inline_length);
	put_le32(message + SMB2_READ_DATA_REMAINING, placed);
	read->open->position = read->offset + read->length;
	reader->messages++;
	reader->bytes_received += read->message_length;
	reader->bytes_sent += length;
}

static bool answer_inline(struct smb2_reader *reader, const struct read *read)
{
	uint8_t *frame = reader->replies + reader->replies_length;
	size_t head = CHANNEL_HEADER_SIZE + SMB2_READ_RESPONSE_END;
	uint32_t got;

	if (reader->replies_size - reader->replies_length < head + read->length ||
	    !read_enough(read, frame + head, &got) ||
	    !smb2_window_take(reader->window, get_le64(read->message + SMB2_MESSAGE_ID),
			      read->charge))
		return false;
	build_response(reader, read, frame, got, 0);
	reader->replies_length += head + got;
	return true;
}

static size_t build_rdma_write(const struct smb2_reader *reader, const struct read *read,
			       uint8_t *frame, int range, uint32_t got)
{
	uint32_t length = CHANNEL_TRANSFER_SIZE + read->descriptors_length;
	uint8_t *body = frame + CHANNEL_HEADER_SIZE;

	channel_build_header(frame, CHANNEL_RDMA_WRITE, length);
	put_le64(body, OURS | (uint64_t)range);
	put_le32(body + 8, reader->pool);
	put_le32(body + 12, read->descriptors_length / BUFFER_DESCRIPTOR_SIZE);
	put_le64(body + 16, reader->ranges->ranges[range].offset);
	put_le64(body + 24, got);
	memcpy(body + CHANNEL_TRANSFER_SIZE, read->descriptors, read->descriptors_length);
	return CHANNEL_HEADER_SIZE + length;
}

static size_t build_invalidate(const struct read *read, uint8_t *frame)
{
	if (read->channel != SMB2_CHANNEL_RDMA_V1_INVALIDATE)
		return 0;
	channel_build_header(frame, CHANNEL_SEND_INVALIDATE, INVALIDATE_SIZE);
	memcpy(frame + CHANNEL_HEADER_SIZE, read->descriptors + TOKEN, INVALIDATE_SIZE);
	return CHANNEL_HEADER_SIZE + INVALIDATE_SIZE;
}

static bool answer_by_rdma(struct smb2_reader *reader, const struct read *read)
{
	uint8_t *frame = reader->replies + reader->replies_length;
	size_t most = CHANNEL_FRAME_MAX + CHANNEL_HEADER_SIZE + INVALIDATE_SIZE +
		      CHANNEL_HEADER_SIZE + SMB2_READ_RESPONSE_END;
	int range;
	uint32_t got;

	if (reader->replies_size - reader->replies_length < most)
		return false;
	range = smb2_ranges_take(reader->ranges, reader);
	if (range < 0)
		return false;
	if (!read_enough(read, reader->ranges->ranges[range].memory, &got) ||
	    !smb2_window_take(reader->window, get_le64(read->message + SMB2_MESSAGE_ID),
			      read->charge)) {
		smb2_ranges_give_back(reader->ranges, (uint64_t)range, reader);
		return false;
	}
	frame += build_rdma_write(reader, read, frame, range, got);
	frame += build_invalidate(read, frame);
	build_response(reader, read, frame, 0, got);
	frame += CHANNEL_HEADER_SIZE + SMB2_READ_RESPONSE_END;
	reader->replies_length = (size_t)(frame - reader->replies);
	reader->placed += got;
	reader->in_flight++;
	return true;
}

/* The range of an RDMA_WRITE is free again, whatever became of it: a failure ends the connection. */
static bool take_done(struct smb2_reader *reader, const uint8_t *body, uint32_t length)
{
	uint64_t operation = length == DONE_SIZE ? get_le64(body) : 0;

	if (!(operation & OURS) ||
	    !smb2_ranges_give_back(reader->ranges, operation & ~OURS, reader))
		return false;
	reader->in_flight--;
	reader->bytes_placed += get_le64(body + 16);
	return true;
}

static bool serve_frame(struct smb2_reader *reader, enum channel_frame type, const uint8_t *body,
			uint32_t length)
{
	struct read read;

	if (type == CHANNEL_DONE)
		return reader->channel_max && take_done(reader, body, length);
	if (type != CHANNEL_MESSAGE || !parse(reader, body, length, &read))
		return false;
	return read.channel ? answer_by_rdma(reader, &read) : answer_inline(reader, &read);
}

size_t smb2_reader_serve(struct smb2_reader *reader, const uint8_t *frames, size_t length)
{
	size_t taken = 0;

	reader->replies_length = reader->placed = 0;
	reader->frames = 0;
	while (length - taken >= CHANNEL_HEADER_SIZE && reader->frames < SMB2_FRAMES_MAX &&
	       reader->replies_length + reader->placed < SMB2_REPLIES_DUE) {
		const uint8_t *frame = frames + taken;
		uint32_t body;
		enum channel_frame type = channel_parse_header(frame, &body);

		if (body > length - taken - CHANNEL_HEADER_SIZE ||
		    !serve_frame(reader, type, frame + CHANNEL_HEADER_SIZE, body))
			break;
		taken += CHANNEL_HEADER_SIZE + (size_t)body;
		reader->frames++;
	}
	return taken;
}

bool smb2_reader_add_session(struct smb2_reader *reader, uint64_t session_id)
{
	if (is_bound(reader, session_id))
		return true;
	if (reader->session_count == SMB2_SESSIONS_MAX)
		return false;
	reader->sessions[reader->session_count++] = session_id;
	return true;
}

void smb2_reader_drop_session(struct smb2_reader *reader, uint64_t session_id)
{
	for (uint32_t i = 0; i < reader->session_count; i++)
		if (reader->sessions[i] == session_id) {
			reader->sessions[i] = reader->sessions[--reader->session_count];
			return;
		}
}

void smb2_reader_end(struct smb2_reader *reader)
{
	reader->session_count = 0;
	reader->in_flight = 0;
	for (unsigned int i = 0; reader->ranges && i < reader->ranges->count; i++)
		smb2_ranges_give_back(reader->ranges, i, reader);
}
