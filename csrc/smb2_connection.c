#include "smb2_connection.h"

#include "smb2_wire.h"

bool smb2_connection_add_session(struct smb2_connection *connection, uint64_t session_id,
				 bool must_sign, struct smb2_signing *signing)
{
	smb2_connection_drop_session(connection, session_id);
	if (connection->session_count == SMB2_SESSIONS_MAX) {
		smb2_signing_destroy(signing);
		return false;
	}
	connection->sessions[connection->session_count++] =
		(struct smb2_session){.id = session_id, .must_sign = must_sign, .signing = signing};
	return true;
}

void smb2_connection_drop_session(struct smb2_connection *connection, uint64_t session_id)
{
	for (uint32_t i = 0; i < connection->session_count; i++)
		if (connection->sessions[i].id == session_id) {
			smb2_signing_destroy(connection->sessions[i].signing);
			connection->sessions[i] = connection->sessions[--connection->session_count];
			return;
		}
}

bool smb2_connection_find_session(const struct smb2_connection *connection, const uint8_t *header,
				  struct smb2_signing **ret)
{
	uint64_t id = get_le64(header + SMB2_SESSION_ID);
	bool is_signed = get_le32(header + SMB2_FLAGS) & SMB2_FLAG_SIGNED;

	for (uint32_t i = 0; i < connection->session_count; i++) {
		const struct smb2_session *session = &connection->sessions[i];

		if (session->id != id)
			continue;
		*ret = is_signed ? session->signing : NULL;
		return is_signed ? session->signing != NULL : !session->must_sign;
	}
	return false;
}

void smb2_connection_end(struct smb2_connection *connection)
{
	struct smb2_ranges *ranges = connection->ranges;

	while (connection->session_count)
		smb2_connection_drop_session(connection, connection->sessions[0].id);
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
