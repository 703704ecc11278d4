/*
 * What READ and WRITE have in common: a request that is alone and plain, its open, its credits, the frames around it.
 *
 * Parsers say false for whatever is not simple, and have changed nothing then.
 */
#ifndef SMB2_REQUEST_H
#define SMB2_REQUEST_H

#include "channel_frames.h"
#include "smb2_connection.h"

struct smb2_request {
	const uint8_t *message;
	size_t message_length;
	struct smb2_open *open;
	uint64_t offset;
	uint32_t length; /* bytes of payload */
	uint32_t channel;
	uint16_t charge;
	const uint8_t *descriptors; /* of `channel`, as they stand in the message */
	uint16_t descriptors_length;
	struct smb2_signing *signing; /* NULL: it is not signed, and its answer need not be */
};

/* Where a command has what both have. */
struct smb2_fields {
	uint16_t command, structure_size, end; /* of the fixed part */
	uint16_t offset, persistent, volatile_id, channel, info_offset, info_length;
};

/* The message is such a request, without flags that ask for more, of an open and a session that are served here. */
bool smb2_request_parse(const struct smb2_connection *connection, const struct smb2_fields *fields,
			const uint8_t *message, size_t length, struct smb2_request *ret);

/* The payload is paid for and within the limits; by RDMA the descriptors cover it and a range can take it. */
bool smb2_request_check(const struct smb2_connection *connection, const struct smb2_fields *fields,
			uint32_t limit, struct smb2_request *request);

/* Its signature is right, if it has one: the last question, as the dearest. */
bool smb2_request_is_genuine(const struct smb2_request *request);

/* Uses the request's MessageIds; false: they are not the client's to use. */
bool smb2_request_take_ids(struct smb2_connection *connection, const struct smb2_request *request);

enum {
	SMB2_INVALIDATE_FRAME = CHANNEL_HEADER_SIZE + 4,
	SMB2_DESCRIPTOR_TOKEN = 8, /* where it stands in a buffer descriptor */
};

/* An RDMA_WRITE or RDMA_READ of a range; its operation is the range's number. The frame's bytes. */
size_t smb2_put_transfer(const struct smb2_connection *connection,
			 const struct smb2_request *request, uint8_t *frame,
			 enum channel_frame type, int range, uint32_t length);
size_t smb2_put_invalidate(uint8_t *frame, uint32_t token);

/*
 * The frame's header and the response's: status SUCCESS, credits granted. `length` is the whole message's. It says that
 * it is signed if the request was; `smb2_signing_sign` does it when the body stands behind it.
 */
uint8_t *smb2_put_response(struct smb2_connection *connection, const uint8_t *request_header,
			   uint8_t *frame, uint32_t length);

/* The range's number of an operation that `smb2_put_transfer` named; -1: it is not one of these. */
int smb2_range_of(const struct smb2_connection *connection, uint64_t operation);

#endif
