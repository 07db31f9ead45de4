"""What becomes of what peers without EBT answer."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from pub.errors import StoreFull
from pub.ingest.disk import LOOK_SECONDS
from pub.rpc import legacy
from tests.ingest.people import Author
from tests.pubs import connect, open_pub
from tests.rpc.before_ebt import (
    NAME,
    alice_is_asked,
    answer,
    dialled,
    encoded,
    give_cue,
    is_over,
    options_of,
    refuse,
    request_for,
)


async def test_what_we_have_meanwhile_is_dropped_before_it_is_verified(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, alice_is_asked(pub) as (alice, client):
        alice.write_many(5)
        await pub.take_in(alice.messages[:3])
        await answer(client, alice).send(*encoded(alice))
        await pub.settle()
        assert pub.feed(alice.keys.public) == encoded(alice)
        assert pub.value("messages_received_total", result="duplicate") == 3
        assert pub.value("messages_received_total", result="stored") == 2


@pytest.mark.parametrize("fault", ["gap", "forged", "fork"])
async def test_a_feed_that_does_not_continue_is_not_taken_from_this_peer(tmp_path: Path, fault: str) -> None:
    bob = Author("bob")
    async with open_pub(tmp_path) as pub, alice_is_asked(pub, bob) as (alice, client):
        alice.write_many(4)
        bad = {
            "gap": alice.messages[3].encoded,
            "forged": alice.messages[2].encoded.replace(b"number 2", b"NUMBER 2"),
            "fork": alice.write_instead(2, "elsewhere").write("and on").encoded,
        }[fault]
        stream = answer(client, alice)
        await stream.send(*encoded(alice)[:2], bad)
        await pub.settle()
        assert await is_over(stream)
        assert pub.feed(alice.keys.public) == encoded(alice)[:2]
        await answer(client, bob).send(bob.write().encoded)
        await pub.say(alice.keys.public, following=False)
        await pub.follow(alice.keys.public)
        await pub.settle()
        assert pub.feed(bob.keys.public) == encoded(bob), "the others go on"
        assert [asked["id"] for asked in options_of(client)].count(alice.keys.id) == 1


async def test_a_feed_nobody_asked_for(tmp_path: Path) -> None:
    mallory = Author("mallory")
    async with open_pub(tmp_path) as pub, alice_is_asked(pub) as (alice, client):
        stream = answer(client, alice)
        await stream.send(mallory.write().encoded, {"sync": True}, 7, "text", [], alice.write().encoded)
        await pub.settle()
        assert pub.feed(alice.keys.public) == encoded(alice)
        assert pub.feed(mallory.keys.public) == []
        assert pub.value("messages_received_total", result="not_wanted") == 1


async def test_what_the_pub_lost_of_its_own_feed_comes_back(tmp_path: Path) -> None:
    async with open_pub(tmp_path / "a" / "pub") as before:
        for _ in range(3):
            await before.rooms.ingest.publish({"type": "post", "text": "before the disk was lost"})
        feed = before.feed(before.rooms.keys.public)
    async with open_pub(tmp_path / "b" / "pub") as pub:
        assert pub.id == before.id
        async with dialled(pub, Author("alice").keys) as client:
            await refuse(client, request_for(client, "ebt", "replicate"), "no duplex:ebt,replicate")
            await pub.settle()
            assert options_of(client) == [{"id": pub.id, "seq": 1, "live": False, "keys": False}]
            stream = client.accept(request_for(client, *NAME))
            await stream.send(*feed[:2])
            await pub.settle()
            assert pub.rooms.ingest.publishing_stopped() is not None, "there may be more"
            await stream.send(feed[2])
            await stream.end()
            await pub.settle()
            assert pub.feed(pub.rooms.keys.public) == feed
            assert pub.rooms.ingest.publishing_stopped() is None


async def test_a_full_disk_is_tried_again_later(
    tmp_path: Path, jump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_pub(tmp_path, patience=float("inf")) as pub,
        alice_is_asked(pub) as (alice, client),
    ):
        alice.write_many(3)
        stream = answer(client, alice)

        def write(_job: object) -> None:
            raise StoreFull("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(type(pub.rooms.store), "write", lambda _store, job: write(job))
            await stream.send(*encoded(alice))
            await trio.testing.wait_all_tasks_blocked()
            assert await stream.rest() == []
        asked = len(options_of(client))
        pub.rooms.legacy.tick(trio.current_time())
        await pub.settle()
        assert len(options_of(client)) == asked
        jump_clock.jump(LOOK_SECONDS)
        while pub.rooms.ingest.disk.full:
            await trio.lowlevel.checkpoint()
        pub.rooms.legacy.tick(trio.current_time())
        await pub.settle()
        assert options_of(client)[asked:] == [{"id": alice.keys.id, "seq": 1, "live": True, "keys": False}]
        await answer(client, alice).send(*encoded(alice))
        await pub.settle()
        assert pub.feed(alice.keys.public) == encoded(alice)


async def test_a_peer_without_the_method_is_asked_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "MAX_OPEN_REQUESTS", 1)
    async with open_pub(tmp_path) as pub, alice_is_asked(pub, Author("bob")) as (alice, client):
        [request] = [each for each in client.asked if each.name == NAME]
        assert request.args[0]["id"] == alice.keys.id
        await refuse(client, request, "no source:createHistoryStream")
        await pub.settle()
        assert len(options_of(client)) == 1


async def test_a_feed_the_peer_refuses_is_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "MAX_OPEN_REQUESTS", 1)
    async with open_pub(tmp_path) as pub, alice_is_asked(pub, Author("bob")) as (_alice, client):
        [request] = [each for each in client.asked if each.name == NAME]
        await refuse(client, request, "feed not found")
        await pub.settle()
        assert len(options_of(client)) == 2


async def test_who_has_left_is_forgotten(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        async with alice_is_asked(pub) as (alice, _client):
            assert pub.rooms.legacy.count == 1
        pub.rooms.legacy.tick(trio.current_time())
        assert pub.rooms.legacy.count == 0
        await pub.follow(Author("bob").keys.public)
        async with connect(pub, alice.keys) as client:
            await give_cue(client)
            await pub.settle()
            assert len(options_of(client)) == 3


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5)
FRAMES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.fixed_dictionaries({"author": JSON, "sequence": st.integers(), "content": JSON}),
    JSON,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(FRAMES, max_size=5))
def test_whatever_comes_does_no_harm(tmp_path_factory: pytest.TempPathFactory, frames: list[Any]) -> None:
    async def scenario() -> None:
        async with open_pub(tmp_path_factory.mktemp("pub")) as pub, alice_is_asked(pub) as (alice, client):
            stream = answer(client, alice)
            await stream.send(*frames, alice.write().encoded)
            await pub.settle()
            assert pub.feed(alice.keys.public) == encoded(alice)

    trio.run(scenario)
