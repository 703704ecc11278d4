"""The codec of SMB 2 and 3 ([MS-SMB2] 2.2, [MS-FSCC] 2): one module per message or structure.

Every message has `parse(message)`, which takes the whole message with its 64-byte header, because
offsets count from there, and `pack()`, which gives the body behind the header. Whatever does not
fit raises `errors.Malformed`.
"""
