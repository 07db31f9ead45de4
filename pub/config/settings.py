"""Everything an operator can decide, declared once: kind, default as written in the file, and what it is for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pub.config.kinds import (
    ADDRESSES,
    DURATION,
    FLAG,
    HOST,
    KEY,
    OPTIONAL_KEY,
    PORT,
    PUBLIC_HOST,
    SIZE,
    TEXT,
    Kind,
    T,
    is_public,
    one_of,
    whole,
)

DEFAULT_FOLDER = "~/.ssb-pub"
FILE_NAME = "config.yaml"
MAX_WORKERS = 4  # beyond this the single writer, not the verifying, sets the pace


@dataclass(frozen=True, slots=True)
class Setting:
    """One declaration: `default` is written as in the file, `sentence` explains it to an operator."""

    kind: Kind[Any]
    default: str | int
    sentence: str


def setting(kind: Kind[T], default: str | int, sentence: str) -> T:
    """A dataclass field that is a setting."""
    declared: T = field(
        default=kind.read(default), repr=not kind.hidden, metadata={"setting": Setting(kind, default, sentence)}
    )
    return declared


@dataclass(frozen=True, slots=True)
class Network:
    """Where the pub listens, and of which network it is a part."""

    host: str = setting(HOST, "", "Address to listen on; empty means every interface, IPv4 and IPv6.")
    port: int = setting(PORT, 8008, "TCP port to listen on; 0 means any free one.")
    key: bytes = setting(
        KEY,
        "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=",
        "Network key (caps.shs), 32 bytes in base64; the default is the main network.",
    )
    sign: bytes | None = setting(
        OPTIONAL_KEY, "", "Key for signing messages (caps.sign) of a private network; the main network has none."
    )


@dataclass(frozen=True, slots=True)
class Address:
    """What other people dial. Read it through `Settings.public_host` and `Settings.public_port`."""

    host: str = setting(
        PUBLIC_HOST, "", "Host that goes into invite codes; empty means network.host, if that is one concrete address."
    )
    port: int = setting(PORT, 0, "Port that goes into invite codes; 0 means the port listened on.")
    announce: bool = setting(FLAG, "no", "Whether the pub publishes its address on its own feed, for everyone to dial.")


@dataclass(frozen=True, slots=True)
class Replication:
    """Whose feeds the pub keeps."""

    hops: int = setting(
        whole(0, 4),
        2,
        "How far from the pub a feed may be: 0 its own only, 1 those it follows, 2 those they follow, and so on.",
    )


@dataclass(frozen=True, slots=True)
class Connections:
    """Whom the pub dials."""

    peers: tuple[str, ...] = setting(
        ADDRESSES, "", "Pubs to dial and stay connected to: a list of addresses like net:pub.example.org:8008~shs:KEY."
    )
    max_outgoing: int = setting(
        whole(0), 16, "Peers dialled and kept at once: those named above first, then pubs that this pub follows."
    )


@dataclass(frozen=True, slots=True)
class Ingest:
    """How incoming messages are checked."""

    workers: int = setting(
        whole(0, 64), 0, f"Processes that check signatures; 0 means one per CPU core, at most {MAX_WORKERS}."
    )

    @property
    def worker_count(self) -> int:
        """How many processes to start: `workers`, or one for each core this process may use."""
        return self.workers or min(MAX_WORKERS, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class Invites:
    """Invite codes that are made without being asked for."""

    first_uses: int = setting(
        whole(0, 1_000_000), 1, "Uses of the invite code printed on the first start; 0 means that none is made."
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may cost us."""

    handshake_seconds: float = setting(
        DURATION,
        5,
        "Time a new connection has to prove its key, and for which one that failed is held; clients allow 5 too.",
    )
    max_connections: int = setting(whole(1), 2000, "Connections at once; each takes a file descriptor and memory.")
    max_unauthenticated: int = setting(
        whole(1), 200, "Connections still in their handshake at once, so that port scans cannot take every place."
    )
    max_unauthenticated_per_address: int = setting(
        whole(1), 20, "The same for one IP address, so that one host cannot take the places of all others."
    )
    max_connections_per_identity: int = setting(
        whole(1), 4, "Connections of one identity at once: a few devices, or a line that broke and came back."
    )
    keepalive_seconds: float = setting(
        DURATION, 60, "A connection that has gone quiet is probed after this long; dead ones end about as much later."
    )
    idle_seconds: float = setting(DURATION, 600, "A connection without a byte for this long is closed.")
    grace_seconds: float = setting(DURATION, 10, "Time that peers and unwritten messages get when the pub stops.")
    outbound_bytes_per_peer: int = setting(
        SIZE, "4MiB", "Bytes waiting for one peer; a peer that reads more slowly is disconnected."
    )
    ingest_bytes: int = setting(
        SIZE, "16MiB", "Bytes of messages waiting to be checked and written; beyond it peers have to wait."
    )


