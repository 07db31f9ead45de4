"""A member follows five thousand feeds at once, and nobody else has to wait for it."""

from pathlib import Path

import trio

from pub.net.control import call
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub
from tests.interop.steps import contact, enrol, follow, join, post, until_stored

FEEDS = 5000
ANSWER_LIMIT = 1.5  # seconds until the pub says how it is: `ssb-pub status`, without the start of the command
LIVE_LIMIT = 2000  # ms from one member to another meanwhile
MEMORY_OF_FEEDS = 48 << 20  # 10 KB a feed: keys, edges, marks, notes, and the map that grew
MEMORY_OF_COMING_BACK = 8 << 20


def memory(pub: Pub) -> int:
    """Bytes of the pub itself that are in memory and not of a file: the store's pages belong to the system."""
    for line in Path(f"/proc/{pub.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


async def test_five_thousand_follows_at_once(pub: Pub, client: Opener) -> None:
    async with client("crowd", "carol") as carol, client("db2", "alice") as alice, client("classic", "bob") as bob:
        await follow(bob, alice.feed)
        await join(alice, pub)
        await join(bob, pub)
        await bob.call("wait-message", await post(alice, "before"))
        at_rest = memory(pub)
        people = await carol.call("people", FEEDS, [{"type": "post", "text": "hello"}])
        await carol.call("publish-all", [contact(each) for each in people])
        await enrol(carol, pub)
        session = await carol.call("replicate", pub.address)
        while (status := await status_soon(pub))["messages"] < 2 * FEEDS:
            published = await alice.call("publish", {"type": "post", "text": "and meanwhile"})
            arrived = await bob.call("wait-message", published["key"])
            assert arrived - published["time"] < LIVE_LIMIT
        assert status["feeds"] > FEEDS
        print(f"memory: {at_rest >> 20} MiB, with {FEEDS} feeds {memory(pub) >> 20} MiB")
        assert memory(pub) - at_rest < MEMORY_OF_FEEDS
        await carol.call("leave", session)
        with_feeds = memory(pub)
        for _ in range(5):
            session = await carol.call("replicate", pub.address)
            await post(carol, "again")
            await until_stored(pub, carol.feed, len(await carol.call("feed", carol.feed)))
            assert (await carol.call("counts", session))["messages"] == 0
            await carol.call("leave", session)
        print(f"after coming back: {memory(pub) >> 20} MiB")
        assert memory(pub) - with_feeds < MEMORY_OF_COMING_BACK
        await bob.call("wait-message", await post(alice, "after"))
        assert not (await status_soon(pub))["limit_hits"]


async def status_soon(pub: Pub) -> dict[str, int]:
    with trio.fail_after(ANSWER_LIMIT):
        status: dict[str, int] = await call(pub.data / "socket", ("status",), [])
        return status
