/*
 * What SMB Direct puts on the wire ([MS-SMBD] section 2.2): three messages, the buffer descriptor, and the eight bytes
 * of private data that go with an iWARP connection. Everything is little-endian except those eight bytes.
 *
 * Here is syntax only: lengths, offsets, and sums that do not fit. Whether a value is acceptable is decided in
 * smbd_negotiation.c. A parser returns NULL, or a sentence that says what is wrong with the message.
 */
#ifndef SMBD_WIRE_H
#define SMBD_WIRE_H

#include "path.h"

enum {
	SMBD_VERSION = 0x0100, /* the only version there is: 1.0 */

	SMBD_NEGOTIATE_REQUEST_SIZE = 20,
	SMBD_NEGOTIATE_RESPONSE_SIZE = 32,
	SMBD_HEADER_SIZE =
		20, /* of a data transfer message; an empty message is this and nothing else */
	SMBD_DATA_OFFSET = 24, /* where the payload starts: the header and four bytes of padding */

	SMBD_RECEIVE_SIZE_MIN =
		128, /* bytes; [MS-SMBD] 3.1.5.6: a smaller MaxReceiveSize is refused */
	SMBD_FRAGMENTED_SIZE_MIN = 131072, /* bytes; the same for MaxFragmentedSize */

	SMBD_RESPONSE_REQUESTED = 0x0001, /* the one flag of a data transfer message */

	SMBD_PRIVATE_DATA_SIZE = 8, /* iWARP: IRD and ORD, 32 bits each */
};

/* NTSTATUS values of a Negotiate Response. */
#define SMBD_STATUS_SUCCESS	  ((uint32_t)0)
#define SMBD_STATUS_NOT_SUPPORTED ((uint32_t)0xC00000BB)

/* [MS-SMBD] 2.2.1 */
struct smbd_negotiate_request {
	uint16_t min_version, max_version;
	uint16_t credits_requested;
	uint32_t preferred_send_size;
	uint32_t max_receive_size;
	uint32_t max_fragmented_size;
};

/* [MS-SMBD] 2.2.2 */
struct smbd_negotiate_response {
	uint16_t min_version, max_version, negotiated_version;
	uint16_t credits_requested, credits_granted;
	uint32_t status;
	uint32_t max_read_write_size;
	uint32_t preferred_send_size;
	uint32_t max_receive_size;
	uint32_t max_fragmented_size;
};

/* [MS-SMBD] 2.2.3, without DataOffset: the parser gives the place of the payload, the builder puts it at 24. */
struct smbd_data_transfer {
	uint16_t credits_requested; /* a total: what the sender would like to hold */
	uint16_t credits_granted;   /* an increment: receives posted since the last message */
	uint16_t flags;
	uint32_t remaining; /* RemainingDataLength: bytes of the SMB2 message in later segments */
	uint32_t length;    /* DataLength: bytes of payload in this one; 0: an empty message */
};

const char *smbd_negotiate_request_parse(const uint8_t *bytes, size_t length,
					 struct smbd_negotiate_request *ret);
void smbd_negotiate_request_build(const struct smbd_negotiate_request *request,
				  uint8_t ret[SMBD_NEGOTIATE_REQUEST_SIZE]);

const char *smbd_negotiate_response_parse(const uint8_t *bytes, size_t length,
					  struct smbd_negotiate_response *ret);
void smbd_negotiate_response_build(const struct smbd_negotiate_response *response,
				   uint8_t ret[SMBD_NEGOTIATE_RESPONSE_SIZE]);

/* `payload` points into `bytes`; NULL for an empty message, whose `remaining` means nothing. */
const char *smbd_data_transfer_parse(const uint8_t *bytes, size_t length,
				     struct smbd_data_transfer *ret, const uint8_t **payload);
/* Writes the header, and the padding if there is payload; the payload is the caller's. Returns the bytes written. */
uint32_t smbd_data_transfer_build(const struct smbd_data_transfer *transfer,
				  uint8_t ret[SMBD_DATA_OFFSET]);

void smbd_descriptor_parse(const uint8_t bytes[BUFFER_DESCRIPTOR_SIZE],
			   struct buffer_descriptor *ret);
void smbd_descriptor_build(const struct buffer_descriptor *descriptor,
			   uint8_t ret[BUFFER_DESCRIPTOR_SIZE]);

/*
 * The private data of an iWARP connection: how many RDMA Reads the sender answers at a time (IRD) and asks for at a
 * time (ORD). The specification says big-endian; Linux up to 6.x writes host order, so both are understood. False: no
 * such data.
 */
struct smbd_private_data {
	uint32_t ird, ord;
};

bool smbd_private_data_parse(const uint8_t *bytes, size_t length, struct smbd_private_data *ret);
void smbd_private_data_build(const struct smbd_private_data *data,
			     uint8_t ret[SMBD_PRIVATE_DATA_SIZE]);

#endif
