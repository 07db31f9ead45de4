"""Who gets whose feed: friends of friends arrive, blocks are kept, and minds may be changed.

That something does *not* arrive is seen by something that does: a message published later, which takes the same way.
"""

import pytest

from tests.interop.clients import FAMILIES, Client, ClientError
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub
from tests.interop.steps import block, contact, enrol, follow, join, length, post, until, until_stored


def other(kind: str) -> str:
    """The other client family."""
    [family] = set(FAMILIES) - {kind}
    return family


@pytest.mark.parametrize("kind", FAMILIES)
async def test_friends_of_friends_arrive_at_a_fresh_member(pub: Pub, client: Opener, kind: str) -> None:
    """Alice follows Bob, who follows Carol. Carol has no code, Dave is Carol's friend and three steps from Alice."""
    async with client("crowd", "carol") as carol, client(other(kind), "bob") as bob:
        [dave] = await carol.call("people", 1, [{"type": "post", "text": "who is that?"}])
        await follow(carol, dave)
        last = await post(carol, "I am with him")
        await follow(bob, carol.feed)
        await join(bob, pub)
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await carol.call("replicate", pub.address)
        await bob.call("wait-message", last)
        async with client(kind, "alice") as alice:
            await follow(alice, bob.feed)
            await join(alice, pub)
            await alice.call("wait-feed", carol.feed, 2)
            await alice.call("wait-message", await post(carol, "hello everybody"))
            assert await length(alice, bob.feed) == await length(bob, bob.feed)
            assert await length(alice, dave) == 0
            assert await pub.sequence(dave) == 0


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_feed_that_blocks_a_peer_is_not_sent_to_it(pub: Pub, client: Opener, kind: str) -> None:
    async with client(kind, "mallory") as mallory, client(other(kind), "bob") as bob, client("crowd", "carol") as carol:
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await follow(mallory, bob.feed, carol.feed)
        await join(mallory, pub)
        await join(bob, pub)
        seen = await post(bob, "for all to read")
        await mallory.call("wait-message", seen)
        before = await length(mallory, bob.feed)
        # while both are connected
        await block(bob, mallory.feed)
        await post(bob, "not for Mallory")
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await mallory.call("wait-message", await post(carol, "a message that comes through"))
        assert await length(mallory, bob.feed) == before
        # and after a new start
        await mallory.call("connect", pub.address)
        await post(bob, "nor this")
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await mallory.call("wait-message", await post(carol, "another one"))
        assert await length(mallory, bob.feed) == before
        # Bob forgives, and nobody has to reconnect
        await block(bob, mallory.feed, False)
        await mallory.call("wait-feed", bob.feed, await length(bob, bob.feed))


@pytest.mark.parametrize("kind", FAMILIES)
async def test_whom_the_pub_blocks_stays_out_and_is_not_passed_on(pub: Pub, client: Opener, kind: str) -> None:
    async with client(kind, "mallory") as mallory, client("crowd", "carol") as carol:
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await join(mallory, pub)
        await until_stored(pub, mallory.feed, await length(mallory, mallory.feed))
        await pub.json("block", mallory.feed, "--reason", "spam")

        async def is_gone() -> bool:
            return not await pub.connected(mallory.feed)

        await until(is_gone)
        with pytest.raises(ClientError):
            await mallory.call("connect", pub.address)
        assert await is_gone()
        async with client(other(kind), "alice") as alice:
            await follow(alice, mallory.feed, carol.feed)
            await join(alice, pub)
            await alice.call("wait-message", await post(carol, "a message that comes through"))
            assert await length(alice, mallory.feed) == 0
        # forgiven and followed: she comes in, and what she wrote meanwhile is taken
        await post(mallory, "let me in")
        await pub.json("unblock", mallory.feed)
        await pub.json("follow", mallory.feed)
        await mallory.call("connect", pub.address)
        await until_stored(pub, mallory.feed, await length(mallory, mallory.feed))


@pytest.mark.parametrize("kind", FAMILIES)
async def test_unfollowed_feeds_rest_until_they_are_followed_again(pub: Pub, client: Opener, kind: str) -> None:
    """Both ways of losing a feed: the pub unfollows its member Bob, and with him goes Carol, whom only Bob follows."""
    async with client(kind, "bob") as bob, client("crowd", "carol") as carol, client("crowd", "alice") as alice:
        await enrol(alice, pub)
        await alice.call("replicate", pub.address)
        await follow(bob, carol.feed)
        await join(bob, pub)
        await post(carol, "first")
        await until_stored(pub, bob.feed, await length(bob, bob.feed))
        await carol.call("replicate", pub.address)
        await until_stored(pub, carol.feed, 1)
        await pub.json("unfollow", bob.feed)
        before = await length(bob, bob.feed)
        await post(bob, "is anybody there?")
        await post(carol, "no")
        await post(alice, "a message that comes through")
        await until_stored(pub, alice.feed, 1)
        assert (await pub.sequence(bob.feed), await pub.sequence(carol.feed)) == (before, 1)
        await pub.json("follow", bob.feed)
        await until_stored(pub, bob.feed, before + 1)
        await until_stored(pub, carol.feed, 2)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_member_unfollows_and_follows_again(pub: Pub, client: Opener, kind: str) -> None:
    async with client(kind, "alice") as alice, client("crowd", "carol") as carol:
        await follow(alice, carol.feed)
        await join(alice, pub)
        await until_stored(pub, alice.feed, await length(alice, alice.feed))
        await carol.call("replicate", pub.address)
        await alice.call("wait-message", await post(carol, "first"))
        await stop_following(alice, carol.feed)
        await until_stored(pub, alice.feed, await length(alice, alice.feed))
        await post(carol, "second")
        await carol.call("say", 0, {pub.id: 0})  # what is answered behind the message shows that it has arrived
        await carol.call("wait-feed", pub.id, 1)
        assert await pub.sequence(carol.feed) == 1
        await alice.call("publish", contact(carol.feed))
        await until_stored(pub, carol.feed, 2)
        await alice.call("wait-feed", carol.feed, 2)


async def stop_following(person: Client, feed: str) -> None:
    await person.call("publish", {"type": "contact", "contact": feed, "following": False})
