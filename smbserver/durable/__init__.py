"""Opens that outlive their session: durable and persistent ones ([MS-SMB2] 3.3.1.10, 3.3.5.9.6 to 3.3.5.9.12).

1. CREATE asks (`request.py`), and is granted durability where the client may keep the handle cached (`opens.py`);
2. the session ends: the open is parked. Its file is closed, and what it excludes others from, share modes, byte-range
   locks, its oplock or lease, stands in the shared tables in the name of the keeper (`parked.py`);
3. whoever would have to ask it to give something up makes it end instead, as nobody is there to be asked;
4. the client comes back, in whichever worker, and the file is opened again (`reconnect.py`), or its time is up.

A persistent open, on a share with `continuous availability`, also stands on disk from its CREATE to its CLOSE
(`persistent.py`): it is parked when its worker or the whole server has died, and keeps others away while it is.

A CREATE whose answer was lost is repeated: `replay.py` finds what the first one opened.
"""
