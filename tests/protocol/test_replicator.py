"""One pub and the people who connect to it: what it takes, what it sends, who hears of it."""

import pytest

from pub.protocol import feedsets, replicator
from pub.protocol.arrivals import Expectation
from pub.protocol.ebt import encode_note
from pub.protocol.refs import feed_id
from pub.protocol.replication import Slice
from tests.protocol.people import ASK, CAROL, DAVE, ERIN, TELL, Pub


@pytest.fixture
def pub() -> Pub:
    pub = Pub(5, 5, 5)
    pub.replicator.replicate(CAROL)
    return pub


# --- what we take -----------------------------------------------------------------------------------------


def test_messages_are_next_while_earlier_ones_are_being_stored(pub: Pub) -> None:
    alice = pub.meet(9)
    for sequence in (6, 7, 8):
        assert alice.expects(CAROL, sequence, 0.0) is Expectation.NEXT
    pub.append(CAROL, 7)
    assert alice.expects(CAROL, 8, 0.0) is Expectation.DUPLICATE
    pub.append(CAROL, 8)
    assert alice.expects(CAROL, 9, 0.0) is Expectation.NEXT


def test_who_sends_what_we_have_is_told_to_stop(pub: Pub) -> None:
    alice = pub.meet(5)
    assert alice.expects(CAROL, 5, 0.0) is Expectation.DUPLICATE
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}


def test_who_repeats_something_on_the_way_to_more_is_not(pub: Pub) -> None:
    alice = pub.meet(9)
    assert alice.expects(CAROL, 5, 0.0) is Expectation.DUPLICATE
    assert pub.notes(alice) is None


def test_a_gap_ends_the_feed_with_this_peer(pub: Pub) -> None:
    alice, bob = pub.meet(9), pub.meet(9)
    assert alice.expects(CAROL, 7, 0.0) is Expectation.GAP
    assert pub.notes(alice) == {CAROL: -1}
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NOT_WANTED
    pub.hear(alice, {CAROL: (0, ASK)})
    assert pub.notes(alice) is None
    assert alice.next_slice() is None


def test_a_refused_message_does_the_same(pub: Pub) -> None:
    alice = pub.meet(9)
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NEXT
    alice.refused(CAROL)
    assert pub.notes(alice) == {CAROL: -1}
    assert alice.expects(CAROL, 7, 0.0) is Expectation.NOT_WANTED


@pytest.mark.parametrize("announced", [5, 9])
def test_what_could_not_be_stored_is_asked_for_when_it_can_be(pub: Pub, announced: int) -> None:
    """Whether the peer said that it has more or just sent what it wrote."""
    alice = pub.meet(announced)
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NEXT
    pub.replicator.senders.hold()
    alice.withdrawn(CAROL)
    alice.withdrawn(CAROL)
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}
    assert alice.expects(CAROL, 7, 0.0) is Expectation.NOT_WANTED  # it was under way, and is nobody's fault
    pub.replicator.timeout(31.0)
    assert pub.notes(alice) is None
    pub.replicator.senders.resume()
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    assert alice.expects(CAROL, 8, 0.0) is Expectation.NOT_WANTED  # still of the time before
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NEXT
    assert alice.expects(CAROL, 8, 0.0) is Expectation.GAP


def test_who_comes_while_nothing_can_be_stored_is_asked_afterwards(pub: Pub) -> None:
    pub.replicator.senders.hold()
    alice, bob = pub.meet(9), pub.meet(5)
    pub.replicator.senders.resume()
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    assert pub.notes(bob) is None


def test_a_feed_we_stopped_is_refused_when_it_comes(pub: Pub) -> None:
    alice = pub.meet(9)
    pub.replicator.stop_replicating(CAROL)
    assert not pub.replicator.is_replicated(CAROL)
    assert pub.notes(alice) is None
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NOT_WANTED
    assert alice.expects(CAROL, 7, 0.0) is Expectation.NOT_WANTED
    assert pub.notes(alice) == {CAROL: -1}


def test_a_feed_nobody_spoke_of_is_not_wanted(pub: Pub) -> None:
    alice = pub.meet(5)
    pub.replicator.replicate(DAVE)
    assert alice.expects(DAVE, 6, 0.0) is Expectation.NOT_WANTED


# --- what we send -----------------------------------------------------------------------------------------


