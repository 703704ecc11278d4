"""Named pipes of IPC$: one file per service."""
