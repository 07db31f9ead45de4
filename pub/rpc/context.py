"""What the methods work on: one ``Pub`` per process, handed to every handler.

``Pub`` has no behaviour of its own; it is the list of the rooms a request may reach.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pub.graph import Graph, Hops
from pub.ingest.ingest import Ingest
from pub.metrics import Metrics
from pub.net.dialer import Dialer
from pub.net.methods import Methods
from pub.net.peer import Lobby
from pub.protocol.addresses import Address
from pub.protocol.keys import KeyPair
from pub.store.clocks import Clocks
from pub.store.env import Store
from pub.store.invites import Invites
from pub.store.log import Log
from pub.store.members import Members

if TYPE_CHECKING:
    from pub.rpc.ebt import Replication
    from pub.rpc.gossip import Volleys
    from pub.rpc.history import LiveHistory
    from pub.rpc.legacy import Legacy
    from pub.rpc.pages import Pages


@dataclass(slots=True)
class Pub:
    """The rooms behind the methods. Wall clock: milliseconds since the epoch."""

    keys: KeyPair
    name: str
    version: str
    store: Store
    log: Log
    invites: Invites
    members: Members
    clocks: Clocks
    graph: Graph
    ingest: Ingest
    metrics: Metrics
    lobby: Lobby
    wall_clock: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    started: float
    """Wall clock when this process began."""
    own: int = 0
    """Our own feed's number."""
    port: int = 8008
    """What goes into invite codes besides the host."""
    address: Address | None = None
    """Where members reach us, as it stands in invite codes; ``None``: the operator has not said."""
    is_ready: bool = False
    is_draining: bool = False
    """The doors are closed: peers get their goodbye, what was handed in is written."""
    listening: int | None = None
    """The port that peers come in by, while it is open."""
    verifier_pids: Sequence[int] = ()
    methods: Methods = field(default_factory=dict)
    health: Callable[[], Awaitable[dict[str, Any]]] = field(init=False)
    """All checks, as ``health`` answers."""
    replication: Replication = field(init=False)
    hops: Hops = field(init=False)
    """How far every known feed is from us; says which are replicated."""
    pages: Pages = field(init=False)
    """Of the log, as senders read it."""
    history: LiveHistory = field(init=False)
    legacy: Legacy = field(init=False)
    volleys: Volleys = field(init=False)
    dialer: Dialer = field(init=False)
