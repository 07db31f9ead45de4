"""One peer from its first byte to its last: handshake, authorisation, muxrpc, and the one place that catches.

What a stranger does wrong (protocol and socket errors) is counted and drops that peer. Anything else is a bug of
ours: its traceback goes to the log, ``internal_errors`` grows, that peer is dropped, and the pub lives on.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
import trio

from pub.errors import BlockedPeer, HungUp, IdlePeer, ProtocolError, SlowPeer
from pub.metrics import Metrics
from pub.net.connection import Connection, Methods
from pub.net.roles import Peer, Role
from pub.net.stream import SecretStream, accept_handshake
from pub.protocol.keys import KeyPair

log = structlog.get_logger()

EPHEMERAL_BYTES = 32  # an X25519 secret
# Two dials that crossed end within the time one takes. Nobody dials a peer it is connected to: if the other side does,
# later than that, it has lost the connection we still believe in.
CROSSING_SECONDS = 30.0
KEEPALIVE_PROBES = 4  # unanswered in a row before a connection is given up
MAX_CONTROL_OUTBOUND = 64 << 20  # bytes: the list of 80,000 members is one answer
GUESTS_SHARE = 10  # the holders of one code may take a tenth of all connections
SOCKET_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
PEER_FAULTS = (ProtocolError, *SOCKET_ERRORS)
# The first that fits: a slow peer's socket may break as well.
DISCONNECT_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (SlowPeer, "slow"),
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
    connections: set[Connection] = field(default_factory=set)
    identities: Counter[bytes] = field(default_factory=Counter)

    def refusal(self, address: str) -> str | None:
        """The bound that keeps ``address`` from starting a handshake now."""
        if self.unauthenticated.total() >= self.limits.max_unauthenticated:
            return "unauthenticated"
        if self.unauthenticated[address] >= self.limits.max_unauthenticated_per_address:
            return "unauthenticated_per_address"
        if len(self.connections) >= self.limits.max_connections:
            return "connections"
        return None

    def is_crowded_by(self, peer: Peer) -> bool:
        """Does this peer have all the connections one may have? (The key of a code is many people's.)"""
        if peer.role is Role.CONTROL:
            return False
        share = self.limits.max_connections // GUESTS_SHARE if peer.role is Role.GUEST else 0
        return self.identities[peer.key] >= max(share, self.limits.max_connections_per_identity)

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
        idle = [each for each in self.connections if now - each.last_received > self.limits.idle_seconds]
        for connection in idle:
            connection.drop(IdlePeer(f"nothing received for {self.limits.idle_seconds:g} seconds"))
        return idle


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


def keep_alive(transport: trio.SocketStream, seconds: float) -> None:
    """Let the kernel probe a quiet connection after ``seconds``, and give up on a dead one in about as long again.

    A firewall that forgot the connection, a phone that went into a tunnel: nothing else tells us.
    """
    probe = max(1, round(seconds / KEEPALIVE_PROBES))
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    # what was sent and is not acknowledged: the probes above are not sent while there is such data
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 2000))


async def run_peer(host: Host, transport: trio.abc.Stream, address: str) -> None:
    """Serve one incoming connection to its end. Closes ``transport``; only cancellation comes out."""
    try:
        with contained(host.metrics, address):
            await _serve(host, transport, address)
    finally:
        await trio.aclose_forcefully(transport)


@contextmanager
def contained(metrics: Metrics, address: str) -> Iterator[None]:
    """The edge that nothing of a peer gets past: its faults and our bugs are accounted for and end here."""
    try:
        yield
    except Exception as error:
        _account(metrics, error, address)
    except BaseExceptionGroup as group:
        ours, rest = group.split(Exception)
        if ours is not None:
            _account(metrics, ours, address)
        if rest is not None:
            raise rest from None


def _account(metrics: Metrics, error: BaseException, address: str) -> None:
    leaves = list(_leaves(error))
    if any(not isinstance(leaf, PEER_FAULTS) for leaf in leaves):
        metrics.internal_errors.inc()
        metrics.disconnects.labels("bug").inc()
        log.error("internal_error", address=address, exc_info=error)
        return
    reason = next((reason for fault, reason in DISCONNECT_REASONS if any(isinstance(leaf, fault) for leaf in leaves)))
    metrics.disconnects.labels(reason).inc()
    if reason == "slow":
        metrics.limit_hits.labels("outbound_bytes").inc()
    say = log.debug if reason == "hangup" else log.info  # phones hang up all day long
    say("peer_dropped", address=address, reason=reason, detail=str(leaves[0]))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def _serve(host: Host, transport: trio.abc.Stream, address: str) -> None:
    lobby, metrics = host.lobby, host.metrics
    if (limit := lobby.refusal(address)) is not None:
        metrics.limit_hits.labels(limit).inc()
        metrics.handshakes.labels("crowded").inc()
        return
    lobby.unauthenticated[address] += 1
    try:
        entrance = await _shake_hands(host, transport)
    finally:
        lobby.unauthenticated -= Counter((address,))
    if entrance is not None:
        stream, role = entrance
        await serve_connection(host, stream, Peer(stream.peer_key, role, address))


async def _shake_hands(host: Host, transport: trio.abc.Stream) -> tuple[SecretStream, Role] | None:
    """Who it is and what that makes it, or ``None``: every failure looks the same from outside, a closed socket."""
    role: Role | None = Role.STRANGER

    def authorise(key: bytes) -> bool:
        nonlocal role
        role = host.role_of(key)
        return role is not None

    handshakes, began = host.metrics.handshakes, trio.current_time()
    try:
        with trio.fail_after(host.lobby.limits.handshake_seconds):
            stream = await accept_handshake(
                transport, host.keys, host.network_key, host.random_bytes(EPHEMERAL_BYTES), authorise
            )
    except trio.TooSlowError:
        host.metrics.limit_hits.labels("handshake_seconds").inc()
        handshakes.labels("timeout").inc()
    except (ProtocolError, *SOCKET_ERRORS):
        handshakes.labels("blocked" if role is None else "failed").inc()
    else:
        if role is not None:
            handshakes.labels("own" if role is Role.CONTROL else "accepted").inc()
            host.metrics.handshake_seconds.observe(trio.current_time() - began)
            return stream, role
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
    )
    lobby.connections.add(connection)
    lobby.identities[peer.key] += 1
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
        lobby.connections.discard(connection)
        lobby.identities -= Counter((peer.key,))
        for limit, count in connection.session.limit_hits.items():
            metrics.limit_hits.labels(limit).inc(count)
