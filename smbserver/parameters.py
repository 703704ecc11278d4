"""Every parameter of smb.conf that has an effect, declared once: name, synonyms, type, default, scope, meaning.

A field of `General` is a parameter of [global], one of `Share` a parameter of a share; its name is the field's with
blanks for underscores. Everything else (parsing, the manual, suggestions for misspelt names) is derived from here.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class BadValue(ValueError):
    """A value that does not fit its parameter; the sentence says what would."""


def text(value: str) -> str:
    """A string as it stands."""
    return value


def boolean(value: str) -> bool:
    """yes or no."""
    word = value.lower()
    if word in ("yes", "true", "1", "on"):
        return True
    if word in ("no", "false", "0", "off"):
        return False
    raise BadValue(f"{value!r} is neither yes nor no")


def octal(value: str) -> int:
    """File permission bits in octal."""
    try:
        return int(value, 8)
    except ValueError:
        raise BadValue(f"{value!r} is no octal number") from None


_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(value: str) -> int:
    """A number, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)B?", value.strip(), re.IGNORECASE)
    if not match:
        raise BadValue(f"{value!r} is no number, nor one followed by K, M or G")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def names(value: str) -> tuple[str, ...]:
    """A list, separated by commas or blanks; quotes keep blanks and commas inside a member."""
    members = re.findall(r'"([^"]*)"|([^\s,]+)', value)
    return tuple(quoted or plain for quoted, plain in members)


def paths(value: str) -> tuple[str, ...]:
    """A list of names between slashes, as `veto files` has it."""
    return tuple(part for part in value.split("/") if part)


def choice(**spellings: str) -> Callable[[str], str]:
    """One of some words; `spellings` gives other words for them, separated by blanks."""
    canonical = {word: name for name, words in spellings.items() for word in (name, *words.split())}

    def parse(value: str) -> str:
        try:
            return canonical[value.lower().replace(" ", "_")]
        except KeyError:
            raise BadValue(f"{value!r} is none of {', '.join(sorted(spellings))}") from None

    return parse


dialect = choice(
    smb2_02="smb2",
    smb2_10="smb2_1",
    smb3_00="smb3_0",
    smb3_02="",
    smb3_11="smb3 default",
)
"""A dialect in Samba's spelling."""

encryption = choice(
    off="no false disabled",
    if_required="default auto enabled yes true",
    desired="",
    required="mandatory",
)

