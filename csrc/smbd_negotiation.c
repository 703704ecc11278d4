/*
 * Negotiation ([MS-SMBD] 3.1.5.2, 3.1.5.6, 3.1.5.7): one message each way, outside of all credits.
 *
 * Client: queue pair established -> request -> response -> established.
 * Server: queue pair established -> (request) -> receives posted and granted -> response -> established.
 */
#include <stdio.h>

#include "smbd_state.h"
#include "trace.h"

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t at_least(uint32_t least, uint32_t value)
{
	return value < least ? least : value;
}

static void refuse(struct smbd_connection *connection, enum close_reason reason, const char *words)
{
	trace_count(TRACE_SMBD_NEGOTIATION_REFUSALS);
	smbd_make_dead(connection, reason, words);
}

/* Posts the one message that `slot` holds; negotiation is the only traffic then, so there is room. */
static void post(struct smbd_connection *connection, uint32_t slot, uint32_t length)
{
	struct smbd_chain chain;
	int error;

	smbd_chain_begin(&chain, connection->qp, &connection->queue, connection->buffers.region);
	smbd_chain_send(&chain, slot, smbd_slot(&connection->buffers.send, slot), length, false, 0);
	error = smbd_chain_post(&chain);
	if (error)
		smbd_refused(connection, error, "the queue pair refused the negotiation's message");
}

static void send_request(struct smbd_connection *connection)
{
	const struct smbd_config *config = &connection->config;
	struct smbd_negotiate_request request = {
		.min_version = SMBD_VERSION,
		.max_version = SMBD_VERSION,
		.credits_requested = config->send_credit_target,
		.preferred_send_size = config->max_send_size,
		.max_receive_size = config->max_receive_size,
		.max_fragmented_size = config->max_fragmented_size,
	};
	uint32_t slot = smbd_slots_take(&connection->buffers.send);

	smbd_negotiate_request_build(&request, smbd_slot(&connection->buffers.send, slot));
	post(connection, slot, SMBD_NEGOTIATE_REQUEST_SIZE);
}

static void send_response(struct smbd_connection *connection,
			  const struct smbd_negotiate_response *response)
{
	uint32_t slot = smbd_slots_take(&connection->buffers.send);

	smbd_negotiate_response_build(response, smbd_slot(&connection->buffers.send, slot));
	post(connection, slot, SMBD_NEGOTIATE_RESPONSE_SIZE);
}

/* What the device and the connection's private data leave of the depths and sizes that were asked for. */
static void take_limits(struct smbd_connection *connection)
{
	const struct fabric_qp *qp = connection->qp;
	struct smbd_private_data data;
	uint32_t depth = smaller(connection->config.read_depth, qp->limits.initiator_depth);

	if (qp->device->transport == FABRIC_TRANSPORT_IWARP &&
	    smbd_private_data_parse(qp->private_data, qp->private_data_length, &data) &&
	    data.ird > 0)
		depth = smaller(depth, data.ird);
	connection->rdma.depth = depth;
	connection->rdma.transfer_bytes =
		qp->limits.transfer_bytes < UINT32_MAX ? qp->limits.transfer_bytes : UINT32_MAX;
	connection->queue.limit = smaller(connection->queue.limit, qp->limits.send_queue);
	connection->credits.receive_max =
		smaller(connection->credits.receive_max, qp->limits.receive_queue);
}

static void established(struct smbd_connection *connection, nanoseconds now)
{
	connection->received = connection->sent = now;
	smbd_enter(connection, SMBD_ESTABLISHED);
	trace_count(TRACE_SMBD_ESTABLISHED);
	connection->events->established(connection->owner, now);
}

void smbd_negotiation_begin(struct smbd_connection *connection, nanoseconds now)
{
	(void)now;
	take_limits(connection);
	smbd_enter(connection, SMBD_NEGOTIATING);
	if (connection->role == SMBD_CLIENT)
		send_request(connection);
}

/* The server's answer to a version that we do not speak; the connection ends when it is sent. */
static void refuse_version(struct smbd_connection *connection, nanoseconds now)
{
	struct smbd_negotiate_response response = {
		.min_version = SMBD_VERSION,
		.max_version = SMBD_VERSION,
		.status = SMBD_STATUS_NOT_SUPPORTED,
	};

	trace_count(TRACE_SMBD_NEGOTIATION_REFUSALS);
	send_response(connection, &response);
	if (connection->state != SMBD_NEGOTIATING)
		return;
	connection->reason = CLOSE_NEGOTIATION;
	snprintf(connection->words, sizeof(connection->words),
		 "the client does not speak SMB Direct version 1.0");
	connection->closing = now;
	smbd_enter(connection, SMBD_CLOSING);
}

