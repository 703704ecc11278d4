/*
 * All that happens to a connection by itself: a negotiation that takes too long, silence, keepalive, work that makes no
 * progress, a close that takes too long; and rest.
 */
#include "smbd_state.h"
#include "trace.h"

enum { TIMES = 4 };

struct timeout {
	nanoseconds deadline; /* 0: none */
	enum { TIMEOUT_CLOSES, TIMEOUT_PINGS } effect;
	const char *words;
};

static nanoseconds after(nanoseconds since, nanoseconds span)
{
	return since ? since + span : 0;
}

/* All that may happen by itself in the present state; returns how many. */
static size_t timeouts(const struct smbd_connection *connection, struct timeout ret[TIMES])
{
	const struct smbd_config *config = &connection->config;
	size_t count = 0;

	if (connection->state <= SMBD_NEGOTIATING) {
		ret[count++] = (struct timeout){connection->created + config->negotiate_timeout,
						TIMEOUT_CLOSES, "the negotiation took too long"};
		return count;
	}
	if (connection->state == SMBD_CLOSING) {
		ret[count++] =
			(struct timeout){connection->closing + config->send_timeout, TIMEOUT_CLOSES,
					 "what was queued could not be sent in time"};
		return count;
	}
	if (connection->state != SMBD_ESTABLISHED)
		return 0;
	ret[count++] = (struct timeout){connection->received + config->idle_timeout, TIMEOUT_CLOSES,
					"nothing was heard of the peer"};
	ret[count++] =
		(struct timeout){after(connection->waiting, config->send_timeout), TIMEOUT_CLOSES,
				 "the peer gave no credit and completed nothing"};
	if (connection->role == SMBD_CLIENT && connection->ping == SMBD_PING_NONE)
		ret[count++] = (struct timeout){connection->sent + config->keepalive_interval,
						TIMEOUT_PINGS, NULL};
	if (connection->ping == SMBD_PING_SENT)
		ret[count++] = (struct timeout){connection->pinged + config->keepalive_timeout,
						TIMEOUT_CLOSES,
						"the peer did not answer a keepalive request"};
	return count;
}

nanoseconds smbd_deadline(const struct smbd_connection *connection)
{
	struct timeout all[TIMES];
	size_t count = timeouts(connection, all);
	nanoseconds first = 0;

	for (size_t i = 0; i < count; i++) {
		if (all[i].deadline && (!first || all[i].deadline < first))
			first = all[i].deadline;
	}
	return first;
}

void smbd_on_time(struct smbd_connection *connection, nanoseconds now)
{
	struct timeout all[TIMES];
	size_t count = timeouts(connection, all);

	smbd_hold(connection);
	for (size_t i = 0; i < count && connection->state < SMBD_DEAD; i++) {
		if (!all[i].deadline || all[i].deadline > now)
			continue;
		if (all[i].effect == TIMEOUT_PINGS) {
			connection->ping = SMBD_PING_DUE;
		} else {
			trace_count(TRACE_SMBD_TIMEOUTS);
			smbd_make_dead(connection, CLOSE_TIMEOUT, all[i].words);
		}
	}
	smbd_let_go(connection, now);
}

void smbd_rest(struct smbd_connection *connection)
{
	const struct smbd_slots *send = &connection->buffers.send;
	nanoseconds last =
		connection->received > connection->sent ? connection->received : connection->sent;

	if (connection->rested != last) {
		connection->rested = last;
		connection->at_rest = false;
		return;
	}
	if (connection->at_rest || connection->state != SMBD_ESTABLISHED ||
	    send->free != send->count || !fabric_may_discard(connection->qp))
		return;
	smbd_buffers_discard(&connection->buffers);
	connection->at_rest = true;
	trace_count(TRACE_SMBD_RESTS);
}
