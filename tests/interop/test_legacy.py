"""Clients from before EBT: they call ``createHistoryStream``, and so does the pub."""

from pathlib import Path

import pytest

from tests.interop.clients import FAMILIES
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub, open_pub
from tests.interop.steps import block, enrol, follow, join, length, post, until_stored

OLD_AND_NEW = [("legacy", "legacy"), *(("legacy", new) for new in FAMILIES), *((new, "legacy") for new in FAMILIES)]


@pytest.mark.parametrize(("writer", "reader"), OLD_AND_NEW)
async def test_feeds_pass_in_both_directions(pub: Pub, client: Opener, writer: str, reader: str) -> None:
    """What was written before, what is written while both are there, and after both came back."""
    async with client(writer, "alice") as alice, client(reader, "bob") as bob:
        for number in range(10):
            await post(alice, f"before {number}")
        await follow(bob, alice.feed)
        await join(alice, pub)
        await join(bob, pub)
        await bob.call("wait-feed", alice.feed, await length(alice, alice.feed))
        await bob.call("wait-message", await post(alice, "live"))
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        assert await bob.call("feed", alice.feed) == await alice.call("feed", alice.feed)
    async with client(writer, "alice") as alice, client(reader, "bob") as bob:
        await post(alice, "while we were apart")
        await bob.call("connect", pub.address)
        await alice.call("connect", pub.address)
        await bob.call("wait-feed", alice.feed, await length(alice, alice.feed))
        await bob.call("wait-message", await post(alice, "live again"))


async def test_an_old_client_is_asked_for_feeds_that_it_carries(pub: Pub, client: Opener, tmp_path: Path) -> None:
    """Bob has got Carol's feed at one pub, and brings it to another, where she has never been."""
    async with client("legacy", "bob") as bob:
        async with client("crowd", "carol") as carol:
            await follow(bob, carol.feed)
            await join(bob, pub)
            await post(carol, "first")
            await carol.call("replicate", pub.address)
            await bob.call("wait-message", await post(carol, "second"))
            feed = carol.feed
        async with open_pub(tmp_path / "other") as other:
            await join(bob, other)
            await until_stored(other, feed, 2)


async def test_an_old_client_gets_what_is_replicated_from_now_on(pub: Pub, client: Opener) -> None:
    """The pub takes up a feed while the old client is connected, which has asked for it already."""
    async with client("legacy", "alice") as alice, client("crowd", "carol") as carol:
        await follow(alice, carol.feed)
        await join(alice, pub)
        await post(carol, "first")
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await alice.call("wait-feed", carol.feed, 1)
        await alice.call("wait-message", await post(carol, "second"))


async def test_a_block_ends_the_streams_of_an_old_client(pub: Pub, client: Opener) -> None:
    async with client("legacy", "mallory") as mallory, client("db2", "bob") as bob, client("crowd", "carol") as carol:
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await follow(mallory, bob.feed, carol.feed)
        await join(mallory, pub)
        await join(bob, pub)
        await mallory.call("wait-message", await post(bob, "for all to read"))
        before = await length(mallory, bob.feed)
        await block(bob, mallory.feed)
        await post(bob, "not for Mallory")
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await mallory.call("wait-message", await post(carol, "a message that comes through"))
        assert await length(mallory, bob.feed) == before
