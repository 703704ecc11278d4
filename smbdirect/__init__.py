"""SMB Direct: the codec, a reference engine, and the channel that workers and clients use."""
