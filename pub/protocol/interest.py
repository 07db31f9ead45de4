"""EBT: to whom a new message of a feed goes.

Per feed a bitmap over session slots holds the peers that mentioned the feed. Those that asked for messages are served
from the log, the others get a note when they are behind. A bit is a hint: the peer may be gone, its slot used again,
the feed no longer wanted. The clock of the session shows it, and the bit is cleared when it is met, so that closing a
session does not have to visit every feed. An append costs O(interested peers).

Nor does opening one. A peer that returns has mentioned all feeds of its saved clock, maybe ten thousand of them. It
stands at the gate for all feeds at once, and gets the bit of a feed when that feed grows. The gate is narrow, since
every append asks all who stand there: for the next one that returns, the first gets its bits feed by feed.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pub.protocol.slots import Slots

if TYPE_CHECKING:
    from pub.protocol.replication import ReplicatorSession

MAX_AT_GATE = 16  # asking one about a feed takes 0.5 us: an append becomes 8 us dearer at most


class Interest:
    """Which sessions hear of which feeds."""

    __slots__ = ("_at_gate", "_bits", "_gate", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._bits: dict[int, int] = {}  # feed -> slots
        self._at_gate: dict[ReplicatorSession, None] = {}  # oldest first
        self._gate = 0  # their slots

    def has(self, feed: int) -> bool:
        """Whether anybody may hear of this feed. Of those at the gate only after an append."""
        return bool(self._bits.get(feed))

    def add(self, feeds: Iterable[int], session: "ReplicatorSession") -> None:
        """This session shall hear of these feeds."""
        bits, bit = self._bits, session.bit
        for feed in feeds:
            bits[feed] = bits.get(feed, 0) | bit

    def discard(self, feed: int, session: "ReplicatorSession") -> None:
        """This session shall not."""
        self._bits[feed] = self._bits.get(feed, 0) & ~session.bit

    def restore(self, session: "ReplicatorSession") -> None:
        """This session shall hear of all feeds of the clock it begins with."""
        if len(self._at_gate) >= MAX_AT_GATE:
            first = next(iter(self._at_gate))
            self.leave(first)
            self.add(first.interests(), first)
        self._at_gate[session] = None
        self._gate |= session.bit

    def leave(self, session: "ReplicatorSession") -> None:
        """The session is closed."""
        if session in self._at_gate:
            del self._at_gate[session]
            self._gate ^= session.bit

    def appended(self, feed: int, head: int) -> None:
        """Our head of this feed is now `head`: let those know who care."""
        bits, gone = self._bits.get(feed, 0), 0
        for bit, session in self._slots.each(self._gate & ~bits):
            if session is not None and session.is_restored(feed):
                bits |= bit
        for bit, session in self._slots.each(bits):
            if session is None or not session.offer(feed, head):
                gone |= bit
        if bits:
            self._bits[feed] = bits ^ gone
