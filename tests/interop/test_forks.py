"""A feed with two continuations: the first branch stays and grows on, and everybody else does not notice."""

import pytest

from tests.interop.clients import FAMILIES
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub
from tests.interop.steps import enrol, follow, join, length, post, until, until_stored


@pytest.mark.parametrize("kind", FAMILIES)
async def test_the_first_branch_stays_and_the_second_is_kept_as_proof(pub: Pub, client: Opener, kind: str) -> None:
    """Eve wrote five messages, forgot all but two (a phone restored from a backup), and wrote four others."""
    async with client("crowd", "eve") as eve, client("crowd", "carol") as carol, client(kind, "alice") as alice:
        await enrol(eve, pub)
        await enrol(carol, pub)
        await follow(alice, eve.feed, carol.feed)
        await join(alice, pub)
        first = [await post(eve, f"first branch {number}") for number in range(5)]
        session = await eve.call("replicate", pub.address)
        await alice.call("wait-message", first[-1])
        await eve.call("leave", session)

        await eve.call("branch", 2, [{"type": "post", "text": f"second branch {number}"} for number in range(4)])
        second = [row["key"] for row in await eve.call("feed", eve.feed)][2:]
        await eve.call("replicate", pub.address)

        async def is_found() -> bool:
            return eve.feed in await pub.feeds("--forked")

        await until(is_found)
        forked = await pub.feeds("--forked")
        assert list(forked) == [eve.feed]
        assert (forked[eve.feed]["state"], forked[eve.feed]["sequence"]) == ("forked", 5)
        proof = forked[eve.feed]["forked"]
        ours, theirs = proof["ours"], proof["theirs"]
        assert ours["key"] == first[ours["value"]["sequence"] - 1]
        assert theirs["key"] == second[theirs["value"]["sequence"] - 3]
        # it is proof: either two messages for one place, or a message whose predecessor is not ours
        assert ours["value"]["sequence"] in (theirs["value"]["sequence"], theirs["value"]["sequence"] - 1)
        assert (await pub.status())["forked"] == 1

        # nothing else of the second branch, and nothing less of anybody else
        await carol.call("replicate", pub.address)
        await alice.call("wait-message", await post(carol, "life goes on"))
        assert [row["key"] for row in await alice.call("feed", eve.feed)] == first
        async with client(kind, "bob") as bob:
            await follow(bob, eve.feed)
            await join(bob, pub)
            await bob.call("wait-feed", eve.feed, 5)
            assert [row["key"] for row in await bob.call("feed", eve.feed)] == first
        await pub.restart()
        assert await pub.feeds("--forked") == forked


async def test_the_first_branch_goes_on_growing(pub: Pub, client: Opener) -> None:
    async with client("crowd", "eve") as eve, client("db2", "alice") as alice:
        await enrol(eve, pub)
        await follow(alice, eve.feed)
        await join(alice, pub)
        await eve.call("publish-all", [{"type": "post", "text": f"first branch {number}"} for number in range(3)])
        phone = await eve.call("replicate", pub.address)
        await alice.call("wait-feed", eve.feed, 3)
        first = await eve.call("feed", eve.feed)
        await eve.call("leave", phone)
        mine = await eve.call("set-aside")
        await eve.call("branch", 2, [{"type": "post", "text": f"second branch {number}"} for number in range(3)])
        laptop = await eve.call("replicate", pub.address)

        async def is_found() -> bool:
            return eve.feed in await pub.feeds("--forked")

        await until(is_found)
        await eve.call("leave", laptop)
        await eve.call("take-back", mine)
        assert await eve.call("feed", eve.feed) == first
        await eve.call("replicate", pub.address)
        await alice.call("wait-message", await post(eve, "first branch goes on"))
        await until_stored(pub, eve.feed, 4)
        assert await length(alice, eve.feed) == 4
