#include "crc32c.h"

#include <stdbool.h>
#include <string.h>

enum {
	CRC32C_SLICES = 8, /* bytes that one step of the table takes */
};
#define CRC32C_POLYNOMIAL 0x82F63B78u /* 0x1EDC6F41 with its bits reversed */

static uint32_t table[CRC32C_SLICES][256];

/* Before main: no thread exists yet, so that no lock is needed later. */
__attribute__((constructor)) static void table_fill(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t value = byte;

		for (int bit = 0; bit < 8; bit++)
			value = (value >> 1) ^ (value & 1 ? CRC32C_POLYNOMIAL : 0);
		table[0][byte] = value;
	}
	for (uint32_t byte = 0; byte < 256; byte++)
		for (int slice = 1; slice < CRC32C_SLICES; slice++)
			table[slice][byte] = (table[slice - 1][byte] >> 8) ^
					     table[0][table[slice - 1][byte] & 0xFF];
}

uint32_t crc32c_update_table(uint32_t state, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (; length >= CRC32C_SLICES; at += CRC32C_SLICES, length -= CRC32C_SLICES)
		state = table[7][(state ^ at[0]) & 0xFF] ^ table[6][(state >> 8 ^ at[1]) & 0xFF] ^
			table[5][(state >> 16 ^ at[2]) & 0xFF] ^ table[4][state >> 24 ^ at[3]] ^
			table[3][at[4]] ^ table[2][at[5]] ^ table[1][at[6]] ^ table[0][at[7]];
	for (; length; at++, length--)
		state = (state >> 8) ^ table[0][(state ^ *at) & 0xFF];
	return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t update_sse42(uint32_t state, const void *bytes,
							       size_t length)
{
	const uint8_t *at = bytes;
	uint64_t wide = state;

	for (; length >= sizeof(uint64_t); at += sizeof(uint64_t), length -= sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, at, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	state = (uint32_t)wide;
	for (; length; at++, length--)
		state = __builtin_ia32_crc32qi(state, *at);
	return state;
}

uint32_t crc32c_update(uint32_t state, const void *bytes, size_t length)
{
	if (__builtin_cpu_supports("sse4.2"))
		return update_sse42(state, bytes, length);
	return crc32c_update_table(state, bytes, length);
}
#else
uint32_t crc32c_update(uint32_t state, const void *bytes, size_t length)
{
	return crc32c_update_table(state, bytes, length);
}
#endif
