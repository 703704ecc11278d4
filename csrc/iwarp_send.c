/*
 * Messages become FPDUs, many FPDUs become one sendmsg.
 *
 *   1. the next message    one at a time; Read Responses and the owner's requests take turns
 *   2. batch_fpdu          header, pieces of the owner's memory, trailer: no payload is copied
 *   3. sendmsg             up to IWARP_SEND_BUDGET bytes
 *   4. commit              what the kernel took moves the messages on; the last byte completes them
 *
 * A batch is built on the stack and forgotten after the call. When the kernel takes a part of it,
 * the FPDU in which it stopped is built again, the same as before, and the bytes that have gone are
 * left out: the state of a queue pair is one number, `fpdu_sent`.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bigendian.h"
#include "crc32c.h"
#include "iwarp.h"

enum {
	BATCH_FPDUS = 64,
	/* Each FPDU has a piece of text before its payload and one behind it. */
	BATCH_PIECES = BATCH_FPDUS * 2 + IWARP_SGES_MAX * 4,
	/* What the kernel does not take is built again, and its CRC with it: rather more calls. */
	BATCH_BYTES_CRC = 128 << 10,
	FPDU_TEXT_MAX = MPA_LENGTH_SIZE + DDP_HEADER_MAX + MPA_TRAILER_MAX,
};

struct batch_entry {
	struct iwarp_work *work;
	uint32_t payload, size; /* of one FPDU */
	bool response;
	bool last;
};

struct batch {
	struct batch_entry entries[BATCH_FPDUS];
	struct iovec pieces[BATCH_PIECES];
	uint8_t text[BATCH_FPDUS * FPDU_TEXT_MAX]; /* headers and trailers */
	uint32_t entry_count, piece_count, text_used;
	size_t bytes, bytes_max;
};

/* A trailer and the header behind it lie side by side and become one piece. */
static void batch_piece(struct batch *batch, void *base, size_t length)
{
	struct iovec *last = batch->piece_count ? &batch->pieces[batch->piece_count - 1] : NULL;

	if (!length)
		return;
	batch->bytes += length;
	if (last && (uint8_t *)last->iov_base + last->iov_len == base)
		last->iov_len += length;
	else
		batch->pieces[batch->piece_count++] = (struct iovec){base, length};
}

static uint32_t payload_max(const struct iwarp_qp *qp, enum rdmap_opcode opcode)
{
	uint32_t header = opcode == RDMAP_WRITE || opcode == RDMAP_READ_RESPONSE
				  ? DDP_TAGGED_SIZE
				  : DDP_UNTAGGED_SIZE;
	uint32_t size = MPA_LENGTH_SIZE + iwarp_fabric_of(qp)->config.max_ulpdu;

	/* A multiple of 4 with its header: only the last FPDU of a message is padded. */
	return (size & ~3u) - MPA_LENGTH_SIZE - header;
}

static struct ddp_segment segment_of(const struct iwarp_work *work, uint32_t done, bool last)
{
	struct ddp_segment segment = {
		.opcode = work->opcode,
		.last = last,
		.stag = work->stag,
		.to = work->to + done,
		.msn = work->msn,
		.mo = done,
	};

	if (work->opcode == RDMAP_READ_REQUEST) {
		segment.stag = 0;
		segment.mo = 0;
		segment.read = (struct rdmap_read_request){
			.sink_stag = work->sink,
			.size = work->length,
			.source_stag = work->stag,
			.source_to = work->to,
		};
	}
	return segment;
}

/* Adds [done, done + length) of the message's memory; returns the running CRC. */
static uint32_t batch_payload(struct batch *batch, const struct iwarp_work *work, uint32_t done,
			      uint32_t length, bool crc, uint32_t state)
{
	for (uint32_t i = 0; length; i++) {
		size_t have = work->pieces[i].iov_len;
		uint32_t take;
		uint8_t *base;

		if (done >= have) {
			done -= (uint32_t)have;
			continue;
		}
		take = have - done < length ? (uint32_t)(have - done) : length;
		base = (uint8_t *)work->pieces[i].iov_base + done;
		if (crc)
			state = crc32c_update(state, base, take);
		batch_piece(batch, base, take);
		length -= take;
		done = 0;
	}
	return state;
}

