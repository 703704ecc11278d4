/* SOURCES: smb2_serve.c smb2_connection.c smb2_signing_none.c smb2_request.c smb2_read.c smb2_write.c smb2_opens.c smb2_ranges.c smb2_window.c channel_frames.c */
#include "smb2_requests.h"

static struct served served;
static uint8_t frames[8192 + 64 * REQUEST];

static size_t serve(size_t length)
{
	return smb2_serve(&served.connection, frames, length);
}

static void check_inline(const uint8_t *frame, uint64_t id, uint64_t offset, uint32_t length)
{
	const uint8_t *message = frame + 4;

	CHECK(frame[0] == 0 &&
	      ((uint32_t)frame[1] << 16 | frame[2] << 8 | frame[3]) == 80 + length);
	CHECK(!memcmp(message, "\xfeSMB", 4) && get_le32(message + SMB2_STATUS) == 0);
	CHECK(get_le16(message + SMB2_COMMAND) == SMB2_READ);
	CHECK(get_le32(message + SMB2_FLAGS) == SMB2_FLAG_RESPONSE);
	CHECK(get_le64(message + SMB2_MESSAGE_ID) == id);
	CHECK(get_le64(message + SMB2_SESSION_ID) == SESSION);
	CHECK(get_le16(message + SMB2_HEADER_SIZE) == SMB2_READ_RESPONSE_SIZE);
	CHECK(message[SMB2_READ_DATA_OFFSET] == 80);
	CHECK(get_le32(message + SMB2_READ_DATA_LENGTH) == length);
	CHECK(get_le32(message + SMB2_READ_DATA_REMAINING) == 0);
	CHECK(!memcmp(message + 80, served.content + offset, length));
}

static void test_several_inline_and_the_end_of_the_file(void)
{
	size_t length = put_read(frames, 0, 100, 4096);

	served_begin(&served, 10);
	length += put_read(frames + length, 1, CONTENT - 10, 4096);
	length += 60; /* a third one has not come whole */
	CHECK(serve(length) == 2 * REQUEST);
	CHECK(served.connection.frames == 2 &&
	      served.connection.replies_length == 84 + 4096 + 84 + 10);
	check_inline(served.replies, 0, 100, 4096);
	check_inline(served.replies + 84 + 4096, 1, CONTENT - 10, 10);
	CHECK(get_le16(served.replies + 4 + SMB2_CREDITS) == 2);
	CHECK(served.open->position == CONTENT - 10 + 4096);
	CHECK(served.connection.messages_sent == 2 && served.connection.bytes_sent == 160 + 4106);
	CHECK(served.connection.window->low == 2 && served.connection.window->high == 14);
	served_end(&served);
}

/* One change each, and nothing is taken; `bytes` at `offset` of the message. */
static void check_left(size_t offset, uint64_t value, size_t bytes)
{
	value = htole64(value);
	put_read(frames, 0, 0, 4096);
	memcpy(frames + 4 + offset, &value, bytes);
	CHECK(serve(REQUEST) == 0 && served.connection.replies_length == 0);
	CHECK(served.connection.window->low == 0 && served.open->position == 0);
}

