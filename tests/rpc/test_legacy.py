"""Our side of ``createHistoryStream``: whom we ask, and for what."""

from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pub.protocol.muxrpc import Kind
from pub.rpc import legacy
from tests.ingest.people import Author
from tests.pubs import connect, open_pub
from tests.rpc.before_ebt import (
    NAME,
    answer,
    dialled,
    encoded,
    give_cue,
    ids_of,
    is_over,
    options_of,
    refuse,
    request_for,
)
from tests.rpc.gated import gated_pair

# --- whom we ask ------------------------------------------------------------------------------------------


async def test_alice_without_ebt_asks_for_her_own_feed_and_is_asked_back(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    alice.write_many(3)
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public, bob.keys.public)
        await pub.take_in(bob.write_many(2))
        async with connect(pub, alice.keys) as client:
            await give_cue(client)
            await pub.settle()
            asked = options_of(client)
            assert asked[0] == {"id": alice.keys.id, "seq": 1, "live": True, "keys": False}, "her own feed first"
            assert {"id": bob.keys.id, "seq": 3, "live": True, "keys": False} in asked
            stream = answer(client, alice)
            await stream.send(*encoded(alice))
            await pub.settle()
            assert pub.feed(alice.keys.public) == encoded(alice)
            await stream.send(alice.write("live").encoded)
            await pub.settle()
            assert pub.feed(alice.keys.public) == encoded(alice)
            await give_cue(client)
            await pub.settle()
            assert len(options_of(client)) == len(asked) == 3, "once is enough"


