#include "smb2_signing.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "smb2_wire.h"

enum {
	DIGEST_MAX = 32, /* HMAC-SHA256, of which the first half is the signature */
	NONCE_SIZE = 12,
	NONCE_SERVER = 1, /* the message is a response */
	NONCE_CANCEL = 2,
	PIECES = 3, /* before the signature, zeros in its place, behind it */
};

/* The key schedule is made once: each message begins with a context that has its key already. */
struct smb2_signing {
	EVP_MAC_CTX *mac;    /* HMAC-SHA256 and AES-128-CMAC */
	EVP_CIPHER_CTX *gcm; /* AES-128-GMAC is GCM that encrypts nothing */
};

static bool begin_mac(struct smb2_signing *signing, const char *name, const char *parameter,
		      const char *value, const uint8_t *key, size_t length)
{
	OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_utf8_string(parameter, (char *)(uintptr_t)value, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, name, NULL);

	if (!mac)
		return false;
	signing->mac = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac); /* the context holds it */
	return signing->mac && EVP_MAC_init(signing->mac, key, length, parameters);
}

static bool begin_gmac(struct smb2_signing *signing, const uint8_t *key, size_t length)
{
	signing->gcm = EVP_CIPHER_CTX_new();
	return signing->gcm && length == (size_t)EVP_CIPHER_get_key_length(EVP_aes_128_gcm()) &&
	       EVP_EncryptInit_ex(signing->gcm, EVP_aes_128_gcm(), NULL, key, NULL);
}

static bool begin(struct smb2_signing *signing, enum smb2_signing_algorithm algorithm,
		  const uint8_t *key, size_t length)
{
	switch (algorithm) {
	case SMB2_HMAC_SHA256:
		return begin_mac(signing, "HMAC", "digest", "SHA256", key, length);
	case SMB2_AES_CMAC:
		return begin_mac(signing, "CMAC", "cipher", "AES-128-CBC", key, length);
	case SMB2_AES_GMAC:
		return begin_gmac(signing, key, length);
	}
	return false;
}

struct smb2_signing *smb2_signing_create(enum smb2_signing_algorithm algorithm, const uint8_t *key,
					 size_t length)
{
	struct smb2_signing *signing = calloc(1, sizeof(*signing));

	if (signing && !begin(signing, algorithm, key, length)) {
		smb2_signing_destroy(signing);
		return NULL;
	}
	return signing;
}

/* libcrypto wipes what it has made of a key before its memory is freed. */
void smb2_signing_destroy(struct smb2_signing *signing)
{
	if (!signing)
		return;
	EVP_MAC_CTX_free(signing->mac);
	EVP_CIPHER_CTX_free(signing->gcm);
	free(signing);
}

static bool compute_mac(EVP_MAC_CTX *mac, const struct iovec *pieces, size_t count, uint8_t *ret)
{
	size_t size;

	if (!EVP_MAC_init(mac, NULL, 0, NULL))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!EVP_MAC_update(mac, pieces[i].iov_base, pieces[i].iov_len))
			return false;
	return EVP_MAC_final(mac, ret, &size, DIGEST_MAX);
}

/* [MS-SMB2] 3.1.4.1: MessageId, who sends, and whether it is CANCEL, which has the id of another request. */
static void make_nonce(const uint8_t *header, uint8_t *nonce)
{
	uint32_t bits = 0;

	if (get_le32(header + SMB2_FLAGS) & SMB2_FLAG_RESPONSE)
		bits |= NONCE_SERVER;
	if (get_le16(header + SMB2_COMMAND) == SMB2_CANCEL)
		bits |= NONCE_CANCEL;
	memcpy(nonce, header + SMB2_MESSAGE_ID, 8);
	put_le32(nonce + 8, bits);
}

static bool compute_gmac(EVP_CIPHER_CTX *gcm, const struct iovec *pieces, size_t count,
			 uint8_t *ret)
{
	uint8_t nonce[NONCE_SIZE], nothing[1];
	int none;

	make_nonce(pieces[0].iov_base, nonce);
	if (!EVP_EncryptInit_ex(gcm, NULL, NULL, NULL, nonce))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!EVP_EncryptUpdate(gcm, NULL, &none, pieces[i].iov_base,
				       (int)pieces[i].iov_len))
			return false;
	return EVP_EncryptFinal_ex(gcm, nothing, &none) &&
	       EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, SMB2_SIGNATURE_SIZE, ret);
}

/* The signature is the first part of what there is room for in `ret`: DIGEST_MAX bytes. */
static bool compute(struct smb2_signing *signing, const uint8_t *message, size_t length,
		    uint8_t *ret)
{
	static const uint8_t no_signature[SMB2_SIGNATURE_SIZE];
	const struct iovec pieces[PIECES] = {
		{(void *)(uintptr_t)message, SMB2_SIGNATURE},
		{(void *)(uintptr_t)no_signature, sizeof(no_signature)},
		{(void *)(uintptr_t)(message + SMB2_HEADER_SIZE), length - SMB2_HEADER_SIZE},
	};

	return signing->mac ? compute_mac(signing->mac, pieces, PIECES, ret)
			    : compute_gmac(signing->gcm, pieces, PIECES, ret);
}

bool smb2_signing_verify(struct smb2_signing *signing, const uint8_t *message, size_t length)
{
	uint8_t right[DIGEST_MAX];

	return compute(signing, message, length, right) &&
	       !CRYPTO_memcmp(right, message + SMB2_SIGNATURE, SMB2_SIGNATURE_SIZE);
}

void smb2_signing_sign(struct smb2_signing *signing, uint8_t *message, size_t length)
{
	uint8_t signature[DIGEST_MAX];

	if (compute(signing, message, length, signature))
		memcpy(message + SMB2_SIGNATURE, signature, SMB2_SIGNATURE_SIZE);
}
