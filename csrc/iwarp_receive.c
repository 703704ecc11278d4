/*
 * Bytes become FPDUs, payload goes to its place.
 *
 *   1. iwarp_receive       one readv: payloads straight to their places, as far as foreseen,
 *                          the rest into the staging
 *   2. consume             walks through the staged bytes: header, payload, trailer, header ...
 *   3. header_complete     which message, may it, and where does its payload go
 *   4. segment_complete    the CRC is right: completions, invalidation, Read Responses to send
 *   5. iwarp_deliver       before the next readv, so that the owner posts new receives
 *
 * An FPDU may be cut anywhere; what is kept between two calls is struct iwarp_receive_state.
 * Payload is placed before its CRC is known: a wrong CRC ends the connection, and until a
 * completion nobody looks at the memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bigendian.h"
#include "crc32c.h"
#include "iwarp.h"

enum {
	FORECAST_MAX = 32, /* FPDUs foreseen: a MiB of large ones */
	GAP_MAX = MPA_TRAILER_MAX + MPA_LENGTH_SIZE + DDP_TAGGED_SIZE,
};

static void next_fpdu(struct iwarp_receive_state *receive)
{
	receive->step = IWARP_HEADER;
	receive->held = 0;
	receive->header_size = MPA_LENGTH_SIZE + DDP_CONTROL_SIZE;
	receive->window = NULL;
}

void iwarp_receive_start(struct iwarp_qp *qp)
{
	next_fpdu(&qp->receive);
	for (int queue = 0; queue < DDP_QUEUES; queue++)
		qp->receive.msn[queue] = qp->send.msn[queue] = 1;
}

/* Step 3: what comes, and where it goes. Each returns 0, or the error that the Terminate names. */

enum { NO_ERROR = -1 };

/*
 * RFC 5041 section 5.3 and 7.2: one receive for one message, its segments in order and without a
 * gap.
 */
static int begin_send(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	const struct ddp_segment *segment = &receive->segment;

	if (segment->msn != receive->msn[DDP_QUEUE_SEND])
		return DDP_UNTAGGED_MSN;
	if (!receive->message_open) {
		if (segment->mo != 0)
			return DDP_UNTAGGED_MO;
		if (!qp->receive_count)
			return DDP_UNTAGGED_NO_BUFFER;
		receive->message = qp->receives[--qp->receive_count];
		receive->message_open = true;
		receive->message_opcode = segment->opcode;
		receive->message_bytes = 0;
	}
	if (segment->mo != receive->message_bytes || segment->opcode != receive->message_opcode)
		return segment->mo != receive->message_bytes ? DDP_UNTAGGED_MO
							     : RDMAP_UNEXPECTED_OPCODE;
	if (receive->payload > receive->message.length - receive->message_bytes)
		return DDP_UNTAGGED_TOO_LONG;
	receive->place = receive->message.address + receive->message_bytes;
	return NO_ERROR;
}

/*
 * Tokens and ranges are DDP's to refuse, access rights RDMAP's: RFC 5041 section 7.1, RFC 5040
 * section 8.1.1.
 */
static int begin_write(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	const struct ddp_segment *segment = &receive->segment;
	enum rdmap_error error;
	uint64_t at;

	if (!receive->payload)
		return NO_ERROR;
	receive->window = iwarp_window_find(qp, segment->stag, segment->to, receive->payload,
					    FABRIC_PEER_WRITES, &error);
	if (!receive->window) {
		trace_count(TRACE_IWARP_ACCESS_REFUSALS);
		switch (error) {
		case RDMAP_INVALID_STAG:
			return DDP_TAGGED_INVALID_STAG;
		case RDMAP_BOUNDS:
			return DDP_TAGGED_BOUNDS;
		case RDMAP_TO_WRAP:
			return DDP_TAGGED_TO_WRAP;
		default:
			return RDMAP_ACCESS;
		}
	}
	at = segment->to - receive->window->base.offset;
	receive->place = receive->window->memory + at;
	if (at + receive->payload > receive->window->written)
		receive->window->written = at + receive->payload;
	return NO_ERROR;
}

