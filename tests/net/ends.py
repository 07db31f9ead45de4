"""Both ends of a connection: a pub's with its methods, and a peer's that is one too, or bare packets."""

import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from pub.errors import RpcError
from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.net.roles import Peer, Role
from pub.net.rpcstream import RpcStream
from pub.net.stream import SecretStream, accept_handshake, open_handshake
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import Event, GoodbyeReceived, Kind, Session
from pub.protocol.shs import MAIN_NETWORK

PATIENCE = 5  # seconds until a deadlock fails the test
MAX_OUTBOUND = 1 << 20
KERNEL_BUFFER = 4096  # bytes asked of the kernel for each direction of a narrow pair; it takes the liberty to double it

BODY = b'"' + b"x" * 998 + b'"'
MANY = [b"%d" % number for number in range(1000)]

ALICE = KeyPair.generate(b"alice".ljust(32))
PUB = KeyPair.generate(b"the pub".ljust(32))
ONCE = b"alice once".ljust(32), b"the pub once".ljust(32)

Ends = tuple[trio.abc.Stream, trio.abc.Stream]


class Collector:
    """Takes whatever comes on a stream, and remembers how it ended: ``None`` or the text of the error."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.endings: list[str | None] = []
        self.over = trio.Event()

    async def receive(self, bodies: list[bytes]) -> None:
        self.bodies += bodies

    def ended(self, error: RpcError | None) -> None:
        self.endings.append(None if error is None else error.message)
        self.over.set()


class Pages:
    """Says ``bodies`` on ``stream``, page by page, and ends it."""

    def __init__(self, stream: RpcStream, bodies: Iterable[bytes]) -> None:
        self.pulled = 0  # bytes
        self._stream = stream
        self._bodies: Iterator[bytes] = iter(bodies)
        stream.source = self
        stream.wake()

    def next_page(self, budget: int) -> list[bytes]:
        page: list[bytes] = []
        while budget > 0 and (body := next(self._bodies, None)) is not None:
            page.append(body)
            budget -= len(body)
            self.pulled += len(body)
        if not page:
            self._stream.end()
        return page


class Waiting(Collector):
    """Takes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = trio.Event()

    async def receive(self, bodies: list[bytes]) -> None:
        await self.may_go_on.wait()
        self.bodies += bodies


class Wire:
    """A peer of bare packets, who reads only when told."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.session = Session()

    async def open(self, name: str, *args: Any, kind: Kind = Kind.ASYNC) -> int:
        number, data = self.session.open((name,), args, kind)
        await self.stream.send_all(data)
        return number

    async def next_event(self) -> Event:
        while (event := self.session.next_event()) is None:
            data = await self.stream.receive_some()
            assert data, "the pub hung up"
            self.session.receive_data(bytes(data))
        return event

    async def events_until_goodbye(self) -> list[Event]:
        events: list[Event] = []
        while not isinstance(event := await self.next_event(), GoodbyeReceived):
            events.append(event)
        return events


def whoami(_caller: Connection, _args: list[Any]) -> dict[str, str]:
    return {"id": "the pub"}


async def add(_caller: Connection, args: list[Any]) -> Any:
    await trio.lowlevel.checkpoint()
    return sum(args)


def count(stream: RpcStream, _args: list[Any]) -> None:
    Pages(stream, MANY)


class Echo(Collector):
    """Says back what it hears."""

    def __init__(self, stream: RpcStream) -> None:
        super().__init__()
        self.stream = stream
        stream.receiver = stream.source = self

    async def receive(self, bodies: list[bytes]) -> None:
        self.bodies += bodies
        self.stream.wake()

    def next_page(self, _budget: int) -> list[bytes]:
        page, self.bodies = self.bodies, []
        return page


def echo(stream: RpcStream, _args: list[Any]) -> None:
    Echo(stream)


async def large(_caller: Connection, _args: list[Any]) -> str:
    return "x" * 100_000


METHODS = {
    "whoami": Method("sync", whoami),
    "add": Method("async", add),
    "count": Method("source", count),
    "echo": Method("duplex", echo),
    "large": Method("async", large),
}


def everything(_peer: Peer, _name: tuple[str, ...]) -> bool:
    return True


def make(stream: trio.abc.Stream, methods: dict[str, Method] | None = None, **options: Any) -> Connection:
    table: Methods = {(name,): method for name, method in (methods or {}).items()}
    options.setdefault("is_allowed", everything)
    options.setdefault("max_outbound", MAX_OUTBOUND)
    return Connection(stream, Peer(bytes(32), Role.MEMBER, "here"), methods=table, **options)


def narrow_pair() -> Ends:
    """Two ends with next to no room between them, as to a peer that does not read."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
    left, right = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in ends)
    return left, right


def anybody(_key: bytes) -> bool:
    return True


async def secured(ends: Ends) -> tuple[SecretStream, SecretStream]:
    """Alice's and the pub's end, after the handshake."""
    streams: dict[str, SecretStream] = {}

    async def dial() -> None:
        streams["alice"] = await open_handshake(ends[0], ALICE, MAIN_NETWORK, ONCE[0], PUB.public)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        streams["pub"] = await accept_handshake(ends[1], PUB, MAIN_NETWORK, ONCE[1], anybody)
    return streams["alice"], streams["pub"]


@asynccontextmanager
async def connected(
    methods: dict[str, Method], ends: Ends | None = None, **options: Any
) -> AsyncIterator[tuple[Connection, Connection]]:
    """A peer and the pub, talking inside this block; at its end the peer says goodbye and both are over."""
    ends = ends or trio.testing.memory_stream_pair()
    peer, pub = make(ends[0]), make(ends[1], methods, **options)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            nursery.start_soon(pub.run)
            yield peer, pub
            peer.close()


@asynccontextmanager
async def served(
    methods: dict[str, Method], ends: Ends | None = None, **options: Any
) -> AsyncIterator[tuple[Wire, Connection]]:
    """A peer of bare packets, and the pub that serves it inside this block and until it is over."""
    ends = ends or trio.testing.memory_stream_pair()
    pub = make(ends[1], methods, **options)
    with trio.fail_after(PATIENCE):
        async with ends[0], trio.open_nursery() as nursery:
            nursery.start_soon(pub.run)
            yield Wire(ends[0]), pub


def listen(connection: Connection, name: str, kind: Kind = Kind.SOURCE) -> Collector:
    """Open a stream of the other side's and take all that comes."""
    collector = Collector()
    connection.open_stream((name,), [], kind).receiver = collector
    return collector
