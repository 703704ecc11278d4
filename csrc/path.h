/*
 * The way of one READ and one WRITE through the layers, and the few types that all of them share.
 *
 *   READ of 1 MiB (payload moves by RDMA Write, server to client)
 *    1. wire -> fabric       a Send arrives; the fabric completes a posted receive      fabric_*.c
 *    2. fabric -> smbd       credits are taken, segments become one SMB2 message         smbd_connection.c,
 *                                                                                        smbd_credits.c, smbd_fragments.c
 *    3. smbd -> channel      one frame into the worker's Unix socket                     channel.c
 *    4. (worker)             verifies, looks up, reads the file into its pool memory     smb2_serve.c, or Python;
 *                                                                                        pool.c holds the proxy's view
 *    5. worker -> channel    an RDMA_WRITE frame, then the response's frame              channel.c
 *    6. channel -> smbd      the pool range is cut along the peer's buffer descriptors   smbd_rdma.c
 *    7. smbd -> fabric       RDMA Write(s), then the Send, in this order                 fabric_*.c
 *    8. completion -> worker a DONE frame: the range is the worker's again               channel.c
 *
 *   WRITE of 1 MiB (payload moves by RDMA Read, client to server)
 *    1 to 3 as above, then
 *    4. worker -> channel    an RDMA_READ frame                                          channel.c
 *    5. channel -> smbd      cut along descriptors, at most read-depth reads at a time   smbd_rdma.c
 *    6. fabric -> worker     the bytes land in the pool; a DONE frame                    fabric_*.c, channel.c
 *    7. (worker)             writes the file, answers; steps 5 to 7 of READ without the RDMA Write
 *
 * Everything below engine.c runs in the one thread of its loop: no locks, and no function blocks.
 * Every length that a peer or a worker chose is checked in 64 bits before it is used.
 */
#ifndef PATH_H
#define PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A moment or a span of the monotonic clock, in nanoseconds. Deadline 0 means "none". */
typedef uint64_t nanoseconds;

enum {
	MILLISECOND = 1000000,
};
#define SECOND ((nanoseconds)1000000000)

/* Where the peer's memory is: [MS-SMBD] 2.2.3.1, little-endian on the wire, host order here. */
struct buffer_descriptor {
	uint64_t offset; /* an address in the peer's registration, opaque to us */
	uint32_t token;	 /* its steering tag (remote key), all 32 bits */
	uint32_t length; /* bytes */
};

enum {
	BUFFER_DESCRIPTOR_SIZE = 16, /* bytes of one descriptor on the wire */
	/*
	 * Descriptors in one SMB request. Windows sends a handful; 256 descriptors of 4 KiB still
	 * carry 1 MiB, and 4 KiB of descriptors fit in any request.
	 */
	MAX_DESCRIPTORS = 256,
};

/* Why a connection ended: the number of a CLOSED frame and of a log line. Never renumbered. */
enum close_reason {
	CLOSE_NONE = 0,		  /* still open */
	CLOSE_BY_PEER = 1,	  /* the peer disconnected in good order */
	CLOSE_BY_WORKER = 2,	  /* the worker closed the channel */
	CLOSE_PEER_LOST = 3,	  /* the transport failed or the peer vanished */
	CLOSE_PROTOCOL_ERROR = 4, /* the peer broke MPA, DDP, RDMAP or SMB Direct */
	CLOSE_NEGOTIATION = 5,	  /* no common version, or refused values */
	CLOSE_TIMEOUT = 6,	  /* a deadline passed: negotiation, keepalive, stalled transfer */
	CLOSE_REMOTE_ACCESS = 7,  /* the peer refused an RDMA Read or Write: bad token or range */
	CLOSE_WORKER_ERROR = 8,	  /* the worker sent a bad frame or a range outside its pool */
	CLOSE_LIMIT = 9,	  /* a limit of this host: memory, memlock, descriptors */
	CLOSE_SHUTDOWN = 10,	  /* the proxy is ending or draining */
};

/* One word for each reason, for logs and JSON: "peer_lost". Unknown numbers give "unknown". */
const char *close_reason_name(enum close_reason reason);

#endif
