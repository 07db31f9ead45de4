"""A whole pub in this process, and people who talk to it.

    async def test_alice_joins(tmp_path):
        alice = Author("alice")                                       # of tests.ingest.people: keys and a signed feed
        async with open_pub(tmp_path) as pub:                         # rooms, store, writer: all real
            code = await pub.invite(uses=2)
            async with connect(pub, guest_of(code)) as guest:         # a key pair: the role it has with this pub
                await guest.call("invite.use", {"feed": alice.keys.id})
            async with connect(pub, Role.CONTROL) as operator:        # a role: somebody who has it
                assert (await operator.call("status"))["members"] == 1
            async with connect(pub, alice.keys) as client:
                stream = await client.open("createHistoryStream", {"id": pub.id}, kind=Kind.SOURCE)
                assert len(await stream.rest()) == 1                  # or: await stream.next(), await stream.send(…)

``open_pub`` wires the rooms as ``service.wiring`` does and starts writer, replication and volleys. Its key comes from
the folder's name, its wall clock stands still unless a test moves ``pub.now``, signatures are checked inline. Open the
same folder again and it is the same pub after a restart (give another ``life``, so that it draws other random bytes).

``connect`` puts one end of a memory stream (or of the ``transport`` it is given) under ``net.peer.serve_connection``,
contained as ``run_peer`` does it, and a ``Client`` on the other end: a muxrpc session that does nothing by itself.
What the pub asks lies in ``client.asked``. Leaving the block says goodbye and waits until the pub has noticed.

To assert that something does *not* happen: ``await pub.settle()``, then look; all that was under way is then done.
Commits happen in a thread, so do not use ``autojump_clock`` with anything that writes; see ``jump_clock`` in
tests/rpc/conftest.py for tests that need a minute to pass.
"""

import json
import math
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import trio
import trio.testing

from pub.config import Settings
from pub.errors import RpcError
from pub.ingest.ingest import RunBlocking, run_in_thread
from pub.ingest.verify import InlineVerifier, Verifier
from pub.net.peer import Host, contained, serve_connection
from pub.net.roles import Peer, Role
from pub.protocol.addresses import Address
from pub.protocol.classic import Message
from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import (
    BODY_LIMIT,
    CLOSED_TEXT,
    BodyType,
    DataReceived,
    GoodbyeReceived,
    Kind,
    ReplyReceived,
    RequestFailed,
    RequestReceived,
    Session,
    StreamEnded,
)
from pub.protocol.packets import encode_packet
from pub.protocol.refs import feed_id
from pub.rpc.context import Pub
from pub.rpc.invite import make_code
from pub.service.doors import host_of, role_of
from pub.service.health import Health
from pub.service.identity import prepare
from pub.service.outgoing import make_dialer
from pub.service.wiring import World, build
from pub.store.env import Store
from pub.store.log import Appender

NOW = 1_700_000_000_000.0  # ms since the epoch, on the pub's wall clock
PATIENCE = 10  # seconds until a deadlock fails the test
HOST = "pub.example"
MAX_ANSWER = 1 << 24  # bytes: a long list of members
ADDRESS = "127.0.0.1"  # of every peer


@dataclass
class RunningPub:
    """A pub that takes connections; ``rooms`` are its rooms, ``host`` is what ``net.peer`` gets of it."""

    settings: Settings
    now: float = NOW
    rooms: Pub = field(init=False)
    host: Host = field(init=False)
    nursery: trio.Nursery = field(init=False)

    @property
    def id(self) -> str:
        return self.rooms.keys.id

    async def invite(self, uses: int = 1, note: str = "", expires: float | None = None) -> str:
        assert self.rooms.address is not None
        code, _record = await make_code(self.rooms, self.rooms.address, uses, expires, note)
        return code

    async def follow(self, *keys: bytes) -> None:
        for key in keys:
            await self.say(key, following=True)

    async def say(self, key: bytes, **what: bool) -> None:
        """Publish a contact message of the pub's about ``key``."""
        await self.rooms.ingest.publish({"type": "contact", "contact": feed_id(key), **what})

    async def take_in(self, messages: Iterable[Message]) -> None:
        """Into the log with them, by the writer but past the verifiers; returns when they are on disk."""
        await self.rooms.ingest.write(lambda appender: self._append(appender, list(messages)))

    def _append(self, appender: Appender, messages: list[Message]) -> None:
        for message in messages:
            appender.append(message, self.now)

    async def settle(self) -> None:
        """Wait until all that is under way in this process has been dealt with."""
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            await self.rooms.ingest.write(lambda _appender: None)
        await trio.testing.wait_all_tasks_blocked()

    def feed(self, key: bytes) -> list[bytes]:
        """The JSON of the whole feed, as stored."""
        number = self.rooms.log.numbers.get(key)
        return [] if number is None else self.rooms.log.page(number, 0, 1 << 30)

    def contents(self) -> list[Any]:
        """What the pub itself has published."""
        return [json.loads(message)["content"] for message in self.feed(self.rooms.keys.public)]

    def value(self, name: str, **labels: str) -> int:
        """Of a metric."""
        return self.rooms.metrics.value(name, **labels)


