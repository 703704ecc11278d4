/* SOURCES: crc32c.c */
#include "crc32c.h"

#include <string.h>

#include "check.h"

typedef uint32_t update_function(uint32_t state, const void *bytes, size_t length);

static uint32_t value(update_function *update, const void *bytes, size_t length)
{
	return crc32c_finish(update(CRC32C_START, bytes, length));
}

/* RFC 3720 appendix B.4; the wire shows the bytes of the value from the least significant on. */
static void test_vectors(update_function *update)
{
	uint8_t bytes[32];

	memset(bytes, 0, sizeof(bytes));
	CHECK(value(update, bytes, sizeof(bytes)) == 0x8A9136AA);
	memset(bytes, 0xFF, sizeof(bytes));
	CHECK(value(update, bytes, sizeof(bytes)) == 0x62A8AB43);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	CHECK(value(update, bytes, sizeof(bytes)) == 0x46DD794E);
	CHECK(value(update, "123456789", 9) == 0xE3069283);
	CHECK(value(update, "", 0) == 0);
}

static void test_pieces_and_alignment(void)
{
	uint8_t bytes[300];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 197 + 11);
	for (size_t from = 0; from < 9; from++)
		for (size_t cut = from; cut < sizeof(bytes); cut += 7) {
			uint32_t whole = crc32c_update_table(CRC32C_START, bytes + from,
							     sizeof(bytes) - from);
			uint32_t first = crc32c_update(CRC32C_START, bytes + from, cut - from);

			CHECK(crc32c_update(first, bytes + cut, sizeof(bytes) - cut) == whole);
		}
}

int main(void)
{
	test_vectors(crc32c_update);
	test_vectors(crc32c_update_table);
	test_pieces_and_alignment();
	return 0;
}
