"""Files as a share shows them: names, handles, attributes, streams and listings, none of them outside its folder."""

from __future__ import annotations

from smbserver.vfs.share import Share, open_share

__all__ = ["Share", "open_share"]
