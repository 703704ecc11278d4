#include "path.h"

const char *close_reason_name(enum close_reason reason)
{
	switch (reason) {
	case CLOSE_NONE:
		return "none";
	case CLOSE_BY_PEER:
		return "by_peer";
	case CLOSE_BY_WORKER:
		return "by_worker";
	case CLOSE_PEER_LOST:
		return "peer_lost";
	case CLOSE_PROTOCOL_ERROR:
		return "protocol_error";
	case CLOSE_NEGOTIATION:
		return "negotiation";
	case CLOSE_TIMEOUT:
		return "timeout";
	case CLOSE_REMOTE_ACCESS:
		return "remote_access";
	case CLOSE_WORKER_ERROR:
		return "worker_error";
	case CLOSE_LIMIT:
		return "limit";
	case CLOSE_SHUTDOWN:
		return "shutdown";
	}
	return "unknown";
}
