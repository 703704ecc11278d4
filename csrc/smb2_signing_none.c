/* Without libcrypto: no key is taken, so nobody asks for a signature. */
#include "smb2_signing.h"

struct smb2_signing *smb2_signing_create(enum smb2_signing_algorithm algorithm, const uint8_t *key,
					 size_t length)
{
	(void)algorithm;
	(void)key;
	(void)length;
	return NULL;
}

void smb2_signing_destroy(struct smb2_signing *signing)
{
	(void)signing;
}

bool smb2_signing_verify(struct smb2_signing *signing, const uint8_t *message, size_t length)
{
	(void)signing;
	(void)message;
	(void)length;
	return false;
}

void smb2_signing_sign(struct smb2_signing *signing, uint8_t *message, size_t length)
{
	(void)signing;
	(void)message;
	(void)length;
}
