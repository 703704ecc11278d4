#include "smb2_connection.h"

bool smb2_connection_has_session(const struct smb2_connection *connection, uint64_t session_id)
{
	for (uint32_t i = 0; i < connection->session_count; i++)
		if (connection->sessions[i] == session_id)
			return true;
	return false;
}

bool smb2_connection_add_session(struct smb2_connection *connection, uint64_t session_id)
{
	if (smb2_connection_has_session(connection, session_id))
		return true;
	if (connection->session_count == SMB2_SESSIONS_MAX)
		return false;
	connection->sessions[connection->session_count++] = session_id;
	return true;
}

void smb2_connection_drop_session(struct smb2_connection *connection, uint64_t session_id)
{
	for (uint32_t i = 0; i < connection->session_count; i++)
		if (connection->sessions[i] == session_id) {
			connection->sessions[i] = connection->sessions[--connection->session_count];
			return;
		}
}

void smb2_connection_end(struct smb2_connection *connection)
{
	struct smb2_ranges *ranges = connection->ranges;

	connection->session_count = 0;
	connection->in_flight = 0;
	for (unsigned int i = 0; ranges && i < ranges->count; i++) {
		struct smb2_waiting *waiting = &ranges->ranges[i].waiting;

		if (ranges->ranges[i].owner != connection)
			continue;
		if (waiting->open)
			smb2_open_end(waiting->open, waiting->sequence);
		smb2_ranges_give_back(ranges, (int)i);
	}
}
