"""One file per FSCTL, all of one shape."""