static void test_what_is_left_to_python(void)
{
	served_begin(&served, 10);
	check_left(0, 0x424d53fd, 4); /* sealed */
	check_left(SMB2_STRUCTURE_SIZE, 63, 2);
	check_left(SMB2_CHANNEL_SEQUENCE, SEQUENCE + 1, 2);
	check_left(SMB2_COMMAND, 5, 2);
	for (uint32_t flag = 1; flag; flag <<= 1)
		if (!(flag & SMB2_FLAG_PRIORITY))
			check_left(SMB2_FLAGS, flag, 4);
	check_left(SMB2_NEXT_COMMAND, 120, 4);
	check_left(SMB2_MESSAGE_ID, 10, 8); /* never granted */
	check_left(SMB2_TREE_ID, TREE + 1, 4);
	check_left(SMB2_SESSION_ID, SESSION + 1, 8);
	check_left(SMB2_HEADER_SIZE, 48, 2);
	check_left(SMB2_READ_LENGTH, 0, 4);
	check_left(SMB2_READ_LENGTH, 65536, 4); /* longer than goes inline */
	check_left(SMB2_READ_LENGTH, 65537, 4); /* more than one credit pays for */
	check_left(SMB2_READ_LENGTH, (1 << 20) + 1, 4);
	check_left(SMB2_READ_OFFSET, CONTENT, 8); /* END_OF_FILE */
	check_left(SMB2_READ_OFFSET, INT64_MAX - 4095, 8);
	check_left(SMB2_READ_OFFSET, UINT64_MAX, 8);
	check_left(SMB2_READ_PERSISTENT, 0, 8);
	check_left(SMB2_READ_VOLATILE, VOLATILE + 4096, 8); /* the same bucket */
	check_left(SMB2_READ_MINIMUM, 4097, 4);
	check_left(SMB2_READ_CHANNEL, 3, 4);
	served.locked = 1;
	check_left(SMB2_FLAGS, 0, 4);
	served.locked = 0;
	served.open->reads = false;
	check_left(SMB2_FLAGS, 0, 4);
	served.open->reads = true;
	smb2_connection_drop_session(&served.connection, SESSION);
	check_left(SMB2_FLAGS, 0, 4);
	CHECK(smb2_connection_add_session(&served.connection, SESSION, false, NULL));
	put_read(frames, 0, 0, 4096);
	put_le32(frames + 4 + SMB2_FLAGS, SMB2_FLAG_PRIORITY);
	CHECK(serve(REQUEST) == REQUEST);
	CHECK(get_le32(served.replies + 4 + SMB2_FLAGS) == (SMB2_FLAG_PRIORITY | 1));
	CHECK(serve(REQUEST) == 0); /* the id was used */
	served_end(&served);
}

static void test_replies_leave_when_they_are_due(void)
{
	size_t length = 0;

	served_begin(&served, 20);
	for (uint64_t id = 0; id < 10; id++)
		length += put_read(frames + length, id, 0, SMB2_REPLIES_DUE / 6);
	CHECK(serve(length) == 6 * REQUEST); /* with its header the sixth goes beyond what is due */
	memmove(frames, frames + 6 * REQUEST, 4 * REQUEST);
	CHECK(serve(4 * REQUEST) == 4 * REQUEST && served.connection.messages_sent == 10);
	served_end(&served);
}

static void test_read_by_rdma(void)
{
	const uint8_t *frame = served.replies;
	uint64_t operation;

	served_begin(&served, 20);
	CHECK(serve(put_read_by_rdma(frames, 0, 7, 100000, SMB2_CHANNEL_RDMA_V1_INVALIDATE, 3)) >
	      0);
	CHECK(frame[0] == 0x82 && frame[3] == 32 + 48);
	operation = get_le64(frame + 4);
	CHECK(get_le32(frame + 12) == 3 && get_le32(frame + 16) == 3 &&
	      get_le64(frame + 28) == 100000);
	CHECK(!memcmp(served.pool + get_le64(frame + 20), served.content + 7, 100000));
	CHECK(!memcmp(frame + 36, frames + 4 + SMB2_READ_REQUEST_END, 48));
	frame += 84;
	CHECK(frame[0] == 0x85 && get_le32(frame + 4) == 0xabcd);
	frame += 8;
	CHECK(frame[0] == 0 && frame[3] == 80);
	CHECK(get_le32(frame + 4 + SMB2_READ_DATA_LENGTH) == 0);
	CHECK(get_le32(frame + 4 + SMB2_READ_DATA_REMAINING) == 100000);
	CHECK(served.connection.moving == 100000 && served.connection.in_flight == 1);

	/* Without a free range, or with a DONE that is not ours, nothing is taken. */
	CHECK(serve(put_read_by_rdma(frames, 2, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1)) > 0);
	CHECK(served.replies[0] == 0x82 && served.replies[52] == 0);
	CHECK(serve(put_read_by_rdma(frames, 3, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1)) == 0);
	CHECK(serve(put_done(frames, 1, 0, 100000)) == 0);
	CHECK(serve(put_done(frames, operation + RANGES, 0, 100000)) == 0);
	CHECK(serve(put_done(frames, operation, 0, 100000)) == 28);
	CHECK(serve(put_done(frames, operation, 0, 100000)) == 0);
	CHECK(served.connection.in_flight == 1 && served.connection.bytes_written == 100000);
	CHECK(serve(put_read_by_rdma(frames, 3, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1)) > 0);
	served_end(&served);
}