def test_dirty_feeds_take_turns(pub: Pub) -> None:
    pub.replicator.replicate(DAVE)
    alice = pub.meet()
    pub.hear(alice, {CAROL: (0, ASK), DAVE: (2, ASK)})
    served = []
    while (piece := alice.next_slice()) is not None:
        served.append(piece)
        alice.sent(piece.feed, piece.after + 1)
    assert sorted(served[:2]) == [(CAROL, 0), (DAVE, 2)]
    assert sorted(served[2:4]) == [(CAROL, 1), (DAVE, 3)]
    assert sorted(served) == [(CAROL, after) for after in range(5)] + [(DAVE, after) for after in range(2, 5)]


def test_only_those_who_asked_are_woken_by_an_append(pub: Pub) -> None:
    alice, bob, _dave = pub.meet(5), pub.meet(5), pub.meet()
    pub.hear(alice, {CAROL: (5, ASK)})
    pub.replicator.woken.clear()
    pub.append(CAROL, 6)
    assert pub.replicator.woken.keys() == {alice, bob}
    assert alice.next_slice() == Slice(CAROL, 5)
    assert pub.notes(alice) is None
    assert bob.next_slice() is None
    assert pub.notes(bob) == {CAROL: encode_note(6, TELL)}


def test_a_wish_withdrawn_stops_the_messages(pub: Pub) -> None:
    alice = pub.meet()
    pub.hear(alice, {CAROL: (0, ASK)})
    pub.hear(alice, {CAROL: (0, TELL)})
    assert alice.next_slice() is None
    assert not alice._dirty


def test_a_peer_that_lost_data_gets_it_again(pub: Pub) -> None:
    alice = pub.meet()
    pub.hear(alice, {CAROL: (5, ASK)})
    assert alice.next_slice() is None
    pub.hear(alice, {CAROL: (2, ASK)})
    assert alice.next_slice() == Slice(CAROL, 2)


def test_the_one_called_speaks_first_even_with_nothing_to_say() -> None:
    caller, callee = (Pub(5).replicator.open(speaks_first=first, peer_feed=None) for first in (False, True))
    assert (caller.has_work, caller.next_notes(10)) == (False, None)
    assert (callee.has_work, callee.next_notes(10)) == (True, {})
    caller.receive_notes({}, 0.0)
    assert (caller.has_work, caller.next_notes(10)) == (True, {})
    assert not callee.has_work
    assert not caller.has_work


def test_no_message_precedes_the_first_frame(pub: Pub) -> None:
    alice = pub.replicator.open(speaks_first=True, peer_feed=None)
    pub.hear(alice, {CAROL: (0, ASK)})
    assert alice.next_slice() is None
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    assert alice.next_slice() == Slice(CAROL, 0)


def test_a_long_first_clock_may_be_sent_in_pieces(pub: Pub) -> None:
    pub.replicator.replicate(DAVE)
    pub.replicator.replicate(ERIN)
    alice = pub.replicator.open(speaks_first=True, peer_feed=None)
    frames = []
    while (notes := alice.next_notes(2)) is not None:
        frames.append(len(notes))
    assert frames == [2, 1]


# --- feeds that come and go -------------------------------------------------------------------------------


def test_a_want_of_a_feed_we_did_not_know_takes_effect_when_we_follow_it(pub: Pub) -> None:
    """A client that was answered -1 never speaks of the feed again, whatever we note later."""
    new = len(pub.keys)
    alice, bob = pub.meet(), pub.meet()
    pub.hear(alice, {new: (0, ASK)})
    pub.hear(bob, {new: (9, TELL)})
    assert pub.notes(alice) == {new: -1}
    assert pub.notes(bob) == {new: -1}
    pub.hear(alice, {new: (0, ASK)})
    assert pub.notes(alice) is None

    pub.keys.append(bytes([new]) * 32)
    pub.numbers[pub.keys[new]] = new
    pub.heads.append(3)
    pub.replicator.woken.clear()
    pub.replicator.replicate(new)
    assert pub.replicator.woken.keys() == {alice, bob}
    assert pub.notes(alice) == {new: encode_note(3, ASK)}
    assert alice.next_slice() == Slice(new, 0)
    assert pub.notes(bob) == {new: encode_note(3, ASK)}  # has more
    assert pub.notes(alice) == {new: encode_note(3, TELL)}


def test_wants_of_unknown_feeds_are_bounded(pub: Pub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedsets, "MAX_UNKNOWN_WANTS", 2)
    alice = pub.meet()
    pub.hear(alice, dict.fromkeys(range(10, 15), (0, ASK)))
    assert pub.notes(alice) == {10: -1, 11: -1}
    assert pub.replicator.limit_hits == {"unknown_wants": 3}


