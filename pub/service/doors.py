"""The ways in: TCP for everybody who completes a handshake, and the control socket for whoever may open the file."""

from functools import partial

import trio
from trio.abc import Stream

from pub.config import Settings
from pub.errors import CannotListen
from pub.net.connection import Connection
from pub.net.peer import Host, contained, run_peer, serve_connection
from pub.net.roles import Peer, Role
from pub.net.sockets import Network, Transport
from pub.rpc import ebt, gossip
from pub.rpc.context import Pub
from pub.rpc.permissions import is_allowed

CONTROL_ADDRESS = "control socket"


def host_of(pub: Pub, settings: Settings) -> Host:
    """What every peer task needs of the pub."""
    return Host(
        keys=pub.keys,
        network_key=settings.network.key,
        random_bytes=pub.random_bytes,
        role_of=partial(role_of, pub),
        methods=pub.methods,
        is_allowed=is_allowed,
        greet=partial(_greet, pub),
        metrics=pub.metrics,
        lobby=pub.lobby,
    )


def _greet(pub: Pub, connection: Connection) -> None:
    """Whoever dialled asks for replication; we ask nothing of those who come to us."""
    if connection.peer.is_outgoing:
        ebt.call(pub, connection)
        gossip.call(pub, connection)


def role_of(pub: Pub, key: bytes) -> Role | None:
    """What the holder of ``key`` is to us; ``None``: blocked."""
    if key == pub.keys.public:
        return Role.CONTROL
    feed = pub.log.numbers.get(key)
    if feed is not None:
        if pub.graph.is_blocking(pub.own, feed):
            return None
        if pub.graph.is_following(pub.own, feed):
            return Role.MEMBER
    with pub.store.read() as txn:
        return Role.GUEST if pub.invites.get(txn, key) is not None else Role.STRANGER


async def listen_tcp(
    host: Host,
    network: Network[Transport],
    settings: Settings,
    peers: trio.Nursery,
    task_status: trio.TaskStatus[int],
) -> None:
    """Take connections until cancelled; starts with the port listened on. Raises CannotListen."""
    where, port = settings.network.host or None, settings.network.port
    try:
        listeners, port = await network.listen(where, port, host.lobby.limits.keepalive_seconds)
    except OSError as error:
        reason = error.strerror or error
        raise CannotListen(f"cannot listen on {where or 'any address'} port {port}: {reason}") from None
    task_status.started(port)
    await trio.serve_listeners(partial(_welcome, host, network), listeners, handler_nursery=peers)


async def _welcome(host: Host, network: Network[Transport], transport: Transport) -> None:
    address = None
    with contained(host.metrics, "unknown"):  # a peer can be gone before we ask where it is from
        address = network.address_of(transport)
    if address is not None:
        await run_peer(host, transport, address)


async def listen_control(
    host: Host,
    network: Network[Transport],
    settings: Settings,
    peers: trio.Nursery,
    task_status: trio.TaskStatus[None],
) -> None:
    """Take connections of the command line and of local tools (``unix:<path>~noauth``) until cancelled."""
    settings.socket.unlink(missing_ok=True)  # of a pub that was killed: we hold the folder's lock
    listener = await network.listen_at(settings.socket)
    task_status.started()
    try:
        await trio.serve_listeners(partial(_serve_control, host), [listener], handler_nursery=peers)
    finally:
        settings.socket.unlink(missing_ok=True)


async def _serve_control(host: Host, stream: Stream) -> None:
    with contained(host.metrics, CONTROL_ADDRESS):
        await serve_connection(host, stream, Peer(b"", Role.CONTROL, CONTROL_ADDRESS))
