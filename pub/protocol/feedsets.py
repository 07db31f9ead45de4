"""Sets of feeds that a session keeps: `FeedSet`, a bitmap over feed numbers, for what it has to remember about most
feeds, and `UnknownFeeds`, the notes for feeds that have no number here.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from pub.errors import InvalidReference
from pub.protocol.ebt import MAX_NOTE
from pub.protocol.refs import feed_key

ABSENT = -3  # the note of a feed that a peer never mentioned: see `clocks`

MAX_UNKNOWN_WANTS = 10_000  # feeds a peer wants that we never heard of; eight bytes each, and 150 until it was answered

_HASHES = 2**40 - 87  # a prime, so that keys which somebody has made up are spread as well
_NOTE_BITS = 24
_NOTE = (1 << _NOTE_BITS) - 1
_LARGEST = _NOTE - 2  # of what can be kept: eight million messages, and a peer that claims more is ahead of us as well


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
    """What a peer said of feeds that we never heard of; and which of them still await our -1.

    Each takes eight bytes: 40 bits of a hash of the key, and the note. Two keys with one hash would be taken for one
    another, and the peer be sent a feed that it never mentioned: of a hundred million feeds one, at the bound.
    """

    __slots__ = ("_entries", "unanswered")

    def __init__(self) -> None:
        self.unanswered: dict[bytes, None] = {}  # a set that keeps its order, which any replay must find again
        self._entries = array("Q")  # in order

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
        index, is_there = self._find(key)
        if not is_there:
            if len(self._entries) >= MAX_UNKNOWN_WANTS:
                return False
            self.unanswered[key] = None
            self._entries.insert(index, 0)
        if note > _LARGEST:
            note = _LARGEST - 1 | note & 1
        self._entries[index] = _hash(key) | note + 1
        return True

    def answer(self) -> bytes:
        """One of the feeds that await our -1; it does no longer."""
        key, _ = self.unanswered.popitem()
        if not self.unanswered:
            self.unanswered.clear()  # gives its memory back
            self._entries = self._entries[:]  # likewise
        return key

    def take(self, key: bytes) -> int:
        """The note for a feed that has a number now, or ABSENT."""
        index, is_there = self._find(key)
        return (self._entries.pop(index) & _NOTE) - 1 if is_there else ABSENT

    def _find(self, key: bytes) -> tuple[int, bool]:
        """Where a feed is, or belongs."""
        entry = _hash(key)
        index = bisect_left(self._entries, entry)
        return index, index < len(self._entries) and self._entries[index] ^ entry <= _NOTE


def _hash(key: bytes) -> int:
    return int.from_bytes(key, "big") % _HASHES << _NOTE_BITS
