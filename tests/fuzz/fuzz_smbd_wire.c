/* SOURCES: smbd_wire.c */
/* Any bytes as each of SMB Direct's messages: what parses can be built again and then means the same. */
#include <string.h>

#include "check.h"
#include "smbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void data_transfer(const uint8_t *bytes, size_t length)
{
	struct smbd_data_transfer transfer, again;
	uint8_t built[SMBD_DATA_OFFSET + 4096];
	const uint8_t *payload;
	uint32_t size;

	if (smbd_data_transfer_parse(bytes, length, &transfer, &payload))
		return;
	CHECK(!payload == !transfer.length);
	if (transfer.length > 4096)
		return;
	size = smbd_data_transfer_build(&transfer, built);
	if (payload)
		memcpy(built + size, payload, transfer.length);
	CHECK(smbd_data_transfer_parse(built, size + transfer.length, &again, &payload) == NULL);
	CHECK(transfer.credits_requested == again.credits_requested);
	CHECK(transfer.credits_granted == again.credits_granted);
	CHECK(transfer.flags == again.flags && transfer.remaining == again.remaining);
	CHECK(transfer.length == again.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct smbd_negotiate_response response;
	struct smbd_negotiate_request request;
	struct smbd_private_data data;
	uint8_t built[SMBD_NEGOTIATE_RESPONSE_SIZE];

	data_transfer(bytes, length);
	if (smbd_negotiate_request_parse(bytes, length, &request) == NULL) {
		smbd_negotiate_request_build(&request, built);
		CHECK(memcmp(built + 6, bytes + 6, SMBD_NEGOTIATE_REQUEST_SIZE - 6) == 0);
	}
	if (smbd_negotiate_response_parse(bytes, length, &response) == NULL) {
		smbd_negotiate_response_build(&response, built);
		CHECK(memcmp(built + 8, bytes + 8, SMBD_NEGOTIATE_RESPONSE_SIZE - 8) == 0);
	}
	if (smbd_private_data_parse(bytes, length, &data))
		smbd_private_data_build(&data, built);
	return 0;
}
