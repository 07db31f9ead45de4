"""The line in which connections wait that have something to send: one task writes for all whose sockets have room.

A message for a thousand people is a thousand short writes, and nearly always the kernel takes each at once. A task for
each, woken to write six hundred bytes and to sleep again, costs more than the write. So a connection with something to
say stands in line, once, and when it is its turn it writes one buffer without waiting. What the kernel does not take
goes on in a task of that connection (``Connection``), which nobody else waits for.

Who was waiting for news goes first: a live message is short, and passes by those who fetch all there is. They go on in
the other half of the line, of which each round serves at least one.

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
    """In each half first come, first served."""

    __slots__ = ("_bell", "_going_on", "_woken")

    def __init__(self) -> None:
        self._woken: deque[Waiting] = deque()
        self._going_on: deque[Waiting] = deque()
        self._bell = trio.Event()

    def join(self, waiting: Waiting) -> None:
        """Ask for a turn; who is in line already must not."""
        self._enter(self._woken, waiting)

    def go_on(self, waiting: Waiting) -> None:
        """Ask for another turn, after one that was not enough."""
        self._enter(self._going_on, waiting)

    def _enter(self, half: deque[Waiting], waiting: Waiting) -> None:
        if not half:
            self._bell.set()
        half.append(waiting)

    async def run(self) -> None:
        """Serve, for ever."""
        while True:
            self._serve_round()
            if self._woken or self._going_on:
                await trio.lowlevel.checkpoint()
            else:
                self._bell = trio.Event()
                await self._bell.wait()

    def _serve_round(self) -> None:
        left = self._serve(self._woken, ROUND_TURNS, ROUND_BYTES)
        self._serve(self._going_on, ROUND_TURNS, left)

    @staticmethod
    def _serve(waiting: deque[Waiting], turns: int, budget: int) -> int:
        """Give so many turns, until ``budget`` bytes are written, but one at least; what is left of it."""
        for _ in range(min(len(waiting), turns)):
            budget -= waiting.popleft().take_turn()
            if budget <= 0:
                break
        return budget
