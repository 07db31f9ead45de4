"""What people do at a pub, in the words of the tests."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.interop.clients import Client
from tests.interop.pubs import Pub

PATIENCE = 20.0  # seconds until something that should happen counts as not happening
INTERVAL = 0.1


async def join(person: Client, pub: Pub) -> None:
    """Redeem a fresh code, then come back under one's own key as the application does after a restart."""
    await person.call("accept", await pub.invite())
    await person.call("connect", pub.address)


async def enrol(person: Client, pub: Pub) -> None:
    """Redeem a fresh code by hand: what ``raw`` and ``crowd`` do instead of ``join``."""
    assert "result" in await person.call("redeem", await pub.invite(), {"feed": person.feed})


async def post(person: Client, text: str) -> str:
    """Publish a post; returns its key."""
    return str((await person.call("publish", {"type": "post", "text": text}))["key"])


async def follow(person: Client, *feeds: str) -> None:
    for feed in feeds:
        await person.call("publish", contact(feed))


async def block(person: Client, feed: str, state: bool = True) -> None:
    await person.call("publish", {"type": "contact", "contact": feed, "following": False, "blocking": state})


def contact(feed: str) -> dict[str, Any]:
    """The message by which somebody follows a feed."""
    return {"type": "contact", "contact": feed, "following": True}


async def length(person: Client, feed: str) -> int:
    """How many messages of a feed this person has."""
    return len(await person.call("feed", feed))


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Return as soon as the check passes; it is asked again and again."""
    with trio.move_on_after(PATIENCE):
        while not await check():  # noqa: ASYNC110 - what is waited for happens in another process
            await trio.sleep(INTERVAL)
        return
    raise AssertionError(f"it did not happen within {PATIENCE:g} s")


async def until_stored(pub: Pub, feed: str, sequence: int) -> None:
    """Return when the pub has so much of the feed."""

    async def has_it() -> bool:
        return await pub.sequence(feed) >= sequence

    await until(has_it)
