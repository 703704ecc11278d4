"""The daemon that owns everything RDMA of a host and hands out channels (docs/channel.md)."""
