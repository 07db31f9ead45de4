"""Sets of feeds that a session keeps: `FeedSet`, a bitmap over feed numbers, for what it has to remember about most
feeds, and `UnknownFeeds`, the notes for feeds that have no number here.
"""

from collections.abc import Iterable, Iterator, Mapping

from pub.errors import InvalidReference
from pub.protocol.ebt import MAX_NOTE
from pub.protocol.refs import feed_key

ABSENT = -3  # the note of a feed that a peer never mentioned: see `clocks`

MAX_UNKNOWN_WANTS = 10_000  # feeds a peer wants that we never heard of; each is remembered at some 150 bytes


class FeedSet:
    """A set of feed numbers, one bit each."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray()

    def __contains__(self, feed: int) -> bool:
        index = feed >> 3
        return index < len(self._bits) and self._bits[index] >> (feed & 7) & 1 == 1

    def __iter__(self) -> Iterator[int]:
        for index, bits in enumerate(self._bits):
            if bits:
                yield from (index << 3 | bit for bit in range(8) if bits >> bit & 1)

    def __bool__(self) -> bool:
        return any(self._bits)

    def copy(self) -> "FeedSet":
        """Another set of the same feeds."""
        other = FeedSet()
        other._bits = self._bits[:]
        return other

    def add(self, feed: int) -> None:
        """Put a feed in; the bitmap grows as far as the highest feed."""
        index = feed >> 3
        if index >= len(self._bits):
            self._bits.extend(bytes(index + 1 - len(self._bits)))
        self._bits[index] |= 1 << (feed & 7)

    def lacks(self, feeds: Iterable[int]) -> list[bool]:
        """For each of many feeds, whether it is not in."""
        bits, end = self._bits, len(self._bits) << 3
        return [feed >= end or not bits[feed >> 3] >> (feed & 7) & 1 for feed in feeds]

    def discard(self, feed: int) -> None:
        """Take a feed out, if it is in."""
        index = feed >> 3
        if index < len(self._bits):
            self._bits[index] &= ~(1 << (feed & 7))


class UnknownFeeds:
    """What a peer said of feeds that we never heard of, by key; and which of them still await our -1."""

    __slots__ = ("_notes", "unanswered")

    def __init__(self) -> None:
        self.unanswered: dict[bytes, None] = {}  # a set that keeps its order, which any replay must find again
        self._notes: dict[bytes, int] = {}

    def sift(self, notes: Iterable[tuple[str, object]], numbers: Mapping[bytes, int]) -> tuple[dict[int, int], int]:
        """The notes of feeds that have a number here, by that; the others are remembered. And how many there was no
        room for. What is no note of no feed is skipped.
        """
        known: dict[int, int] = {}
        missed = 0
        for text, note in notes:
            if type(note) is not int or not -1 <= note <= MAX_NOTE:
                continue
            try:
                key = feed_key(text)
            except InvalidReference:
                continue
            feed = numbers.get(key)
            if feed is not None:
                known[feed] = note
            elif not self.remember(key, note):
                missed += 1
        return known, missed

    def remember(self, key: bytes, note: int) -> bool:
        """Keep a note. False if there is no room for another feed."""
        if key not in self._notes:
            if len(self._notes) >= MAX_UNKNOWN_WANTS:
                return False
            self.unanswered[key] = None
        self._notes[key] = note
        return True

    def answer(self) -> bytes:
        """One of the feeds that await our -1; it does no longer."""
        key, _ = self.unanswered.popitem()
        if not self.unanswered:
            self.unanswered.clear()  # gives its memory back
        return key

    def take(self, key: bytes) -> int:
        """The note for a feed that has a number now, or ABSENT."""
        return self._notes.pop(key, ABSENT) if self._notes else ABSENT