static void test_descriptors_that_do_not_fit(void)
{
	size_t length;

	served_begin(&served, 20);
	length = put_read_by_rdma(frames, 0, 0, 1000, SMB2_CHANNEL_RDMA_V1, 2);
	put_le32(frames + 4 + SMB2_READ_REQUEST_END + 12, 10); /* too little room */
	CHECK(serve(length) == 0);
	length = put_read_by_rdma(frames, 0, 0, 1000, SMB2_CHANNEL_RDMA_V1, 2);
	put_le16(frames + 4 + SMB2_READ_INFO_LENGTH, 48); /* beyond the message */
	CHECK(serve(length) == 0);
	put_le16(frames + 4 + SMB2_READ_INFO_LENGTH, 31);
	CHECK(serve(length) == 0);
	put_le16(frames + 4 + SMB2_READ_INFO_LENGTH, 0);
	CHECK(serve(length) == 0);
	put_le16(frames + 4 + SMB2_READ_INFO_LENGTH, 32);
	put_le16(frames + 4 + SMB2_READ_INFO_OFFSET, SMB2_READ_REQUEST_END - 1);
	CHECK(serve(length) == 0);
	CHECK(serve(put_read_by_rdma(frames, 0, 0, RANGE + 1, SMB2_CHANNEL_RDMA_V1, 1)) == 0);
	served.connection.channel_max = SMB2_CHANNEL_RDMA_V1;
	CHECK(serve(put_read_by_rdma(frames, 0, 0, 9, SMB2_CHANNEL_RDMA_V1_INVALIDATE, 1)) == 0);
	CHECK(served.ranges.free_count == RANGES);
	served_end(&served);
}

static void check_file(uint64_t offset, const uint8_t *wanted, size_t length)
{
	static uint8_t found[RANGE];

	CHECK(pread(served.open->fd, found, length, (off_t)offset) == (ssize_t)length);
	CHECK(!memcmp(found, wanted, length));
}

static void check_written(const uint8_t *frame, uint64_t id, uint32_t count)
{
	const uint8_t *message = frame + 4;

	CHECK(frame[0] == 0 && frame[3] == SMB2_WRITE_RESPONSE_END);
	CHECK(get_le32(message + SMB2_STATUS) == 0 && get_le64(message + SMB2_MESSAGE_ID) == id);
	CHECK(get_le16(message + SMB2_COMMAND) == SMB2_WRITE &&
	      get_le32(message + SMB2_FLAGS) == 1);
	CHECK(get_le16(message + SMB2_HEADER_SIZE) == SMB2_WRITE_RESPONSE_SIZE);
	CHECK(get_le32(message + SMB2_WRITE_COUNT) == count);
}