@dataclass(frozen=True, slots=True)
class Operations:
    """Metrics and health over HTTP, for whoever looks after the pub."""

    host: str = setting(
        HOST, "127.0.0.1", "Address that /metrics, /livez and /readyz are served on; empty means that they are not."
    )
    port: int = setting(PORT, 8018, "TCP port for them; 0 means any free one.")
    disk_floor: int = setting(SIZE, "256MiB", "With less room on the disk of the data folder the pub is not ready.")


@dataclass(frozen=True, slots=True)
class Log:
    """How the pub speaks to its operator."""

    format: str = setting(
        one_of("auto", "console", "json"), "auto", "auto writes for people on a terminal and JSON lines otherwise."
    )
    level: str = setting(
        one_of("debug", "info", "warning", "error"), "info", "The least important lines still written."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can decide."""

    data: Path
    name: str = setting(TEXT, "Scuttlebutt pub", "What the pub calls itself on its profile; empty means no name.")
    description: str = setting(TEXT, "", "What the pub says about itself on its profile.")
    network: Network = field(default_factory=Network)
    address: Address = field(default_factory=Address)
    replication: Replication = field(default_factory=Replication)
    connections: Connections = field(default_factory=Connections)
    ingest: Ingest = field(default_factory=Ingest)
    invites: Invites = field(default_factory=Invites)
    limits: Limits = field(default_factory=Limits)
    operations: Operations = field(default_factory=Operations)
    log: Log = field(default_factory=Log)

    @property
    def socket(self) -> Path:
        """The unix socket through which the command line talks to the running pub."""
        return self.data / "socket"

    @property
    def secret(self) -> Path:
        """The file with the pub's key pair."""
        return self.data / "secret"

    @property
    def public_host(self) -> str | None:
        """The host for invite codes, None when nobody told us one."""
        if self.address.host:
            return self.address.host
        return self.network.host if is_public(self.network.host) else None

    @property
    def public_port(self) -> int:
        """The port for invite codes; 0 only when the port listened on is any free one."""
        return self.address.port or self.network.port


SECTIONS: dict[str, type[Any]] = {
    "network": Network,
    "address": Address,
    "replication": Replication,
    "connections": Connections,
    "ingest": Ingest,
    "invites": Invites,
    "limits": Limits,
    "operations": Operations,
    "log": Log,
}


def _declared(prefix: str, owner: type[Any]) -> Iterator[tuple[str, Setting]]:
    return ((prefix + f.name, f.metadata["setting"]) for f in fields(owner) if "setting" in f.metadata)


SETTINGS: dict[str, Setting] = {
    path: declared
    for prefix, owner in [("", Settings), *((f"{name}.", section) for name, section in SECTIONS.items())]
    for path, declared in _declared(prefix, owner)
}

VARIABLES = {"PUB_" + path.upper().replace(".", "_"): path for path in SETTINGS}
PLACES = {"PUB_DATA": "data", "PUB_CONFIG": "config"}  # where to look, not what to do: never in the file
