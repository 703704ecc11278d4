#include "smb2_ranges.h"

bool smb2_ranges_add(struct smb2_ranges *ranges, uint8_t *memory, uint64_t offset)
{
	if (ranges->count == SMB2_RANGES_MAX)
		return false;
	ranges->ranges[ranges->count] = (struct smb2_range){.memory = memory, .offset = offset};
	ranges->free[ranges->free_count++] = (uint8_t)ranges->count++;
	return true;
}

int smb2_ranges_take(struct smb2_ranges *ranges, const void *owner)
{
	uint8_t number;

	if (!ranges->free_count)
		return -1;
	number = ranges->free[--ranges->free_count];
	ranges->ranges[number].owner = owner;
	ranges->ranges[number].waiting.open = NULL;
	return number;
}

void smb2_ranges_give_back(struct smb2_ranges *ranges, int number)
{
	ranges->ranges[number].owner = NULL;
	ranges->free[ranges->free_count++] = (uint8_t)number;
}
