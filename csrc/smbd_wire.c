#include "smbd_wire.h"

#include "bigendian.h"
#include "littleendian.h"

const char *smbd_negotiate_request_parse(const uint8_t *bytes, size_t length,
					 struct smbd_negotiate_request *ret)
{
	if (length < SMBD_NEGOTIATE_REQUEST_SIZE)
		return "a Negotiate Request is shorter than 20 bytes";
	ret->min_version = get_le16(bytes);
	ret->max_version = get_le16(bytes + 2);
	ret->credits_requested = get_le16(bytes + 6);
	ret->preferred_send_size = get_le32(bytes + 8);
	ret->max_receive_size = get_le32(bytes + 12);
	ret->max_fragmented_size = get_le32(bytes + 16);
	return NULL;
}

void smbd_negotiate_request_build(const struct smbd_negotiate_request *request,
				  uint8_t ret[SMBD_NEGOTIATE_REQUEST_SIZE])
{
	put_le16(ret, request->min_version);
	put_le16(ret + 2, request->max_version);
	put_le16(ret + 4, 0);
	put_le16(ret + 6, request->credits_requested);
	put_le32(ret + 8, request->preferred_send_size);
	put_le32(ret + 12, request->max_receive_size);
	put_le32(ret + 16, request->max_fragmented_size);
}

const char *smbd_negotiate_response_parse(const uint8_t *bytes, size_t length,
					  struct smbd_negotiate_response *ret)
{
	if (length < SMBD_NEGOTIATE_RESPONSE_SIZE)
		return "a Negotiate Response is shorter than 32 bytes";
	ret->min_version = get_le16(bytes);
	ret->max_version = get_le16(bytes + 2);
	ret->negotiated_version = get_le16(bytes + 4);
	ret->credits_requested = get_le16(bytes + 8);
	ret->credits_granted = get_le16(bytes + 10);
	ret->status = get_le32(bytes + 12);
	ret->max_read_write_size = get_le32(bytes + 16);
	ret->preferred_send_size = get_le32(bytes + 20);
	ret->max_receive_size = get_le32(bytes + 24);
	ret->max_fragmented_size = get_le32(bytes + 28);
	return NULL;
}

void smbd_negotiate_response_build(const struct smbd_negotiate_response *response,
				   uint8_t ret[SMBD_NEGOTIATE_RESPONSE_SIZE])
{
	put_le16(ret, response->min_version);
	put_le16(ret + 2, response->max_version);
	put_le16(ret + 4, response->negotiated_version);
	put_le16(ret + 6, 0);
	put_le16(ret + 8, response->credits_requested);
	put_le16(ret + 10, response->credits_granted);
	put_le32(ret + 12, response->status);
	put_le32(ret + 16, response->max_read_write_size);
	put_le32(ret + 20, response->preferred_send_size);
	put_le32(ret + 24, response->max_receive_size);
	put_le32(ret + 28, response->max_fragmented_size);
}

const char *smbd_data_transfer_parse(const uint8_t *bytes, size_t length,
				     struct smbd_data_transfer *ret, const uint8_t **payload)
{
	uint64_t offset;

	*payload = NULL;
	if (length < SMBD_HEADER_SIZE)
		return "a data transfer message is shorter than 20 bytes";
	ret->credits_requested = get_le16(bytes);
	ret->credits_granted = get_le16(bytes + 2);
	ret->flags = get_le16(bytes + 4);
	ret->remaining = get_le32(bytes + 8);
	offset = get_le32(bytes + 12);
	ret->length = get_le32(bytes + 16);
	if (ret->credits_requested == 0)
		return "a data transfer message requests no credits";
	if (ret->length == 0)
		return NULL;
	if (offset % 8 != 0)
		return "a data transfer message has a DataOffset that is not a multiple of 8";
	if (offset < SMBD_HEADER_SIZE)
		return "a data transfer message has a DataOffset inside its header";
	if (offset + ret->length > length)
		return "a data transfer message has payload beyond its end";
	*payload = bytes + offset;
	return NULL;
}

uint32_t smbd_data_transfer_build(const struct smbd_data_transfer *transfer,
				  uint8_t ret[SMBD_DATA_OFFSET])
{
	put_le16(ret, transfer->credits_requested);
	put_le16(ret + 2, transfer->credits_granted);
	put_le16(ret + 4, transfer->flags);
	put_le16(ret + 6, 0);
	put_le32(ret + 8, transfer->remaining);
	put_le32(ret + 12, transfer->length ? SMBD_DATA_OFFSET : 0);
	put_le32(ret + 16, transfer->length);
	if (transfer->length == 0)
		return SMBD_HEADER_SIZE;
	put_le32(ret + 20, 0);
	return SMBD_DATA_OFFSET;
}

void smbd_descriptor_parse(const uint8_t bytes[BUFFER_DESCRIPTOR_SIZE],
			   struct buffer_descriptor *ret)
{
	ret->offset = get_le64(bytes);
	ret->token = get_le32(bytes + 8);
	ret->length = get_le32(bytes + 12);
}

void smbd_descriptor_build(const struct buffer_descriptor *descriptor,
			   uint8_t ret[BUFFER_DESCRIPTOR_SIZE])
{
	put_le64(ret, descriptor->offset);
	put_le32(ret + 8, descriptor->token);
	put_le32(ret + 12, descriptor->length);
}

/*
 * Depths are at most 255 in practice. A number that is small only when its bytes are read backwards was written in
 * the byte order of an x86 machine; both numbers were written by the same hand, so one of them decides.
 */
static bool swapped(uint32_t big)
{
	return big > 255 && __builtin_bswap32(big) <= 255;
}

bool smbd_private_data_parse(const uint8_t *bytes, size_t length, struct smbd_private_data *ret)
{
	if (length < SMBD_PRIVATE_DATA_SIZE)
		return false;
	ret->ird = get_be32(bytes);
	ret->ord = get_be32(bytes + 4);
	if (swapped(ret->ird) || swapped(ret->ord)) {
		ret->ird = get_le32(bytes);
		ret->ord = get_le32(bytes + 4);
	}
	return true;
}

void smbd_private_data_build(const struct smbd_private_data *data,
			     uint8_t ret[SMBD_PRIVATE_DATA_SIZE])
{
	put_be32(ret, data->ird);
	put_be32(ret + 4, data->ord);
}