static void test_write_inline(void)
{
	static const uint8_t data[4096] = "what is written";
	size_t length;

	served_begin(&served, 10);
	length = put_write(frames, 0, 5000, data, sizeof(data));
	CHECK(serve(length) == length && served.connection.replies_length == 4 + 80);
	check_written(served.replies, 0, sizeof(data));
	check_file(5000, data, sizeof(data));

	/* Left, and the file is as it was. */
	length = put_write(frames, 0, 0, data, sizeof(data)); /* an id that was used */
	CHECK(serve(length) == 0);
	length = put_write(frames, 1, 0, data, sizeof(data));
	put_le32(frames + 4 + SMB2_WRITE_FLAGS, 1); /* write-through */
	CHECK(serve(length) == 0);
	put_le32(frames + 4 + SMB2_WRITE_FLAGS, SMB2_WRITE_UNBUFFERED);
	put_le16(frames + 4 + SMB2_WRITE_DATA_OFFSET, SMB2_WRITE_REQUEST_END + 1);
	CHECK(serve(length) == 0);
	put_le16(frames + 4 + SMB2_WRITE_DATA_OFFSET, SMB2_WRITE_REQUEST_END - 1);
	CHECK(serve(length) == 0);
	put_le16(frames + 4 + SMB2_WRITE_DATA_OFFSET, SMB2_WRITE_REQUEST_END);
	served.open->writes = false;
	CHECK(serve(length) == 0);
	served.open->writes = true;
	served.readers = 1;
	CHECK(serve(length) == 0);
	served.readers = 0;
	put_le64(frames + 4 + SMB2_WRITE_OFFSET, (1 << 30) - sizeof(data) + 1);
	CHECK(serve(length) == 0);
	put_le64(frames + 4 + SMB2_WRITE_OFFSET, 0);
	served.locked = 1;
	CHECK(serve(length) == 0);
	served.locked = 0;
	check_file(0, served.content, 5000);
	served.readers = served.open->alone = 1;
	CHECK(serve(length) == length);
	check_file(0, data, sizeof(data));
	served_end(&served);
}

/* Asks for a WRITE by RDMA, and gives the operation of its RDMA_READ. */
static uint64_t fetch(uint64_t id, uint64_t offset, uint32_t length, uint32_t channel)
{
	size_t whole = put_write_by_rdma(frames, id, offset, length, channel, 2);
	const uint8_t *frame = served.replies;

	CHECK(serve(whole) == whole);
	CHECK(frame[0] == 0x83 && frame[3] == 64 && served.connection.replies_length == 68);
	CHECK(get_le32(frame + 12) == 3 && get_le32(frame + 16) == 2 &&
	      get_le64(frame + 28) == length);
	CHECK(!memcmp(frame + 36, frames + 4 + SMB2_WRITE_REQUEST_END, 32));
	memset(served.pool + get_le64(frame + 20), (int)id, length);
	return get_le64(frame + 4);
}

static void test_write_by_rdma(void)
{
	static uint8_t wanted[100000];
	uint64_t first, second;

	served_begin(&served, 20);
	first = fetch(0, 10, 100000, SMB2_CHANNEL_RDMA_V1_INVALIDATE);
	second = fetch(2, 0, 10, SMB2_CHANNEL_RDMA_V1);
	CHECK(served.connection.in_flight == 2 && served.open->requests == 2);
	CHECK(serve(put_write_by_rdma(frames, 3, 0, 10, SMB2_CHANNEL_RDMA_V1, 1)) == 0);
	check_file(0, served.content, 100010); /* nothing has arrived */

	CHECK(serve(put_done(frames, second, 0, 10)) == 28);
	check_written(served.replies, 2, 10);
	CHECK(serve(put_done(frames, first, 0, 100000)) == 28);
	CHECK(served.replies[0] == 0x85 && get_le32(served.replies + 4) == 0xabcd);
	check_written(served.replies + 8, 0, 100000);
	check_file(10, wanted, 100000);
	CHECK(served.connection.in_flight == 0 && served.open->requests == 0);
	CHECK(served.connection.bytes_read == 100010 && !served.connection.failed_error);
	served_end(&served);
}

