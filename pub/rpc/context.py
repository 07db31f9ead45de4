"""What the methods work on: one ``Pub`` per process, handed to every handler.

``Pub`` has no behaviour of its own; it is the list of the rooms a request may reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pub.graph import Graph
from pub.ingest.ingest import Ingest
from pub.metrics import Metrics
from pub.net.connection import Methods
from pub.net.peer import Lobby
from pub.protocol.addresses import Address
from pub.protocol.keys import KeyPair
from pub.store.env import Store
from pub.store.invites import Invites
from pub.store.log import Log
from pub.store.members import Members

if TYPE_CHECKING:
    from pub.rpc.ebt import Replication
    from pub.rpc.gossip import Volleys
    from pub.rpc.history import LiveHistory


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
    graph: Graph[int]
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
    methods: Methods = field(default_factory=dict)
    replication: Replication = field(init=False)
    history: LiveHistory = field(init=False)
    volleys: Volleys = field(init=False)