def test_a_feed_followed_again_is_announced_again(pub: Pub) -> None:
    alice = pub.meet(5)
    pub.replicator.stop_replicating(CAROL)
    pub.append(CAROL, 6)
    assert pub.notes(alice) is None
    pub.replicator.replicate(CAROL)
    assert pub.notes(alice) == {CAROL: encode_note(6, ASK)}


def test_two_refusals_do_not_bury_a_feed(pub: Pub) -> None:
    alice = pub.meet(-1)
    pub.replicator.stop_replicating(CAROL)
    pub.replicator.replicate(CAROL)
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}
    pub.append(CAROL, 6)
    assert pub.notes(alice) == {CAROL: encode_note(6, TELL)}


def test_the_list_of_followed_feeds_does_not_grow_for_ever(pub: Pub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicator, "MAX_REPETITIONS", 5)
    level, late = pub.meet(5), pub.replicator.open(speaks_first=True, peer_feed=None)
    for _ in range(100):
        pub.replicator.stop_replicating(CAROL)
        pub.replicator.replicate(CAROL)
        pub.notes(level)
    assert len(pub.replicator.followed) <= 8
    assert pub.notes(late) == {CAROL: encode_note(5, TELL)}


def test_an_author_who_blocks_the_peer_hides_its_feed(pub: Pub) -> None:
    blockers: set[int] = set()
    alice = pub.replicator.open(speaks_first=True, peer_feed=None, is_hidden=blockers.__contains__)
    pub.hear(alice, {CAROL: (3, ASK)})
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    blockers.add(CAROL)
    alice.visibility_changed(CAROL)
    assert pub.notes(alice) == {CAROL: -1}
    pub.append(CAROL, 6)
    pub.hear(alice, {CAROL: (3, ASK)})
    assert alice.next_slice() is None
    assert pub.notes(alice) is None
    blockers.clear()
    alice.visibility_changed(CAROL)
    assert pub.notes(alice) == {CAROL: encode_note(6, ASK)}
    assert alice.next_slice() == Slice(CAROL, 3)


# --- the end of a session ---------------------------------------------------------------------------------


def test_what_we_sent_is_not_taken_for_received(pub: Pub) -> None:
    """The connection may break with messages under way, and a peer that is level says nothing next time."""
    pub.replicator.replicate(DAVE)
    alice = pub.meet()
    pub.hear(alice, {CAROL: (3, ASK), DAVE: (4, TELL)})
    assert alice.next_slice() == Slice(CAROL, 3)
    alice.sent(CAROL, 5)
    assert alice.next_slice() is None
    assert dict(pub.part(alice).items()) == {DAVE: encode_note(4, TELL)}


def test_what_the_peer_confirmed_is(pub: Pub) -> None:
    alice = pub.meet()
    pub.hear(alice, {CAROL: (3, ASK)})
    alice.sent(CAROL, 5)
    pub.hear(alice, {CAROL: (5, ASK)})
    assert dict(pub.part(alice).items()) == {CAROL: encode_note(5, TELL)}


def test_two_refusals_are_not_remembered(pub: Pub) -> None:
    alice = pub.meet(-1, -1)
    assert dict(pub.part(alice).items()) == {CAROL: -1}  # of the other feed, we said -1 as well


def test_a_peer_that_is_level_hears_nothing_until_there_is_more(pub: Pub) -> None:
    saved = pub.part(pub.meet(5))
    alice = pub.replicator.open(speaks_first=True, peer_feed=None, saved=saved)
    assert pub.notes(alice) == {}
    assert alice.next_slice() is None
    pub.append(CAROL, 6)
    assert alice.next_slice() is None  # it asked for nothing in this session
    assert pub.notes(alice) == {CAROL: encode_note(6, TELL)}


def test_a_slot_used_again_inherits_nothing(pub: Pub) -> None:
    alice = pub.meet()
    pub.hear(alice, {CAROL: (5, ASK)})
    assert alice.expects(CAROL, 6, 0.0) is Expectation.NEXT
    alice.close()
    bob = pub.replicator.open(speaks_first=True, peer_feed=None)
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}
    pub.replicator.woken.clear()
    pub.append(CAROL, 6)
    assert not pub.replicator.woken
    assert not bob.has_work


def test_garbage_among_notes_is_skipped(pub: Pub) -> None:
    alice = pub.meet()
    carol = feed_id(pub.keys[CAROL])
    rubbish: list[object] = [None, True, 1.5, "4", -2, 2**31, [], {}]
    for note in rubbish:
        alice.receive_notes({carol: note}, 0.0)
    alice.receive_notes({"": 0, "@": 0, carol[:-1]: 0, "%" + carol[1:]: 0, "clock": 0, "\ud800": 0}, 0.0)
    assert not alice.has_work
