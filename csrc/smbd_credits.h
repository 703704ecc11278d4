/*
 * What may be sent, and what is granted ([MS-SMBD] 3.1.1.1, 3.1.5.1, 3.1.5.8, 3.1.5.9).
 *
 * One credit is one receive that the other side has posted for us, and pays for one Send of any kind. Three numbers
 * describe our receives, and the third is a counter of its own, not the difference of others: a completion that is on
 * its way would make such a difference too large, and a receive would be granted twice.
 *
 *   posted     receives that the queue pair holds
 *   receive    of these, granted to the peer and not used by it yet
 *   grantable  of these, not granted yet: grows when a receive is posted, shrinks when a message grants it
 */
#ifndef SMBD_CREDITS_H
#define SMBD_CREDITS_H

#include "path.h"

enum {
	/*
	 * Credits that we hold at most. CreditsGranted has 16 bits and no adapter holds more receives; a peer that
	 * grants beyond counts wrongly.
	 */
	SMBD_SEND_CREDITS_MAX = 65535,
	/*
	 * The least that we ask for and post. With fewer than four on both sides an empty message that grants makes
	 * the other side low enough to answer with another one, for ever.
	 */
	SMBD_CREDITS_MIN = 4,
};

struct smbd_credits {
	uint32_t send;	      /* messages that we may send */
	uint32_t send_target; /* how many we would like: CreditsRequested of every message */
	uint32_t posted;
	uint32_t receive;
	uint32_t grantable;
	uint32_t receive_target; /* how many the peer would like */
	uint32_t receive_max;	 /* how many we post at most */
};

/* Receiving. */
uint32_t smbd_credits_missing(const struct smbd_credits *credits); /* receives to be posted */
void smbd_credits_posted(struct smbd_credits *credits);		   /* one receive was posted */
bool smbd_credits_used(
	struct smbd_credits *credits); /* one arrived; false: the peer had no credit */
bool smbd_credits_granted(struct smbd_credits *credits,
			  uint16_t granted); /* by the peer; false: too many */

/* Sending. */
bool smbd_credits_may_send(
	const struct smbd_credits *credits); /* any message; the last-credit rule is here */
uint16_t
smbd_credits_grant(struct smbd_credits *credits); /* takes CreditsGranted for a message going out */
uint16_t
smbd_credits_spend(struct smbd_credits *credits); /* the same, and pays one credit for it */
bool smbd_credits_peer_is_low(
	const struct smbd_credits *credits); /* grant now, with an empty message if need be */

#endif
