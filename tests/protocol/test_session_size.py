"""What a session holds when nothing is left to say: the clock, and a bit here and there for each feed."""

import sys
from array import array
from collections import deque
from collections.abc import Iterator

import pytest

from pub.protocol.arrivals import Expectation
from pub.protocol.clocks import Clock
from pub.protocol.ebt import encode_note
from pub.protocol.feedsets import MAX_UNKNOWN_WANTS
from pub.protocol.refs import feed_id
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator

ASK, TELL = True, False


def parts(session: ReplicatorSession) -> Iterator[object]:
    """Everything that the session alone refers to."""
    todo, seen = deque[object]([session]), {id(session)}
    while todo:
        part = todo.popleft()
        yield part
        found: list[object] = []
        if type(part).__module__.startswith("pub."):
            found = [getattr(part, name) for name in type(part).__slots__]  # type: ignore[attr-defined]
        elif isinstance(part, dict):
            found = [*part.keys(), *part.values()]
        elif isinstance(part, list | set | tuple):
            found = [*part]
        todo += [one for one in found if not (isinstance(one, Replicator) or callable(one) or id(one) in seen)]
        seen.update(map(id, found))


def size(session: ReplicatorSession) -> int:
    return sum(map(sys.getsizeof, parts(session)))


def converse(replicator: Replicator, session: ReplicatorSession) -> None:
    """The peer is behind with some feeds, level with some, ahead with some; it refuses some and repeats itself."""
    feeds, heads = range(len(replicator.keys)), replicator.heads
    sequences = {feed: (3, 5, 7, 5, -1)[feed % 5] for feed in feeds}
    while session.next_notes(1000) is not None:
        pass
    for asks in (TELL, ASK):
        notes = {feed_id(replicator.keys[feed]): encode_note(at, asks) for feed, at in sequences.items()}
        session.receive_notes(notes, 0.0)
        while session.next_notes(1000) is not None:
            pass
    while (piece := session.next_slice()) is not None:
        session.sent(piece.feed, heads[piece.feed])
    for feed in feeds[2::5]:
        assert session.expects(feed, 6, 0.0) is Expectation.NEXT
        assert session.expects(feed, 7, 0.0) is Expectation.NEXT
    for feed in feeds[2::5]:
        heads[feed] = 7  # type: ignore[index]
        replicator.appended(feed)
    for feed in feeds[1::5]:
        assert session.expects(feed, 5, 0.0) is Expectation.DUPLICATE
    for feed in feeds[3::15]:
        session.refused(feed)
    while session.next_notes(1000) is not None:
        pass
    assert session.next_slice() is None
    assert not session.has_work


@pytest.mark.parametrize("feeds", [1000, *(pytest.param(feeds, marks=pytest.mark.slow) for feeds in (10_000, 100_000))])
@pytest.mark.parametrize("returns", [False, True], ids=["new", "returning"])
def test_a_session_holds_eight_bytes_for_each_feed_at_most(feeds: int, returns: bool) -> None:
    keys = [feed.to_bytes(32, "big") for feed in range(feeds)]
    replicator = Replicator(keys, {key: feed for feed, key in enumerate(keys)}, array("I", [5]) * feeds)
    empty = size(replicator.open(speaks_first=False, peer_feed=None))
    for feed in range(feeds):
        replicator.replicate(feed)
    saved = Clock(dict.fromkeys(range(0, feeds, 2), encode_note(4, TELL))) if returns else None
    session = replicator.open(speaks_first=True, peer_feed=None, saved=saved)
    converse(replicator, session)
    interest = feeds / 8  # a bit in the bitmap of each feed: see `Interest`
    assert empty < 3000
    assert (known := size(session)) - empty + interest <= 8 * feeds
    unknown = [feed_id(feed.to_bytes(32, "little")) for feed in range(1, MAX_UNKNOWN_WANTS)]
    session.receive_notes(dict.fromkeys(unknown, 0), 0.0)
    while session.next_notes(1000) is not None:
        pass
    assert size(session) - known <= 8 * MAX_UNKNOWN_WANTS
