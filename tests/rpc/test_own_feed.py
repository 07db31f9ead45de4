"""The pub's own feed never forks: when somebody holds more of it than the pub, the pub waits for that.

A rolled-back disk is a copy of the data folder, taken earlier and put back. What the pub said meanwhile is with Bob.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from pub.errors import PublishingStopped, RpcError
from pub.ingest.own_feed import CLAIM_SECONDS, MAX_LAPSED_CLAIMS
from pub.net.roles import Role
from pub.protocol.classic import Message, examine
from pub.protocol.ebt import encode_note
from pub.protocol.keys import KeyPair
from tests.ingest.people import Author
from tests.pubs import RunningPub, connect, open_pub
from tests.rpc.redeeming import ALICE, redeem, refused
from tests.rpc.replicas import eventually, replicate

BOB = Author("bob").keys
FOREVER = float("inf")  # a minute passes at once
LOST = 3  # messages the pub no longer has


def waiting(theirs: int, ours: int) -> str:
    return f"a peer has message {theirs} of this pub's own feed, we have {ours}: waiting for what is missing"


def refusal(reason: str) -> str:
    return f"this pub can't publish now: {reason}"


async def publishing(pub: RunningPub) -> Any:
    """What the operator is told."""
    async with connect(pub, Role.CONTROL) as operator:
        return (await operator.call("status"))["publishing"]


def own_feed(pub: RunningPub) -> list[Message]:
    return [examine(message) for message in pub.feed(pub.rooms.keys.public)]


def is_one_chain(messages: list[Message]) -> bool:
    """Each follows the one before: nothing was forked."""
    previous = [None, *(message.id for message in messages[:-1])]
    return [m.previous for m in messages] == previous and [m.sequence for m in messages] == [
        *range(1, len(messages) + 1)
    ]


async def roll_back(folder: Path) -> tuple[list[Message], str]:
    """A life of which the disk forgets the end: (the pub's whole feed as Bob has it, an open code)."""
    saved = folder.with_name("saved")
    async with open_pub(folder) as pub:
        await pub.follow(BOB.public)
        code = await pub.invite()
    shutil.copytree(folder, saved)
    async with open_pub(folder, life=2) as pub:
        for number in range(LOST):
            await pub.rooms.ingest.publish({"type": "post", "text": f"soon forgotten {number}"})
        whole = own_feed(pub)
    shutil.rmtree(folder)
    saved.rename(folder)
    return whole, code


async def test_what_was_lost_comes_back_from_bob(tmp_path: Path) -> None:
    folder = tmp_path / "pub"
    whole, code = await roll_back(folder)
    async with open_pub(folder, life=3) as pub, connect(pub, BOB) as bobs_line:
        assert await publishing(pub) is None  # nobody has told the pub yet
        bob = await replicate(bobs_line)
        await bob.stream.send({pub.id: encode_note(len(whole), receive=True)})
        assert await bob.note_on(pub) == encode_note(1, receive=True)  # it asks for what it lost

        reason = waiting(len(whole), 1)
        assert await publishing(pub) == reason
        assert await refused(pub, code) == refusal(reason)
        assert pub.value("invite_redemptions_total", result="stopped") == 1
        with pytest.raises(PublishingStopped):
            await pub.rooms.ingest.publish({"type": "post", "text": "a fork"})

        await bob.hand_over(whole[1:2])
        await eventually(lambda: len(own_feed(pub)) == 2, pub)
        assert await publishing(pub) == waiting(len(whole), 2)  # not yet
        await bob.hand_over(whole[2:])
        await eventually(lambda: len(own_feed(pub)) == len(whole), pub)
        assert await publishing(pub) is None

        answer = await redeem(pub, code)
        assert answer["value"]["sequence"] == len(whole) + 1
        assert own_feed(pub)[:-1] == whole
        assert is_one_chain(own_feed(pub))
        assert (await bob.next_message())["sequence"] == len(whole) + 1  # and Bob gets it


async def test_a_forged_continuation_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Bob claims more than he has: what he sends is not signed by the pub, and the claim stands until it lapses."""
    folder = tmp_path / "pub"
    whole, _code = await roll_back(folder)
    async with open_pub(folder, life=3) as pub, connect(pub, BOB) as bobs_line:
        bob = await replicate(bobs_line)
        await bob.stream.send({pub.id: encode_note(9, receive=True)})
        await bob.hand_over([whole[1].encoded.replace(b"forgotten", b"remembered")])
        assert await bob.note_on(pub) == encode_note(1, receive=True)
        assert await bob.note_on(pub) == -1
        assert await publishing(pub) == waiting(9, 1)
        assert len(own_feed(pub)) == 1


@pytest.mark.parametrize("is_member", [True, False])
async def test_a_lie_lapses(tmp_path: Path, jump_clock: MockClock, is_member: bool) -> None:
    mallory = Author("mallory").keys
    async with open_pub(tmp_path, patience=FOREVER) as pub:
        if is_member:
            await pub.follow(mallory.public)
        head = len(own_feed(pub))
        code = await pub.invite()
        async with connect(pub, mallory) as line:
            liar = await replicate(line)
            await liar.say(pub, 1000)
            await pub.settle()
            assert await refused(pub, code) == refusal(waiting(1000, head))
            jump_clock.jump(CLAIM_SECONDS / 2)
            await liar.say(pub, 2000)  # another word does not make it a new claim
            await pub.settle()
            assert await publishing(pub) == waiting(2000, head)
            jump_clock.jump(CLAIM_SECONDS / 2)
            assert await publishing(pub) is None
            assert (await redeem(pub, code))["value"]["sequence"] == head + 1

            await liar.say(pub, 3000)
            await pub.settle()
            assert pub.value("limit_hits_total", limit="own_feed_claims") == 1
            if is_member:  # who is known by name is not believed again
                assert await publishing(pub) is None
            else:  # a stranger comes with a new key each time, so it is strangers as a whole who lose their credit
                assert await publishing(pub) == waiting(3000, head + 1)


async def test_strangers_stop_the_pub_a_few_times_only(tmp_path: Path, jump_clock: MockClock) -> None:
    async with open_pub(tmp_path, patience=FOREVER) as pub:
        await pub.follow(BOB.public)
        for number in range(MAX_LAPSED_CLAIMS + 3):
            async with connect(pub, KeyPair.generate(bytes([number]) * 32)) as line:
                await (await replicate(line)).say(pub, 1000)
                await pub.settle()
                assert (await publishing(pub) is None) is (number >= MAX_LAPSED_CLAIMS)
                jump_clock.jump(CLAIM_SECONDS + 1)
                assert await publishing(pub) is None
        assert pub.value("limit_hits_total", limit="own_feed_claims") == MAX_LAPSED_CLAIMS
        async with connect(pub, BOB) as line:  # a member is still heard
            await (await replicate(line)).say(pub, 1000)
            await pub.settle()
            assert await publishing(pub) == waiting(1000, 1)


@pytest.mark.parametrize("ends_streams", [False, True])
async def test_a_stranger_who_comes_and_goes_is_soon_not_believed(
    tmp_path: Path, jump_clock: MockClock, ends_streams: bool
) -> None:
    """Its claims count as lies, though it never stays until one has lapsed."""
    mallory = Author("mallory").keys
    async with open_pub(tmp_path, patience=FOREVER) as pub:
        await pub.follow(BOB.public)
        for number in range(2 * MAX_LAPSED_CLAIMS + 1):
            async with connect(pub, mallory) as line:
                liar = await replicate(line)
                await liar.say(pub, 1000)
                await pub.settle()
                assert (await publishing(pub) is None) is (number == 2 * MAX_LAPSED_CLAIMS)
                if ends_streams:  # and "shows" what it has: nothing
                    await liar.stream.end()
                    for request in line.asked:
                        await line.accept(request).end()
                    await pub.settle()
            jump_clock.jump(CLAIM_SECONDS / 2)
            await publishing(pub)  # as the housekeeping asks every few seconds


async def test_who_has_as_much_as_the_pub_stops_nothing(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, BOB) as line:
        await pub.rooms.ingest.publish({"type": "post", "text": "hello"})
        bob = await replicate(line)
        for note in (encode_note(1, receive=True), encode_note(1, receive=False), -1, 0, 1, -7, 10**12, 2.5, None, "9"):
            await bob.stream.send({pub.id: note})
            await pub.settle()
            assert await publishing(pub) is None


async def test_a_key_older_than_its_store_publishes_nothing(tmp_path: Path) -> None:
    """The data is gone, the key is not. Only a peer can say how long the feed was; a restart proves nothing."""
    folder = tmp_path / "pub"
    whole, _code = await roll_back(folder)
    for name in ("data.mdb", "lock.mdb"):
        (folder / name).unlink(missing_ok=True)
    unconfirmed = "this key is older than this data folder: waiting for a peer to show the pub's own feed"
    for life in (4, 5):
        async with open_pub(folder, life=life) as pub:
            assert own_feed(pub) == []
            assert await publishing(pub) == unconfirmed
            assert await refused(pub, await pub.invite()) == refusal(unconfirmed)
    async with open_pub(folder, life=6) as pub, connect(pub, BOB) as line:
        bob = await replicate(line)
        await bob.stream.send({pub.id: encode_note(len(whole), receive=True)})
        assert await bob.note_on(pub) == encode_note(0, receive=True)
        assert await publishing(pub) == waiting(len(whole), 0)
        await bob.hand_over(whole)
        await eventually(lambda: len(own_feed(pub)) == len(whole), pub)
        assert await publishing(pub) is None
        await redeem(pub, await pub.invite())
        assert is_one_chain(own_feed(pub))
        assert pub.contents()[-1]["contact"] == ALICE.id


async def test_after_a_restart_a_member_confirms_that_nothing_is_missing(tmp_path: Path) -> None:
    """The whole feed was fetched and nothing published since. A stranger's word that this is all counts for nothing."""
    folder = tmp_path / "pub"
    whole, _code = await roll_back(folder)
    (folder / "data.mdb").unlink()
    async with open_pub(folder, life=4) as pub:
        await pub.take_in(whole)
    async with open_pub(folder, life=5) as pub, connect(pub, BOB) as line, connect(pub) as other_line:
        mallory, bob = await replicate(other_line), await replicate(line)
        for session, is_enough in ((mallory, False), (bob, True)):
            await session.say(pub, len(whole))
            await pub.settle()
            assert (await publishing(pub) is None) is is_enough
        await redeem(pub, await pub.invite())
        assert is_one_chain(own_feed(pub))


async def test_the_control_socket_cannot_publish_either(tmp_path: Path) -> None:
    folder = tmp_path / "pub"
    whole, code = await roll_back(folder)
    async with open_pub(folder, life=3) as pub, connect(pub, BOB) as line, connect(pub, Role.CONTROL) as operator:
        bob = await replicate(line)
        await bob.stream.send({pub.id: encode_note(len(whole), receive=True)})
        await pub.settle()
        assert await operator.call("invite.revoke", code)  # what publishes nothing goes on
        assert json.dumps(await operator.call("invite.create", 1))
        with pytest.raises(RpcError):
            await redeem(pub, code)
        assert len(own_feed(pub)) == 1
