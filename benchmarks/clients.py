"""People with many messages: one who brings a data set to a pub, and one who fetches everything.

Both speak EBT over a connection of the pub's own kind (``pub.net.connection``), which costs the load generator about
ten microseconds a message. The reader compares what comes with the data set.
"""

import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import trio

from benchmarks.connection import LoadFailed
from benchmarks.mapped import Mapped
from pub.errors import RpcError
from pub.net.connection import Connection
from pub.net.roles import Peer, Role
from pub.net.rpcstream import RpcStream
from pub.net.stream import open_handshake
from pub.protocol.ebt import MessageFrame, encode_note, parse_frame
from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import CLOSED_TEXT, Kind
from pub.protocol.shs import MAIN_NETWORK

HOST = "127.0.0.1"
FRAME_LIMIT = 1 << 24  # bytes: a clock of 200,000 feeds
AT_ONCE = 100  # redemptions under way; a pub allows more requests than that
PAGE = 1 << 14  # bytes of one feed at once, before the next one has its turn


@asynccontextmanager
async def dial(port: int, pub: bytes, keys: KeyPair) -> AsyncIterator[Connection]:
    """A connection to the pub with this key; its end says goodbye."""
    stream = await trio.open_tcp_stream(HOST, port)
    secret = await open_handshake(stream, keys, MAIN_NETWORK, os.urandom(32), pub)
    peer = Peer(pub, Role.STRANGER, HOST)
    connection = Connection(secret, peer, methods={}, is_allowed=lambda _peer, _name: False, max_outbound=FRAME_LIMIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        yield connection
        connection.close()


async def redeem(port: int, code: str, *feeds: str) -> None:
    """Make these feeds members: one connection of the code's holder, many requests at once."""
    invite = parse_invite(code)
    async with dial(port, invite.address.key, guest_keys(invite.seed)) as connection:
        for first in range(0, len(feeds), AT_ONCE):
            async with trio.open_nursery() as nursery:
                for feed in feeds[first : first + AT_ONCE]:
                    nursery.start_soon(connection.call, ("invite", "use"), [{"feed": feed}])


class Session:
    """One EBT session that we opened: the pub speaks first, then we say ``clock``, then messages may flow.

    ``bytes`` and ``notes`` are what the pub said in its own notes so far.
    """

    def __init__(self, connection: Connection, clock: Mapping[str, int]) -> None:
        self.bytes = 0
        self.notes = 0
        self.messages = 0
        self.greeted = trio.Event()
        """The pub's first frame is here, and our clock on its way."""
        self._clock = clock
        self._stream: RpcStream = connection.open_stream(
            ("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX, FRAME_LIMIT
        )
        self._stream.receiver = self._stream.source = self

    async def receive(self, bodies: list[bytes]) -> None:
        for body in bodies:
            frame = parse_frame(body)
            if isinstance(frame, MessageFrame):
                self.messages += 1
                self.heard(frame, body)
                continue
            self.bytes += len(body)
            self.notes += len(frame)
            if not self.greeted.is_set():
                self.greeted.set()
                self._stream.send(self._clock)
            self.asked(frame)

    def ended(self, error: RpcError | None) -> None:
        if error is not None and error.message != CLOSED_TEXT:  # what the end of the connection says
            raise error

    def next_page(self, _budget: int) -> list[bytes]:
        return []

    def heard(self, message: MessageFrame, body: bytes) -> None:
        """A message came."""

    def asked(self, notes: Mapping[str, int]) -> None:
        """The pub said what it has, and what it wants."""


class Carrier(Session):
    """Brings a data set: offers all of it and sends what the pub asks for, feed by feed in turn."""

    def __init__(self, connection: Connection, data: Mapped) -> None:
        lengths = enumerate(data.ids)
        super().__init__(connection, {each: encode_note(data.length(feed), False) for feed, each in lengths})
        self.sent = 0
        self._data = data
        self._numbers = {each: feed for feed, each in enumerate(data.ids)}
        self._sent_to: dict[int, int] = {}  # feed -> the last sequence that went out
        self._due: deque[int] = deque()

    def asked(self, notes: Mapping[str, int]) -> None:
        for text, note in notes.items():
            feed = self._numbers.get(text)
            if feed is not None and note >= 0 and not note & 1 and feed not in self._sent_to:
                self._sent_to[feed] = note >> 1
                self._due.append(feed)
        self._stream.wake()

    def next_page(self, budget: int) -> list[bytes]:
        page: list[bytes] = []
        while self._due and budget > 0:
            feed = self._due.popleft()
            part = self._data.page(feed, self._sent_to[feed], min(budget, PAGE))
            if part:
                self._sent_to[feed] += len(part)
                self._due.append(feed)
                budget -= sum(map(len, part))
                page += part
        self.sent += len(page)
        return page


class Reader(Session):
    """Wants everything of a data set, and has nothing. What comes must be what was sent, feed by feed in order."""

    def __init__(self, connection: Connection, data: Mapped) -> None:
        super().__init__(connection, dict.fromkeys(data.ids, encode_note(0, True)))
        self._data = data
        self._numbers = {each: feed for feed, each in enumerate(data.ids)}
        self._due: dict[int, Iterator[bytes]] = {}
        self._wrong: str | None = None

    def heard(self, message: MessageFrame, body: bytes) -> None:
        feed = self._numbers.get(message.author, -1)
        if feed not in self._due:
            self._due[feed] = self._data.messages(feed) if feed >= 0 else iter(())
        if next(self._due[feed], None) != body and self._wrong is None:
            self._wrong = f"{message.author} {message.sequence} is not what was sent, or not in order"

    def complete(self) -> None:
        """It was all that was asked for. Raises LoadFailed if it was not what was sent."""
        if self._wrong is not None:
            raise LoadFailed(self._wrong)
        if self.messages != self._data.count:
            raise LoadFailed(f"{self.messages} messages came of {self._data.count}")