/* Responses come in the order of the requests: RFC 5040 section 5.5. */
static int begin_read_response(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	const struct ddp_segment *segment = &receive->segment;
	const struct iwarp_work *read = qp->send.reads.first;

	if (!read || segment->stag != read->sink)
		return DDP_TAGGED_INVALID_STAG;
	if (segment->to != read->done || receive->payload > read->length - read->done ||
	    segment->last != (receive->payload == read->length - read->done))
		return DDP_TAGGED_BOUNDS;
	receive->place =
		read->piece_count ? (uint8_t *)read->pieces[0].iov_base + read->done : NULL;
	return NO_ERROR;
}

static int begin_read_request(struct iwarp_qp *qp)
{
	const struct ddp_segment *segment = &qp->receive.segment;
	enum rdmap_error error;

	if (segment->msn != qp->receive.msn[DDP_QUEUE_READ_REQUEST])
		return DDP_UNTAGGED_MSN;
	if (qp->responses.used == qp->responses.count)
		return RDMAP_STREAM_CATASTROPHIC;
	if (segment->read.size &&
	    !iwarp_window_find(qp, segment->read.source_stag, segment->read.source_to,
			       segment->read.size, FABRIC_PEER_READS, &error)) {
		trace_count(TRACE_IWARP_ACCESS_REFUSALS);
		return (int)error;
	}
	return NO_ERROR;
}

static int begin_terminate(struct iwarp_qp *qp)
{
	if (qp->receive.payload > sizeof(qp->receive.terminate))
		return DDP_UNTAGGED_TOO_LONG;
	qp->receive.place = qp->receive.terminate;
	return NO_ERROR;
}

static int begin_segment(struct iwarp_qp *qp)
{
	switch (qp->receive.segment.opcode) {
	case RDMAP_WRITE:
		return begin_write(qp);
	case RDMAP_READ_REQUEST:
		return begin_read_request(qp);
	case RDMAP_READ_RESPONSE:
		return begin_read_response(qp);
	case RDMAP_TERMINATE:
		return begin_terminate(qp);
	default:
		return begin_send(qp);
	}
}

static void refuse(struct iwarp_qp *qp, enum rdmap_error error)
{
	static const enum trace_counter counters[] = {
		TRACE_IWARP_RDMAP_ERRORS, TRACE_IWARP_DDP_ERRORS, TRACE_IWARP_MPA_ERRORS};

	trace_count(counters[error >> 12]);
	iwarp_terminate(qp, error);
}

/* The control word is there: how long is the header? */
static void header_begun(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	enum rdmap_error error;
	int size = ddp_header_size(get_be16(receive->header + MPA_LENGTH_SIZE), &error);

	receive->ulpdu_length = get_be16(receive->header);
	if (size >= 0 && receive->ulpdu_length < (uint32_t)size)
		error = MPA_LENGTH_ERROR;
	if (size < 0 || receive->ulpdu_length < (uint32_t)size) {
		refuse(qp, error);
		return;
	}
	receive->header_size = MPA_LENGTH_SIZE + (uint32_t)size;
}

static void header_complete(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	enum rdmap_error error;
	int result;

	receive->step = IWARP_PAYLOAD;
	receive->held = 0;
	receive->payload = receive->left =
		MPA_LENGTH_SIZE + receive->ulpdu_length - receive->header_size;
	if (ddp_parse(receive->header + MPA_LENGTH_SIZE, receive->ulpdu_length, &receive->segment,
		      &error) < 0)
		result = (int)error;
	else
		result = begin_segment(qp);
	if (result != NO_ERROR) {
		refuse(qp, (enum rdmap_error)result);
		return;
	}
	if (qp->crc)
		receive->crc = crc32c_update(CRC32C_START, receive->header, receive->header_size);
	if (!receive->left)
		receive->step = IWARP_TRAILER;
}

/* Step 4: the segment is whole. */

static void end_send(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;
	const struct ddp_segment *segment = &receive->segment;
	struct fabric_completion completion = {.opcode = FABRIC_RECEIVE};

	receive->message_bytes += receive->payload;
	if (!segment->last)
		return;
	completion.invalidated = segment->opcode == RDMAP_SEND_INVALIDATE ||
				 segment->opcode == RDMAP_SEND_SOLICITED_INVALIDATE;
	completion.invalidated_token = completion.invalidated ? segment->stag : 0;
	if (completion.invalidated && !iwarp_window_invalidate(qp, segment->stag)) {
		refuse(qp, RDMAP_CANNOT_INVALIDATE);
		return;
	}
	completion.id = receive->message.id;
	completion.bytes = receive->message_bytes;
	receive->message_open = false;
	receive->msn[DDP_QUEUE_SEND]++;
	iwarp_complete(qp, &completion);
}

