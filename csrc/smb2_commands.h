/* The commands that are served without Python. */
#ifndef SMB2_COMMANDS_H
#define SMB2_COMMANDS_H

#include "smb2_connection.h"

/* False: the message is none, or not a simple one, and nothing has changed. */
bool smb2_read(struct smb2_connection *connection, const uint8_t *message, size_t length);
bool smb2_write(struct smb2_connection *connection, const uint8_t *message, size_t length);

/* The payload of a WRITE lies in its range, or never will. There must be room for SMB2_ANSWER_MAX bytes. */
void smb2_write_arrived(struct smb2_connection *connection, const struct smb2_range *range,
			bool arrived);

enum {
	SMB2_ANSWER_MAX = 8 + 4 + 80, /* SEND_INVALIDATE and a response without payload */
};

#endif
