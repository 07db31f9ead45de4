"""What a returning peer hears first, and later: found by comparing clocks, and by considering every feed.

The slow pub is the specification: it walks along all feeds, and remembers of each that the peer is interested.
"""

import cProfile
import pstats
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.protocol import interest
from pub.protocol.clocks import Clock
from pub.protocol.ebt import encode_note
from pub.protocol.interest import Interest
from pub.protocol.refs import feed_id
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator
from tests.protocol.people import ASK, TELL, Pub

FEEDS = 6
FEED = st.integers(0, FEEDS - 1)
SEQUENCE = st.integers(0, 3)
NOTES = st.dictionaries(FEED, st.tuples(st.integers(-1, 3), st.booleans()), max_size=FEEDS)
STEP = st.tuples(st.sampled_from(["append", "append", "follow", "unfollow", "hide", "show", "crowd"]), FEED)


class Everything(Clock):
    """A clock that is unlike any other everywhere."""

    def unlike(self, other: Clock) -> "array[int]":
        return array("I", [feed for feed, _ in self.items()])


class NoGate(Interest):
    """Knows nobody who is interested in all feeds of a clock."""

    def restore(self, session: ReplicatorSession) -> None:
        pass


class Scene:
    """A pub, and Alice who comes back to it."""

    def __init__(self, heads: list[int], saved: dict[int, tuple[int, bool]], *, is_slow: bool) -> None:
        self.pub = Pub(*heads)
        self.saved = {feed: encode_note(sequence, TELL) for feed, (sequence, _) in saved.items()}
        self.hidden: set[int] = set()
        if is_slow:
            self.pub.replicator.level = Everything()
            self.pub.replicator.interest = NoGate(self.pub.replicator._slots)

    def open(self, peer_feed: int | None, *, speaks_first: bool) -> ReplicatorSession:
        return self.pub.replicator.open(
            speaks_first=speaks_first,
            peer_feed=peer_feed,
            saved=Clock(self.saved),
            is_hidden=self.hidden.__contains__,
        )

    def arrive(self, peer_feed: int | None, *, speaks_first: bool) -> None:
        self.alice = self.open(peer_feed, speaks_first=speaks_first)

    def append(self, feed: int) -> None:
        self.pub.append(feed, self.pub.heads[feed] + 1)

    def follow(self, feed: int) -> None:
        self.pub.replicator.replicate(feed)

    def unfollow(self, feed: int) -> None:
        self.pub.replicator.stop_replicating(feed)

    def hide(self, feed: int) -> None:
        self.hidden.add(feed)
        self.alice.visibility_changed(feed)

    def show(self, feed: int) -> None:
        self.hidden.discard(feed)
        self.alice.visibility_changed(feed)

    def crowd(self, _: int) -> None:
        """Somebody else comes back, and takes Alice's place at the gate."""
        self.pub.notes(self.open(None, speaks_first=True))

    def said(self) -> list[object]:
        """All that Alice gets now."""
        said: list[object] = [self.pub.notes(self.alice)]
        while (piece := self.alice.next_slice()) is not None:
            said.append(piece)
            self.alice.sent(piece.feed, piece.after + 1)
        said[1:] = sorted(map(str, said[1:]))
        return [*said, self.alice.has_work]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(SEQUENCE, min_size=FEEDS, max_size=FEEDS),
    st.sets(FEED),
    NOTES,
    st.none() | FEED,
    st.booleans(),
    st.lists(STEP.filter(lambda step: step[0] != "crowd"), max_size=4),
    st.lists(STEP | NOTES, max_size=15),
)
def test_comparing_clocks_says_what_considering_every_feed_would_say(
    heads: list[int],
    followed: set[int],
    saved: dict[int, tuple[int, bool]],
    peer_feed: int | None,
    speaks_first: bool,
    before: list[tuple[str, int]],
    after: list[tuple[str, int] | dict[int, tuple[int, bool]]],
) -> None:
    fast, slow = (Scene(heads, saved, is_slow=is_slow) for is_slow in (False, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interest, "MAX_AT_GATE", 1)
        for scene in (fast, slow):
            for feed in sorted(followed):
                scene.follow(feed)
            scene.arrive(peer_feed, speaks_first=speaks_first)
        for name, feed in before:
            for scene in (fast, slow):
                getattr(scene, name)(feed)
        if not speaks_first:
            for scene in (fast, slow):
                scene.pub.hear(scene.alice, {})
        assert fast.said() == slow.said()
        for step in after:
            for scene in (fast, slow):
                if isinstance(step, dict):
                    scene.pub.hear(scene.alice, step)
                else:
                    getattr(scene, step[0])(step[1])
            assert fast.said() == slow.said()
    assert dict(fast.alice.clock_to_save().items()) == dict(slow.alice.clock_to_save().items())


def returning(pub: Pub) -> ReplicatorSession:
    """Somebody who has all there is comes back, and hears so."""
    level = Clock({feed: encode_note(head, TELL) for feed, head in enumerate(pub.heads)})
    session = pub.replicator.open(speaks_first=True, peer_feed=None, saved=level)
    assert session.next_notes(1000) == {}
    return session


def test_max_at_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who stand no longer at the gate hear of new messages as well, but not of what is hidden from them."""
    monkeypatch.setattr(interest, "MAX_AT_GATE", 2)
    pub = Pub(5, 5)
    pub.replicator.replicate(0)
    pub.replicator.replicate(1)
    peers = [returning(pub) for _ in range(5)]
    hidden = pub.replicator.open(
        speaks_first=True, peer_feed=None, saved=Clock({0: 11, 1: 11}), is_hidden=[1].__contains__
    )
    hidden.next_notes(1000)
    peers += [returning(pub), returning(pub)]
    assert len(pub.replicator.interest._at_gate) == 2
    pub.append(0, 6)
    pub.append(1, 6)
    assert all(pub.notes(peer) == {0: encode_note(6, TELL), 1: encode_note(6, TELL)} for peer in peers)
    assert pub.notes(hidden) == {0: encode_note(6, TELL)}
    for peer in peers:
        peer.close()
    assert not pub.replicator.interest._at_gate
    assert not pub.replicator.interest._gate


def calls_of_a_greeting(feeds: int) -> int:
    """From the bytes on the disk to the bytes on the disk, with nothing new on either side."""
    heads = array("I", [5]) * feeds
    keys = [feed.to_bytes(32, "big") for feed in range(feeds)]
    replicator = Replicator(keys, {key: feed for feed, key in enumerate(keys)}, heads)
    for feed in range(feeds):
        replicator.replicate(feed)
    packed = Clock(dict.fromkeys(range(feeds), encode_note(5, TELL))).pack()
    with cProfile.Profile() as profile:
        session = replicator.open(speaks_first=True, peer_feed=7, saved=Clock.unpack(packed))
        assert session.next_notes(1000) == {feed_id(keys[7]): encode_note(5, ASK)}
        session.receive_notes({feed_id(keys[7]): encode_note(5, ASK)}, 0.0)
        assert session.next_notes(1000) is None
        assert session.next_slice() is None
        session.close()
        assert not session.has_learned
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_a_greeting_costs_what_changed() -> None:
    """Counted in calls: to find nothing new takes as many whatever the number of feeds."""
    few, many = calls_of_a_greeting(1000), calls_of_a_greeting(10_000)
    assert few < 200
    assert many - few < 10
