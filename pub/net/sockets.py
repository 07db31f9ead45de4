"""The network as a pub sees it: where it listens, how it connects, and what the kernel knows of the other end.

``Sockets`` are those of this machine. Nothing else in the pub opens one, so a whole pub runs as well on a ``Network``
that a test has made, on a clock of its own.
"""

import os
import socket
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import trio
from trio.abc import Listener, Stream

from pub.net.control import reachable

KEEPALIVE_PROBES = 4  # unanswered in a row before a connection is given up

Transport = TypeVar("Transport", bound=Stream)


class Network(Protocol[Transport]):
    """All of it raises OSError."""

    async def listen(self, host: str | None, port: int, quiet_seconds: float) -> tuple[list[Listener[Transport]], int]:
        """On every address of ``host`` (``None``: of this machine), all on one port; 0 takes any free one.

        Each connection that comes in is as if ``keep_alive`` had been called for it.
        """
        ...

    async def listen_at(self, path: Path) -> Listener[Transport]:
        """On a unix socket that only the user of this process may open; nothing may be in its place."""
        ...

    async def connect(self, host: str, port: int) -> Transport:
        """A connection to the first address of ``host`` that answers."""
        ...

    def keep_alive(self, transport: Transport, seconds: float) -> None:
        """Have a connection probed that is quiet for ``seconds``, and given up if it is dead in about as long again.

        A firewall that forgot the connection, a phone that went into a tunnel: nothing else tells us.
        """
        ...

    def address_of(self, transport: Transport) -> str:
        """The IP address of the other end."""
        ...


@runtime_checkable
class Eager(Protocol):
    """A transport that can write without waiting, besides what trio asks of it."""

    def write_now(self, data: bytes | bytearray) -> int:
        """Write what there is room for; how many bytes that was. Raises trio.BrokenResourceError."""
        ...


def write_now(transport: Stream, data: bytes | bytearray) -> int:
    """How many bytes the transport took at once: none, if it can only be waited for. Raises trio.BrokenResourceError.

    For trio's own sockets this is one system call; ``send_all`` would give all other tasks a turn after it.
    """
    if not isinstance(transport, trio.SocketStream):
        return transport.write_now(data) if isinstance(transport, Eager) else 0
    try:
        return os.write(transport.socket.fileno(), data)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


async def receive(transport: Stream, max_bytes: int) -> bytes | bytearray:
    """As ``transport.receive_some``.

    Here most connections are nearly all of the time: trio's own way to a socket is six coroutines deep, which an idle
    peer would hold two kilobytes for.
    """
    if not isinstance(transport, trio.SocketStream):
        return await transport.receive_some(max_bytes)
    await trio.lowlevel.checkpoint_if_cancelled()
    data = _read_now(transport, max_bytes)
    if data is not None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return data
    while data is None:
        await trio.lowlevel.wait_readable(transport.socket.fileno())
        data = _read_now(transport, max_bytes)
    return data


def _read_now(transport: trio.SocketStream, max_bytes: int) -> bytes | None:
    try:
        return os.read(transport.socket.fileno(), max_bytes)
    except BlockingIOError:
        return None
    except OSError as error:
        raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


class Sockets:
    """The ``Network`` of this machine."""

    async def listen(
        self, host: str | None, port: int, quiet_seconds: float
    ) -> tuple[list[Listener[trio.SocketStream]], int]:
        """See ``Network``. For "any free port" the kernel gives each address its own, but a pub announces one."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        first = _port_of(listeners[0])
        free = next((_port_of(each) for each in listeners if _port_of(each) != first), None)
        if free is not None:
            for each in listeners:
                await each.aclose()
            listeners = await trio.open_tcp_listeners(free, host=host)
        for each in listeners:
            _keep_alive(each.socket, quiet_seconds)  # once for all: Linux passes it on to what is accepted
        return list(listeners), free or first

    async def listen_at(self, path: Path) -> Listener[trio.SocketStream]:
        """See ``Network``."""
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with reachable(path) as name:
            mask = os.umask(0o177)
            try:
                await listener.bind(name)
            finally:
                os.umask(mask)
        listener.listen()
        return trio.SocketListener(listener)

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """See ``Network``."""
        return await trio.open_tcp_stream(host, port)

    def keep_alive(self, transport: trio.SocketStream, seconds: float) -> None:
        """See ``Network``."""
        _keep_alive(transport.socket, seconds)

    def address_of(self, transport: trio.SocketStream) -> str:
        """See ``Network``."""
        address: str = transport.socket.getpeername()[0]
        return address


def _keep_alive(probed: trio.socket.SocketType, seconds: float) -> None:
    probed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
    probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / KEEPALIVE_PROBES)))
    probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    # what was sent and is not acknowledged: the probes above are not sent while there is such data
    probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 2000))


def _port_of(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port
