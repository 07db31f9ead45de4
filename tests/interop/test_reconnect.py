"""Clients keep the thread: what they asked for too early comes later, and coming back costs next to nothing."""

import pytest
import trio

from tests.interop.clients import FAMILIES, Client
from tests.interop.conftest import Opener
from tests.interop.proxy import Proxy, open_proxy
from tests.interop.pubs import Pub
from tests.interop.steps import contact, enrol, follow, length, post, until, until_stored

FEEDS = 1000
MESSAGES_OF_ALL = 600 * FEEDS  # bytes: two for each feed, its only one and the contact message
NOTES_OF_ALL = 70 * FEEDS  # bytes: a note is a feed id and a number
GREETING = 8_000  # bytes each way: handshake, pings, the peer's own feed and the pub's, one message


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_feed_asked_for_too_early_comes_later(pub: Pub, client: Opener, kind: str) -> None:
    """Alice follows Carol, whom the pub does not know; her client asks once and never again on that connection."""
    async with client(kind, "alice") as alice, client("crowd", "carol") as carol:
        await post(carol, "first")
        await follow(alice, carol.feed, pub.id)
        await alice.call("connect", pub.address)  # as a stranger: her own follows count for nothing
        await alice.call("wait-feed", pub.id, 1)  # she has heard the pub's notes, so she has said hers
        await carol.call("replicate", pub.address)
        await enrol(carol, pub)
        await alice.call("wait-feed", carol.feed, 1)
        await alice.call("wait-message", await post(carol, "second"))
        assert len(await pub.connected(alice.feed)) == 1


async def test_too_early_is_answered_first_with_no_and_then_with_messages(pub: Pub, client: Opener) -> None:
    async with client("crowd", "alice") as alice, client("crowd", "carol") as carol:
        await post(carol, "first")
        session = await alice.call("replicate", pub.address, {"ask": [carol.feed]})

        async def is_denied() -> bool:
            return bool(await alice.call("note", session, carol.feed) == -1)

        await until(is_denied)
        await enrol(carol, pub)
        assert await alice.call("wait-note", session, carol.feed) >= 0
        await carol.call("replicate", pub.address)
        await alice.call("wait-feed", carol.feed, 1)


async def test_a_thousand_feeds_unchanged_cost_two_notes(pub: Pub, client: Opener) -> None:
    async with client("crowd", "alice") as alice:
        people = await alice.call("people", FEEDS, [{"type": "post", "text": "hello"}])
        await alice.call("publish-all", [contact(each) for each in people])
        await enrol(alice, pub)
        first = await alice.call("replicate", pub.address, {"ask": [pub.id]})
        await until_messages(pub, 2 * FEEDS)
        await alice.call("leave", first)
        for _ in range(2):
            again = await alice.call("replicate", pub.address, {"notes": {}})
            await trio.sleep(1)  # whatever the pub wants to say or send without being asked
            counts = await alice.call("counts", again)
            assert counts["first"]["notes"] <= 2, counts
            assert (counts["messages"], counts["sent"]) == (0, 0), counts
            # and she is not forgotten: what is new goes on
            await post(alice, "still here")
            await until_stored(pub, alice.feed, await length(alice, alice.feed))
            await alice.call("leave", again)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_client_with_a_thousand_feeds_comes_back_cheaply(pub: Pub, client: Opener, kind: str) -> None:
    async with client("crowd", "carol") as carol:
        people = await carol.call("people", FEEDS, [{"type": "post", "text": "hello"}])
        await carol.call("publish-all", [contact(each) for each in people])
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await until_messages(pub, 2 * FEEDS)
        feed = carol.feed
    async with open_proxy(pub) as proxy, client(kind, "alice") as alice:
        await follow(alice, feed)
        await alice.call("accept", await pub.invite())
        await alice.call("connect", proxy.address)
        await alice.call("wait-feed", feed, FEEDS)
        for each in people:
            await alice.call("wait-feed", each, 1)
        await until_stored(pub, alice.feed, await length(alice, alice.feed))
        assert proxy.to_client > MESSAGES_OF_ALL
        # Nobody says in EBT that a message has arrived, so the pub asks once more; the answer is the last it needs.
        await come_back(pub, proxy, alice)
        assert proxy.to_client < NOTES_OF_ALL
        for _ in range(2):
            await come_back(pub, proxy, alice)
            assert (proxy.to_client < GREETING, proxy.to_pub < GREETING) == (True, True), vars(proxy)


async def come_back(pub: Pub, proxy: Proxy, alice: Client) -> None:
    """Lose the connection, connect again, and stay until all that either side has to say is said."""
    proxy.cut()
    await until(lambda: is_away(pub, alice.feed))
    await alice.call("connect", proxy.address)
    await post(alice, "back again")
    await until_stored(pub, alice.feed, await length(alice, alice.feed))
    await trio.sleep(1)


async def is_away(pub: Pub, feed: str) -> bool:
    return not await pub.connected(feed)


async def until_messages(pub: Pub, count: int) -> None:
    async def has_them() -> bool:
        return int((await pub.status())["messages"]) >= count

    await until(has_them)