@asynccontextmanager
async def open_pub(
    folder: Path,
    *,
    life: int = 1,
    patience: float = PATIENCE,
    verifier: Verifier | None = None,
    run_blocking: RunBlocking = run_in_thread,
    **settings: Any,
) -> AsyncIterator[RunningPub]:
    """A pub on ``folder``; see the file's text. ``settings`` are those of ``pub.config.Settings``."""
    running = RunningPub(Settings(data=folder, **settings))
    world = World(
        random_bytes=random.Random(f"{folder.name} {life}").randbytes,
        wall_clock=lambda: running.now,
        run_blocking=run_blocking,
    )
    keys = prepare(running.settings, lambda count: folder.name.encode().ljust(count)[:count])
    with Store.open(folder) as store, trio.fail_after(patience):
        running.rooms = pub = build(running.settings, keys, store, verifier or InlineVerifier(), world)
        pub.address = Address(HOST, pub.port, keys.public)
        pub.is_ready = True
        running.host = host_of(pub, running.settings)
        pub.dialer = make_dialer(pub, running.settings, running.host, world.network)
        pub.health = Health(pub, running.settings, world.network).report
        async with trio.open_nursery() as core:
            await core.start(pub.ingest.run)
            core.start_soon(pub.lobby.line.run)
            core.start_soon(pub.replication.run)
            core.start_soon(pub.volleys.run)
            async with trio.open_nursery() as running.nursery:
                yield running
                for connection in list(pub.lobby.connections):
                    connection.close()
            await running.settle()
            core.cancel_scope.cancel()


def guest_of(code: str) -> KeyPair:
    """Whom a client dials as to redeem ``code``."""
    return guest_keys(parse_invite(code).seed)


# --- the other end ----------------------------------------------------------------------------------------


class Ended(Exception):
    """The pub ended a stream, in peace."""


class ClientStream:
    """A stream of the client's, or one that the pub opened."""

    def __init__(self, client: "Client", number: int) -> None:
        self._client = client
        self._number = number
        self._bodies, self._inbox = trio.open_memory_channel[bytes](math.inf)
        self._error: RpcError | None = None

    async def next(self) -> Any:
        """The next value. Raises Ended after the last one, RpcError if the pub ended with an error."""
        return json.loads(await self.next_body())

    async def next_body(self) -> bytes:
        """The same as the bytes that came."""
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            raise (self._error or Ended()) from None

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Any]:
        """All values until the end."""
        values: list[Any] = []
        try:
            while True:
                values.append(await self.next())
        except Ended:
            return values

    def arrived(self) -> list[Any]:
        """What has arrived and was not taken; waits for nothing."""
        values: list[Any] = []
        try:
            while True:
                values.append(json.loads(self._inbox.receive_nowait()))
        except (trio.WouldBlock, trio.EndOfChannel):
            return values

    async def send(self, *values: Any) -> None:
        """JSON values, or JSON as bytes, in one write."""
        bodies = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
        await self._client.send(b"".join(self._client.session.data(self._number, body) for body in bodies))

    async def end(self) -> None:
        """Our end; the reader of a source that ends it hears no more of it."""
        await self._client.send(self._client.session.end(self._number))
        if not self._client.session.is_watched(self._number):
            self.finish(None)

    def receive(self, body: bytes) -> None:
        self._bodies.send_nowait(body)

    def finish(self, error: RpcError | None) -> None:
        self._error = error
        self._bodies.close()


