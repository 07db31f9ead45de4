"""People who sign what they write, verifiers that do as they are told, and a desk to try the writer at."""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio.testing

from pub.ingest.batch import NotStored, Submission
from pub.ingest.ingest import Ingest, run_in_thread
from pub.ingest.own_feed import OwnFeed
from pub.ingest.verify import InlineVerifier, Verifier
from pub.ingest.worker import verdict
from pub.metrics import Metrics
from pub.protocol.classic import Message, create
from pub.protocol.keys import KeyPair
from pub.store.env import INITIAL_MAP, Store
from pub.store.log import Appender, Log

NOW = 1_700_000_000_000.0  # ms since the epoch, on the desk's clock
PATIENCE = 5  # seconds until a deadlock fails the test


class Author:
    """Somebody with a signed feed that grows by each call of ``write``."""

    def __init__(self, name: str) -> None:
        self.keys = KeyPair.generate(name.encode().ljust(32))
        self.messages: list[Message] = []

    def write(self, text: str = "hello", **content: Any) -> Message:
        head = self.messages[-1].head if self.messages else None
        content = content or {"type": "post", "text": text}
        self.messages.append(create(self.keys, head, content, NOW + len(self.messages)))
        return self.messages[-1]

    def write_instead(self, sequence: int, text: str) -> "Author":
        """The same person on another disk, where message ``sequence`` came out differently."""
        twin = Author("")
        twin.keys, twin.messages = self.keys, self.messages[: sequence - 1]
        twin.write(text)
        return twin

    def write_many(self, count: int) -> list[Message]:
        return [self.write(f"number {n}") for n in range(count)]


class Backwards:
    """Takes as many chunks at once as it has lanes, and finishes the last one first."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._turns: list[trio.Event] = []

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        number, turn = len(self._turns), trio.Event()
        self._turns.append(turn)
        if number < self.lanes - 1:
            await turn.wait()
        if number:
            self._turns[number - 1].set()
        return [verdict(raw, None) for raw in chunk]


class Closed:
    """Does not finish its first chunk until it is opened; others it does at once."""

    def __init__(self, lanes: int = 1) -> None:
        self.lanes = lanes
        self.opened = trio.Event()
        self._has_begun = False

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        if not self._has_begun:
            self._has_begun = True
            await self.opened.wait()
        return [verdict(raw, None) for raw in chunk]


class Desk:
    """A store with its writer, a clock that stands still unless it is told, and a list of what was refused."""

    def __init__(self, folder: Path, verifier: Verifier | None = None, **options: Any) -> None:
        self.store = Store.open(folder, initial_map=options.pop("initial_map", INITIAL_MAP))
        self.log = Log(self.store)
        self.metrics = Metrics()
        self.pub = Author("the pub")
        self.now = NOW
        self.refused: list[tuple[int, int, NotStored, str]] = []
        self.ingest = Ingest(
            store=self.store,
            log=self.log,
            keys=self.pub.keys,
            verifier=verifier or InlineVerifier(),
            metrics=self.metrics,
            own_feed=options.pop("own_feed", None) or OwnFeed(),
            wall_clock=lambda: self.now,
            run_blocking=run_in_thread,
            max_bytes=options.pop("max_bytes", 1 << 20),
            **options,
        )

    def submission(self, messages: Sequence[Message | bytes], feed: int = 0) -> Submission:
        """All ``messages`` at once, from a peer that says they are of ``feed``."""
        raws = [message if isinstance(message, bytes) else message.encoded for message in messages]
        places = [(feed, m.sequence if isinstance(m, Message) else 0) for m in messages]
        return Submission(self, raws, places, lambda *refusal: self.refused.append(refusal))

    async def submit(self, messages: Sequence[Message | bytes], feed: int = 0) -> None:
        await self.ingest.submit(self.submission(messages, feed))

    async def settle(self, messages: Sequence[Message | bytes], feed: int = 0) -> None:
        """Hand in ``messages`` and wait until each is stored or refused."""
        wanted = self.log.message_count + len(self.refused) + len(messages)
        await self.submit(messages, feed)
        while self.log.message_count + len(self.refused) < wanted:
            await trio.lowlevel.checkpoint()

    def received(self, result: str) -> int:
        return self.metrics.value("messages_received_total", result=result)

    def limit_hits(self, limit: str) -> int:
        return self.metrics.value("limit_hits_total", limit=limit)

    def stored(self, author: Author) -> list[bytes]:
        """The whole feed as it is on disk, read past the mirror in memory."""
        log = Log(self.store)
        feed = log.numbers.get(author.keys.public)
        return [] if feed is None else log.page(feed, 0, 1 << 30)

    @asynccontextmanager
    async def running(self, patience: float = PATIENCE) -> AsyncIterator[None]:
        """The writer works inside this block; at its end everything handed in is on disk."""
        with trio.fail_after(patience):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.ingest.run)
                yield
                self.ingest.stop()

    @asynccontextmanager
    async def one_transaction(self) -> AsyncIterator[None]:
        """All that is handed in inside this block goes into the same transaction, after it."""
        has_begun, is_over = trio.Event(), threading.Event()

        def keep_busy(_appender: Appender) -> None:
            trio.from_thread.run_sync(has_begun.set)
            assert is_over.wait(PATIENCE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ingest.write, keep_busy)
            try:
                await has_begun.wait()
                yield
                await trio.testing.wait_all_tasks_blocked()
            finally:
                is_over.set()


MakeDesk = Callable[..., Desk]


def encoded(messages: Sequence[Message]) -> list[bytes]:
    return [message.encoded for message in messages]
