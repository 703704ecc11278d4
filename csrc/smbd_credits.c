#include "smbd_credits.h"

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t smbd_credits_missing(const struct smbd_credits *credits)
{
	uint32_t wanted = smaller(credits->receive_target, credits->receive_max);

	return wanted > credits->posted ? wanted - credits->posted : 0;
}

void smbd_credits_posted(struct smbd_credits *credits)
{
	credits->posted++;
	credits->grantable++;
}

bool smbd_credits_used(struct smbd_credits *credits)
{
	if (credits->receive == 0)
		return false;
	credits->receive--;
	credits->posted--;
	return true;
}

bool smbd_credits_granted(struct smbd_credits *credits, uint16_t granted)
{
	if (granted > SMBD_SEND_CREDITS_MAX - credits->send)
		return false;
	credits->send += granted;
	return true;
}

/* What the next message would grant: receives that are posted, but no more than the peer would like to hold. */
static uint32_t grantable(const struct smbd_credits *credits)
{
	if (credits->receive >= credits->receive_target)
		return 0;
	return smaller(credits->grantable, credits->receive_target - credits->receive);
}

/*
 * The last credit goes only to a message that grants one: if both sides spent their last credit on messages that
 * grant nothing, both would be silent for ever.
 */
bool smbd_credits_may_send(const struct smbd_credits *credits)
{
	return credits->send > 1 || (credits->send == 1 && grantable(credits) > 0);
}

uint16_t smbd_credits_grant(struct smbd_credits *credits)
{
	uint32_t granted = grantable(credits);

	credits->grantable -= granted;
	credits->receive += granted;
	return (uint16_t)granted;
}

uint16_t smbd_credits_spend(struct smbd_credits *credits)
{
	credits->send--;
	return smbd_credits_grant(credits);
}

/*
 * A quarter of its target is left, or one credit, which it may not spend on a message that grants nothing. Later
 * would let it starve; earlier, every empty message would be answered with another one.
 */
bool smbd_credits_peer_is_low(const struct smbd_credits *credits)
{
	uint32_t quarter = credits->receive_target / 4;

	return grantable(credits) > 0 && credits->receive <= (quarter > 1 ? quarter : 1);
}
