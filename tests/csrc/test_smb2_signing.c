/* SOURCES: smb2_serve.c smb2_connection.c smb2_signing.c smb2_request.c smb2_read.c smb2_write.c smb2_opens.c smb2_ranges.c smb2_window.c channel_frames.c -lcrypto */
#include "smb2_requests.h"

enum {
	ALGORITHMS = 3,
	MESSAGE = 64 + 49,
};

static struct served served;
static uint8_t frames[8192];
static uint8_t key[16];
static struct smb2_signing *client;

/* A READ of MessageId 7 whose body counts up, its response and its cancellation, signed by another implementation. */
static const uint8_t known[ALGORITHMS][3][SMB2_SIGNATURE_SIZE] = {
	{"\x57\x0c\x52\x85\x13\xb5\x4c\x21\x12\x37\x18\xc6\xa1\x3b\x7e\x28",
	 "\x76\x9e\x89\x3b\x2f\xef\x9f\xf1\x4a\x94\x69\xf2\x06\x80\x77\x19",
	 "\x88\x6d\xc6\x4f\x59\x43\x84\x0a\x89\x22\xce\xf8\x25\x36\x1b\x18"},
	{"\x02\x7e\xe4\x9e\x06\x8b\xa1\x9c\x49\x82\xa8\x2a\xac\x97\x21\xcd",
	 "\x8c\x2a\x0b\x13\xab\x00\x37\xd4\x49\xc2\x27\xa0\xba\x84\x28\x0e",
	 "\xaa\x82\x76\x03\x8d\xb8\xb8\x54\xf0\x73\x6e\x47\x19\xee\xd1\x18"},
	{"\xcf\xc4\x63\xe0\x22\x15\x6d\x4e\x8d\x6f\x56\x61\xc8\xc8\xa5\x28",
	 "\xd7\x79\xb7\xd3\x0e\x2a\x4e\x3c\xf9\x6c\x16\x89\x76\x70\x94\x71",
	 "\x40\x16\xd3\x55\xe0\x9e\x17\x8a\x65\x7b\x7b\xad\xa8\x60\x56\x17"},
};

static size_t serve(size_t length)
{
	return smb2_serve(&served.connection, frames, length);
}

static void put_known(uint8_t *message)
{
	memset(message, 0, MESSAGE);
	memcpy(message, "\xfeSMB", 4);
	put_le16(message + SMB2_STRUCTURE_SIZE, SMB2_HEADER_SIZE);
	put_le16(message + SMB2_CREDIT_CHARGE, 1);
	put_le16(message + SMB2_COMMAND, SMB2_READ);
	put_le16(message + SMB2_CREDITS, 2);
	put_le32(message + SMB2_FLAGS, SMB2_FLAG_SIGNED);
	put_le64(message + SMB2_MESSAGE_ID, 7);
	put_le32(message + SMB2_TREE_ID, TREE);
	put_le64(message + SMB2_SESSION_ID, SESSION);
	for (uint8_t i = 0; i < MESSAGE - SMB2_HEADER_SIZE; i++)
		message[SMB2_HEADER_SIZE + i] = i;
}

/* Signed twice, since a context is used again; what stands where the signature goes does not count. */
static void check_signature(struct smb2_signing *signing, uint8_t *message, size_t length,
			    const uint8_t *wanted)
{
	for (int i = 0; i < 2; i++) {
		memset(message + SMB2_SIGNATURE, i, SMB2_SIGNATURE_SIZE);
		smb2_signing_sign(signing, message, length);
		CHECK(!memcmp(message + SMB2_SIGNATURE, wanted, SMB2_SIGNATURE_SIZE));
	}
	CHECK(smb2_signing_verify(signing, message, length));
	for (size_t i = 0; i < length; i++) {
		message[i] ^= 1;
		CHECK(!smb2_signing_verify(signing, message, length));
		message[i] ^= 1;
	}
	CHECK(length == SMB2_HEADER_SIZE || !smb2_signing_verify(signing, message, length - 1));
}

static void test_known_signatures(void)
{
	uint8_t message[MESSAGE];

	for (int algorithm = 0; algorithm < ALGORITHMS; algorithm++) {
		struct smb2_signing *signing = smb2_signing_create(algorithm, key, sizeof(key));

		CHECK(signing);
		put_known(message);
		check_signature(signing, message, MESSAGE, known[algorithm][0]);
		put_le32(message + SMB2_FLAGS, SMB2_FLAG_SIGNED | SMB2_FLAG_RESPONSE);
		check_signature(signing, message, MESSAGE, known[algorithm][1]);
		put_known(message);
		put_le16(message + SMB2_COMMAND, SMB2_CANCEL);
		check_signature(signing, message, SMB2_HEADER_SIZE, known[algorithm][2]);
		smb2_signing_destroy(signing);
	}
	CHECK(!smb2_signing_create(SMB2_AES_CMAC, key, 15));
	CHECK(!smb2_signing_create(SMB2_AES_GMAC, key, 17));
	CHECK(!smb2_signing_create((enum smb2_signing_algorithm)ALGORITHMS, key, 16));
	smb2_signing_destroy(NULL);
}

