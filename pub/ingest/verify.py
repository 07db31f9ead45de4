"""Verifying: raw messages in, verdicts out, in the order they were given. Where it runs is chosen here.

``VerifierPool`` keeps processes of ``pub.ingest.worker`` and gives each chunk to the one with the least to do; a few
messages it verifies itself.
``InlineVerifier`` does the same work on the spot: for tests that own the clock, and for offline commands.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import msgspec
import trio

from pub.errors import VerifierKilled
from pub.ingest.worker import RECEIVE_SIZE, encode_frame, take_frame, verdict
from pub.protocol.classic import Message

FEW_MESSAGES = 4  # so many are verified on the spot: 60 µs each is less than the way to another process and back
FEW_BYTES = (
    1 << 14
)  # and no more than these: what takes the slow way through JSON may take a millisecond for each 8 KiB
CHUNKS_PER_WORKER = 2  # one being verified, one waiting in its socket: a worker never idles for the round trip
_decode = msgspec.msgpack.Decoder(list[Message | str | None]).decode


class Verifier(Protocol):
    """Checks everything about messages but how they continue their feeds."""

    lanes: int
    """How many chunks are worth having under way at once."""

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        """One verdict per raw message: the message, or the sentence that says why it is refused."""
        ...


class InlineVerifier:
    """Verifies on the spot, blocking the event loop: 60 µs a message."""

    lanes = 1

    def __init__(self, hmac_key: bytes | None = None) -> None:
        self._hmac_key = hmac_key

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        """See ``Verifier``."""
        await trio.lowlevel.checkpoint()
        return [verdict(raw, self._hmac_key) for raw in chunk]


class _Worker:
    """One process and its socket. Chunks are answered in the order they were sent."""

    def __init__(self, process: subprocess.Popen[bytes], stream: trio.SocketStream) -> None:
        self.process = process
        self.under_way = 0
        self._stream = stream
        self._buffer = bytearray()
        self._sending = trio.Lock()
        self._receiving = trio.Lock()  # fair, so replies reach the callers in the order of their chunks

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        self.under_way += 1
        try:
            async with self._sending:
                await self._stream.send_all(encode_frame(chunk))
            async with self._receiving:
                return _decode(await self._receive_frame())
        except trio.BrokenResourceError:
            raise await self._cause_of_death() from None
        finally:
            self.under_way -= 1

    async def _receive_frame(self) -> bytes:
        while (body := take_frame(self._buffer)) is None:
            data = await self._stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise trio.BrokenResourceError
            self._buffer += data
        return body

    async def _cause_of_death(self) -> Exception:
        """Killed from outside, which an operator can mend, or a bug. (A short wait: its socket ended with it.)"""
        code = await trio.to_thread.run_sync(self.process.wait)
        who = f"verifying process {self.process.pid}"
        if code == -signal.SIGKILL:
            return VerifierKilled(f"{who} was killed (signal 9): the kernel does that when memory runs out")
        if code < 0:
            return RuntimeError(f"{who} crashed: {signal.strsignal(-code)} (signal {-code})")
        return RuntimeError(f"{who} ended by itself with exit code {code}")

    async def close(self) -> None:
        await self._stream.aclose()
        self.process.kill()  # it holds nothing of worth, and one that hangs must not hold us up
        await trio.to_thread.run_sync(self.process.wait)


class VerifierPool:
    """Verifies in processes. A process that dies ends the pub (crash-only: the supervisor restarts all of it)."""

    def __init__(self, workers: Sequence[_Worker], hmac_key: bytes | None) -> None:
        self._workers = workers
        self._hmac_key = hmac_key
        self.lanes = len(workers) * CHUNKS_PER_WORKER

    @property
    def pids(self) -> list[int]:
        """Process ids of the verifying processes."""
        return [worker.process.pid for worker in self._workers]

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        """See ``Verifier``."""
        if len(chunk) <= FEW_MESSAGES and sum(map(len, chunk)) <= FEW_BYTES:
            return [verdict(raw, self._hmac_key) for raw in chunk]
        return await min(self._workers, key=lambda worker: worker.under_way).verify(chunk)


@asynccontextmanager
async def open_verifiers(count: int, hmac_key: bytes | None = None) -> AsyncIterator[VerifierPool]:
    """``count`` verifying processes for the length of the block; they end with it, or with us."""
    workers: list[_Worker] = []
    try:
        while len(workers) < count:
            workers.append(await _start_worker(hmac_key))
        yield VerifierPool(workers, hmac_key)
    finally:
        with trio.CancelScope(shield=True):
            for worker in workers:
                await worker.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process born in this block never hears Ctrl-C, not even before it could say so: the pub ends it, drained."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _start_worker(hmac_key: bytes | None) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs, _signals_blocked():
        process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec of ourselves, before anyone is connected
            [sys.executable, "-m", "pub.ingest.worker"], stdin=theirs.fileno()
        )
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    await stream.send_all(encode_frame(hmac_key))
    return _Worker(process, stream)