/* Step 2. `done`: bytes of the message before this FPDU. */
static struct batch_entry *batch_fpdu(struct batch *batch, const struct iwarp_qp *qp,
				      struct iwarp_work *work, uint32_t done)
{
	struct batch_entry *entry = &batch->entries[batch->entry_count++];
	uint32_t most = payload_max(qp, work->opcode), left = work->length - done;
	uint8_t *header = batch->text + batch->text_used;
	struct ddp_segment segment;
	uint32_t header_size, ulpdu_length, crc = CRC32C_START;

	if (work->opcode == RDMAP_READ_REQUEST)
		left = 0;
	*entry = (struct batch_entry){
		.work = work, .payload = left < most ? left : most, .last = left <= most};
	segment = segment_of(work, done, entry->last);
	header_size = ddp_build(&segment, header + MPA_LENGTH_SIZE);
	ulpdu_length = header_size + entry->payload;
	put_be16(header, (uint16_t)ulpdu_length);
	header_size += MPA_LENGTH_SIZE;
	batch->text_used += header_size;
	if (qp->crc)
		crc = crc32c_update(crc, header, header_size);
	batch_piece(batch, header, header_size);
	crc = batch_payload(batch, work, done, entry->payload, qp->crc, crc);
	batch->text_used += mpa_trailer_build(header + header_size, ulpdu_length, qp->crc, crc);
	batch_piece(batch, header + header_size, mpa_trailer_size(ulpdu_length));
	entry->size = mpa_fpdu_size(ulpdu_length);
	return entry;
}

static bool batch_has_room(const struct batch *batch)
{
	return batch->entry_count < BATCH_FPDUS && batch->bytes < batch->bytes_max &&
	       batch->piece_count + IWARP_SGES_MAX + 2 <= BATCH_PIECES;
}

/* Adds FPDUs of one message; true: all that it has. */
static bool batch_message(struct batch *batch, const struct iwarp_qp *qp, struct iwarp_work *work,
			  bool response)
{
	uint32_t done = work->opcode == RDMAP_READ_REQUEST ? 0 : work->done;

	while (batch_has_room(batch)) {
		struct batch_entry *entry = batch_fpdu(batch, qp, work, done);

		entry->response = response;
		done += entry->payload;
		if (entry->last)
			return true;
	}
	return false;
}

/* Step 1. A message that has begun goes on; then responses and requests take turns. */
static void batch_build(struct batch *batch, const struct iwarp_qp *qp)
{
	struct iwarp_work *work = qp->send.works.first, *response = qp->send.responses.first;
	bool responding = qp->send.responding;

	batch->entry_count = batch->piece_count = batch->text_used = 0;
	batch->bytes = 0;
	batch->bytes_max = qp->crc ? BATCH_BYTES_CRC : IWARP_SEND_BUDGET;
	while (work || response) {
		struct iwarp_work **next = (responding && response) || !work ? &response : &work;

		responding = next == &response;
		if (!batch_message(batch, qp, *next, responding))
			return;
		*next = (*next)->next;
		responding = !responding;
	}
}

/* Leaves out what has gone of the first FPDU. */
static struct iovec *batch_skip(struct batch *batch, uint32_t sent)
{
	struct iovec *piece = batch->pieces;

	batch->bytes -= sent;
	while (sent >= piece->iov_len) {
		sent -= (uint32_t)piece->iov_len;
		piece++;
		batch->piece_count--;
	}
	piece->iov_base = (uint8_t *)piece->iov_base + sent;
	piece->iov_len -= sent;
	return piece;
}

/* The last byte of a message is with the kernel. */
static void message_sent(struct iwarp_qp *qp, bool response)
{
	struct iwarp_work *work = iwarp_queue_pop(response ? &qp->send.responses : &qp->send.works);

	if (response) {
		if (work->window)
			work->window->responses--;
		iwarp_pool_give(&qp->responses, work);
	} else if (work->opcode == RDMAP_READ_REQUEST) {
		iwarp_queue_push(&qp->send.reads, work);
	} else {
		iwarp_complete_work(qp, work, FABRIC_OK);
	}
}

