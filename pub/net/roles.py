"""Who is on the other end of a connection, and what that makes it: the role decides what it may call."""

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a peer is to this pub."""

    CONTROL = "control"
    """The control socket, or a client that holds the pub's own key: everything."""
    MEMBER = "member"
    """A feed the pub follows."""
    STRANGER = "stranger"
    """Anyone else who completes a handshake."""
    GUEST = "guest"
    """Someone holding an invite code: may redeem it, nothing else."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection. ``key`` is the public key the handshake proved, empty on the control socket."""

    key: bytes
    role: Role
    address: str
    is_outgoing: bool = False
    """Did we dial?"""
