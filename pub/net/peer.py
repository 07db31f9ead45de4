"""One peer from its first byte to its last: handshake, authorisation, muxrpc, and the one place that catches.

What a stranger does wrong (protocol and socket errors) is counted and drops that peer. Anything else is a bug of
ours: its traceback goes to the log, ``internal_errors`` grows, that peer is dropped, and the pub lives on.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
import trio

from pub.errors import (
    BlockedPeer,
    HandshakeCutShort,
    HandshakeError,
    HeavyPeer,
    HungUp,
    IdlePeer,
    ProtocolError,
    SlowPeer,
    StoreError,
    leaves,
)
from pub.metrics import Metrics
from pub.net.connection import Connection
from pub.net.limbo import Limbo
from pub.net.line import Line
from pub.net.methods import Methods
from pub.net.penance import Penance
from pub.net.roles import Peer, Role
from pub.net.stream import SecretStream, accept_handshake
from pub.protocol.keys import KeyPair

log = structlog.get_logger()
T = TypeVar("T")

EPHEMERAL_BYTES = 32  # an X25519 secret
# Two dials that crossed end within the time one takes. Nobody dials a peer it is connected to: if the other side does,
# later than that, it has lost the connection we still believe in.
CROSSING_SECONDS = 30.0
MAX_CONTROL_OUTBOUND = 64 << 20  # bytes: the list of 80,000 members is one answer
MAX_HELD_BYTES = 64 << 20  # kept for all peers together: eight of the largest clocks under way, or 16 full outboxes
GUESTS_SHARE = 10  # the holders of one code may take a tenth of all connections
SOCKET_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
PEER_FAULTS = (ProtocolError, *SOCKET_ERRORS)
# The first that fits: a slow peer's socket may break as well.
DISCONNECT_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (SlowPeer, "slow"),
    (HeavyPeer, "heavy"),
    (IdlePeer, "idle"),
    (BlockedPeer, "blocked"),
    (HungUp, "hangup"),
    (ProtocolError, "protocol"),
    (SOCKET_ERRORS, "hangup"),
)


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Bounds of one peer and of all of them; the settings of the same names say why."""

    handshake_seconds: float
    keepalive_seconds: float
    idle_seconds: float
    max_connections: int
    max_connections_per_identity: int
    max_unauthenticated: int
    max_unauthenticated_per_address: int
    outbound_bytes_per_peer: int


