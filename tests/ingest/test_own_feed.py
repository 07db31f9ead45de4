"""Who says what of the pub's own feed, and when the pub may publish."""

import pytest

from pub.ingest.own_feed import (
    AWAY_SECONDS,
    CLAIM_SECONDS,
    LAPSED_CLAIMS_SECONDS,
    MAX_CLAIMS,
    MAX_LAPSED_CLAIMS,
    MEMBER_CLAIM_SECONDS,
    OwnFeed,
)

ALICE, BOB = b"alice", b"bob"
HEAD = 7


def strangers(count: int) -> list[bytes]:
    return [b"stranger %d" % number for number in range(count)]


def lie_and_lapse(own: OwnFeed, peer: bytes, now: float, is_member: bool = False) -> float:
    """``peer`` claims more than there is; the time when its claim has lapsed."""
    assert own.claim(peer, HEAD + 1, now, is_member)
    assert own.stopped(HEAD, now)
    now += CLAIM_SECONDS
    own.stopped(HEAD, now)
    return now


def test_nobody_said_anything() -> None:
    assert OwnFeed().stopped(0, 0.0) is None


def test_alice_shows_more_than_we_have() -> None:
    own = OwnFeed()
    assert own.claim(ALICE, 9, 0.0, is_member=True)
    reason = own.stopped(HEAD, 0.0)
    assert reason == "a peer has message 9 of this pub's own feed, we have 7: waiting for what is missing"


def test_the_longest_claim_is_told() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0.0, is_member=True)
    own.claim(BOB, 12, 0.0, is_member=False)
    assert "has message 12 of" in (own.stopped(HEAD, 1.0) or "")


def test_what_is_missing_arrives() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0.0, is_member=True)
    own.grew(8, 1.0)
    assert own.stopped(8, 1.0)
    own.grew(9, 2.0)
    assert own.stopped(9, 2.0) is None
    assert own.lapsed == 0


def test_a_claim_that_the_feed_has_reached_is_forgotten_without_blame() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0.0, is_member=True)
    assert own.stopped(9, CLAIM_SECONDS) is None
    assert own.lapsed == 0
    assert own.claim(ALICE, 10, CLAIM_SECONDS, is_member=True)


def test_alice_takes_back_nothing_and_adds_to_her_claim() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0.0, is_member=True)
    own.claim(ALICE, 11, 1.0, is_member=True)
    own.claim(ALICE, 8, 2.0, is_member=True)
    assert "has message 11 of" in (own.stopped(HEAD, 3.0) or "")


def test_saying_it_again_does_not_put_off_the_end_of_a_claim() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0.0, is_member=True)
    own.claim(ALICE, 9, CLAIM_SECONDS - 1, is_member=True)
    assert own.stopped(HEAD, CLAIM_SECONDS - 0.1)
    assert own.stopped(HEAD, CLAIM_SECONDS) is None


def test_each_message_that_arrives_renews_the_claims_still_ahead() -> None:
    own = OwnFeed()
    own.claim(ALICE, 100, 0.0, is_member=True)
    own.grew(8, 50.0)
    assert own.stopped(8, 50.0 + CLAIM_SECONDS - 0.1)
    assert own.stopped(8, 50.0 + CLAIM_SECONDS) is None
    assert own.lapsed == 1


def test_a_member_whose_claim_lapsed_is_not_believed_again() -> None:
    own = OwnFeed()
    now = lie_and_lapse(own, ALICE, 0.0, is_member=True)
    assert own.lapsed == 1
    assert not own.claim(ALICE, 9, now, is_member=True)
    assert own.stopped(HEAD, now) is None
    assert own.claim(BOB, 9, now, is_member=True), "others are"


def test_strangers_are_not_believed_once_too_many_lied() -> None:
    own, now = OwnFeed(), 0.0
    first_lapse = CLAIM_SECONDS
    for liar in strangers(MAX_LAPSED_CLAIMS):
        now = lie_and_lapse(own, liar, now)
    assert own.lapsed == MAX_LAPSED_CLAIMS
    assert not own.claim(b"another", 9, now, is_member=False)
    assert own.stopped(HEAD, now) is None
    assert own.claim(ALICE, 9, now, is_member=True), "members still are"
    assert not own.claim(b"another", 9, first_lapse + LAPSED_CLAIMS_SECONDS - 1, is_member=False)
    assert own.claim(b"another", 9, first_lapse + LAPSED_CLAIMS_SECONDS, is_member=False)


