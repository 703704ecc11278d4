/*
 * READs and WRITEs of one connection that are served in C, inside the worker: from the stream's bytes to the replies'.
 *
 *   1. a frame is whole: is it a READ or a WRITE, alone, plain, of a session     smb2_request.c
 *      that is bound to this connection? Its open is found
 *   2. READ: the data is read, into the reply or into a range of the pool        smb2_read.c
 *      WRITE: the data is written, or fetched first by RDMA Read                 smb2_write.c
 *   3. MessageIds are used, credits are granted                                  smb2_window.c
 *   4. the reply is written behind the others, an RDMA_WRITE before it, and is
 *      signed if the request was                                                 smb2_signing.c
 *   5. a DONE: the range is free again, and a WRITE can be finished
 *
 * Whatever is not as simple as that is left where it stands: it would wait for a disk, it ends with an error, it is
 * sealed or signed wrongly, its bytes are locked, somebody must be told of it. Python serves it then from the beginning,
 * with all that the specification asks for. Nothing has changed before step 3, so every doubt may end this way.
 */
#ifndef SMB2_SERVE_H
#define SMB2_SERVE_H

#include "smb2_connection.h"

enum {
	/*
	 * Bytes of replies, payload by RDMA included, after which they leave: the peer works while more is made. Of 4 KiB
	 * READs sixteen deep, half then leave together; with all of them client and server took turns.
	 */
	SMB2_REPLIES_DUE = 32 << 10,
	/* Frames taken at once: then others have a turn. */
	SMB2_FRAMES_MAX = 128,
};

/* Serves frames from the first on, up to one that is incomplete or left to Python; the bytes of those that it took. */
size_t smb2_serve(struct smb2_connection *connection, const uint8_t *frames, size_t length);

#endif
