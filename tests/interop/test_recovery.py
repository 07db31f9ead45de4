"""Who lost a feed gets it back, before anything is published that would fork it: members, and the pub itself."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from tests.interop.clients import FAMILIES
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub, open_pub
from tests.interop.steps import enrol, follow, join, length, post, until, until_stored

POSTS = 20


@pytest.mark.parametrize("kind", ["legacy", *FAMILIES])
async def test_a_client_with_an_empty_store_gets_its_own_feed_back(
    pub: Pub, client: Opener, tmp_path: Path, kind: str
) -> None:
    async with client(kind, "alice") as alice:
        await join(alice, pub)
        for number in range(POSTS):
            await post(alice, f"number {number}")
        written = await alice.call("feed", alice.feed)
        await until_stored(pub, alice.feed, len(written))
    keep_only_the_key(tmp_path / f"alice-{kind}", tmp_path / f"new-phone-{kind}")
    async with client(kind, "new-phone") as alice:
        assert await length(alice, alice.feed) == 0
        await alice.call("connect", pub.address)
        await alice.call("wait-feed", alice.feed, len(written))
        assert await alice.call("feed", alice.feed) == written
        await post(alice, "I am back")
        await until_stored(pub, alice.feed, len(written) + 1)
    assert await pub.feeds("--forked") == {}


async def test_asking_for_nothing_but_ones_own_feed_is_enough(pub: Pub, client: Opener) -> None:
    async with client("crowd", "alice") as alice:
        await enrol(alice, pub)
        session = await alice.call("replicate", pub.address)
        for number in range(POSTS):
            await post(alice, f"number {number}")
        await until_stored(pub, alice.feed, POSTS)
        await alice.call("leave", session)
        lost = await alice.call("branch", 0, [])
        await alice.call("replicate", pub.address, {"notes": {alice.feed: 0}})
        await alice.call("wait-message", lost[-1])
        assert [row["key"] for row in await alice.call("feed", alice.feed)] == lost


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_pub_whose_disk_was_rolled_back_gets_its_feed_from_a_member(
    client: Opener, tmp_path: Path, kind: str
) -> None:
    """While Alice's client has more of the pub's feed than the pub, and keeps it back, nothing is published."""
    async with client("crowd", "alice") as alice, client(kind, "bob") as bob, open_pub(tmp_path / "pub") as pub:
        await enrol(alice, pub)
        await join(bob, pub)
        await pub.stop()
        shutil.copytree(pub.data, tmp_path / "backup")
        await pub.start()
        await let_publish(pub, 3)
        published = await pub.sequence(pub.id)
        session = await alice.call("replicate", pub.address, {"ask": [pub.id]})
        await alice.call("wait-feed", pub.id, published)
        await alice.call("leave", session)
        await bob.call("connect", pub.address)
        await bob.call("wait-feed", pub.id, published)
        await pub.stop()
        shutil.rmtree(pub.data)
        shutil.copytree(tmp_path / "backup", pub.data)
        await pub.start()
        assert await pub.sequence(pub.id) == published - 3
        await alice.call("replicate", pub.address, {"withhold": [pub.id]})
        await until_publishing(pub, False)
        with pytest.raises(AssertionError, match="own feed"):
            await let_publish(pub, 1)
        assert await pub.sequence(pub.id) == published - 3
        # the other one has it, too, and keeps nothing back
        await bob.call("connect", pub.address)
        await until_stored(pub, pub.id, published)
        await until_publishing(pub, True)
        await let_publish(pub, 1)
        await bob.call("wait-feed", pub.id, published + 1)
        assert await bob.call("feed", pub.id) == await pub_feed(pub, client)
        assert await pub.feeds("--forked") == {}


@pytest.mark.parametrize("kind", ["legacy", *FAMILIES])
async def test_a_pub_that_lost_its_store_gets_its_feed_from_a_member(client: Opener, tmp_path: Path, kind: str) -> None:
    """The key is all that is left, so the pub does not know its members; whom it follows stands in its own feed."""
    async with client(kind, "bob") as bob, open_pub(tmp_path / "pub") as pub:
        await join(bob, pub)
        published = await pub.sequence(pub.id)
        await bob.call("wait-feed", pub.id, published)
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await pub.stop()
        for path in pub.data.glob("*.mdb"):
            path.unlink()
        await pub.start()
        assert await pub.sequence(pub.id) == 0
        assert (await pub.status())["publishing"]
        await bob.call("connect", pub.address)
        await until_stored(pub, pub.id, published)
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await until_publishing(pub, True)
        await let_publish(pub, 1)
        await bob.call("wait-feed", pub.id, published + 1)


def keep_only_the_key(old: Path, new: Path) -> None:
    new.mkdir()
    shutil.copy(old / "secret", new / "secret")


async def let_publish(pub: Pub, count: int) -> None:
    """The pub follows somebody whom nobody has ever seen."""
    for _ in range(count):
        await pub.json("follow", f"@{base64.b64encode(os.urandom(32)).decode()}.ed25519")


async def pub_feed(pub: Pub, client: Opener) -> list[dict[str, str]]:
    async with client("classic", "reader") as reader:
        await follow(reader, pub.id)
        await reader.call("connect", pub.address)
        await reader.call("wait-feed", pub.id, await pub.sequence(pub.id))
        rows: list[dict[str, str]] = await reader.call("feed", pub.id)
        return rows


async def until_publishing(pub: Pub, may: bool) -> None:
    async def is_so() -> bool:
        return ((await pub.status())["publishing"] is None) is may

    await until(is_so)
