"""Whom an author blocks does not get that author's feed from us."""

from pathlib import Path

import pytest

from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from tests.ingest.people import Author
from tests.pubs import Client, ClientStream, connect, open_pub
from tests.rpc.gated import gated_pair


async def history(client: Client, author: Author, **asked: object) -> ClientStream:
    return await client.open("createHistoryStream", {"id": author.keys.id, "keys": False, **asked}, kind=Kind.SOURCE)


@pytest.mark.parametrize("live", [True, False])
async def test_who_is_blocked_already_gets_nothing(tmp_path: Path, live: bool) -> None:
    carol, mallory = Author("carol"), Author("mallory")
    carol.write()
    carol.write(type="contact", contact=mallory.keys.id, blocking=True)
    async with open_pub(tmp_path) as pub, connect(pub, mallory.keys) as client:
        await pub.take_in(carol.messages)
        assert await (await history(client, carol, live=live)).rest() == []
        async with connect(pub, Author("bob").keys) as another:
            assert len(await (await history(another, carol)).rest()) == 2


async def test_a_live_stream_ends_before_the_message_that_blocks_its_reader(tmp_path: Path) -> None:
    carol, bob, mallory = Author("carol"), Author("bob"), Author("mallory")
    async with open_pub(tmp_path) as pub, connect(pub, mallory.keys) as client:
        await pub.take_in([carol.write("one"), bob.write("one")])
        of_carol, of_bob = await history(client, carol, live=True), await history(client, bob, live=True)
        assert (await of_carol.next())["content"]["text"] == "one"
        block = carol.write(type="contact", contact=mallory.keys.id, blocking=True)
        await pub.take_in([block, bob.write("two")])
        assert await of_carol.rest() == []
        assert len(await of_bob.take(2)) == 2, "the feeds of others go on"
        await pub.take_in([carol.write(type="contact", contact=mallory.keys.id, blocking=False)])
        assert len(await (await history(client, carol)).rest()) == 3, "and all of it is readable when the block is gone"


async def test_a_feed_that_begins_with_the_block(tmp_path: Path) -> None:
    """The stream was opened before anything was known of its author."""
    carol, mallory = Author("carol"), Author("mallory")
    async with open_pub(tmp_path) as pub, connect(pub, mallory.keys) as client:
        stream = await history(client, carol, live=True)
        await pub.settle()
        await pub.take_in([carol.write(type="contact", contact=mallory.keys.id, blocking=True)])
        assert await stream.rest() == []


async def test_who_reads_slowly_gets_no_more_after_the_block(tmp_path: Path) -> None:
    carol, mallory = Author("carol"), Author("mallory")
    carol.write_many(1000)
    peer, ours = gated_pair()
    async with open_pub(tmp_path) as pub:
        await pub.take_in(carol.messages)
        async with connect(pub, mallory.keys, transport=(peer, ours)) as client:
            stream = await history(client, carol)
            await pub.settle()
            await pub.take_in([carol.write(type="contact", contact=mallory.keys.id, blocking=True)])
            peer.gate.set()
            assert 0 < len(await stream.rest()) < 500, "what was on its way already"


async def test_the_operator_reads_those_who_block_the_pub(tmp_path: Path) -> None:
    carol = Author("carol")
    async with open_pub(tmp_path) as pub:
        await pub.take_in([carol.write(type="contact", contact=pub.id, blocking=True)])
        async with connect(pub, Role.CONTROL) as client:
            assert len(await (await history(client, carol)).rest()) == 1
