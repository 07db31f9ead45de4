"""``invite.use``: what redeeming a code does, and each way it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.classic import examine
from pub.protocol.invites import format_invite
from pub.protocol.keys import KeyPair
from pub.protocol.refs import message_id
from pub.store.env import Store
from pub.store.log import Log
from tests.ingest.people import Author
from tests.pubs import NOW, RunningPub, connect, guest_of, open_pub
from tests.rpc.redeeming import ALICE, BOB, MALLORY, member_ids, redeem, refused, uses

NOT_ALLOWED = "method:invite,use is not in list of allowed methods"


def redemptions(pub: RunningPub, result: str) -> int:
    return pub.value("invite_redemptions_total", result=result)


async def test_alice_joins(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite(uses=2, note="choir")
        answer = await redeem(pub, code)
        assert list(answer) == ["key", "value", "timestamp"]
        assert answer["timestamp"] == NOW
        message = examine(json.dumps(answer["value"]).encode())  # a valid message of the pub's
        assert answer["key"] == message_id(message.id)
        assert message.author == pub.rooms.keys.public
        expected = {"type": "contact", "contact": ALICE.id, "following": True, "pub": True, "note": "choir"}
        assert list(answer["value"]["content"].items()) == list(expected.items())
        assert pub.contents() == [expected]
        assert await member_ids(pub) == [ALICE.id]
        assert await uses(pub, code) == 1
        assert redemptions(pub, "accepted") == 1
        async with connect(pub, ALICE) as alice:
            assert await alice.call("whoami") == {"id": pub.id}


async def test_what_alice_was_told_is_on_disk(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite()
        await redeem(pub, code)
        with pub.rooms.store.read() as txn:
            alice = pub.rooms.log.numbers[ALICE.public]
            member = pub.rooms.members.get(txn, alice)
    assert member is not None
    assert (member.joined, member.guest) == (NOW, guest_of(code).public)
    with Store.open(tmp_path, readonly=True) as store:
        log = Log(store)
        own = log.numbers[KeyPair.generate(tmp_path.name.encode().ljust(32)[:32]).public]
        assert log.heads[own] == 1
        assert [list(zip(*part, strict=True)) for part in log.edges()] == [[(own, log.numbers[ALICE.public], 1)]]
    async with open_pub(tmp_path, life=2) as pub:
        assert await refused(pub, code) == "already following"
        assert await refused(pub, code, {"feed": BOB.id}) == "invite has been used already"


async def test_without_a_note_the_message_has_none(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        await redeem(pub, await pub.invite())
        assert "note" not in pub.contents()[0]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ([{}], "feed to follow is missing"),
        ([{"feed": None}], "feed to follow is missing"),
        ([{"feed": ""}], "feed to follow is missing"),
        (["rubbish"], "feed to follow is missing"),
        ([[]], "feed to follow is missing"),
        ([{"feed": "rubbish"}], "feed to follow is not a feed id"),
        ([{"feed": ALICE.id + " "}], "feed to follow is not a feed id"),
        ([{"feed": ALICE.id.replace(".ed25519", ".sha256")}], "feed to follow is not a feed id"),
        ([{"feed": 7}], "feed to follow is not a feed id"),
        ([{"feed": [ALICE.id]}], "feed to follow is not a feed id"),
        ([{"feed": "@\ud800"}], "feed to follow is not a feed id"),
    ],
)
async def test_what_is_no_feed_is_refused(tmp_path: Path, request_: list[Any], text: str) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite()
        assert await refused(pub, code, *request_) == text
        assert redemptions(pub, "bad_feed") == 1
        assert await redeem(pub, code)


@pytest.mark.parametrize("request_", [[], [None]])
async def test_without_arguments_it_is_a_usage_error(tmp_path: Path, request_: list[Any]) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, guest_of(await pub.invite())) as guest:
        with pytest.raises(RpcError, match=r"^Param 0 is required$") as caught:
            await guest.call("invite.use", *request_)
        assert caught.value.name == "UsageError"
        assert pub.contents() == []


async def test_the_pub_itself_and_whom_it_blocks_are_refused(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite()
        await pub.say(MALLORY.public, blocking=True)
        assert await refused(pub, code, {"feed": pub.id}) == "feed to follow is this pub's own"
        assert await refused(pub, code, {"feed": MALLORY.id}) == "feed to follow is blocked by this pub"
        assert redemptions(pub, "bad_feed") == 2


async def test_each_dead_code_says_how_it_died(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        spent, revoked = await pub.invite(), await pub.invite()
        expired = await pub.invite(expires=NOW + 1000)
        await redeem(pub, spent, {"feed": BOB.id})
        await operator.call("invite.revoke", revoked)
        pub.now += 999
        assert await refused(pub, expired, {}) == "feed to follow is missing"  # and not yet expired
        pub.now += 1
        assert await refused(pub, spent) == "invite has been used already"
        assert await refused(pub, expired) == "invite has expired"
        assert await refused(pub, revoked) == "invite has been revoked"
        for result in ("spent", "expired", "revoked"):
            assert redemptions(pub, result) == 1


async def test_a_made_up_code_is_a_stranger_like_any(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        assert pub.rooms.address is not None
        made_up = format_invite(pub.rooms.address, bytes(32))
        assert await refused(pub, made_up) == NOT_ALLOWED
        async with connect(pub, guest_of(made_up)) as stranger, connect(pub) as other:
            assert await stranger.call("manifest") == await other.call("manifest")


async def test_nobody_redeems_without_a_code(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        for role in (Role.GUEST, Role.CONTROL):  # a guest without a record; the operator has not even a key
            async with connect(pub, role) as client:
                with pytest.raises(RpcError, match=f"^{NOT_ALLOWED}$"):
                    await client.call("invite.use", {"feed": ALICE.id})
        assert pub.contents() == []


async def test_alice_tries_again_after_a_lost_answer(tmp_path: Path) -> None:
    """The reply never reached her, the code is spent: clients take "already following" for success."""
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        code = await pub.invite()
        await redeem(pub, code)
        assert await refused(pub, code) == "already following"
        await operator.call("invite.revoke", code)
        assert await refused(pub, code) == "already following"
        assert redemptions(pub, "already_following") == 2


async def test_who_was_unfollowed_may_come_back_with_a_new_code(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        await redeem(pub, await pub.invite())
        await pub.say(ALICE.public, following=False)
        await redeem(pub, await pub.invite())
        assert [content["following"] for content in pub.contents()] == [True, False, True]


async def test_two_uses_in_one_connection(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, guest_of(await pub.invite())) as guest:
        outcomes = await all_of(
            lambda: guest.call("invite.use", {"feed": ALICE.id}), lambda: guest.call("invite.use", {"feed": BOB.id})
        )
        assert sorted(outcomes) == ["accepted", "invite has been used already"]
        assert len(pub.contents()) == 1


async def test_twenty_race_for_one_use(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite()
        feeds = [Author(f"guest {number}").keys.id for number in range(20)]
        outcomes = await all_of(*(lambda feed=feed: redeem(pub, code, {"feed": feed}) for feed in feeds))
        assert sorted(outcomes) == ["accepted"] + ["invite has been used already"] * 19
        assert len(pub.contents()) == len(await member_ids(pub)) == 1
        assert await uses(pub, code) == 1


async def test_twenty_retries_of_one_guest_cost_one_use(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        code = await pub.invite(uses=20)
        outcomes = await all_of(*(lambda: redeem(pub, code) for _ in range(20)))
        assert sorted(outcomes) == ["accepted"] + ["already following"] * 19
        assert await uses(pub, code) == 1


async def all_of(*calls: Callable[[], Any]) -> list[str]:
    """What became of each call; all are made at once."""
    outcomes: list[str] = []

    async def one(call: Callable[[], Any]) -> None:
        try:
            await call()
            outcomes.append("accepted")
        except RpcError as refusal:
            outcomes.append(refusal.message)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return outcomes


async def test_many_at_once_form_one_chain(tmp_path: Path) -> None:
    """Monotonic timestamps and sequences, however many are redeemed in one millisecond."""
    async with open_pub(tmp_path) as pub:
        code = await pub.invite(uses=20)
        feeds = [Author(f"guest {number}").keys.id for number in range(20)]
        await all_of(*(lambda feed=feed: redeem(pub, code, {"feed": feed}) for feed in feeds))
        values = [json.loads(message) for message in pub.feed(pub.rooms.keys.public)]
    assert [value["sequence"] for value in values] == list(range(1, 21))
    times = [value["timestamp"] for value in values]
    assert times == sorted(set(times))
    assert times[-1] < NOW + 1
