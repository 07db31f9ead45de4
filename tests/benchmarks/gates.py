"""Counting what a pub in this process does for a message, and nothing of what the test does beside it.

``joined`` connects a client to the pub over box streams, as a socket would, with a ``Gate`` at the client's end. While
the gate is closed, what the client sends piles up boxed behind it and what the pub sends is not read: so between
``opened`` and the next look nothing runs in this thread but the pub. ``counted`` counts every call in it, of Python
functions and of functions in C; the same calls happen on every machine, so this guards what time could not.
"""

import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import trio
import trio.testing

from pub.net.stream import SecretStream
from pub.protocol.keys import KeyPair
from pub.protocol.shs import SessionKeys
from tests.pubs import Client, RunningPub, connect

LIBRARY = "prometheus_client"  # counting may not cost more than what is counted
SETTLE_SECONDS = 0.002

T = TypeVar("T")


@dataclass
class Work:
    """What happened in a block of ``counted``."""

    calls: int = 0
    library_calls: int = 0
    kept_blocks: int = 0
    peak_bytes: int = 0


@contextmanager
def counted() -> Iterator[Work]:
    """Count the calls in this thread."""
    work = Work()

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            work.calls += 1
            if event == "call" and LIBRARY in frame.f_code.co_filename:
                work.library_calls += 1

    sys.setprofile(count)
    try:
        yield work
    finally:
        sys.setprofile(None)


@contextmanager
def weighed() -> Iterator[Work]:
    """Blocks of memory that stay allocated, and the most bytes that were at once."""
    work = Work()
    gc.collect()
    before = sys.getallocatedblocks()
    tracemalloc.start()
    try:
        yield work
        work.peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    gc.collect()
    work.kept_blocks = sys.getallocatedblocks() - before


class Gate(trio.abc.Stream):
    """A stream that can be closed for a while: see the file's text."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self._way = trio.Event()
        self._way.set()
        self._piled = bytearray()

    def shut(self) -> None:
        self._way = trio.Event()

    async def release(self) -> None:
        """What has piled up goes out, in one write; the pub's answers are still not read."""
        piled, self._piled = bytes(self._piled), bytearray()
        await self._inner.send_all(piled)

    def open(self) -> None:
        self._way.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._way.is_set():
            await self._inner.send_all(data)
        else:
            self._piled += data

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        await self._way.wait()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def joined(pub: RunningPub, keys: KeyPair, *, by_socket: bool = False) -> AsyncIterator[tuple[Client, Gate]]:
    """A client with these keys, and its gate, which is open. A socket holds little, but is written to at once."""
    near, far = _sockets() if by_socket else trio.testing.memory_stream_pair()
    gate = Gate(near)
    there, back = (bytes([number]) * 32 for number in (1, 2))
    nonce = bytes(24)
    ours = SecretStream(gate, SessionKeys(there, nonce, back, nonce), pub.rooms.keys.public)
    theirs = SecretStream(far, SessionKeys(back, nonce, there, nonce), keys.public)
    async with connect(pub, keys, transport=(ours, theirs)) as client:
        yield client, gate
        gate.open()


def _sockets() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    near, far = map(trio.SocketStream, trio.socket.socketpair())
    return near, far


async def until(is_so: Callable[[], bool]) -> None:
    """Wait with next to no work of our own."""
    while not is_so():
        await trio.testing.wait_all_tasks_blocked(SETTLE_SECONDS)


async def on_the_spot(work: Callable[[], T]) -> T:
    """The writer's work in this thread, where it is counted."""
    await trio.lowlevel.checkpoint()
    return work()
