/*
 * Signatures of SMB2 messages ([MS-SMB2] 3.1.4.1, 3.1.5.1); smbserver/signing.py is the same in Python.
 *
 * smb2_signing.c asks libcrypto for them. Where its headers are missing smb2_signing_none.c stands in, which takes no
 * key, and so leaves every signed request to Python.
 */
#ifndef SMB2_SIGNING_H
#define SMB2_SIGNING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As in SMB2_SIGNING_CAPABILITIES, [MS-SMB2] 2.2.3.1.7. */
enum smb2_signing_algorithm {
	SMB2_HMAC_SHA256 = 0,
	SMB2_AES_CMAC = 1,
	SMB2_AES_GMAC = 2,
};

/* The key of one session on one connection, as contexts of libcrypto: nothing else keeps a copy of it. */
struct smb2_signing;

/* NULL: there is no such algorithm here, or no memory. */
struct smb2_signing *smb2_signing_create(enum smb2_signing_algorithm algorithm, const uint8_t *key,
					 size_t length);
/* Wipes the key; NULL is none. */
void smb2_signing_destroy(struct smb2_signing *signing);

/* Whether the message, a whole one with its header, carries the right signature. */
bool smb2_signing_verify(struct smb2_signing *signing, const uint8_t *message, size_t length);

/*
 * Puts the signature where it belongs. Without memory what stands there stays, zeros: the client refuses such a message
 * as it would a forged one.
 */
void smb2_signing_sign(struct smb2_signing *signing, uint8_t *message, size_t length);

#endif