static void test_payload_that_never_comes(void)
{
	uint64_t operation;

	served_begin(&served, 20);
	operation = fetch(0, 0, 1000, SMB2_CHANNEL_RDMA_V1_INVALIDATE);
	put_done(frames, operation, 2, 0);
	put_read(frames + 28, 1, 0, 10); /* waits until Python has refused the WRITE */
	CHECK(serve(28 + REQUEST) == 28 && served.connection.replies_length == 0);
	CHECK(served.connection.failed_error && served.connection.failed_invalidates);
	CHECK(served.connection.failed_token == 0xabcd);
	CHECK(get_le64(served.connection.failed_header + SMB2_MESSAGE_ID) == 0);
	operation = fetch(1, 0, 1000, SMB2_CHANNEL_RDMA_V1);
	CHECK(serve(put_done(frames, operation, 0, 999)) == 28 && served.connection.failed_error);
	check_file(0, served.content, 1000);
	served_end(&served);
}

static void test_an_open_that_ends_during_a_write(void)
{
	uint64_t operation;
	int fd;

	served_begin(&served, 20);
	operation = fetch(0, 0, 1000, SMB2_CHANNEL_RDMA_V1);
	fd = served.open->fd;
	smb2_opens_remove(served.connection.opens, served.open);
	served.open = NULL;
	CHECK(serve(put_read(frames, 1, 0, 10)) == 0);
	CHECK(serve(put_done(frames, operation, 0, 1000)) == 28 && served.connection.failed_error);
	close(fd);
	served_end(&served);
}

/* [MS-SMB2] 3.3.5.2.10: what was begun with an older sequence is told apart. */
static void test_sequences(void)
{
	uint64_t older, newer;

	served_begin(&served, 20);
	older = fetch(0, 0, 1000, SMB2_CHANNEL_RDMA_V1);
	smb2_open_advance(served.open, SEQUENCE + 1);
	CHECK(serve(put_write_by_rdma(frames, 1, 0, 10, SMB2_CHANNEL_RDMA_V1, 1)) == 0);
	put_le16(frames + 4 + SMB2_CHANNEL_SEQUENCE, SEQUENCE + 1);
	CHECK(serve(REQUEST - 1 + 16) == REQUEST - 1 + 16);
	newer = get_le64(served.replies + 4);
	CHECK(served.open->requests == 1 && served.open->earlier_requests == 1);
	CHECK(serve(put_done(frames, older, 0, 1000)) == 28);
	CHECK(served.open->requests == 1 && served.open->earlier_requests == 0);
	CHECK(serve(put_done(frames, newer, 0, 10)) == 28 && served.open->requests == 0);
	served_end(&served);
}

static void test_a_connection_that_ends_during_a_write(void)
{
	served_begin(&served, 20);
	fetch(0, 0, 1000, SMB2_CHANNEL_RDMA_V1);
	smb2_connection_end(&served.connection);
	CHECK(served.open->requests == 0 && served.connection.in_flight == 0);
	check_file(0, served.content, 1000);
	served_end(&served);
}

static void test_opens_come_and_go(void)
{
	struct smb2_opens *opens = smb2_opens_create();
	struct smb2_open *added[10000];

	for (uint64_t id = 0; id < 10000; id++)
		added[id] = smb2_opens_add(opens, &(struct smb2_open){.volatile_id = id});
	for (uint64_t id = 0; id < 10000; id += 3)
		smb2_opens_remove(opens, added[id]);
	for (uint64_t id = 0; id < 10000; id++)
		CHECK(smb2_opens_find(opens, id) == (id % 3 ? added[id] : NULL));
	smb2_opens_destroy(opens);
	smb2_opens_destroy(NULL);
}

int main(void)
{
	test_several_inline_and_the_end_of_the_file();
	test_what_is_left_to_python();
	test_replies_leave_when_they_are_due();
	test_read_by_rdma();
	test_descriptors_that_do_not_fit();
	test_write_inline();
	test_write_by_rdma();
	test_payload_that_never_comes();
	test_an_open_that_ends_during_a_write();
	test_sequences();
	test_a_connection_that_ends_during_a_write();
	test_opens_come_and_go();
	return 0;
}
