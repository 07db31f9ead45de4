"""Peers on real sockets who come back whenever the pub does: carriers bring feeds, readers fetch everything.

They hold the pub to its word: what it said it has, or passed on, it has for ever, whatever is done to its process.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import trio

from pub.errors import PubError, RpcError
from pub.protocol.ebt import MessageFrame, encode_note, parse_frame
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import Kind
from tests.crash.library import Carrier
from tests.crash.supervisor import Supervisor
from tests.service.people import Visitor, dial

CLOCK_LIMIT = 1 << 24
TURN = 20  # messages of one feed before the next has its turn


LOST = (OSError, PubError, trio.BrokenResourceError)  # what a connection to a dying pub ends with


@asynccontextmanager
async def visit(supervisor: Supervisor, keys: KeyPair) -> AsyncIterator[Visitor]:
    """A connection to the process that is up, or to the next one. What the visitor itself found wrong comes out."""
    async with AsyncExitStack() as stack:
        visitor = await _arrive(stack, supervisor, keys)
        yield visitor
    if visitor.failures:
        _, wrong = ExceptionGroup("while visiting", visitor.failures).split(LOST)
        if wrong is not None:
            raise wrong


async def _arrive(stack: AsyncExitStack, supervisor: Supervisor, keys: KeyPair) -> Visitor:
    while True:
        await supervisor.up.wait()
        process = supervisor.process
        with suppress(*LOST):
            return await stack.enter_async_context(dial("127.0.0.1", process.port, process.key, keys))
        await trio.sleep(0.01)  # it died while we came


class Replica:
    """One peer with EBT, over all its connections: ``has`` says how far it has which feed."""

    def __init__(self, keys: KeyPair, has: dict[str, int], *, is_asking: bool) -> None:
        self.keys = keys
        self.has = has
        self.promised: dict[str, int] = {}
        """How much of each feed the pub has said to have."""
        self.wishes: dict[str, int] = {}
        """From where on the pub wants which feed."""
        self.visits = 0
        self._is_asking = is_asking

    async def run(self, supervisor: Supervisor) -> None:
        """Replicate with the pub, and with the one that comes after it, for ever."""
        while True:
            async with visit(supervisor, self.keys) as visitor:
                self.visits += 1
                Exchange(self, visitor)
                await visitor.gone.wait()

    def greeting(self) -> dict[str, int]:
        return {feed: encode_note(sequence, receive=self._is_asking) for feed, sequence in self.has.items()}

    def hear(self, notes: dict[str, int]) -> None:
        """The pub can't have less of a feed than it had before."""
        for feed, note in notes.items():
            if note >= 0:
                before = self.promised.get(feed, 0)
                assert note >> 1 >= before, f"the pub had {before} messages of {feed} and has {note >> 1}"
                self.promised[feed] = note >> 1
            if note >= 0 and not note & 1:
                self.wishes[feed] = note >> 1
            else:
                self.wishes.pop(feed, None)

    def take(self, frame: MessageFrame, body: bytes) -> None:
        raise AssertionError(f"nobody asked for {frame}")

    def next_messages(self, budget: int) -> list[bytes]:
        return []


class Bringer(Replica):
    """Brings what one carrier has."""

    def __init__(self, carrier: Carrier) -> None:
        super().__init__(carrier.keys, {feed: len(texts) for feed, texts in carrier.feeds.items()}, is_asking=False)
        self._feeds = carrier.feeds
        self._turns: deque[str] = deque()

    def hear(self, notes: dict[str, int]) -> None:
        super().hear(notes)
        self._turns = deque(feed for feed in self.wishes if feed in self._feeds)

    def next_messages(self, budget: int) -> list[bytes]:
        page: list[bytes] = []
        while self._turns and budget > 0:
            feed = self._turns.popleft()
            start = self.wishes.get(feed, self.has[feed])
            texts = self._feeds[feed][start : start + TURN]
            if texts:
                self.wishes[feed] = start + len(texts)
                self._turns.append(feed)
                page += texts
                budget -= sum(map(len, texts))
        return page


class Reader(Replica):
    """Fetches all feeds of ``expected``, and takes nothing but the next message of each."""

    def __init__(self, keys: KeyPair, expected: dict[str, list[bytes]]) -> None:
        super().__init__(keys, dict.fromkeys(expected, 0), is_asking=True)
        self.count = 0
        self._expected = expected
        self._total = sum(map(len, expected.values()))
        self._grown = trio.Event()

    @property
    def is_complete(self) -> bool:
        return self.count == self._total

    @property
    def share(self) -> float:
        return self.count / self._total

    async def wait_complete(self) -> None:
        await self.wait_count(self._total)

    async def wait_count(self, count: int) -> None:
        """Until it has so many messages."""
        while self.count < count:
            self._grown = trio.Event()
            await self._grown.wait()

    def take(self, frame: MessageFrame, body: bytes) -> None:
        feed, sequence = frame.author, frame.sequence
        assert sequence == self.has[feed] + 1, f"{feed}: {sequence} after {self.has[feed]}"
        assert body == self._expected[feed][sequence - 1]
        self.has[feed] = self.promised[feed] = sequence
        self.count += 1
        self._grown.set()


class Exchange:
    """One ``ebt.replicate`` stream of a replica."""

    def __init__(self, replica: Replica, visitor: Visitor) -> None:
        self._replica = replica
        self._greets = True
        self._stream = visitor.connection.open_stream(
            ("ebt", "replicate"), [{"version": 3, "format": "classic"}], Kind.DUPLEX, CLOCK_LIMIT
        )
        self._stream.receiver = self._stream.source = self
        replica.wishes.clear()

    async def receive(self, bodies: list[bytes]) -> None:
        for body in bodies:
            frame = parse_frame(body)
            if isinstance(frame, MessageFrame):
                self._replica.take(frame, body)
            else:
                self._replica.hear(msgspec.json.decode(body, type=dict[str, int]))
                self._stream.wake()

    def ended(self, _error: RpcError | None) -> None:
        """The pub is gone; ``visit`` sees to it."""

    def next_page(self, budget: int) -> list[bytes]:
        if self._greets:
            self._greets = False
            return [msgspec.json.encode(self._replica.greeting())]
        return self._replica.next_messages(budget)