signing = choice(
    default="auto yes true enabled desired if_required",
    required="mandatory",
    off="no false disabled",
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declaration of one parameter, found in the metadata of its field."""

    parse: Callable[[str], Any]
    documentation: str
    synonyms: tuple[str, ...] = ()


def parameter(parse: Callable[[str], Any], default: Any, documentation: str, *synonyms: str) -> Any:
    """A dataclass field that is a parameter of the configuration."""
    return field(default=default, metadata={"parameter": Parameter(parse, documentation, synonyms)})


@dataclass(frozen=True, slots=True)
class General:
    """The parameters of [global]."""

    netbios_name: str = parameter(text, "", "The server's name; the host's name where it is empty.")
    interfaces: tuple[str, ...] = parameter(
        names,
        (),
        "Interfaces to listen on and to offer for more channels: names of interfaces or addresses, each optionally "
        "followed by ;speed=BITS,capability=RSS,capability=RDMA,if_index=N. Empty: all that there are.",
    )
    bind_interfaces_only: bool = parameter(
        boolean, False, "Listen on the addresses of `interfaces` only."
    )
    server_smb_transports: tuple[str, ...] = parameter(
        names,
        ("tcp:445", "smbdirect:445", "smbdirect-iw:5445"),
        "What to listen on: tcp, smbdirect (InfiniBand, RoCE), smbdirect-iw (iWARP), each with a port.",
        "smb ports",
    )
    server_multi_channel_support: bool = parameter(
        boolean, True, "Let a session use several connections; RDMA needs it."
    )
    smb2_leases: bool = parameter(
        boolean, False, "yes: leases are granted beside oplocks, on shares with `oplocks`."
    )
    server_min_protocol: str = parameter(
        dialect, "smb2_02", "The oldest dialect that is spoken.", "min protocol"
    )
    server_max_protocol: str = parameter(
        dialect, "smb3_11", "The newest dialect that is spoken.", "max protocol", "protocol"
    )
    server_signing: str = parameter(
        signing,
        "default",
        "default: signed if the client asks for it; required: always. RDMA is slower when signed.",
    )
    server_smb_encrypt: str = parameter(
        encryption,
        "if_required",
        "off, if_required (the client decides), desired (on where the client can), required.",
        "smb encrypt",
        "smb3 encryption",
    )
    smb2_max_read: int = parameter(size, 8 << 20, "Bytes of one READ.", "smb2 max read size")
    smb2_max_write: int = parameter(size, 8 << 20, "Bytes of one WRITE.", "smb2 max write size")
    smb2_max_trans: int = parameter(size, 8 << 20, "Bytes of one query or control request.")
    smb2_max_credits: int = parameter(
        size, 8192, "Requests that one connection may have outstanding."
    )
    map_to_guest: str = parameter(
        choice(never="", bad_user="bad"),
        "never",
        "never: who has no account is refused; bad_user: an unknown name becomes the guest.",
    )
    guest_account: str = parameter(text, "nobody", "The name of the guest.")
    passdb_backend: str = parameter(
        text,
        "smbpasswd",
        "smbpasswd:FILE, the accounts. Without a file: smbpasswd in `state directory`.",
    )
    state_directory: str = parameter(
        text,
        "",
        "Where accounts and state are kept. Empty: /var/lib/smbserver for root, else under the home directory.",
    )
    pid_directory: str = parameter(
        text,
        "",
        "Where the control socket is. Empty: /run/smbserver for root, else under XDG_RUNTIME_DIR.",
    )
    rdma_proxy_socket: str = parameter(
        text,
        "",
        "The control socket of the rdmaproxy to use. Empty: its usual place, or one of our own.",
    )
    rdma_pool_size: int = parameter(size, 64 << 20, "Bytes of memory for RDMA of each worker.")
    log_level: str = parameter(text, "info", "debug, info, warning or error.", "debuglevel")


@dataclass(frozen=True, slots=True)
class Share:
    """The parameters of a share. `name` is the name of its section."""

    name: str = ""
    path: str = parameter(text, "", "The folder that is shared.", "directory")
    comment: str = parameter(text, "", "What the share says of itself.")
    available: bool = parameter(boolean, True, "no: the share is switched off.")
    read_only: bool = parameter(
        boolean, True, "no: files may be changed. Inverse synonym: writable."
    )
    guest_ok: bool = parameter(boolean, False, "yes: the guest may connect.", "public")
    valid_users: tuple[str, ...] = parameter(
        names, (), "Who may connect; empty: everybody with an account."
    )
    invalid_users: tuple[str, ...] = parameter(names, (), "Who may not connect.")
    read_list: tuple[str, ...] = parameter(
        names, (), "Who may only read, whatever `read only` says."
    )
    write_list: tuple[str, ...] = parameter(names, (), "Who may write, whatever `read only` says.")
    create_mask: int = parameter(
        octal, 0o744, "Permission bits that a new file may have.", "create mode"
    )
    directory_mask: int = parameter(
        octal, 0o755, "Permission bits that a new folder may have.", "directory mode"
    )
    veto_files: tuple[str, ...] = parameter(
        paths, (), "Names, with * and ?, that cannot be seen or opened."
    )
    oplocks: bool = parameter(
        boolean, False, "yes: clients may cache what they read and write. Leases need it too."
    )
    hide_dot_files: bool = parameter(
        boolean, True, "Names that begin with a dot carry the hidden attribute."
    )
    acl_flag_inherited_canonicalization: bool = parameter(
        boolean,
        True,
        "no: the flag of an inherited access control list is stored as the client sends it.",
    )
    change_notify: bool = parameter(
        boolean, True, "no: clients are not told of changes in folders they show."
    )
    hide_files: tuple[str, ...] = parameter(
        paths, (), "Names, with * and ?, that carry the hidden attribute."
    )
    smb_encrypt: str = parameter(
        encryption, "if_required", "As `server smb encrypt`, for this share.", "server smb encrypt"
    )


INVERSE_SYNONYMS = {"writable": "read only", "writeable": "read only", "write ok": "read only"}
"""Names that mean the opposite of another parameter."""

TOLERATED = frozenset(
    {
        "browsable",
        "browseable",
        "cache directory",
        "deadtime",
        "disable spoolss",
        "dns proxy",
        "force user",
        "load printers",
        "lock directory",
        "log file",
        "logging",
        "max connections",
        "max ip connections",
        "max log size",
        "ncalrpc dir",
        "obey pam restrictions",
        "panic action",
        "printcap name",
        "printing",
        "private dir",
        "private directory",
        "security",
        "server role",
        "server services",
        "server string",
        "smb direct max read write size",
        "smbd max io size",
        "unix extensions",
        "unix password sync",
        "usershare allow guests",
        "vfs objects",
        "workgroup",
    }
)
"""Names of Samba's that are accepted without effect."""


def parameters_of(scope: type[General] | type[Share]) -> dict[str, tuple[str, Parameter]]:
    """Name and synonyms of the parameters of a scope, each with its field and declaration."""
    found: dict[str, tuple[str, Parameter]] = {}
    for member in dataclasses.fields(scope):
        declaration: Parameter | None = member.metadata.get("parameter")
        if declaration is None:
            continue
        for name in (member.name.replace("_", " "), *declaration.synonyms):
            found[name] = member.name, declaration
    return found


def server_name(general: General) -> str:
    """The name by which the server is known."""
    return (general.netbios_name or socket.gethostname().split(".")[0]).upper()[:15]