static const char *unacceptable_request(const struct smbd_negotiate_request *request)
{
	if (request->credits_requested == 0)
		return "the Negotiate Request asks for no credits";
	if (request->max_receive_size < SMBD_RECEIVE_SIZE_MIN)
		return "the Negotiate Request has a MaxReceiveSize below 128";
	if (request->max_fragmented_size < SMBD_FRAGMENTED_SIZE_MIN)
		return "the Negotiate Request has a MaxFragmentedSize below 131072";
	return NULL;
}

/* Receives are posted before they are granted: the client may use them as soon as it has the response. */
static void accept_request(struct smbd_connection *connection,
			   const struct smbd_negotiate_request *request)
{
	connection->max_receive_size =
		at_least(SMBD_RECEIVE_SIZE_MIN,
			 smaller(connection->max_receive_size, request->preferred_send_size));
	connection->max_send_size = smaller(connection->max_send_size, request->max_receive_size);
	connection->max_fragmented_send_size = request->max_fragmented_size;
	connection->credits.receive_target = request->credits_requested;
	smbd_post_receives(connection);
}

static void receive_request(struct smbd_connection *connection, const uint8_t *bytes,
			    uint32_t length, nanoseconds now)
{
	struct smbd_negotiate_request request;
	struct smbd_negotiate_response response;
	const char *words = smbd_negotiate_request_parse(bytes, length, &request);

	if (words) {
		refuse(connection, CLOSE_PROTOCOL_ERROR, words);
		return;
	}
	if (request.min_version > SMBD_VERSION || request.max_version < SMBD_VERSION) {
		refuse_version(connection, now);
		return;
	}
	words = unacceptable_request(&request);
	if (words) {
		refuse(connection, CLOSE_NEGOTIATION, words);
		return;
	}
	accept_request(connection, &request);
	response = (struct smbd_negotiate_response){
		.min_version = SMBD_VERSION,
		.max_version = SMBD_VERSION,
		.negotiated_version = SMBD_VERSION,
		.credits_requested = connection->config.send_credit_target,
		.credits_granted = smbd_credits_grant(&connection->credits),
		.status = SMBD_STATUS_SUCCESS,
		.max_read_write_size = connection->max_read_write_size,
		.preferred_send_size = connection->max_send_size,
		.max_receive_size = connection->max_receive_size,
		.max_fragmented_size = connection->config.max_fragmented_size,
	};
	if (connection->state == SMBD_NEGOTIATING)
		send_response(connection, &response);
	if (connection->state == SMBD_NEGOTIATING)
		established(connection, now);
}

static const char *unacceptable_response(const struct smbd_connection *connection,
					 const struct smbd_negotiate_response *response)
{
	if (response->status != SMBD_STATUS_SUCCESS)
		return "the server refused the negotiation";
	if (response->negotiated_version != SMBD_VERSION)
		return "the server chose a version of SMB Direct other than 1.0";
	if (response->credits_requested == 0)
		return "the Negotiate Response asks for no credits";
	if (response->credits_granted == 0)
		return "the Negotiate Response grants no credits";
	if (response->max_receive_size < SMBD_RECEIVE_SIZE_MIN)
		return "the Negotiate Response has a MaxReceiveSize below 128";
	if (response->max_fragmented_size < SMBD_FRAGMENTED_SIZE_MIN)
		return "the Negotiate Response has a MaxFragmentedSize below 131072";
	if (response->preferred_send_size > connection->max_receive_size)
		return "the Negotiate Response has a PreferredSendSize above our MaxReceiveSize";
	return NULL;
}

static void receive_response(struct smbd_connection *connection, const uint8_t *bytes,
			     uint32_t length, nanoseconds now)
{
	struct smbd_negotiate_response response;
	const char *words = smbd_negotiate_response_parse(bytes, length, &response);

	if (words) {
		refuse(connection, CLOSE_PROTOCOL_ERROR, words);
		return;
	}
	words = unacceptable_response(connection, &response);
	if (words) {
		refuse(connection, CLOSE_NEGOTIATION, words);
		return;
	}
	connection->max_receive_size =
		at_least(SMBD_RECEIVE_SIZE_MIN, response.preferred_send_size);
	connection->max_send_size = smaller(connection->max_send_size, response.max_receive_size);
	connection->max_fragmented_send_size = response.max_fragmented_size;
	connection->max_read_write_size = response.max_read_write_size;
	connection->credits.send = response.credits_granted;
	connection->credits.receive_target = response.credits_requested;
	established(connection, now);
}

void smbd_negotiation_receive(struct smbd_connection *connection, const uint8_t *bytes,
			      uint32_t length, nanoseconds now)
{
	if (connection->role == SMBD_SERVER)
		receive_request(connection, bytes, length, now);
	else
		receive_response(connection, bytes, length, now);
}
