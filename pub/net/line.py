"""The line in which connections wait that have something to send: one task writes for all whose sockets have room.

A message for a thousand people is a thousand short writes, and nearly always the kernel takes each at once. A task for
each, woken to write six hundred bytes and to sleep again, costs more than the write. So a connection with something to
say stands in line, once, and when it is its turn it writes one buffer without waiting. What the kernel does not take
goes on in a task of that connection (``Connection``), which nobody else waits for.

Between two rounds everybody else has their turn. A round is bounded in connections and in bytes.
"""

from collections import deque
from typing import Protocol

import trio

ROUND_TURNS = 64  # connections served in a row: two milliseconds of live messages
ROUND_BYTES = 1 << 17  # written in a row: half a millisecond of boxing, and reading as much from the log


class Waiting(Protocol):
    """Who stands in line."""

    def take_turn(self) -> int:
        """Write what can be written without waiting; how many bytes that was. Never raises."""
        ...


class Line:
    """First come, first served."""

    __slots__ = ("_bell", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._bell = trio.Event()

    def join(self, waiting: Waiting) -> None:
        """Ask for a turn; who is in line already must not."""
        if not self._waiting:
            self._bell.set()
        self._waiting.append(waiting)

    async def run(self) -> None:
        """Serve, for ever."""
        while True:
            self._serve_round()
            if self._waiting:
                await trio.lowlevel.checkpoint()
            else:
                self._bell = trio.Event()
                await self._bell.wait()

    def _serve_round(self) -> None:
        written = 0
        for _ in range(min(len(self._waiting), ROUND_TURNS)):
            written += self._waiting.popleft().take_turn()
            if written >= ROUND_BYTES:
                break
