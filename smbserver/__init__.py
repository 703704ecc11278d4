"""An SMB 2 and 3 file server whose payload moves by RDMA."""
