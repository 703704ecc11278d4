/* SOURCES: smbd_wire.c */
#include "smbd_wire.h"

#include <string.h>

#include "check.h"

/* A copy of its own, so that a byte too far is seen by the sanitizer. */
static const char *parse(const uint8_t *bytes, size_t length, struct smbd_data_transfer *ret,
			 uint32_t *sum)
{
	uint8_t *copy = malloc(length ? length : 1);
	const uint8_t *payload;
	const char *words;

	CHECK(copy);
	memcpy(copy, bytes, length);
	words = smbd_data_transfer_parse(length ? copy : copy + 1, length, ret, &payload);
	*sum = 0;
	for (uint32_t i = 0; !words && payload && i < ret->length; i++)
		*sum += payload[i];
	free(copy);
	return words;
}

static void test_data_transfer(void)
{
	struct smbd_data_transfer transfer = {.credits_requested = 255,
					      .credits_granted = 3,
					      .flags = 1,
					      .remaining = 1000,
					      .length = 5};
	struct smbd_data_transfer parsed;
	uint8_t bytes[SMBD_DATA_OFFSET + 5];
	uint32_t sum;

	CHECK(smbd_data_transfer_build(&transfer, bytes) == SMBD_DATA_OFFSET);
	memset(bytes + SMBD_DATA_OFFSET, 1, 5);
	CHECK(parse(bytes, sizeof(bytes), &parsed, &sum) == NULL);
	CHECK(parsed.credits_requested == 255 && parsed.credits_granted == 3);
	CHECK(parsed.flags == 1 && parsed.remaining == 1000 && parsed.length == 5 && sum == 5);
	for (size_t length = 0; length < sizeof(bytes); length++)
		CHECK(parse(bytes, length, &parsed, &sum) != NULL);
}

static void test_every_offset_and_length(void)
{
	static const uint32_t edges[] = {0,	     1,		 8,	     16,	20,
					 23,	     24,	 32,	     40,	64,
					 0x7FFFFFFF, 0x80000000, 0xFFFFFFE8, 0xFFFFFFFF};
	enum { COUNT = sizeof(edges) / sizeof(edges[0]), SIZE = 40 };

	for (size_t i = 0; i < COUNT; i++) {
		for (size_t j = 0; j < COUNT; j++) {
			struct smbd_data_transfer parsed;
			uint8_t bytes[SIZE] = {1};
			uint32_t sum;
			bool fits = edges[j] == 0 ||
				    (edges[i] % 8 == 0 && edges[i] >= SMBD_HEADER_SIZE &&
				     (uint64_t)edges[i] + edges[j] <= SIZE);

			for (int byte = 0; byte < 4; byte++) {
				bytes[12 + byte] = (uint8_t)(edges[i] >> 8 * byte);
				bytes[16 + byte] = (uint8_t)(edges[j] >> 8 * byte);
			}
			CHECK((parse(bytes, SIZE, &parsed, &sum) == NULL) == fits);
		}
	}
}

static void test_empty_message(void)
{
	struct smbd_data_transfer transfer = {.credits_requested = 1}, parsed;
	uint8_t bytes[SMBD_DATA_OFFSET] = {0};
	uint32_t sum;

	CHECK(smbd_data_transfer_build(&transfer, bytes) == SMBD_HEADER_SIZE);
	CHECK(parse(bytes, SMBD_HEADER_SIZE, &parsed, &sum) == NULL && parsed.length == 0);
	CHECK(parse(bytes, SMBD_DATA_OFFSET, &parsed, &sum) == NULL);
}

static void test_negotiation(void)
{
	struct smbd_negotiate_request request = {0x100, 0x100, 255, 1364, 8192, 1 << 20},
				      request_again;
	struct smbd_negotiate_response response = {0x100,      0x100,	0x100, 255,  254,
						   0xC00000BB, 8 << 20, 1364,  8192, 1 << 20};
	struct smbd_negotiate_response response_again;
	uint8_t bytes[SMBD_NEGOTIATE_RESPONSE_SIZE];

	smbd_negotiate_request_build(&request, bytes);
	for (size_t length = 0; length < SMBD_NEGOTIATE_REQUEST_SIZE; length++)
		CHECK(smbd_negotiate_request_parse(bytes, length, &request_again));
	CHECK(!smbd_negotiate_request_parse(bytes, SMBD_NEGOTIATE_REQUEST_SIZE, &request_again));
	CHECK(request_again.credits_requested == 255 && request_again.preferred_send_size == 1364);
	CHECK(request_again.max_receive_size == 8192 &&
	      request_again.max_fragmented_size == 1 << 20);
	smbd_negotiate_response_build(&response, bytes);
	for (size_t length = 0; length < SMBD_NEGOTIATE_RESPONSE_SIZE; length++)
		CHECK(smbd_negotiate_response_parse(bytes, length, &response_again));
	CHECK(!smbd_negotiate_response_parse(bytes, SMBD_NEGOTIATE_RESPONSE_SIZE, &response_again));
	CHECK(response.status == response_again.status &&
	      response.credits_granted == response_again.credits_granted);
	CHECK(response.max_fragmented_size == response_again.max_fragmented_size);
}

static void test_private_data_of_both_orders(void)
{
	static const uint8_t big[] = {0, 0, 0, 32, 0, 0, 0, 1},
			     little[] = {32, 0, 0, 0, 1, 0, 0, 0};
	static const uint8_t ksmbd[] = {0, 0, 0, 0, 1, 0, 0, 0};
	struct smbd_private_data data;

	CHECK(smbd_private_data_parse(big, 8, &data) && data.ird == 32 && data.ord == 1);
	CHECK(smbd_private_data_parse(little, 8, &data) && data.ird == 32 && data.ord == 1);
	CHECK(smbd_private_data_parse(ksmbd, 8, &data) && data.ird == 0 && data.ord == 1);
	CHECK(!smbd_private_data_parse(big, 7, &data));
}

int main(void)
{
	test_data_transfer();
	test_every_offset_and_length();
	test_empty_message();
	test_negotiation();
	test_private_data_of_both_orders();
	return 0;
}
