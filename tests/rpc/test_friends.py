"""friends.*: the operator follows and blocks, and the pub acts on it at once."""

from pathlib import Path
from typing import Any

import pytest
import trio

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from pub.service.doors import role_of
from pub.store.clocks import Clocks
from pub.store.env import Txn
from tests.ingest.people import Author
from tests.pubs import RunningPub, connect, open_pub

ALICE, BOB = Author("alice"), Author("bob")


async def ask(pub: RunningPub, method: str, *args: Any) -> Any:
    async with connect(pub, Role.CONTROL) as operator:
        return await operator.call(method, *args)


async def test_alice_is_followed_and_no_longer(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        answer = await ask(pub, "friends.follow", ALICE.keys.id)
        assert answer["value"]["content"] == {"type": "contact", "contact": ALICE.keys.id, "following": True}
        assert role_of(pub.rooms, ALICE.keys.public) is Role.MEMBER
        assert [member["id"] for member in await ask(pub, "members")] == [ALICE.keys.id]
        assert await ask(pub, "friends.isFollowing", {"source": pub.id, "dest": ALICE.keys.id})
        await ask(pub, "friends.follow", ALICE.keys.id, {"state": False})
        assert role_of(pub.rooms, ALICE.keys.public) is Role.STRANGER
        assert await ask(pub, "members") == []
        assert not await ask(pub, "friends.isFollowing", {"source": pub.id, "dest": ALICE.keys.id})


async def test_alice_is_blocked_while_she_is_connected(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        await pub.follow(ALICE.keys.public)
        async with connect(pub, ALICE.keys) as alice:
            await alice.call("whoami")
            await ask(pub, "friends.block", ALICE.keys.id, {"reason": "spam"})
            with trio.fail_after(5):
                await alice.gone.wait()
        assert pub.contents()[-1] == {
            "type": "contact", "contact": ALICE.keys.id, "blocking": True, "reason": "spam",
        }  # fmt: skip
        assert pub.value("disconnects_total", reason="blocked") == 1
        assert role_of(pub.rooms, ALICE.keys.public) is None
        assert await ask(pub, "friends.isBlocking", {"source": pub.id, "dest": ALICE.keys.id})
        await ask(pub, "friends.block", ALICE.keys.id, {"state": False})
        assert role_of(pub.rooms, ALICE.keys.public) is Role.STRANGER


async def test_friends_of_friends_come_and_go_with_the_friend(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        alice = Author("alice")
        await pub.follow(alice.keys.public)
        await pub.take_in([alice.write(type="contact", contact=BOB.keys.id, following=True)])
        replicator, numbers = pub.rooms.replication.replicator, pub.rooms.log.numbers
        assert replicator.is_replicated(numbers[BOB.keys.public])
        await ask(pub, "friends.block", BOB.keys.id)
        assert not replicator.is_replicated(numbers[BOB.keys.public])
        await ask(pub, "friends.block", BOB.keys.id, {"state": False})
        await ask(pub, "friends.follow", BOB.keys.id)
        await ask(pub, "friends.follow", alice.keys.id, {"state": False})
        assert replicator.is_replicated(numbers[BOB.keys.public])
        assert not replicator.is_replicated(numbers[alice.keys.public])


@pytest.mark.parametrize(
    ("method", "args", "text"),
    [
        ("friends.follow", [], "Param 0 is required"),
        ("friends.follow", ["rubbish"], "not a feed id: rubbish"),
        ("friends.block", [7], "not a feed id: 7"),
        ("friends.isFollowing", ["rubbish"], "source and dest must be feed ids"),
    ],
)
async def test_what_is_no_decision(tmp_path: Path, method: str, args: list[Any], text: str) -> None:
    async with open_pub(tmp_path) as pub:
        with pytest.raises(RpcError) as refused:
            await ask(pub, method, *args)
        assert refused.value.message == text
        with pytest.raises(RpcError):
            await ask(pub, "friends.block", pub.id)
        assert pub.contents() == []


async def clock_frame(pub: RunningPub, who: Author, notes: dict[str, int]) -> dict[str, int]:
    """One EBT session of ``who``: what the pub says first, before it has heard ``notes``."""
    async with connect(pub, who.keys) as client:
        stream = await client.open("ebt.replicate", {"version": 3}, kind=Kind.DUPLEX)
        first: dict[str, int] = await stream.next()
        await stream.send(notes)
        await pub.settle()
    return first


async def test_the_next_greeting_of_a_member_is_short(tmp_path: Path) -> None:
    """Its clock is kept, over a restart of the pub, too; only its own feed is asked for each time."""
    async with open_pub(tmp_path) as pub:
        alice, friends = Author("alice"), [Author(f"friend {n}") for n in range(20)]
        await pub.follow(alice.keys.public, *(friend.keys.public for friend in friends))
        await pub.take_in([friend.write() for friend in friends])
        first = await clock_frame(pub, alice, {})
        assert len(first) == 22
        await clock_frame(pub, alice, {feed: note | 1 for feed, note in first.items()})
        assert await clock_frame(pub, alice, {}) == {alice.keys.id: 0}
        await pub.rooms.replication.save_clocks()
    async with open_pub(tmp_path, life=2) as pub:
        assert await clock_frame(pub, alice, {}) == {alice.keys.id: 0}


async def test_a_session_that_taught_nothing_leaves_no_clock_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one in which the peer repeated all it had."""
    written = list[bytes]()
    async with open_pub(tmp_path) as pub:
        put = pub.rooms.clocks.put

        def count(_clocks: Clocks, txn: Txn, peer: bytes, clock: bytes) -> None:
            written.append(peer)
            put(txn, peer, clock)

        monkeypatch.setattr(Clocks, "put", count)
        await pub.follow(ALICE.keys.public, BOB.keys.public)
        first = await clock_frame(pub, ALICE, {})
        said = {feed: note | 1 for feed, note in first.items()}
        for notes, writes in ((said, 1), ({}, 1), (said, 1), (said | {BOB.keys.id: -1}, 2)):
            await clock_frame(pub, ALICE, notes)
            await pub.rooms.replication.save_clocks()
            assert written == [ALICE.keys.public] * writes


async def test_a_clock_that_cannot_be_read_makes_the_greeting_long(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        await pub.follow(ALICE.keys.public, BOB.keys.public)
        await pub.take_in([BOB.write()])
        first = await clock_frame(pub, ALICE, {})
        await clock_frame(pub, ALICE, {feed: note | 1 for feed, note in first.items()})
        await pub.rooms.replication.save_clocks()
        assert len(await clock_frame(pub, ALICE, {})) < len(first)
        await pub.rooms.ingest.write(lambda appender: pub.rooms.clocks.put(appender.txn, ALICE.keys.public, b"odd"))
        assert await clock_frame(pub, ALICE, {}) == first


async def test_the_clock_of_a_stranger_is_not_kept(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        await pub.follow(BOB.keys.public)
        first = await clock_frame(pub, ALICE, {})
        await clock_frame(pub, ALICE, {feed: note | 1 for feed, note in first.items()})
        assert await clock_frame(pub, ALICE, {}) == first


async def test_a_feed_is_not_shown_to_whom_its_author_blocks(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        bob = Author("bob")
        await pub.follow(ALICE.keys.public, bob.keys.public)
        await pub.take_in([bob.write()])
        assert bob.keys.id in await clock_frame(pub, ALICE, {})
        await pub.take_in([bob.write(type="contact", contact=ALICE.keys.id, blocking=True)])
        async with connect(pub, ALICE.keys) as client:
            stream = await client.open("ebt.replicate", {"version": 3}, kind=Kind.DUPLEX)
            assert bob.keys.id not in await stream.next()
            await stream.send({bob.keys.id: 0})
            assert await stream.next() == {bob.keys.id: -1}