/* Step 4. */
static void commit(struct iwarp_qp *qp, const struct batch *batch, size_t sent)
{
	sent += qp->send.fpdu_sent;
	qp->send.fpdu_sent = 0;
	for (uint32_t i = 0; i < batch->entry_count; i++) {
		const struct batch_entry *entry = &batch->entries[i];

		qp->send.responding = entry->response;
		if (sent < entry->size) {
			qp->send.fpdu_sent = (uint32_t)sent;
			return;
		}
		sent -= entry->size;
		if (entry->last) {
			message_sent(qp, entry->response);
			qp->send.responding = !entry->response;
		} else {
			entry->work->done += entry->payload;
		}
	}
}

static void wait_for_room(struct iwarp_qp *qp, bool blocked)
{
	qp->send.blocked = blocked;
	loop_watch_change(qp->base.fabric->loop, &qp->watch,
			  blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Step 3. Bytes that the kernel took; 0: nothing more to do now. */
static size_t transmit_batch(struct iwarp_qp *qp)
{
	struct msghdr message = {0};
	struct batch batch;
	ssize_t sent;

	batch_build(&batch, qp);
	if (!batch.entry_count)
		return 0;
	message.msg_iov = batch_skip(&batch, qp->send.fpdu_sent);
	message.msg_iovlen = batch.piece_count;
	sent = sendmsg(qp->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
		iwarp_end(qp, CLOSE_PEER_LOST, "sending failed: %s", strerror(errno));
		return 0;
	}
	commit(qp, &batch, sent > 0 ? (size_t)sent : 0);
	if (sent == (ssize_t)batch.bytes)
		return batch.bytes;
	wait_for_room(qp, true);
	return 0;
}

void iwarp_transmit(struct iwarp_qp *qp)
{
	size_t budget = IWARP_SEND_BUDGET;

	/* RFC 5044 section 7.1.2: the responder says nothing before the initiator's first FPDU. */
	if (qp->state != IWARP_ESTABLISHED || qp->send.blocked)
		return;
	while (budget) {
		size_t sent = transmit_batch(qp);

		if (!sent)
			return;
		budget -= sent < budget ? sent : budget;
	}
	iwarp_schedule(qp);
}

void iwarp_writable(struct iwarp_qp *qp)
{
	if (!qp->send.blocked)
		return;
	wait_for_room(qp, false);
	iwarp_transmit(qp);
}

bool iwarp_send_frame(struct iwarp_qp *qp, const uint8_t *bytes, size_t length)
{
	return send(qp->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length;
}

/*
 * RFC 5040 section 4.8. Only between two FPDUs, and only if the socket takes it: a peer that does
 * not read learns nothing but the end of the stream.
 */
void iwarp_send_terminate(struct iwarp_qp *qp, enum rdmap_error error)
{
	const struct iwarp_receive_state *receive = &qp->receive;
	struct rdmap_terminate terminate = {.error = (uint16_t)error,
					    .segment_length = (uint16_t)receive->ulpdu_length};
	const struct ddp_segment segment = {.opcode = RDMAP_TERMINATE, .last = true, .msn = 1};
	uint8_t bytes[MPA_LENGTH_SIZE + DDP_UNTAGGED_SIZE + RDMAP_TERMINATE_MAX + MPA_TRAILER_MAX];
	uint32_t length;

	if ((qp->state != IWARP_ESTABLISHED && qp->state != IWARP_ACCEPTED) || qp->send.fpdu_sent)
		return;
	if (error >> 12 != MPA_CRC_ERROR >> 12 && receive->step != IWARP_HEADER) {
		terminate.header_length = receive->header_size - MPA_LENGTH_SIZE;
		memcpy(terminate.header, receive->header + MPA_LENGTH_SIZE,
		       terminate.header_length);
	}
	length = ddp_build(&segment, bytes + MPA_LENGTH_SIZE);
	length += rdmap_terminate_build(&terminate, bytes + MPA_LENGTH_SIZE + length);
	put_be16(bytes, (uint16_t)length);
	mpa_trailer_build(bytes + MPA_LENGTH_SIZE + length, length, qp->crc,
			  crc32c_update(CRC32C_START, bytes, MPA_LENGTH_SIZE + length));
	if (iwarp_send_frame(qp, bytes, mpa_fpdu_size(length)))
		trace_count(TRACE_IWARP_TERMINATES_SENT);
}