static void end_read_response(struct iwarp_qp *qp)
{
	struct iwarp_work *read = qp->send.reads.first;

	read->done += qp->receive.payload;
	if (qp->receive.segment.last)
		iwarp_complete_work(qp, iwarp_queue_pop(&qp->send.reads), FABRIC_OK);
}

/* The window may have gone while the rest of the FPDU came: it is looked for again. */
static void end_read_request(struct iwarp_qp *qp)
{
	const struct rdmap_read_request *read = &qp->receive.segment.read;
	struct iwarp_work *response;
	enum rdmap_error error;
	struct iwarp_window *window = NULL;

	if (read->size) {
		window = iwarp_window_find(qp, read->source_stag, read->source_to, read->size,
					   FABRIC_PEER_READS, &error);
		if (!window) {
			refuse(qp, error);
			return;
		}
	}
	qp->receive.msn[DDP_QUEUE_READ_REQUEST]++;
	response = iwarp_pool_take(&qp->responses);
	response->opcode = RDMAP_READ_RESPONSE;
	response->stag = read->sink_stag;
	response->to = read->sink_to;
	response->length = read->size;
	response->window = window;
	if (window) {
		window->responses++;
		response->piece_count = 1;
		response->pieces[0].iov_base =
			window->memory + (read->source_to - window->base.offset);
		response->pieces[0].iov_len = read->size;
	}
	iwarp_queue_push(&qp->send.responses, response);
	iwarp_schedule(qp);
}

/* Takes the Read that the Terminate is about out of the line: the others are only flushed. */
static void refused_read(struct iwarp_qp *qp, const struct rdmap_terminate *terminate)
{
	struct iwarp_work **at = &qp->send.reads.first;
	struct ddp_segment segment;
	enum rdmap_error ignored;

	if (terminate->header_length == DDP_READ_REQUEST_SIZE &&
	    ddp_parse(terminate->header, DDP_READ_REQUEST_SIZE, &segment, &ignored) == 0)
		while (*at && (*at)->sink != segment.read.sink_stag)
			at = &(*at)->next;
	if (*at) {
		struct iwarp_work *work = *at;

		*at = work->next;
		iwarp_complete_work(qp, work, FABRIC_REMOTE_ACCESS);
	}
}

static void end_terminate(struct iwarp_qp *qp)
{
	struct rdmap_terminate terminate;
	bool access;

	trace_count(TRACE_IWARP_TERMINATES_RECEIVED);
	if (rdmap_terminate_parse(qp->receive.terminate, qp->receive.payload, &terminate) < 0) {
		iwarp_end(qp, CLOSE_PROTOCOL_ERROR, "the peer sent a Terminate that says nothing");
		return;
	}
	access = rdmap_error_is_access(terminate.error);
	if (access && terminate.error >> 12 == RDMAP_INVALID_STAG >> 12)
		refused_read(qp, &terminate);
	iwarp_end(qp, access ? CLOSE_REMOTE_ACCESS : CLOSE_PROTOCOL_ERROR,
		  "the peer sent Terminate 0x%04x, %s", terminate.error,
		  rdmap_error_words(terminate.error));
}

static void segment_complete(struct iwarp_qp *qp)
{
	struct iwarp_receive_state *receive = &qp->receive;

	if (qp->crc && !mpa_trailer_check(receive->trailer, receive->ulpdu_length, receive->crc)) {
		trace_count(TRACE_IWARP_CRC_ERRORS);
		iwarp_terminate(qp, MPA_CRC_ERROR);
		return;
	}
	if (qp->state == IWARP_ACCEPTED) { /* the initiator's first FPDU: now we may speak */
		qp->state = IWARP_ESTABLISHED;
		iwarp_schedule(qp);
	}
	switch (receive->segment.opcode) {
	case RDMAP_WRITE:
		break;
	case RDMAP_READ_REQUEST:
		end_read_request(qp);
		break;
	case RDMAP_READ_RESPONSE:
		end_read_response(qp);
		break;
	case RDMAP_TERMINATE:
		end_terminate(qp);
		break;
	default:
		end_send(qp);
		break;
	}
	next_fpdu(receive);
}

/* Step 2 */

