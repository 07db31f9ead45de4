"""EBT clocks: what one peer has of every feed, kept small enough to hold thousands of peers.

A note is the number the protocol sends (see `ebt`): the sequence shifted left, the lowest bit set when the peer does
not want messages now, -1 when it does not replicate the feed at all. A clock keeps the peer's last note per feed number
in two parallel arrays sorted by feed, bisected on access. There is a pair of arrays for each 65,536 feed numbers, a
*block*: within it 16 bits tell one feed from another, so that a feed costs six bytes.

`ABSENT` stands for a feed the peer never mentioned. Like -1 it is odd and negative, so `note & 1` reads "send nothing"
and `note >> 1` reads "behind everyone" for both, without a special case.

Where two clocks differ is found by comparing halves, then halves of those that differ (`unlike`): if they are nearly
the same, that costs hardly more than comparing memory.
"""

import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import compress

from pub.errors import EbtError
from pub.protocol.feedsets import FeedSet

ABSENT = -3

_BLOCK = 1 << 16  # feed numbers
_FEW = 64  # notes that are compared, or set, one by one: below that, to part or to merge them takes longer
_SPARSE = 8  # notes that lie between two new ones, on average: beyond that, to make them anew takes longer
_U32 = 4  # bytes
_LOWEST = 0 if sys.byteorder == "little" else _U32 - 1  # where a note has its receive bit
_ODD = bytes(byte | 1 for byte in range(256))

Block = tuple["array[int]", "array[int]"]  # places of the feeds within the block, notes


