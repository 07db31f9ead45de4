"""A pub in this process on real sockets, and people who dial it."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from pub.config import Settings, load
from pub.errors import RpcError
from pub.ingest.verify import InlineVerifier, Verifier
from pub.net.connection import Connection
from pub.net.control import call
from pub.net.roles import Peer, Role
from pub.net.stream import open_handshake
from pub.protocol.classic import Head, Message, create
from pub.protocol.ebt import encode_note
from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import Kind
from pub.protocol.refs import feed_key
from pub.protocol.shs import MAIN_NETWORK
from pub.service import Started
from pub.service.life import run
from pub.service.wiring import World
from pub.store.env import Store
from pub.store.log import Log

PATIENCE = 10  # seconds until something that hangs fails the test
NOON = 1_700_000_000_000.0  # ms since the epoch
LOOPBACK = {"network.host": "127.0.0.1", "network.port": 0, "operations.host": ""}


def settings_of(folder: Path, flags: dict[str, Any] | None = None) -> Settings:
    """Those of a pub in ``folder`` on a free port of the loopback, unless ``flags`` say otherwise."""
    return load(environ={}, data=folder, flags=LOOPBACK | (flags or {}))


@asynccontextmanager
async def verify_inline(_count: int, hmac_key: bytes | None = None) -> AsyncIterator[Verifier]:
    yield InlineVerifier(hmac_key)


WORLD = World(open_verifiers=verify_inline)


@dataclass
class Running:
    """A pub that is up, as its operator sees it."""

    settings: Settings
    started: Started
    stop: trio.Event

    @property
    def key(self) -> bytes:
        return feed_key(self.started.id)

    @property
    def port(self) -> int:
        assert self.started.address is not None
        return int(self.started.address.partition("~")[0].rpartition(":")[2])

    async def ask(self, *name: str, args: list[Any] | None = None) -> Any:
        """A call over the control socket."""
        return await call(self.settings.socket, name, args or [])

    async def wait_for_messages(self, count: int) -> None:
        """Until that many are stored, the pub's own included."""
        with trio.fail_after(PATIENCE):
            while True:
                if (await self.ask("status"))["messages"] >= count:
                    return
                await trio.sleep(0.01)

    @asynccontextmanager
    async def visited_by(self, keys: KeyPair, host: str = "127.0.0.1") -> AsyncIterator["Visitor"]:
        """Dial the pub over TCP."""
        async with dial(host, self.port, self.key, keys) as visitor:
            yield visitor


@asynccontextmanager
async def open_pub(folder: Path, flags: dict[str, Any] | None = None) -> AsyncIterator[Running]:
    """A pub whose life is this block. What ends it early comes out as it is in ``life.run``."""
    settings, stop, started = settings_of(folder, flags), trio.Event(), list[Started]()
    is_up = trio.Event()

    def announce(it: Started) -> None:
        started.append(it)
        is_up.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, settings, announce, WORLD, stop.wait)
            await is_up.wait()
            yield Running(settings, started[0], stop)
            stop.set()


@dataclass
class Visitor:
    """One who dialled the pub and shook hands."""

    keys: KeyPair
    connection: Connection
    failures: list[Exception] = field(default_factory=list)
    gone: trio.Event = field(default_factory=trio.Event)
    """The connection is over, whoever ended it; ``failures`` says how, empty after a goodbye."""

    async def call(self, *name: str, args: list[Any] | None = None) -> Any:
        return await self.connection.call(name, args or [])

    async def refusal(self, *name: str, args: list[Any] | None = None) -> str:
        """What the pub says to a call that it refuses."""
        try:
            answer = await self.call(*name, args=args)
        except RpcError as error:
            return error.message
        raise AssertionError(f"not refused: {answer!r}")

    async def run(self) -> None:
        try:
            await self.connection.run()
        except (Exception, ExceptionGroup) as error:
            self.failures.append(error)
        finally:
            self.gone.set()


@asynccontextmanager
async def dial(host: str, port: int, server_key: bytes, keys: KeyPair) -> AsyncIterator[Visitor]:
    stream = await trio.open_tcp_stream(host, port)
    secret = await open_handshake(stream, keys, MAIN_NETWORK, os.urandom(32), server_key)
    peer = Peer(server_key, Role.STRANGER, host)
    connection = Connection(secret, peer, methods={}, is_allowed=lambda _peer, _name: False, max_outbound=1 << 26)
    visitor = Visitor(keys, connection)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visitor.run)
        yield visitor
        connection.close()


class Friend:
    """One who replicates: tells how far it has which feed, and sends a feed when the pub asks for it."""

    def __init__(self, visitor: Visitor, feed: list[Message], author: str | None = None) -> None:
        self.notes: dict[str, int] = {}
        """What the pub said it has (sequence) of which feed."""
        self.received = 0
        """How many messages the pub sent."""
        self._feed = feed
        self._at: int | None = None
        self._changed = trio.Event()
        self._stream = visitor.connection.open_stream(("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX, 1 << 24)
        self._stream.receiver = self._stream.source = self
        self._author = author or visitor.keys.id

    def has(self, feed: str, sequence: int) -> None:
        """Tell the pub, and ask for the rest."""
        self._stream.send({feed: encode_note(sequence, receive=True)})

    def write(self, messages: list[Message]) -> None:
        """Go on with the feed; the pub gets it once it has asked for it."""
        self._feed.extend(messages)
        self._stream.wake()

    async def wait_for(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            self._changed = trio.Event()
            await self._changed.wait()

    async def receive(self, bodies: list[bytes]) -> None:
        for body in bodies:
            frame = msgspec.json.decode(body)
            if "content" in frame:
                self.received += 1
            else:
                self._receive_notes(frame)
        self._changed.set()

    def _receive_notes(self, notes: dict[str, int]) -> None:
        self.notes |= {feed: note >> 1 for feed, note in notes.items()}
        note = notes.get(self._author, -1)
        if note >= 0 and not note & 1 and self._at is None:
            self._at = note >> 1
            self._stream.wake()

    def ended(self, _error: RpcError | None) -> None:
        self._changed.set()

    def next_page(self, budget: int) -> list[bytes]:
        page: list[bytes] = []
        while self._at is not None and self._at < len(self._feed) and budget > 0:
            page.append(self._feed[self._at].encoded)
            budget -= len(page[-1])
            self._at += 1
        return page


def person(name: str) -> KeyPair:
    return KeyPair.generate(name.encode().ljust(32))


def holder_of(code: str) -> KeyPair:
    """The key that somebody dials with who pastes this invite code."""
    return guest_keys(parse_invite(code).seed)


def write_feed(keys: KeyPair, count: int) -> list[Message]:
    head: Head | None = None
    feed = []
    for number in range(count):
        feed.append(create(keys, head, {"type": "post", "text": f"number {number}"}, NOON + number))
        head = feed[-1].head
    return feed


def stored(folder: Path, key: bytes) -> list[bytes]:
    """A feed as it lies on disk; the pub must be down."""
    with Store.open(folder, readonly=True) as store:
        log = Log(store)
        return log.page(log.numbers[key], 0, 1 << 30) if key in log.numbers else []
