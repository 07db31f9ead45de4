"""EBT clocks: what one peer has of every feed, kept small enough to hold thousands of peers.

A note is the number the protocol sends (see `ebt`): the sequence shifted left, the lowest bit set when the peer does
not want messages now, -1 when it does not replicate the feed at all. A clock keeps the peer's last note per feed number
in two parallel arrays sorted by feed: eight bytes per feed, bisected on access, merged in bulk when a frame holds many.

`ABSENT` stands for a feed the peer never mentioned. Like -1 it is odd and negative, so `note & 1` reads "send nothing"
and `note >> 1` reads "behind everyone" for both, without a special case.

A `FeedSet` is a bitmap over feed numbers, for the things a session has to remember about most feeds. `UnknownFeeds` are
the notes for feeds that have no number here.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress

from pub.errors import EbtError

ABSENT = -3

MAX_UNKNOWN_WANTS = 10_000  # feeds a peer wants that we never heard of; each is remembered at some 150 bytes

_FEW = 64  # up to so many notes, inserting one by one (moving memory) is cheaper than sorting the clock anew
_ENTRY = 8  # bytes per feed when packed: feed number and note, 32 bits each, little-endian


class FeedSet:
    """A set of feed numbers, one bit each."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray()

    def __contains__(self, feed: int) -> bool:
        index = feed >> 3
        return index < len(self._bits) and self._bits[index] >> (feed & 7) & 1 == 1

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

    def remember(self, key: bytes, note: int) -> bool:
        """Keep a note. False if there is no room for another feed."""
        if key not in self._notes:
            if len(self._notes) >= MAX_UNKNOWN_WANTS:
                return False
            self.unanswered[key] = None
        self._notes[key] = note
        return True

    def take(self, key: bytes) -> int:
        """The note for a feed that has a number now, or ABSENT."""
        return self._notes.pop(key, ABSENT) if self._notes else ABSENT


class Clock:
    """A peer's notes by feed number."""

    __slots__ = ("_feeds", "_notes")

    def __init__(self, notes: Mapping[int, int] | None = None) -> None:
        self._feeds = array("I")
        self._notes = array("i")
        if notes:
            self._rebuild(notes)

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, feed: int) -> int:
        """The note of one feed, or ABSENT."""
        feeds = self._feeds
        index = bisect_left(feeds, feed)
        return self._notes[index] if index < len(feeds) and feeds[index] == feed else ABSENT

    def set(self, feed: int, note: int) -> None:
        """Replace the note of one feed."""
        feeds = self._feeds
        index = bisect_left(feeds, feed)
        if index < len(feeds) and feeds[index] == feed:
            self._notes[index] = note
        else:
            feeds.insert(index, feed)
            self._notes.insert(index, note)

    def advance(self, feed: int, sequence: int) -> None:
        """Raise the sequence of one feed and keep its receive bit; a feed the peer refused stays refused."""
        feeds, notes = self._feeds, self._notes
        index = bisect_left(feeds, feed)
        if index == len(feeds) or feeds[index] != feed:
            feeds.insert(index, feed)
            notes.insert(index, sequence << 1 | 1)
        elif -1 != notes[index] < sequence << 1:
            notes[index] = sequence << 1 | notes[index] & 1

    def update(self, notes: Mapping[int, int]) -> None:
        """Replace many notes at once."""
        if len(notes) <= _FEW:
            for feed, note in notes.items():
                self.set(feed, note)
        else:
            self._rebuild({**dict(self.items()), **notes})

    def items(self) -> Iterator[tuple[int, int]]:
        """(feed, note) in the order of feed numbers."""
        return zip(self._feeds, self._notes, strict=True)

    def to_save(self, unconfirmed: FeedSet, denied: FeedSet) -> "Clock":
        """What a later session may start from: every receive bit off, without the feeds the peer has not confirmed.

        A -1 is left out where our word was -1 (`denied`) too: if both sides followed the feed later, and both
        remembered the -1 of the other, neither would ever speak of it again.
        """
        kept = [
            is_confirmed and (note != -1 or is_shared)
            for note, is_confirmed, is_shared in zip(
                self._notes, unconfirmed.lacks(self._feeds), denied.lacks(self._feeds), strict=True
            )
        ]
        clock = Clock()
        clock._feeds = array("I", compress(self._feeds, kept))
        clock._notes = array("i", [note | 1 for note in compress(self._notes, kept)])
        return clock

    def pack(self) -> bytes:
        """The clock as bytes: all feed numbers, then all notes."""
        return _little_endian(self._feeds).tobytes() + _little_endian(self._notes).tobytes()

    @classmethod
    def unpack(cls, packed: bytes) -> "Clock":
        """The reverse of `pack`. Raises EbtError when it is not the work of `pack`."""
        half, rest = divmod(len(packed), 2)
        if rest or len(packed) % _ENTRY:
            raise EbtError(f"a packed clock cannot have {len(packed)} bytes")
        clock = cls()
        clock._feeds = _little_endian(array("I", packed[:half]))
        clock._notes = _little_endian(array("i", packed[half:]))
        if any(low >= high for low, high in zip(clock._feeds, clock._feeds[1:], strict=False)):
            raise EbtError("the feeds of a packed clock are not in order")
        if clock._notes and min(clock._notes) < -1:
            raise EbtError("a packed clock holds a number that is no note")
        return clock

    def _rebuild(self, notes: Mapping[int, int]) -> None:
        feeds = sorted(notes)
        self._feeds = array("I", feeds)
        self._notes = array("i", [notes[feed] for feed in feeds])


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