/* `length` bytes of payload are in their place. */
static void payload_placed(struct iwarp_qp *qp, size_t length)
{
	struct iwarp_receive_state *receive = &qp->receive;

	if (qp->crc)
		receive->crc = crc32c_update(receive->crc, receive->place, length);
	receive->place += length;
	receive->left -= (uint32_t)length;
	if (!receive->left)
		receive->step = IWARP_TRAILER;
}

static size_t collect(uint8_t *field, uint32_t *held, uint32_t wanted, const uint8_t *bytes,
		      size_t length)
{
	size_t take = wanted - *held < length ? wanted - *held : length;

	memcpy(field + *held, bytes, take);
	*held += (uint32_t)take;
	return take;
}

static size_t consume_header(struct iwarp_qp *qp, const uint8_t *bytes, size_t length)
{
	struct iwarp_receive_state *receive = &qp->receive;
	size_t take = collect(receive->header, &receive->held, receive->header_size, bytes, length);

	if (receive->held < receive->header_size)
		return take;
	if (receive->held == MPA_LENGTH_SIZE + DDP_CONTROL_SIZE)
		header_begun(qp);
	else
		header_complete(qp);
	return take;
}

static size_t consume_trailer(struct iwarp_qp *qp, const uint8_t *bytes, size_t length)
{
	struct iwarp_receive_state *receive = &qp->receive;
	uint32_t wanted = mpa_trailer_size(receive->ulpdu_length);
	size_t take = collect(receive->trailer, &receive->held, wanted, bytes, length);

	if (receive->held == wanted)
		segment_complete(qp);
	return take;
}

static size_t consume_payload(struct iwarp_qp *qp, const uint8_t *bytes, size_t length)
{
	size_t take = qp->receive.left < length ? qp->receive.left : length;

	memcpy(qp->receive.place, bytes, take);
	payload_placed(qp, take);
	return take;
}

static void consume(struct iwarp_qp *qp, const uint8_t *bytes, size_t length)
{
	while (length && qp->state != IWARP_ENDED) {
		size_t take;

		switch (qp->receive.step) {
		case IWARP_HEADER:
			take = consume_header(qp, bytes, length);
			break;
		case IWARP_PAYLOAD:
			take = consume_payload(qp, bytes, length);
			break;
		default:
			take = consume_trailer(qp, bytes, length);
			break;
		}
		bytes += take;
		length -= take;
	}
}

/* Step 1 */

/*
 * What one readv receives, and where to. While a tagged message is under way its next FPDUs are
 * foreseen: of the size of the present one, each payload behind the other. So the pieces are
 *
 *     payload, gap, payload, gap, ... payload, staging
 *
 * where a gap holds a trailer and the next header. If the headers are as foreseen, the payloads
 * have come to their places with one system call for many of them.
 */
struct forecast {
	struct iovec pieces[2 * FORECAST_MAX + 2];
	uint32_t count;
	size_t bytes;
	uint8_t gaps[FORECAST_MAX][GAP_MAX];
};

static void forecast_piece(struct forecast *forecast, void *base, size_t length)
{
	forecast->pieces[forecast->count++] = (struct iovec){base, length};
	forecast->bytes += length;
}

/*
 * Bytes of the message behind the present FPDU, as far as its next ones may be foreseen. A wrong
 * forecast leaves bytes of the stream where payload was expected. In a Read's memory they are
 * overwritten, or the Read fails. In a window they stay: so only behind all that was ever written
 * there, and only where the peer does not read.
 */
static uint64_t foreseen_bytes(const struct iwarp_qp *qp)
{
	const struct iwarp_receive_state *receive = &qp->receive;
	const struct iwarp_work *read = qp->send.reads.first;
	const struct iwarp_window *window = receive->window;
	uint64_t end;

	if (receive->segment.last || !receive->payload)
		return 0;
	if (receive->segment.opcode == RDMAP_READ_RESPONSE)
		return read->length - read->done - receive->payload;
	if (!window || window->access != FABRIC_PEER_WRITES)
		return 0;
	end = receive->segment.to - window->base.offset + receive->payload;
	return end == window->written ? window->base.length - end : 0;
}

static size_t staging_size(const struct iwarp_qp *qp)
{
	return qp->send.reads.first || qp->windows.writable ? IWARP_STAGING_TAGGED : IWARP_STAGING;
}

