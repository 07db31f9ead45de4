"""Somebody signed two messages for one place: who is told, what goes on, and what it means for the pub itself."""

from pathlib import Path

import pytest
import structlog.testing
import trio

from pub.errors import PublishingStopped
from pub.ingest.batch import NotStored
from pub.store.forks import Forks
from pub.store.log import Appender
from tests.ingest.people import Author, Desk, MakeDesk, encoded

ALICE, PUB = 1, 2  # what the peers call these feeds
POST = {"type": "post", "text": "hello"}


def two_disks(author: Author, common: int, after: int) -> Author:
    """``author`` writes ``after`` messages more on each of two disks that share ``common``; returns the other disk."""
    author.write_many(common + after)
    other = author.write_instead(common + 1, "the other branch")
    for number in range(1, after):
        other.write(f"{number} on the other branch")
    return other


def proof(desk: Desk, author: Author) -> tuple[int, bytes, bytes] | None:
    with desk.store.read() as txn:
        fork = Forks(desk.store).get(txn, desk.log.numbers[author.keys.public])
    return None if fork is None else (fork.sequence, fork.ours, fork.encoded)


async def test_a_fork_is_refused_marked_and_counted_and_the_first_branch_grows_on(make_desk: MakeDesk) -> None:
    desk, alice, bob = make_desk(), Author("alice"), Author("bob")
    other = two_disks(alice, 2, 3)
    with structlog.testing.capture_logs() as lines:
        async with desk.running():
            await desk.settle(alice.messages[:3], ALICE)
            await desk.settle(other.messages[3:], ALICE)
            await desk.settle([*alice.messages[3:], bob.write()])
            await desk.settle(other.messages[2:3], ALICE)
    assert desk.stored(alice) == encoded(alice.messages)
    assert desk.stored(bob) == encoded(bob.messages)
    assert proof(desk, alice) == (3, alice.messages[2].id, other.messages[3].encoded)
    assert [refusal[:3] for refusal in desk.refused] == [
        (ALICE, 4, NotStored.FORK),
        (ALICE, 5, NotStored.GAP),
        (ALICE, 3, NotStored.FORK),
    ]
    assert desk.metrics.value("forks_total") == 1
    assert desk.received("fork") == 2
    named = {"event": "feed_forked", "log_level": "warning", "feed": alice.keys.id, "sequence": 3}
    assert lines == [named], "once, whatever else arrives"


async def test_two_peers_hand_in_both_branches_at_once(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    other = two_disks(alice, 1, 2)
    async with desk.running(), desk.one_transaction():
        await desk.submit(alice.messages, ALICE)
        await desk.submit(other.messages, ALICE)
    assert desk.stored(alice) == encoded(alice.messages)
    assert [refusal[1:3] for refusal in desk.refused] == [
        (1, NotStored.DUPLICATE),
        (2, NotStored.FORK),
        (3, NotStored.FORK),
    ]
    assert proof(desk, alice) == (2, alice.messages[1].id, other.messages[1].encoded)


async def test_when_the_refusal_is_told_the_proof_is_on_disk(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    other = two_disks(alice, 1, 1)
    found: list[object] = []
    submission = desk.submission(other.messages[1:])
    submission.refused = lambda *_refusal: found.append(proof(desk, alice))
    async with desk.running():
        await desk.settle(alice.messages)
        await desk.ingest.submit(submission)
    assert found == [(2, alice.messages[1].id, other.messages[1].encoded)]


async def test_the_map_grows_in_the_transaction_that_finds_a_fork(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(initial_map=256 << 10), Author("alice")
    other = two_disks(alice, 1, 1)

    def fill(appender: Appender) -> None:
        appender.txn.put(b"ballast", bytes(512 << 10), db=desk.store.meta)

    async with desk.running(), trio.open_nursery() as nursery, desk.one_transaction():
        await desk.submit([*alice.messages, *other.messages])
        nursery.start_soon(desk.ingest.write, fill)
    assert desk.store.map_size > 256 << 10
    assert desk.metrics.value("forks_total") == 1
    assert desk.log.forked == {desk.log.numbers[alice.keys.public]}
    assert desk.stored(alice) == encoded(alice.messages)


# --- the pub's own feed -----------------------------------------------------------------------------------


async def test_a_pub_whose_own_feed_is_forked_publishes_no_more(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    other = two_disks(desk.pub, 2, 2)
    async with desk.running():
        await desk.settle(desk.pub.messages[:3], PUB)
        assert desk.ingest.publishing_stopped() is None
        await desk.settle(other.messages[3:], PUB)
        with pytest.raises(PublishingStopped, match="this pub's own feed is forked"):
            await desk.ingest.publish(POST)
        assert "feeds --forked" in (desk.ingest.publishing_stopped() or "")
        await desk.settle([alice.write(), desk.pub.messages[3]])
    assert desk.stored(alice) == encoded(alice.messages)
    assert desk.stored(desk.pub) == encoded(desk.pub.messages), "what it lost still comes back"


async def test_a_post_in_the_transaction_that_finds_the_fork_is_refused(make_desk: MakeDesk) -> None:
    desk = make_desk()
    other = two_disks(desk.pub, 1, 1)
    told: list[str] = []

    async def publish() -> None:
        with pytest.raises(PublishingStopped) as refusal:
            await desk.ingest.publish(POST)
        told.append(refusal.value.message)

    async with desk.running():
        await desk.settle(desk.pub.messages)
        async with trio.open_nursery() as nursery, desk.one_transaction():
            await desk.submit(other.messages, PUB)
            nursery.start_soon(publish)
    assert len(told) == 1
    assert "own feed is forked" in told[0]
    assert desk.stored(desk.pub) == encoded(desk.pub.messages)


async def test_a_claim_does_not_hide_that_the_own_feed_is_forked(make_desk: MakeDesk) -> None:
    desk = make_desk()
    other = two_disks(desk.pub, 1, 1)
    async with desk.running():
        await desk.settle([*desk.pub.messages, *other.messages])
        desk.ingest.own_feed.claim(b"a friend", 9, trio.current_time(), is_member=True)
        assert "forked" in (desk.ingest.publishing_stopped() or "")


async def test_a_restart_does_not_mend_the_own_feed(make_desk: MakeDesk, tmp_path: Path) -> None:
    desk = make_desk()
    other = two_disks(desk.pub, 1, 1)
    async with desk.running():
        await desk.settle([*desk.pub.messages, *other.messages])
    desk.store.close()
    again = Desk(tmp_path)
    async with again.running():
        with pytest.raises(PublishingStopped, match="own feed is forked"):
            await again.ingest.publish(POST)
    assert again.metrics.value("forks_total") == 0, "found before"
    again.store.close()