@dataclass(slots=True)
class Lobby:
    """Who is connected: counts of those still shaking hands, and the connections behind them."""

    limits: PeerLimits
    unauthenticated: Counter[str] = field(default_factory=Counter)
    connections: dict[Connection, None] = field(default_factory=dict)
    identities: Counter[bytes] = field(default_factory=Counter)
    handshakes: dict[trio.CancelScope, str] = field(default_factory=dict)
    """Those under way, the oldest first, and the address of each."""
    line: Line = field(default_factory=Line)
    """Who has something to send; to be run by whoever has the lobby."""
    limbo: Limbo = field(init=False)
    penance: Penance = field(default_factory=Penance)
    max_held_bytes: int = MAX_HELD_BYTES
    held_bytes: int = 0
    """Of packets that peers have not finished and of answers they have not read; see ``Connection.held_bytes``."""

    def __post_init__(self) -> None:
        self.limbo = Limbo(self.limits.handshake_seconds)

    def refusal(self, address: str) -> str | None:
        """The bound that keeps ``address`` from starting a handshake now."""
        if self.unauthenticated[address] >= self.limits.max_unauthenticated_per_address:
            return "unauthenticated_per_address"
        if len(self.connections) + len(self.handshakes) >= self.limits.max_connections:
            return "connections"
        return None

    def begin(self, handshake: trio.CancelScope, address: str) -> bool:
        """One more handshake. False: that was too much, and another is cancelled.

        It is the oldest of the address that has most of them under way: who floods us pushes out itself, and whoever
        shakes hands as quickly as people do comes in all the same.
        """
        is_crowded = len(self.handshakes) >= self.limits.max_unauthenticated
        if is_crowded:
            crowd = max(self.unauthenticated, key=self.unauthenticated.__getitem__)
            oldest = next(each for each, origin in self.handshakes.items() if origin == crowd)
            self.end(oldest)
            oldest.cancel()
        self.handshakes[handshake] = address
        self.unauthenticated[address] += 1
        return not is_crowded

    def end(self, handshake: trio.CancelScope) -> bool:
        """It came to something or not; ``False``: it had ended before."""
        if (address := self.handshakes.pop(handshake, None)) is None:
            return False
        _count_down(self.unauthenticated, address)
        return True

    def enter(self, connection: Connection) -> None:
        """The handshake has come to a connection."""
        self.connections[connection] = None
        self.identities[connection.peer.key] += 1

    def leave(self, connection: Connection) -> None:
        """It is over."""
        del self.connections[connection]
        _count_down(self.identities, connection.peer.key)

    def is_crowded_by(self, peer: Peer) -> bool:
        """Does this peer have all the connections one may have? (The key of a code is many people's.)"""
        if peer.role is Role.CONTROL:
            return False
        share = self.limits.max_connections // GUESTS_SHARE if peer.role is Role.GUEST else 0
        return self.identities[peer.key] >= max(share, self.limits.max_connections_per_identity)

    def hold(self, change: int) -> bool:
        """More (or less) is held for a peer than before. False: that was too much, and the heaviest peer is dropped.

        Those who are no members first: every single peer may be within its bounds, but strangers can be many.
        """
        self.held_bytes += change
        if self.held_bytes <= self.max_held_bytes:
            return True
        heavy = [each for each in self.connections if each.held_bytes]
        heaviest = max(heavy, key=lambda each: (each.peer.role is not Role.MEMBER, each.held_bytes))
        heaviest.drop(HeavyPeer(f"{heaviest.held_bytes} bytes are held for this peer, and there is no room for all"))
        return False

    def drop_blocked(self, key: bytes) -> None:
        """Drop the connections of someone the pub has just blocked."""
        for connection in [each for each in self.connections if each.peer.key == key]:
            connection.drop(BlockedPeer("the pub has blocked this feed"))

    def settle(self, newcomer: Connection, own_key: bytes) -> list[Connection]:
        """Of a connection we dialled and one the same peer dialled, those to close; both sides come to the same.

        The one stays that was dialled from the smaller key, unless the other has died without our noticing.
        """
        peer = newcomer.peer
        if self.identities[peer.key] < 2:
            return []
        rivals = [
            each
            for each in self.connections
            if each.peer.key == peer.key and each.peer.is_outgoing is not peer.is_outgoing
        ]
        is_ours_to_stay = own_key < peer.key
        are_dead = all(newcomer.opened - rival.opened > CROSSING_SECONDS for rival in rivals)
        if are_dead or peer.is_outgoing is is_ours_to_stay:
            return rivals
        return [newcomer]

    def drop_idle(self, now: float) -> list[Connection]:
        """Drop and return the connections that brought no byte for ``idle_seconds``."""
        quiet = [each for each in self.connections if now - each.last_received > self.limits.idle_seconds]
        idle = [each for each in quiet if not each.is_held_back]
        for connection in idle:
            connection.drop(IdlePeer(f"nothing received for {self.limits.idle_seconds:g} seconds"))
        return idle


