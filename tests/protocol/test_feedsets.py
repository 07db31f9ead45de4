"""Sets of feeds against the sets and dicts they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from pub.protocol.clocks import ABSENT
from pub.protocol.ebt import MAX_NOTE
from pub.protocol.feedsets import FeedSet, UnknownFeeds
from pub.protocol.refs import feed_id

FEED = st.integers(0, 300)
KEY = st.binary(min_size=32, max_size=32) | st.sampled_from([number.to_bytes(32, "big") for number in range(9)])


@given(st.lists(st.tuples(st.booleans(), FEED)))
def test_a_feed_set_is_a_set(steps: list[tuple[bool, int]]) -> None:
    feeds, expected = FeedSet(), set()
    for is_added, feed in steps:
        if is_added:
            feeds.add(feed)
            expected.add(feed)
        else:
            feeds.discard(feed)
            expected.discard(feed)
    assert [feed for feed in range(310) if feed in feeds] == sorted(expected) == list(feeds) == list(feeds.copy())
    assert feeds.lacks(range(310)) == [feed not in expected for feed in range(310)]
    assert bool(feeds) == bool(expected)


@given(st.lists(st.tuples(KEY, st.none() | st.integers(-1, MAX_NOTE))))
def test_what_is_said_of_unknown_feeds_is_remembered(steps: list[tuple[bytes, int | None]]) -> None:
    """Notes of eight million messages and more are kept as that many."""
    unknown, expected = UnknownFeeds(), dict[bytes, int]()
    for key, note in steps:
        if note is None:
            kept = expected.pop(key, ABSENT)
            assert unknown.take(key) == (kept if kept < 2**24 - 2 else 2**24 - 4 | kept & 1)
        else:
            assert unknown.remember(key, note)
            expected[key] = note
    assert {unknown.answer() for _ in range(len(unknown.unanswered))} >= expected.keys()


def test_sifting_tells_what_is_known() -> None:
    unknown = UnknownFeeds()
    alice, bob, carol, dave = keys = [number.to_bytes(32, "big") for number in (1, 2, 3, 3 + 2**40 - 87)]
    notes: list[tuple[str, object]] = [(feed_id(key), note) for note, key in enumerate(keys)]
    assert unknown.sift([*notes, ("@", 1), (feed_id(bytes(32)), "1")], {bob: 7}) == ({7: 1}, 0)
    assert unknown.take(alice) == 0
    assert unknown.take(carol) == 3, "taken for the other one with its hash"
    assert unknown.take(dave) == ABSENT
