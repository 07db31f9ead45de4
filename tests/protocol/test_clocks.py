"""Clocks and feed sets against the dicts and sets they stand for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.errors import EbtError
from pub.protocol.clocks import ABSENT, Clock
from pub.protocol.ebt import MAX_NOTE
from pub.protocol.feedsets import FeedSet

FEED = st.integers(0, 300) | st.integers(65_500, 65_600)  # either side of a block's end, too
FEEDS = [*range(310), *range(65_490, 65_610)]
NOTE = st.integers(-1, MAX_NOTE)
NOTES = st.dictionaries(FEED, NOTE, max_size=200)


def test_a_feed_never_mentioned_reads_as_behind_and_wanting_nothing() -> None:
    note = Clock().get(7)
    assert note == ABSENT
    assert note & 1
    assert note >> 1 < 0


@settings(max_examples=50)
@given(NOTES, NOTES, st.lists(st.tuples(FEED, NOTE), max_size=5))
def test_a_clock_is_a_sorted_dict(first: dict[int, int], second: dict[int, int], single: list[tuple[int, int]]) -> None:
    clock = Clock(first)
    clock.update(second)
    for feed, note in single:
        clock.set(feed, note)
    expected = first | second | dict(single)
    assert list(clock.items()) == sorted(expected.items())
    assert len(clock) == len(expected)
    assert all(clock.get(feed) == expected.get(feed, ABSENT) for feed in FEEDS)


@pytest.mark.parametrize("spread", [1, 3, 50])
def test_many_notes_are_merged_as_if_they_were_set_one_by_one(spread: int) -> None:
    """Dense or sparse, and across a block's end."""
    rng = random.Random(spread)
    first, second = (
        {rng.randrange(65_000, 65_000 + 1000 * spread): rng.randrange(-1, 9) for _ in range(700)} for _ in "12"
    )
    merged, single = Clock(first), Clock(first)
    merged.update({feed: note ^ 1 if note >= 0 else note for feed, note in first.items()})
    assert not merged.is_changed, "only receive bits are others"
    merged.update(second)
    for feed, note in second.items():
        single.set(feed, note)
    assert merged.is_changed
    assert {feed: note | 1 for feed, note in merged.items()} == {feed: note | 1 for feed, note in single.items()}
    assert all(merged.get(feed) == note for feed, note in second.items())
    assert [feed for feed, _ in merged.items()] == sorted(first | second)


@given(NOTES, FEED, st.integers(0, 2**30 - 1))
def test_advancing_raises_the_sequence_and_keeps_the_wish(notes: dict[int, int], feed: int, sequence: int) -> None:
    clock = Clock(notes)
    clock.advance(feed, sequence)
    note = notes.get(feed, 1)
    assert clock.get(feed) == (-1 if note == -1 else max(note >> 1, sequence) << 1 | note & 1)
    assert {f: n for f, n in clock.items() if f != feed} == {f: n for f, n in notes.items() if f != feed}


@given(NOTES, NOTES, st.sets(FEED))
def test_where_two_clocks_differ(mine: dict[int, int], others: dict[int, int], same: set[int]) -> None:
    theirs = others | {feed: mine[feed] for feed in same & mine.keys()}
    different = [feed for feed in sorted(mine) if theirs.get(feed, ABSENT) not in (mine[feed], -1)]
    assert list(Clock(mine).unlike(Clock(theirs))) == different
    assert not Clock(mine).unlike(Clock(mine))


@given(NOTES, FEED, NOTE)
def test_a_clock_knows_that_it_has_changed(notes: dict[int, int], feed: int, note: int) -> None:
    clock = Clock(notes)
    assert not clock.is_changed
    clock.set(feed, note)
    assert clock.is_changed == (feed not in notes or notes[feed] | 1 != note | 1)


@given(NOTES, FEED)
def test_a_feed_can_be_forgotten(notes: dict[int, int], feed: int) -> None:
    clock = Clock(notes)
    clock.discard(feed)
    assert dict(clock.items()) == {kept: note for kept, note in notes.items() if kept != feed}


@given(NOTES)
def test_a_clock_survives_the_disk(notes: dict[int, int]) -> None:
    packed = Clock(notes).pack()
    assert len(packed) <= 12 + 6 * len(notes)
    assert dict(Clock.unpack(packed).items()) == notes


def test_the_packed_form_is_little_endian() -> None:
    packed = Clock({1: -1, 258: 6, 65539: 8}).pack()
    assert packed.hex(" ", -4) == "322d667c 02000000 01000201 ffffffff 06000000 01000000 03000800 0000"


@given(NOTES, st.data())
def test_a_damaged_clock_is_refused(notes: dict[int, int], data: st.DataObject) -> None:
    packed = bytearray(Clock(notes).pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(EbtError):
        Clock.unpack(bytes(packed))
    with pytest.raises(EbtError):
        Clock.unpack(bytes(packed[: data.draw(st.integers(0, len(packed) - 1))]))


def feed_set(feeds: set[int]) -> FeedSet:
    result = FeedSet()
    for feed in feeds:
        result.add(feed)
    return result


@given(NOTES, st.sets(FEED))
def test_a_saved_clock_asks_for_nothing_and_holds_what_was_confirmed(notes: dict[int, int], sent: set[int]) -> None:
    clock = Clock(notes)
    saved = clock.to_save(feed_set(sent), FeedSet())
    assert dict(saved.items()) == {feed: note | 1 for feed, note in notes.items() if feed not in sent}
    assert dict(clock.items()) == notes


def test_two_refusals_are_not_saved() -> None:
    saved = Clock({1: -1, 2: -1, 3: 4}).to_save(FeedSet(), feed_set({2, 3}))
    assert dict(saved.items()) == {1: -1, 3: 5}