def test_a_stranger_who_lied_is_a_stranger_like_any_other() -> None:
    own = OwnFeed()
    now = lie_and_lapse(own, b"stranger", 0.0)
    assert own.claim(b"stranger", 9, now, is_member=False)


def test_who_said_nothing_has_shown_all_there_is() -> None:
    own = OwnFeed()
    own.claim(ALICE, 8, 0.0, is_member=False, is_word=False)
    assert own.stopped(HEAD, 1.0)
    own.shown(ALICE)
    assert own.stopped(HEAD, 1.0) is None
    assert own.lapsed == 0


@pytest.mark.parametrize("words", [(True, False), (False, True)])
def test_who_said_more_than_it_shows_is_a_liar(words: tuple[bool, bool]) -> None:
    own = OwnFeed()
    for is_word in words:
        own.claim(ALICE, 9, 0.0, is_member=True, is_word=is_word)
    own.shown(ALICE)
    assert own.stopped(HEAD, CLAIM_SECONDS - 1)
    assert own.stopped(HEAD, CLAIM_SECONDS) is None
    assert not own.claim(ALICE, 9, CLAIM_SECONDS, is_member=True)


def test_one_claim_too_many_is_heard_but_not_remembered() -> None:
    own = OwnFeed()
    for stranger in strangers(MAX_CLAIMS):
        own.claim(stranger, 9, 0.0, is_member=False)
    assert own.claim(b"late", 20, 1.0, is_member=False)
    assert "has message 9 of" in (own.stopped(HEAD, 1.0) or "")
    assert own.stopped(HEAD, CLAIM_SECONDS) is None
    assert own.lapsed == MAX_CLAIMS


def test_a_crowd_of_strangers_cannot_drown_alices_claim() -> None:
    own = OwnFeed()
    for stranger in strangers(MAX_CLAIMS):
        own.claim(stranger, 9, 0.0, is_member=False)
    assert own.claim(ALICE, 12, 30.0, is_member=True)
    assert "has message 12 of" in (own.stopped(HEAD, CLAIM_SECONDS) or "")


def test_a_crowd_of_members_has_no_room_for_more() -> None:
    own = OwnFeed()
    for member in strangers(MAX_CLAIMS):
        own.claim(member, 9, 0.0, is_member=True)
    assert own.claim(ALICE, 12, 30.0, is_member=True)
    assert own.stopped(HEAD, CLAIM_SECONDS) is None


@pytest.mark.parametrize("is_member", [True, False])
def test_a_key_older_than_its_store_waits_until_its_feed_is_shown(is_member: bool) -> None:
    own = OwnFeed(unconfirmed=True)
    assert own.stopped(0, 1e6) == (
        "this key is older than this data folder: waiting for a peer to show the pub's own feed"
    )
    own.claim(ALICE, 2, 1e6, is_member)
    assert "has message 2 of" in (own.stopped(0, 1e6) or "")
    own.grew(1, 1e6)
    assert "has message 2 of" in (own.stopped(1, 1e6) or "")
    own.grew(2, 1e6)
    assert own.stopped(2, 1e6) is None


def test_a_lie_confirms_nothing() -> None:
    own = OwnFeed(unconfirmed=True)
    now = lie_and_lapse(own, ALICE, 0.0, is_member=True)
    assert "older than this data folder" in (own.stopped(HEAD, now) or "")


def test_alices_claim_waits_until_she_is_back_from_the_tunnel() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0, is_member=True)
    own.left(ALICE, 10)
    assert own.stopped(3, 10 + CLAIM_SECONDS)
    own.claim(ALICE, 9, 1000, is_member=True)
    assert own.stopped(3, 999 + CLAIM_SECONDS)
    assert own.stopped(3, 1000 + CLAIM_SECONDS) is None


def test_a_member_who_comes_and_goes_does_not_stop_the_pub_for_ever() -> None:
    own, now = OwnFeed(), 0.0
    while now < MEMBER_CLAIM_SECONDS:
        own.claim(ALICE, 9, now, is_member=True)
        own.left(ALICE, now + 1)
        assert own.stopped(3, now + 1)
        now += AWAY_SECONDS / 2
    assert own.stopped(3, now) is None
    assert not own.claim(ALICE, 9, now, is_member=True)


def test_a_stranger_who_leaves_is_not_waited_for() -> None:
    own = OwnFeed()
    own.claim(ALICE, 9, 0, is_member=False)
    own.left(ALICE, 10)
    assert own.stopped(3, CLAIM_SECONDS) is None