class Clock:
    """A peer's notes by feed number. `is_changed` tells if more than receive bits has changed since it was made."""

    __slots__ = ("_blocks", "is_changed")

    def __init__(self, notes: Mapping[int, int] | None = None) -> None:
        self._blocks: list[Block] = []
        self.is_changed = False
        if notes:
            self.update(notes)
            self.is_changed = False

    def __len__(self) -> int:
        return sum(len(places) for places, _ in self._blocks)

    def get(self, feed: int) -> int:
        """The note of one feed, or ABSENT."""
        if feed >> 16 >= len(self._blocks):
            return ABSENT
        places, notes = self._blocks[feed >> 16]
        place = feed & 0xFFFF
        index = bisect_left(places, place)
        return notes[index] if index < len(places) and places[index] == place else ABSENT

    def set(self, feed: int, note: int) -> None:
        """Replace the note of one feed."""
        (places, notes), place = self._block(feed), feed & 0xFFFF
        index = bisect_left(places, place)
        if index == len(places) or places[index] != place:
            places.insert(index, place)
            notes.insert(index, note)
            self.is_changed = True
        else:
            if notes[index] | 1 != note | 1:
                self.is_changed = True
            notes[index] = note

    def advance(self, feed: int, sequence: int) -> None:
        """Raise the sequence of one feed and keep its receive bit; a feed the peer refused stays refused."""
        note = self.get(feed)
        if note == ABSENT:
            self.set(feed, sequence << 1 | 1)
        elif -1 != note < sequence << 1:
            self.set(feed, sequence << 1 | note & 1)

    def update(self, notes: Mapping[int, int]) -> None:
        """Replace many notes."""
        feeds, start = sorted(notes), 0
        while start < len(feeds):
            part = feeds[start : (start := bisect_left(feeds, (feeds[start] | 0xFFFF) + 1, start))]
            block = self._block(part[0])
            between = slice(bisect_left(block[0], part[0] & 0xFFFF), bisect_right(block[0], part[-1] & 0xFFFF))
            if len(part) >= _FEW and between.stop - between.start <= _SPARSE * len(part):
                self._merge({feed & 0xFFFF: notes[feed] for feed in part}, block, between)
            else:
                for feed in part:
                    self.set(feed, notes[feed])

    def _merge(self, news: dict[int, int], block: Block, between: slice) -> None:
        """Put notes, by place and in that order, into a block, where `between` is what lies from the first to the last
        of these places: it is made anew.
        """
        places, notes = block
        before = dict(zip(places[between], notes[between], strict=True))
        after = before | news
        in_order = news if len(after) == len(news) else sorted(after)
        places[between] = array("H", in_order)
        notes[between] = array("i", map(after.__getitem__, in_order))
        self.is_changed |= any(before.get(place, ABSENT) | 1 != note | 1 for place, note in news.items())

    def discard(self, feed: int) -> None:
        """Forget one feed."""
        (places, notes), place = self._block(feed), feed & 0xFFFF
        index = bisect_left(places, place)
        if index < len(places) and places[index] == place:
            del places[index], notes[index]
            self.is_changed = True

    def items(self) -> Iterator[tuple[int, int]]:
        """(feed, note) in the order of feed numbers."""
        for base, (places, notes) in self._based():
            yield from zip(map(base.__or__, places), notes, strict=True)

    def unlike(self, other: "Clock") -> "array[int]":
        """The feeds of this clock on which `other` has another note, save -1, or none; in order."""
        found = array("I")
        for base, block in self._based():
            number = base // _BLOCK
            theirs = other._blocks[number] if number < len(other._blocks) else _EMPTY
            found.extend(map(base.__or__, _unlike(block, theirs)))
        return found

    def to_save(self, unconfirmed: FeedSet, denied: FeedSet) -> "Clock":
        """What a later session may start from: every receive bit off, without the feeds the peer has not confirmed.

        A -1 is left out where our word was -1 (`denied`) too: if both sides followed the feed later, and both
        remembered the -1 of the other, neither would ever speak of it again.
        """
        left_out = unconfirmed.copy()
        for feed in denied:
            if self.get(feed) == -1:
                left_out.add(feed)
        clock = Clock()
        for base, (places, notes) in self._based():
            if left_out:
                kept = left_out.lacks(map(base.__or__, places))
                places, notes = array("H", compress(places, kept)), array("i", compress(notes, kept))
            raw = bytearray(notes.tobytes())
            raw[_LOWEST::_U32] = raw[_LOWEST::_U32].translate(_ODD)
            clock._blocks.append((places[:], array("i", bytes(raw))))
        return clock

    def pack(self) -> bytes:
        """The clock as bytes, little-endian: CRC-32 of what follows; for each block the number of its feeds (u32),
        their places (u16 each), their notes (i32 each).
        """
        packed = b"".join(
            len(places).to_bytes(_U32, "little") + _little_endian(places).tobytes() + _little_endian(notes).tobytes()
            for places, notes in self._blocks
        )
        return zlib.crc32(packed).to_bytes(_U32, "little") + packed

    @classmethod
    def unpack(cls, packed: bytes) -> "Clock":
        """The reverse of `pack`. Raises EbtError when it is not the work of `pack`."""
        if len(packed) < _U32 or zlib.crc32(memoryview(packed)[_U32:]) != int.from_bytes(packed[:_U32], "little"):
            raise EbtError(f"{len(packed)} bytes are not a packed clock")
        clock, start = cls(), _U32
        while start < len(packed):
            count = int.from_bytes(packed[start : (start := start + _U32)], "little")
            places = array("H", packed[start : (start := start + 2 * count)])
            notes = array("i", packed[start : (start := start + 4 * count)])
            clock._blocks.append((_little_endian(places), _little_endian(notes)))
        return clock

    def _block(self, feed: int) -> Block:
        """Where a feed belongs."""
        blocks = self._blocks
        while feed >> 16 >= len(blocks):
            blocks.append((array("H"), array("i")))
        return blocks[feed >> 16]

    def _based(self) -> Iterator[tuple[int, Block]]:
        """The blocks, each with its first feed number."""
        return zip(range(0, len(self._blocks) << 16, _BLOCK), self._blocks, strict=True)


_EMPTY: Block = (array("H"), array("i"))


def _unlike(mine: Block, theirs: Block) -> list[int]:
    """The places where my notes are not theirs. Of two halves one is often the same, which takes no time to see."""
    (places, notes), (their_places, their_notes) = mine, theirs
    if places == their_places:
        return [places[index] for index in _unequal(notes, their_notes) if their_notes[index] != -1]
    if len(places) <= _FEW:
        said = dict(zip(their_places, their_notes, strict=True))
        return [place for place, note in zip(places, notes, strict=True) if said.get(place, ABSENT) not in (note, -1)]
    half = len(places) // 2
    their_half = bisect_left(their_places, places[half])
    return _unlike((places[:half], notes[:half]), (their_places[:their_half], their_notes[:their_half])) + _unlike(
        (places[half:], notes[half:]), (their_places[their_half:], their_notes[their_half:])
    )


def _unequal(mine: "array[int]", theirs: "array[int]", first: int = 0) -> list[int]:
    """Where two arrays of one length differ, `first` being the index of their first items. Likewise."""
    if mine == theirs:
        return []
    if len(mine) <= _FEW:
        return [index for index, (one, other) in enumerate(zip(mine, theirs, strict=True), first) if one != other]
    half = len(mine) // 2
    return _unequal(mine[:half], theirs[:half], first) + _unequal(mine[half:], theirs[half:], first + half)


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