static void forecast_build(struct forecast *forecast, const struct iwarp_qp *qp, uint8_t *staging)
{
	const struct iwarp_receive_state *receive = &qp->receive;
	size_t gap = mpa_trailer_size(receive->ulpdu_length) + MPA_LENGTH_SIZE + DDP_TAGGED_SIZE;
	uint8_t *place;
	uint64_t left;

	forecast->count = 0;
	forecast->bytes = 0;
	if (receive->step != IWARP_PAYLOAD || receive->left < IWARP_DIRECT_MIN) {
		forecast_piece(forecast, staging, staging_size(qp));
		return;
	}
	forecast_piece(forecast, receive->place, receive->left);
	place = receive->place + receive->left;
	left = foreseen_bytes(qp);
	for (int i = 0; left && i < FORECAST_MAX && forecast->bytes < IWARP_RECEIVE_BUDGET; i++) {
		size_t length = left < receive->payload ? left : receive->payload;

		forecast_piece(forecast, forecast->gaps[i], gap);
		forecast_piece(forecast, place, length);
		place += length;
		left -= length;
	}
	/* Behind an FPDU that is not the last, payload must not come into the staging. */
	forecast_piece(forecast, staging,
		       left || (forecast->count == 1 && !receive->segment.last) ? gap
										: staging_size(qp));
}

/*
 * The FPDU at pieces[i] is another than was foreseen: what came from there on is only a stream of
 * bytes again.
 */
static void forecast_failed(struct iwarp_qp *qp, const struct iovec *pieces, size_t length)
{
	uint8_t *bytes = malloc(length);
	size_t copied = 0;

	if (!bytes) {
		iwarp_end(qp, CLOSE_LIMIT, "no memory for %zu bytes that came out of order",
			  length);
		return;
	}
	for (; copied < length; pieces++) {
		size_t take = pieces->iov_len < length - copied ? pieces->iov_len : length - copied;

		memcpy(bytes + copied, pieces->iov_base, take);
		copied += take;
	}
	consume(qp, bytes, length);
	free(bytes);
}

static void forecast_take(struct iwarp_qp *qp, const struct forecast *forecast, size_t received)
{
	const struct iwarp_receive_state *receive = &qp->receive;

	for (uint32_t i = 0; received && qp->state != IWARP_ENDED; i++) {
		const struct iovec *piece = &forecast->pieces[i];
		size_t take = piece->iov_len < received ? piece->iov_len : received;

		if (i % 2 || forecast->count == 1) {
			consume(qp, piece->iov_base, take);
		} else if (receive->step == IWARP_PAYLOAD && receive->place == piece->iov_base &&
			   receive->left == piece->iov_len) {
			payload_placed(qp, take);
		} else {
			forecast_failed(qp, piece, received);
			return;
		}
		received -= take;
	}
}

static void stream_ended(struct iwarp_qp *qp, int error)
{
	const struct iwarp_receive_state *receive = &qp->receive;

	if (error)
		iwarp_end(qp, CLOSE_PEER_LOST, "receiving failed: %s", strerror(error));
	else if (receive->step != IWARP_HEADER || receive->held || receive->message_open)
		iwarp_end(qp, CLOSE_PEER_LOST,
			  "the peer closed the connection in the middle of a message");
	else
		iwarp_end(qp, CLOSE_BY_PEER, "the peer closed the connection");
}

/* One system call. Bytes received; 0: no more now, or the end. `*full`: there may be more. */
static size_t receive_once(struct iwarp_qp *qp, bool *full)
{
	struct forecast forecast;
	struct msghdr message = {.msg_iov = forecast.pieces};
	ssize_t received;

	forecast_build(&forecast, qp, iwarp_fabric_of(qp)->staging);
	message.msg_iovlen = forecast.count;
	received = recvmsg(qp->fd, &message, MSG_DONTWAIT);
	*full = received == (ssize_t)forecast.bytes;
	if (received < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (received <= 0) {
		stream_ended(qp, received < 0 ? errno : 0);
		return 0;
	}
	forecast_take(qp, &forecast, (size_t)received);
	return (size_t)received;
}

/*
 * The socket is watched level-triggered: what is left when the budget is used up comes with the
 * next turn.
 */
bool iwarp_receive(struct iwarp_qp *qp)
{
	size_t budget = IWARP_RECEIVE_BUDGET;
	bool full = true;

	while (full && budget && (qp->state == IWARP_ACCEPTED || qp->state == IWARP_ESTABLISHED)) {
		size_t received = receive_once(qp, &full);

		budget -= received < budget ? received : budget;
		if (!iwarp_deliver(qp))
			return false;
	}
	return true;
}
