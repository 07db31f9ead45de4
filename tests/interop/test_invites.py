"""Both client families redeem codes, and hear why when they can't."""

import base64
import os

import pytest

from tests.interop.clients import FAMILIES, Client, ClientError
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub

UNKNOWN = "method:invite,use is not in list of allowed methods"  # what a stranger hears; clients match on it
REASONS = ["invite has been used already", "invite has been revoked", "invite has expired"]
RACERS = 20


def made_up(code: str) -> str:
    """The same pub, and a key that it never gave out."""
    return code.split("~")[0] + "~" + base64.b64encode(os.urandom(32)).decode()


async def refusal(person: Client, code: str) -> str:
    """The words a person reads when the code is refused."""
    with pytest.raises(ClientError) as refused:
        await person.call("accept", code)
    return str(refused.value)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_code_makes_a_member_whom_the_pub_follows(pub: Pub, client: Opener, kind: str) -> None:
    async with client(kind, "alice") as alice:
        await alice.call("accept", await pub.invite())
        await alice.call("connect", pub.address)
        await alice.call("wait-feed", pub.id, 1)
        follow = f'"contact":"{alice.feed}","following":true'
        reached = len(await alice.call("feed", pub.id))
        while not any(follow in row["json"] for row in await alice.call("feed", pub.id)):
            reached = await alice.call("wait-feed", pub.id, reached + 1)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_every_refusal_says_why_and_the_client_survives(pub: Pub, client: Opener, kind: str) -> None:
    spent = await pub.invite()
    async with client("raw", "somebody") as somebody, client(kind, "alice") as alice:
        assert "result" in await somebody.call("redeem", spent, {"feed": somebody.feed})
        codes = [spent, await pub.revoked_invite(), await pub.expired_invite(), made_up(spent)]
        on_the_wire = [(await somebody.call("redeem", code, {"feed": alice.feed}))["error"] for code in codes]
        assert on_the_wire == [*REASONS, UNKNOWN]
        shown = [await refusal(alice, code) for code in codes]
        if kind != "db2":  # which keeps the pub's words to itself
            assert all(reason in text for reason, text in zip(on_the_wire, shown, strict=True)), shown
        # nothing of this hurt her client, or what she may do with a good code
        await alice.call("accept", await pub.invite())
        await alice.call("connect", pub.address)
        await alice.call("wait-feed", pub.id, 1)


async def test_a_second_redemption_by_the_same_person_costs_nothing(pub: Pub, client: Opener) -> None:
    code = await pub.invite(uses=2)
    async with client("raw", "alice") as alice, client("raw", "bob") as bob:
        assert "result" in await alice.call("redeem", code, {"feed": alice.feed})
        assert await alice.call("redeem", code, {"feed": alice.feed}) == {"error": "already following"}
        assert "result" in await bob.call("redeem", code, {"feed": bob.feed})


async def test_feeds_that_cannot_be_followed_cost_nothing(pub: Pub, client: Opener) -> None:
    code = await pub.invite()
    async with client("raw", "alice") as alice:
        for feed in ("rubbish", pub.id, "", None, 7):
            assert "error" in await alice.call("redeem", code, {"feed": feed})
        assert await alice.call("redeem", code, {}) == {"error": "feed to follow is missing"}
        assert "result" in await alice.call("redeem", code, {"feed": alice.feed})


@pytest.mark.parametrize("connections", [1, 4, RACERS])
async def test_twenty_redemptions_race_for_one_use(pub: Pub, client: Opener, connections: int) -> None:
    """All calls leave in one turn of the client's event loop, pipelined on few connections or one on each."""
    code = await pub.invite(uses=1)
    async with client("raw", "crowd") as crowd:
        guests = [await crowd.call("guest", code) for _ in range(connections)]
        feeds = [made_up_feed() for _ in range(RACERS)]
        calls = [[guests[number % connections], {"feed": feed}] for number, feed in enumerate(feeds)]
        answers = await crowd.call("use", calls)
        winners = [answer["result"] for answer in answers if "result" in answer]
        assert len(winners) == 1, answers
        assert winners[0]["value"]["content"]["contact"] in feeds
        losers = {answer["error"] for answer in answers if "error" in answer}
        assert len(losers) == 1, losers


def made_up_feed() -> str:
    return f"@{base64.b64encode(os.urandom(32)).decode()}.ed25519"
