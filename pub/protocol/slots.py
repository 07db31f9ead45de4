"""Open sessions by small numbers, so that a set of sessions is a bitmap."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pub.protocol.replication import ReplicatorSession


class Slots:
    """The open sessions, by small numbers that are used again."""

    __slots__ = ("_free", "_sessions")

    def __init__(self) -> None:
        self._sessions: list[ReplicatorSession | None] = []
        self._free: list[int] = []

    def take(self) -> int:
        """The lowest free slot: low numbers keep the bitmaps short."""
        if self._free:
            return heappop(self._free)
        self._sessions.append(None)
        return len(self._sessions) - 1

    def fill(self, slot: int, session: "ReplicatorSession") -> None:
        """Who has this slot, which was taken for it."""
        self._sessions[slot] = session

    def leave(self, slot: int) -> None:
        """The session in this slot is over; another one may take it."""
        self._sessions[slot] = None
        heappush(self._free, slot)

    def each(self, bits: int) -> "Iterator[tuple[int, ReplicatorSession | None]]":
        """(bit, session) for every bit, lowest first; None where the session is gone."""
        sessions = self._sessions
        while bits:
            bit = bits & -bits
            bits ^= bit
            yield bit, sessions[bit.bit_length() - 1]
