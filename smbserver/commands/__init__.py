"""One file per SMB2 command, all of one shape: parse, check, act, reply."""
