"""Whom the pub asks for a feed, among the people connected to it."""

import pytest

from pub.protocol.clocks import Clock
from pub.protocol.ebt import encode_note
from pub.protocol.replication import Slice
from tests.protocol.people import ASK, CAROL, DAVE, TELL, Pub


@pytest.fixture
def pub() -> Pub:
    pub = Pub(5, 5, 5)
    pub.replicator.replicate(CAROL)
    return pub


def test_only_the_first_is_asked_until_another_has_more(pub: Pub) -> None:
    alice = pub.replicator.open(speaks_first=True, peer_feed=None)
    bob = pub.replicator.open(speaks_first=True, peer_feed=None)
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    assert pub.notes(bob) == {CAROL: encode_note(5, TELL)}
    pub.hear(bob, {CAROL: (7, TELL)})
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}


def test_a_claim_does_not_interrupt_a_sender_but_is_remembered(pub: Pub) -> None:
    alice, bob = pub.meet(7), pub.meet(1000)
    assert pub.notes(bob) is None
    pub.take(alice, CAROL, [6, 7])
    assert pub.notes(bob) == {CAROL: encode_note(7, ASK)}
    assert pub.notes(alice) == {CAROL: encode_note(7, TELL)}


def test_the_author_is_asked_at_once(pub: Pub) -> None:
    alice = pub.meet(9)
    carol = pub.replicator.open(speaks_first=True, peer_feed=CAROL, saved=Clock({CAROL: encode_note(5, TELL)}))
    assert pub.notes(carol) == {CAROL: encode_note(5, ASK)}
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}


def test_the_author_is_asked_even_while_another_is_sending(pub: Pub) -> None:
    alice, carol = pub.meet(9), pub.meet(5)
    carol.peer_feed = CAROL  # her feed got its number after she came
    pub.hear(carol, {CAROL: (10, TELL)})
    assert pub.notes(carol) == {CAROL: encode_note(5, ASK)}
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}


def test_when_the_sender_leaves_the_next_one_who_has_more_is_asked(pub: Pub) -> None:
    alice, bob, _level = pub.meet(7), pub.meet(7), pub.meet(5)
    alice.close()
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}


def test_a_sender_who_says_it_does_not_replicate_the_feed_is_replaced(pub: Pub) -> None:
    alice, bob = pub.meet(7), pub.meet(7)
    pub.hear(alice, {CAROL: (-1, TELL)})
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}


def test_a_silent_sender_loses_the_feed_after_three_seconds_round_robin(pub: Pub) -> None:
    _alice, bob, dave, _behind = pub.meet(9), pub.meet(9), pub.meet(9), pub.meet(3)
    assert pub.replicator.next_timeout() == 3.0
    pub.replicator.timeout(2.9)
    assert pub.notes(bob) is None
    pub.replicator.timeout(3.0)
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}
    pub.replicator.timeout(6.0)
    assert pub.notes(dave) == {CAROL: encode_note(5, ASK)}


def test_a_sender_who_sends_anything_keeps_its_feeds_for_a_while(pub: Pub) -> None:
    pub.replicator.replicate(DAVE)
    alice, bob = pub.meet(9, 99), pub.meet(9)
    for second in range(1, 30):
        pub.take(alice, DAVE, [5 + second], now=float(second))
        pub.replicator.timeout(float(second))
    assert pub.notes(bob) is None
    pub.replicator.timeout(30.0)
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}


def test_a_silent_sender_stays_where_nobody_else_has_more_and_gives_way_to_anybody(pub: Pub) -> None:
    liar, bob = pub.meet(1000), pub.meet(5)
    pub.replicator.timeout(3.0)
    assert pub.notes(liar) is None
    pub.hear(bob, {CAROL: (6, TELL)}, now=4.0)
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}
    pub.take(bob, CAROL, [6])
    assert pub.notes(liar) == {CAROL: encode_note(6, TELL)}
    pub.hear(liar, {CAROL: (1000, TELL)}, now=5.0)
    assert pub.notes(liar) is None  # it had its chance
    pub.replicator.timeout(40.0)
    assert pub.notes(liar) == {CAROL: encode_note(6, ASK)}  # another chance, since nobody else has more


def test_a_sender_who_was_only_slow_keeps_the_feed_from_then_on(pub: Pub) -> None:
    alice = pub.meet(9)
    pub.replicator.timeout(3.0)
    pub.take(alice, CAROL, [6], now=4.0)
    bob = pub.meet(9)
    assert pub.notes(bob) is None
    pub.replicator.timeout(7.0)
    assert pub.notes(bob) == {CAROL: encode_note(6, ASK)}


def test_a_sender_who_turns_out_to_have_nothing_is_replaced(pub: Pub) -> None:
    alice, bob = pub.meet(9), pub.meet(7)
    pub.hear(alice, {CAROL: (5, TELL)})
    assert pub.notes(bob) == {CAROL: encode_note(5, ASK)}


def test_nothing_awaited_no_timer(pub: Pub) -> None:
    pub.take(pub.meet(6), CAROL, [6])
    pub.replicator.timeout(3.0)
    assert pub.replicator.next_timeout() is None


def test_our_own_feed_is_asked_for_only_when_we_lost_some_of_it() -> None:
    pub = Pub(5)
    pub.replicator.replicate(CAROL, ask=False)
    alice = pub.replicator.open(speaks_first=True, peer_feed=None)
    assert pub.notes(alice) == {CAROL: encode_note(5, TELL)}
    pub.hear(alice, {CAROL: (7, ASK)})
    assert pub.notes(alice) == {CAROL: encode_note(5, ASK)}
    pub.take(alice, CAROL, [6, 7])
    assert pub.notes(alice) == {CAROL: encode_note(7, TELL)}
    pub.append(CAROL, 8)
    assert alice.next_slice() == Slice(CAROL, 7)