/* A session whose client signs; `must`: it always has to. */
static void begin(bool must)
{
	served_begin(&served, 20);
	client = smb2_signing_create(SMB2_AES_CMAC, key, sizeof(key));
	CHECK(smb2_connection_add_session(&served.connection, SESSION, must,
					  smb2_signing_create(SMB2_AES_CMAC, key, sizeof(key))));
}

static void end(void)
{
	smb2_signing_destroy(client);
	served_end(&served);
}

static size_t put_signed(size_t whole)
{
	sign_request(client, frames, whole);
	return whole;
}

static void check_signed(const uint8_t *frame, size_t length)
{
	const uint8_t *message = frame + 4;

	CHECK(((size_t)frame[1] << 16 | frame[2] << 8 | frame[3]) == length);
	CHECK(get_le32(message + SMB2_FLAGS) == (SMB2_FLAG_RESPONSE | SMB2_FLAG_SIGNED));
	CHECK(smb2_signing_verify(client, message, length));
}

static void test_the_answer_is_signed_if_the_request_was(void)
{
	begin(false);
	CHECK(serve(put_signed(put_read(frames, 0, 5, 4096))) == REQUEST);
	check_signed(served.replies, 80 + 4096);
	CHECK(serve(put_read(frames, 1, 5, 4096)) == REQUEST);
	CHECK(get_le32(served.replies + 4 + SMB2_FLAGS) == SMB2_FLAG_RESPONSE);
	end();
}

static void test_what_is_not_signed_as_it_must_be_is_left(void)
{
	static const uint8_t data[] = "forged";
	size_t length;

	begin(true);
	CHECK(serve(put_read(frames, 0, 0, 4096)) == 0);
	put_signed(put_read(frames, 0, 0, 4096));
	frames[4 + SMB2_READ_OFFSET]++;
	CHECK(serve(REQUEST) == 0);
	length = put_signed(put_write(frames, 0, 0, data, sizeof(data)));
	frames[length - 1]++;
	CHECK(serve(length) == 0 && served.connection.window->low == 0);
	length = put_signed(
		put_write_by_rdma(frames, 0, 0, 1000, SMB2_CHANNEL_RDMA_V1_INVALIDATE, 2));
	frames[length - 1]++;
	CHECK(serve(length) == 0 && served.ranges.free_count == RANGES);
	length = put_signed(
		put_read_by_rdma(frames, 0, 0, 1000, SMB2_CHANNEL_RDMA_V1_INVALIDATE, 2));
	frames[length - 1]++;
	CHECK(serve(length) == 0 && served.ranges.free_count == RANGES);
	CHECK(serve(put_signed(put_read(frames, 0, 0, 4096))) == REQUEST);
	end();
}

static void test_by_rdma(void)
{
	uint64_t operation;

	begin(true);
	CHECK(serve(put_signed(put_read_by_rdma(frames, 0, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1))) > 0);
	check_signed(served.replies + 52, 80);
	CHECK(serve(put_signed(put_write_by_rdma(frames, 1, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1))) >
	      0);
	operation = get_le64(served.replies + 4);
	CHECK(serve(put_done(frames, operation, 0, 1000)) == 28);
	check_signed(served.replies, 80);

	/* The session ends before the payload is there: its key is gone. */
	CHECK(serve(put_signed(put_write_by_rdma(frames, 2, 0, 1000, SMB2_CHANNEL_RDMA_V1, 1))) >
	      0);
	operation = get_le64(served.replies + 4);
	smb2_connection_drop_session(&served.connection, SESSION);
	CHECK(serve(put_done(frames, operation, 0, 1000)) == 28);
	CHECK(served.replies[3] == 80 && !smb2_signing_verify(client, served.replies + 4, 80));
	end();
}

static void test_sessions_that_are_too_many(void)
{
	begin(false);
	for (uint64_t id = 1; id < SMB2_SESSIONS_MAX; id++)
		CHECK(smb2_connection_add_session(
			&served.connection, SESSION + id, true,
			smb2_signing_create(SMB2_HMAC_SHA256, key, sizeof(key))));
	CHECK(!smb2_connection_add_session(
		&served.connection, 1, true,
		smb2_signing_create(SMB2_HMAC_SHA256, key, sizeof(key))));
	/* Again is no second one: with another key, say. */
	CHECK(smb2_connection_add_session(&served.connection, SESSION, true,
					  smb2_signing_create(SMB2_AES_GMAC, key, sizeof(key))));
	CHECK(serve(put_signed(put_read(frames, 0, 0, 4096))) == 0);
	end();
}

int main(void)
{
	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	test_known_signatures();
	test_the_answer_is_signed_if_the_request_was();
	test_what_is_not_signed_as_it_must_be_is_left();
	test_by_rdma();
	test_sessions_that_are_too_many();
	return 0;
}