def _count_down(counter: Counter[T], key: T) -> None:
    """One less; ``Counter`` would look at all the others, too."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


@dataclass(frozen=True, slots=True)
class Host:
    """What the pub hands to every peer task: its identity, its methods and its answers to "who is this?"."""

    keys: KeyPair
    network_key: bytes
    random_bytes: Callable[[int], bytes]
    role_of: Callable[[bytes], Role | None]
    """``None``: not welcome (blocked); the handshake then ends like one with a wrong network key."""
    methods: Methods
    is_allowed: Callable[[Peer, tuple[str, ...]], bool]
    greet: Callable[[Connection], None]
    """What our side asks of a peer as soon as it is in."""
    metrics: Metrics
    lobby: Lobby

    def hold(self, change: int) -> None:
        """See ``Lobby.hold``."""
        if not self.lobby.hold(change):
            self.metrics.limit_hits.labels("held_bytes").inc()

    async def hold_connection(self) -> None:
        """See ``Limbo.hold``."""
        if self.lobby.limbo.is_full:
            self.metrics.limit_hits.labels("held_connections").inc()
        await self.lobby.limbo.hold()


async def run_peer(host: Host, transport: trio.abc.Stream, address: str) -> None:
    """Serve one incoming connection to its end. Closes ``transport``; only cancellation comes out."""
    try:
        with contained(host.metrics, address) as edge:
            try:
                entrance = await _let_in(host, transport, address)
            except HandshakeError:
                return await host.hold_connection()
            if entrance is not None:
                await serve_connection(host, *entrance)
        if edge.reason == "protocol":
            await host.hold_connection()
    finally:
        await trio.aclose_forcefully(transport)


def contained(metrics: Metrics, address: str) -> "Edge":
    """The edge that nothing of a peer gets past: its faults and our bugs are accounted for and end here.

    A store that can't be read gets past: that is no peer's doing, and ends the pub.
    """
    return Edge(metrics, address)


class Edge(AbstractContextManager["Edge"]):
    """A class, because each connection holds one for as long as it lasts: a generator has ten times its size."""

    __slots__ = ("_address", "_metrics", "reason")

    def __init__(self, metrics: Metrics, address: str) -> None:
        self._metrics = metrics
        self._address = address
        self.reason: str | None = None
        """Which of ``DISCONNECTS`` ended the block; ``None``: none did."""

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, Exception):
            self.reason = _account(self._metrics, error, self._address)
        elif isinstance(error, BaseExceptionGroup):
            ours, rest = error.split(Exception)
            if ours is not None:
                self.reason = _account(self._metrics, ours, self._address)
            if rest is not None:
                raise rest from None
        else:
            return False
        return True


def _account(metrics: Metrics, error: BaseException, address: str) -> str:
    faults = list(leaves(error))
    if broken := [leaf for leaf in faults if isinstance(leaf, StoreError)]:
        raise broken[0] from None
    if any(not isinstance(leaf, PEER_FAULTS) for leaf in faults):
        metrics.internal_errors.inc()
        metrics.disconnects.labels("bug").inc()
        log.error("internal_error", address=address, exc_info=error)
        return "bug"
    reason = next((reason for kind, reason in DISCONNECT_REASONS if any(isinstance(leaf, kind) for leaf in faults)))
    metrics.disconnects.labels(reason).inc()
    if reason == "slow":
        metrics.limit_hits.labels("outbound_bytes").inc()
    say = log.debug if reason == "hangup" else log.info  # phones hang up all day long
    say("peer_dropped", address=address, reason=reason, detail=str(faults[0]))
    return reason


async def _let_in(host: Host, transport: trio.abc.Stream, address: str) -> tuple[SecretStream, Peer] | None:
    """Shake hands, if there is room for it and until there is none or the time is over."""
    lobby, metrics = host.lobby, host.metrics
    if (limit := lobby.refusal(address)) is not None:
        metrics.limit_hits.labels(limit).inc()
        metrics.handshakes.labels("crowded").inc()
        return None
    with trio.CancelScope(deadline=trio.current_time() + lobby.limits.handshake_seconds) as handshake:
        if not lobby.begin(handshake, address):
            metrics.limit_hits.labels("unauthenticated").inc()
        try:
            return await _shake_hands(host, transport, address)
        finally:
            is_late = lobby.end(handshake)  # or else another one has taken its place
    if is_late:
        metrics.limit_hits.labels("handshake_seconds").inc()
    metrics.handshakes.labels("timeout" if is_late else "crowded").inc()
    return None


async def _shake_hands(host: Host, transport: trio.abc.Stream, address: str) -> tuple[SecretStream, Peer] | None:
    """Who it is and what that makes it; ``None``: the line broke. Raises HandshakeError for what is no handshake.

    Every failure looks the same from outside, a socket that says nothing more.
    """
    role: Role | None = Role.STRANGER

    def authorise(key: bytes) -> bool:
        nonlocal role
        role = host.role_of(key)
        return role is not None

    handshakes, began = host.metrics.handshakes, trio.current_time()
    try:
        stream = await accept_handshake(
            transport, host.keys, host.network_key, host.random_bytes(EPHEMERAL_BYTES), authorise
        )
    except (HandshakeError, *SOCKET_ERRORS) as error:
        handshakes.labels("blocked" if role is None else "failed").inc()
        if isinstance(error, HandshakeError) and not isinstance(error, HandshakeCutShort):
            raise
    else:
        if role is not None:
            handshakes.labels("own" if role is Role.CONTROL else "accepted").inc()
            host.metrics.handshake_seconds.observe(trio.current_time() - began)
            return stream, Peer(stream.peer_key, role, address)
    return None


async def serve_connection(host: Host, stream: trio.abc.Stream, peer: Peer) -> None:
    """muxrpc with a peer who is in: the end of every handshake, and the whole of the control socket.

    Of two connections with one peer, one dialled by each side, the loser is closed with a goodbye.
    """
    lobby, metrics = host.lobby, host.metrics
    connected = metrics.connections.labels("outgoing" if peer.is_outgoing else "incoming", peer.role.value)
    if lobby.is_crowded_by(peer):
        metrics.limit_hits.labels("connections_per_identity").inc()
        return
    connection = Connection(
        stream,
        peer,
        methods=host.methods,
        is_allowed=host.is_allowed,
        max_outbound=MAX_CONTROL_OUTBOUND if peer.role is Role.CONTROL else lobby.limits.outbound_bytes_per_peer,
        metrics=metrics,
        hold=None if peer.role is Role.CONTROL else host.hold,
        line=lobby.line,
        penance=lobby.penance,
    )
    lobby.enter(connection)
    connected.inc()
    try:
        losers = lobby.settle(connection, host.keys.public)
        for loser in losers:
            loser.close()
        if connection not in losers:
            host.greet(connection)
        await connection.run()
        metrics.disconnects.labels("goodbye").inc()
    finally:
        connected.dec()
        lobby.leave(connection)
        for limit, count in connection.session.limit_hits.items():
            metrics.limit_hits.labels(limit).inc(count)
