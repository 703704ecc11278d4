"""Every parameter of smb.conf that has an effect, declared once: name, synonyms, type, default, scope, meaning.

A field of `General` is a parameter of [global], one of `Share` a parameter of a share; its name is the field's with
blanks for underscores. Everything else (parsing, the manual, suggestions for misspelt names) is derived from here.
"""

from __future__ import annotations

import dataclasses
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smbserver.values import (
    Kind,
    boolean,
    choice,
    dialect,
    encryption,
    names,
    number,
    octal,
    paths,
    signing,
    size,
    text,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declaration of one parameter, found in the metadata of its field."""

    kind: Kind
    documentation: str
    synonyms: tuple[str, ...] = ()
    reloadable: bool = True
    """A reload makes a new value count; without it the server must be started again."""


def parameter(
    kind: Kind, default: Any, documentation: str, *synonyms: str, reloadable: bool = True
) -> Any:
    """A dataclass field that is a parameter of the configuration."""
    declaration = Parameter(kind, documentation, synonyms, reloadable)
    return field(default=default, metadata={"parameter": declaration})


@dataclass(frozen=True, slots=True)
class General:
    """The parameters of [global]."""

    netbios_name: str = parameter(text, "", "The server's name; the host's name where it is empty.")
    interfaces: tuple[str, ...] = parameter(
        names,
        (),
        "Interfaces to listen on and to offer for more channels: names of interfaces or addresses, each optionally "
        "followed by ;speed=BITS,capability=RSS,capability=RDMA,if_index=N. Empty: all that there are.",
        reloadable=False,
    )
    bind_interfaces_only: bool = parameter(
        boolean, False, "Listen on the addresses of `interfaces` only.", reloadable=False
    )
    server_smb_transports: tuple[str, ...] = parameter(
        names,
        ("tcp:445", "smbdirect:445", "smbdirect-iw:5445"),
        "What to listen on: tcp, smbdirect (InfiniBand, RoCE), smbdirect-iw (iWARP), each with a port.",
        "smb ports",
        reloadable=False,
    )
    server_multi_channel_support: bool = parameter(
        boolean, True, "Let a session use several connections; RDMA needs it."
    )
    smb2_leases: bool = parameter(
        boolean,
        True,
        "no: clients get oplocks, of one handle each, and no leases. Needs `oplocks`.",
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
        number, 8192, "Requests that one connection may have outstanding."
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
    realm: str = parameter(
        text,
        "",
        "The Kerberos realm whose principals may log on; empty: every one with a ticket for us.",
    )
    dedicated_keytab_file: str = parameter(
        text,
        "",
        "The keytab with the keys of cifs/HOST. With one, Kerberos is accepted beside NTLM.",
    )
    kerberos_method: str = parameter(
        choice(
            secrets_only="default",
            system_keytab="",
            dedicated_keytab="",
            secrets_and_keytab="",
        ),
        "secrets_only",
        "system_keytab and secrets_and_keytab: Kerberos is accepted with the system's keytab, if "
        "`dedicated keytab file` names no other.",
    )
    state_directory: str = parameter(
        text,
        "",
        "Where accounts and state are kept. Empty: /var/lib/smbserver for root, else under the home directory.",
        reloadable=False,
    )
    pid_directory: str = parameter(
        text,
        "",
        "Where the control socket is. Empty: /run/smbserver for root, else under XDG_RUNTIME_DIR.",
        reloadable=False,
    )
    rdma_proxy_socket: str = parameter(
        text,
        "",
        "The control socket of the rdmaproxy to use. Empty: its usual place, or one of our own.",
        reloadable=False,
    )
    rdma_pool_size: int = parameter(
        size, 64 << 20, "Bytes of memory for RDMA of each worker.", reloadable=False
    )
    log_level: str = parameter(text, "info", "debug, info, warning or error.", "debuglevel")


@dataclass(frozen=True, slots=True)
class Share:
    """The parameters of a share. `name` is the name of its section."""

    name: str = ""
    path: str = parameter(text, "", "The folder that is shared.", "directory")
    comment: str = parameter(text, "", "What the share says of itself.")
    available: bool = parameter(boolean, True, "no: the share is switched off.")
    browseable: bool = parameter(
        boolean, True, "no: the share is not in the list that clients show.", "browsable"
    )
    read_only: bool = parameter(
        boolean, True, "no: files may be changed. Inverse synonym: writable."
    )
    guest_ok: bool = parameter(boolean, False, "yes: the guest may connect.", "public")
    valid_users: tuple[str, ...] = parameter(
        names,
        (),
        "Who may connect; empty: everybody with an account. @NAME and +NAME mean the members of a Unix group, "
        "in all lists of users.",
    )
    invalid_users: tuple[str, ...] = parameter(names, (), "Who may not connect.")
    hosts_allow: tuple[str, ...] = parameter(
        names,
        (),
        "Addresses of clients that may connect: addresses, networks, 10.0. for all that begin so, ALL, EXCEPT. "
        "In [global] it counts for the connection, too.",
        "allow hosts",
    )
    hosts_deny: tuple[str, ...] = parameter(
        names,
        (),
        "Addresses of clients that may not connect, unless they are allowed.",
        "deny hosts",
    )
    max_connections: int = parameter(
        number, 0, "How often the share may be connected to at a time, by all clients; 0: no limit."
    )
    force_user: str = parameter(
        text,
        "",
        "The Unix user as whom everybody acts in the share, where the server runs as root. Who may connect is "
        "decided before.",
    )
    force_group: str = parameter(
        text,
        "",
        "The Unix group that everybody has in the share, new files too, where the server runs as root. +NAME: only who "
        "is a member of it anyway.",
        "group",
    )
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
        boolean,
        True,
        "Clients may cache what they read and write, until somebody else opens the file through this server. no: for "
        "files that programs on this host change at the same time.",
    )
    durable_handles: bool = parameter(
        boolean,
        True,
        "no: handles end with their session. Needs `oplocks`. Programs on this host are not kept out of files whose "
        "client is away.",
    )
    continuous_availability: bool = parameter(
        boolean,
        False,
        "yes: handles that ask for it are persistent: they stand on disk and survive the server's restart. Each open, "
        "lock and close then waits for the disk.",
        "continuously available",
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
    hide_unreadable: bool = parameter(
        boolean, False, "yes: who may not read a file does not see it in its folder."
    )
    vfs_objects: tuple[str, ...] = parameter(
        names,
        (),
        "Samba's modules. A list that has neither streams_xattr nor streams_depot switches alternate data streams "
        "off; there is no other effect. Empty: streams are on.",
    )
    security_acl_name: str = parameter(
        text,
        "security.NTACL",
        "The extended attribute that holds a file's security descriptor. One of `user.` needs no root, but every "
        "local program of the file's owner may change it.",
        "acl_xattr:security_acl_name",
    )
    smb_encrypt: str = parameter(
        encryption, "if_required", "As `server smb encrypt`, for this share.", "server smb encrypt"
    )

    @property
    def has_streams(self) -> bool:
        """Whether files have alternate data streams."""
        return not self.vfs_objects or bool(
            {"streams_xattr", "streams_depot"} & {*self.vfs_objects}
        )


INVERSE_SYNONYMS = {"writable": "read only", "writeable": "read only", "write ok": "read only"}
"""Names that mean the opposite of another parameter."""


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


def spelled(values: General | Share, member: str) -> str:
    """The value of a field as smb.conf has it."""
    (declared,) = (one for one in dataclasses.fields(values) if one.name == member)
    kind: Kind = declared.metadata["parameter"].kind
    return kind.spell(getattr(values, member))


GENERAL = parameters_of(General)
SHARE = parameters_of(Share)

_SAMBA_NAMES = Path(__file__).parent / "samba_names.txt"
"""The names of Samba's and ksmbd's parameters."""

WITHOUT_EFFECT = frozenset(_SAMBA_NAMES.read_text().splitlines()) - {
    "include",  # of the syntax: config.py
    *GENERAL,
    *SHARE,
    *INVERSE_SYNONYMS,
}
"""Names that are accepted, so that a configuration of Samba's can be used, and change nothing."""

LIMITING = frozenset(
    {
        "access based share enum",
        "follow symlinks",
        "hide unwriteable files",
        "ntlm auth",
        "preexec close",
        "restrict anonymous",
        "root preexec close",
        "username map",
    }
)
"""Those of them that decide who may do what. Whoever sets one is warned."""


def server_name(general: General) -> str:
    """The name by which the server is known."""
    return (general.netbios_name or socket.gethostname().split(".")[0]).upper()[:15]