class Client:
    """Somebody connected to the pub. ``asked`` are the pub's own requests; answer one with ``accept``."""

    def __init__(self, stream: trio.abc.Stream, feed: str = "") -> None:
        self.feed = feed
        """The id of whoever this is."""
        self.session = Session()
        self.asked: list[RequestReceived] = []
        self.gone = trio.Event()
        """The pub has said goodbye or hung up."""
        self._stream = stream
        self._sending = trio.Lock()
        self._streams: dict[int, ClientStream] = {}
        self._answers: dict[int, tuple[trio.Event, list[Any]]] = {}

    async def call(self, name: str, *args: Any) -> Any:
        """Ask an async method of the pub by its dotted name. Raises RpcError when it refuses."""
        number, data = self._request(name, args, Kind.ASYNC, MAX_ANSWER)
        event = trio.Event()
        answers: list[Any] = []
        self._answers[number] = event, answers
        await self.send(data)
        await event.wait()
        if isinstance(answers[0], RpcError):
            raise answers[0]
        return answers[0]

    async def open(self, name: str, *args: Any, kind: Kind = Kind.DUPLEX, body_limit: int = BODY_LIMIT) -> ClientStream:
        number, data = self._request(name, args, kind, body_limit)
        stream = self._streams[number] = ClientStream(self, number)
        await self.send(data)
        return stream

    def _request(self, name: str, args: tuple[Any, ...], kind: Kind, body_limit: int) -> tuple[int, bytes]:
        """Written with ``json``, which can say what a session of ours never would: lone surrogates."""
        number, _packet = self.session.open((), (), kind, body_limit)
        body = json.dumps({"name": name.split("."), "args": args, "type": kind.value}).encode()
        return number, encode_packet(-number, body, stream=kind is not Kind.ASYNC)

    def accept(self, request: RequestReceived) -> ClientStream:
        return self._streams.setdefault(request.number, ClientStream(self, request.number))

    async def send(self, data: bytes) -> None:
        if data:
            async with self._sending:  # the reader answers ends while a test sends
                await self._stream.send_all(data)

    async def close(self) -> None:
        """Goodbye; also if the pub has left already."""
        try:
            await self.send(self.session.goodbye())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await self._stream.aclose()

    async def run(self) -> None:
        """Take in what the pub sends, until it leaves."""
        try:
            while data := await self._stream.receive_some():
                self.session.receive_data(bytes(data))
                while (event := self.session.next_event()) is not None:
                    self._take(event)
                await self.send(self.session.data_to_send())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        lost = RpcError(CLOSED_TEXT)
        for stream in self._streams.values():
            stream.finish(lost)
        for number in list(self._answers):
            self._answer(number, lost)
        self.gone.set()

    def _take(self, event: object) -> None:
        match event:
            case RequestReceived(number=number, kind=kind):
                if kind is not Kind.ASYNC:
                    self._streams[number] = ClientStream(self, number)
                self.asked.append(event)
            case DataReceived(number=number, body=body):
                self._streams[number].receive(body)
            case StreamEnded(number=number, error=error):
                self._streams.pop(number).finish(error)
            case ReplyReceived(number=number, body=body, type=kind):
                self._answer(number, json.loads(body) if kind is BodyType.JSON else body)
            case RequestFailed(number=number, error=error):
                self._answer(number, error)
            case GoodbyeReceived():
                pass

    def _answer(self, number: int, answer: Any) -> None:
        event, answers = self._answers.pop(number)
        answers.append(answer)
        event.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


@asynccontextmanager
async def connect(
    pub: RunningPub,
    who: KeyPair | bytes | Role = Role.STRANGER,
    *,
    transport: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
) -> AsyncIterator[Client]:
    """A connection of ``who``: a key (pair) in the role it has with the pub, or anyone in the role given.

    ``transport``: (the client's end, the pub's end).
    """
    feed = feed_id(_peer_of(pub, who).key) if who is not Role.CONTROL else ""
    async with plug_in(pub, who, transport) as stream, Client(stream, feed) as client:
        pub.nursery.start_soon(client.run)  # not in a nursery of this block, which would wrap what the block raises
        yield client


@asynccontextmanager
async def plug_in(
    pub: RunningPub,
    who: KeyPair | bytes | Role,
    transport: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
) -> AsyncIterator[trio.abc.Stream]:
    """``connect`` without a client: the bare stream, for packets that no muxrpc session would write."""
    peer = _peer_of(pub, who)
    ours, theirs = transport or trio.testing.memory_stream_pair()
    served = trio.Event()

    async def serve() -> None:
        with contained(pub.rooms.metrics, peer.address):
            await serve_connection(pub.host, theirs, peer)
        await theirs.aclose()
        served.set()

    pub.nursery.start_soon(serve)
    try:
        yield ours
    finally:
        await ours.aclose()
    await served.wait()


def _peer_of(pub: RunningPub, who: KeyPair | bytes | Role) -> Peer:
    if isinstance(who, Role):
        key = b"" if who is Role.CONTROL else KeyPair.generate(who.value.encode().ljust(32)).public
        return Peer(key, who, ADDRESS)
    key = who.public if isinstance(who, KeyPair) else who
    role = role_of(pub.rooms, key)
    assert role is not None, f"{feed_id(key)} is blocked and does not come in"
    return Peer(key, role, ADDRESS)