async def test_a_stranger_is_asked_once_the_pub_replicates_it(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    async with open_pub(tmp_path) as pub:
        await pub.follow(bob.keys.public)
        async with connect(pub, alice.keys) as client:
            await give_cue(client)
            await pub.settle()
            assert ids_of(client) == {pub.id}, "anybody may show us more of our own feed"
            await pub.follow(alice.keys.public)
            await pub.settle()
            assert ids_of(client) == {alice.keys.id, bob.keys.id, pub.id}
            streams = [answer(client, author) for author in (alice, bob)]
            await pub.say(alice.keys.public, following=False)
            await pub.settle()
            assert [await is_over(stream) for stream in streams] == [True, True]


async def test_somebody_elses_feed_is_no_cue(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        async with connect(pub, alice.keys) as client:
            await client.open("createHistoryStream", {"id": pub.id}, kind=Kind.SOURCE)
            await pub.settle()
            assert options_of(client) == []


async def test_the_operators_client_is_not_asked(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, pub.rooms.keys) as client:
        await give_cue(client)
        await pub.settle()
        assert options_of(client) == []


async def test_a_peer_that_refuses_ebt_is_asked(tmp_path: Path) -> None:
    carol, friend = Author("carol"), Author("an older pub")
    carol.write_many(2)
    async with open_pub(tmp_path) as pub:
        await pub.follow(carol.keys.public)
        await pub.take_in(carol.messages[:1])
        async with dialled(pub, friend.keys) as client:
            assert options_of(client) == []
            await refuse(client, request_for(client, "ebt", "replicate"), "no duplex:ebt,replicate")
            await pub.settle()
            assert ids_of(client) == {carol.keys.id, pub.id}
            await answer(client, carol).send(*encoded(carol)[1:])
            await pub.settle()
        assert pub.feed(carol.keys.public) == encoded(carol)


async def test_a_peer_that_hangs_up_before_it_answered_is_not_asked(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        async with dialled(pub, Author("friend").keys) as client:
            assert request_for(client, "ebt", "replicate")
        await pub.settle()
        assert pub.rooms.legacy.count == 0


async def test_a_minute_without_ebt(tmp_path: Path, jump_clock: MockClock) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    async with open_pub(tmp_path, patience=float("inf")) as pub:
        await pub.follow(alice.keys.public, bob.keys.public)
        async with (
            connect(pub, alice.keys) as silent,
            connect(pub, bob.keys) as modern,
            connect(pub, carol.keys) as stranger,
        ):
            ebt = await modern.open("ebt.replicate", {"version": 3})
            await pub.settle()
            jump_clock.jump(legacy.PATIENCE - 5)
            pub.rooms.legacy.tick(trio.current_time())
            await pub.settle()
            assert options_of(silent) == []
            jump_clock.jump(10)
            pub.rooms.legacy.tick(trio.current_time())
            await pub.settle()
            assert ids_of(silent) == {alice.keys.id, bob.keys.id, pub.id}
            await ebt.end()
            await pub.settle()
            jump_clock.jump(legacy.PATIENCE)
            pub.rooms.legacy.tick(trio.current_time())
            await pub.settle()
            assert options_of(modern) == []
            assert ids_of(stranger) == {pub.id}, "all that a stranger is asked for"


async def test_ebt_after_all(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        async with connect(pub, alice.keys) as client:
            await give_cue(client)
            await pub.settle()
            stream = answer(client, alice)
            await client.open("ebt.replicate", {"version": 3})
            await pub.settle()
            assert await is_over(stream)
            await give_cue(client)
            await pub.follow(Author("bob").keys.public)
            await pub.settle()
            assert len(options_of(client)) == 2, "no more is asked, whatever happens"


async def test_a_late_answer_to_our_ebt_call(tmp_path: Path) -> None:
    friend = Author("friend")
    async with open_pub(tmp_path) as pub, dialled(pub, friend.keys) as client:
        await pub.follow(friend.keys.public)
        await give_cue(client)
        await pub.settle()
        stream = answer(client, friend)
        await client.accept(request_for(client, "ebt", "replicate")).send({})
        await pub.settle()
        assert await is_over(stream)


async def test_the_newer_connection_of_a_peer_is_asked(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        async with connect(pub, alice.keys) as old, connect(pub, alice.keys) as new:
            await give_cue(old)
            await pub.settle()
            stream = answer(old, alice)
            await give_cue(new)
            await pub.settle()
            assert await is_over(stream)
            assert ids_of(new) == {alice.keys.id, pub.id}


# --- what we ask for --------------------------------------------------------------------------------------


async def test_follows_while_connected(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        async with connect(pub, alice.keys) as client:
            await give_cue(client)
            await pub.settle()
            assert bob.keys.id not in ids_of(client)
            await pub.follow(bob.keys.public)
            await pub.settle()
            stream = answer(client, bob)
            await pub.say(bob.keys.public, following=False)
            await pub.settle()
            assert await is_over(stream)
            await pub.take_in(bob.write_many(4))
            await pub.follow(bob.keys.public)
            await pub.settle()
            assert options_of(client)[-1]["seq"] == 5


async def test_a_few_thousand_feeds_cost_no_task(tmp_path: Path) -> None:
    """And no more than ``MAX_LIVE`` streams that stay: the other feeds take turns to catch up."""
    alice = Author("alice")
    count = 300
    others = [Author(f"author {number}") for number in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legacy, "MAX_LIVE", 200)
        patch.setattr(legacy, "MAX_OPEN_REQUESTS", 220)
        async with open_pub(tmp_path) as pub:
            await pub.follow(alice.keys.public)
            await pub.take_in([alice.write(type="contact", contact=each.keys.id, following=True) for each in others])
            async with connect(pub, alice.keys) as client:
                await pub.settle()
                before = trio.lowlevel.current_statistics().tasks_living
                await give_cue(client)
                await pub.settle()
                assert trio.lowlevel.current_statistics().tasks_living == before
                asked = options_of(client)
                assert len(asked) == 220
                assert [each["id"] for each in asked[:2]] == [alice.keys.id, pub.id], "the nearest feeds stay"
                assert [each["live"] for each in asked[2:]] == [True] * 198 + [False] * 20
                while passing := [each for each in client.asked if each.name == NAME and not each.args[0]["live"]][1:]:
                    client.asked = [each for each in client.asked if each not in passing]
                    for request in passing:
                        await client.accept(request).end()
                    await pub.settle()
                    asked += options_of(client)[-len(passing) :]
                assert {each["id"] for each in asked} >= {other.keys.id for other in others}
                assert pub.value("limit_hits_total", limit="history_streams") == count + 2 - 200


async def test_requests_wait_for_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pub.net.connection.SEND_BUFFER", 2000)
    alice = Author("alice")
    peer, ours = gated_pair()
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public, *(Author(f"author {number}").keys.public for number in range(50)))
        async with connect(pub, alice.keys, transport=(peer, ours)) as client:
            await give_cue(client)
            await pub.settle()
            [connection] = pub.rooms.lobby.connections
            assert connection.session.open_requests < 20
            peer.gate.set()
            await pub.settle()
            assert len(options_of(client)) == 52
