/*
 * CRC32C (Castagnoli), as MPA wants it: RFC 5044 section 4.4 and RFC 3385.
 *
 * state = CRC32C_START; state = crc32c_update(state, ...) for every piece; crc32c_finish(state) is
 * the value. On the wire stand the bytes of the value, least significant first: 32 zero bytes give
 * AA 36 91 8A.
 */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

#define CRC32C_START 0xFFFFFFFFu

uint32_t crc32c_update(uint32_t state, const void *bytes, size_t length);
/* The same without the CPU's instruction: for tests, and where the CPU has none. */
uint32_t crc32c_update_table(uint32_t state, const void *bytes, size_t length);

static inline uint32_t crc32c_finish(uint32_t state)
{
	return ~state;
}

#endif
