"""``ebt.replicate`` with people on the line: what is taken in, what is handed on, and what ends what."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.ebt import encode_note
from pub.protocol.senders import STALL_SECONDS
from pub.rpc import ebt
from pub.store.log import Appender
from tests.ingest.people import Author, Closed
from tests.pubs import connect, guest_of, open_pub
from tests.rpc.replicas import VERSION_3, dial, end_of, eventually, replicate

ASK = 0  # a note: we have nothing, send us everything
NONE = -1  # a note: we do not replicate this


def values(author: Author) -> list[Any]:
    return [json.loads(message.encoded) for message in author.messages]


def forged(author: Author) -> bytes:
    """The author's next message, in somebody else's words."""
    return author.write("mine").encoded.replace(b'"mine"', b'"hers"')


# --- how a session begins ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text", "name"),
    [
        ([], "Cannot read properties of undefined (reading 'version')", "TypeError"),
        ([{}], "expected ebt.replicate({version: 3})", "Error"),
        ([None], "expected ebt.replicate({version: 3})", "Error"),
        ([{"version": 2}], "expected ebt.replicate({version: 3})", "Error"),
        ([{"version": 4, "format": "classic"}], "expected ebt.replicate({version: 3})", "Error"),
        ([{"version": [3]}], "expected ebt.replicate({version: 3})", "Error"),
        ([{"version": 3, "format": "bendybutt-v1"}], "Unknown format: bendybutt-v1", "Error"),
        ([{"version": 3, "format": "\ud800"}], "Unknown format: \ud800", "Error"),
    ],
)
async def test_texts(tmp_path: Path, args: list[Any], text: str, name: str) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        stream = await alice.open("ebt.replicate", *args)
        with pytest.raises(RpcError) as caught:
            await stream.next()
        assert (caught.value.message, caught.value.name) == (text, name)
        assert await alice.call("manifest")


@pytest.mark.parametrize("asked", [VERSION_3, {"version": 3}, {"version": "3"}, {"version": 3, "format": None}])
async def test_the_pub_speaks_first(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.rooms.ingest.publish({"type": "post", "text": "hello"})
        stream = await alice.open("ebt.replicate", asked)
        assert await stream.next() == {pub.id: encode_note(1, receive=False)}


async def test_also_when_it_has_nothing_to_say(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        pub.rooms.replication.replicator.stop_replicating(pub.rooms.own)
        stream = await alice.open("ebt.replicate", VERSION_3)
        assert await stream.next() == {}
        await pub.settle()
        assert stream.arrived() == []


async def test_a_second_session_ends_the_first(tmp_path: Path) -> None:
    """In the same connection or another one: the peer has reconnected, the older line is dead."""
    alice = Author("alice")
    async with open_pub(tmp_path) as pub, connect(pub, alice.keys) as line:
        await pub.follow(alice.keys.public)
        first = await replicate(line)
        second = await replicate(line)
        error = await end_of(first)
        assert error is not None
        assert error.message == "reconnected to peer"
        async with connect(pub, alice.keys) as other_line, connect(pub) as stranger:
            bystander = await replicate(stranger)
            third = await replicate(other_line)
            error = await end_of(second)
            assert error is not None
            assert error.message == "reconnected to peer"
            for session in (third, bystander):
                await session.say(alice, 0)
            await pub.settle()
            await pub.take_in([alice.write()])
            for session in (third, bystander):
                assert (await session.next_message())["sequence"] == 1
            assert await line.call("manifest")  # the older line itself is left to its peer


async def test_who_leaves_is_forgotten(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        for _ in range(3):
            async with connect(pub, alice.keys) as line:
                session = await replicate(line)
                await session.stream.end()
                assert await end_of(session) is None
                await replicate(line)
            await pub.take_in([alice.write()])


# --- taking in and handing on -----------------------------------------------------------------------------


async def test_alice_uploads_and_bob_downloads(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    alice.write_many(5)
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public, bob.keys.public)
        async with connect(pub, alice.keys) as line:
            session = await replicate(line)
            assert session.notes[alice.keys.id] == ASK
            await session.say(alice, 5)
            await session.hand_over(alice.messages)
            await eventually(lambda: len(pub.feed(alice.keys.public)) == 5, pub)
        async with connect(pub, bob.keys) as line:
            session = await replicate(line)
            assert session.notes[alice.keys.id] == encode_note(5, receive=True)  # with Alice away he may bring more
            await session.say(alice, 0)
            for _ in alice.messages:
                await session.next_message()
            await pub.take_in([alice.write("live")])
            await session.next_message()
            assert session.messages == values(alice)
        assert pub.feed(alice.keys.public) == [message.encoded for message in alice.messages]


async def test_who_has_enough_gets_notes_only(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub, connect(pub) as stranger:
        await pub.follow(alice.keys.public)
        await pub.take_in(alice.write_many(3))
        session = await replicate(stranger)
        await session.say(alice, 1, receive=False)
        await pub.take_in(alice.write_many(1))
        await pub.settle()
        session.arrived()
        assert session.messages == []
        assert session.notes[alice.keys.id] == encode_note(4, receive=False)
        await session.say(alice, 2)
        assert [(await session.next_message())["sequence"] for _ in range(2)] == [3, 4]


async def test_messages_nobody_asked_for_are_not_stored(tmp_path: Path) -> None:
    mallory, carol = Author("mallory"), Author("carol")
    mallory.write_many(3), carol.write_many(3)
    async with open_pub(tmp_path) as pub, connect(pub, mallory.keys) as line:
        await pub.say(carol.keys.public, following=False)  # a feed with a number, which the pub does not follow
        session = await replicate(line)
        await session.say(mallory, 3)
        await session.say(carol, 3)
        assert await session.note_on(carol) == NONE
        await session.hand_over(mallory.messages + carol.messages)
        await pub.settle()
        session.arrived()
        assert session.notes[mallory.keys.id] == session.notes[carol.keys.id] == NONE
        assert pub.feed(mallory.keys.public) == pub.feed(carol.keys.public) == []
        assert mallory.keys.public not in pub.rooms.log.numbers
        assert pub.value("messages_received_total", result="not_wanted") == 6


async def test_a_forged_message_costs_that_feed_with_that_peer(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    bob.write_many(2)
    genuine = alice.write()
    rubbish = forged(alice)
    async with open_pub(tmp_path) as pub, connect(pub) as mallory:
        await pub.follow(alice.keys.public, bob.keys.public)
        session = await replicate(mallory)
        await session.say(alice, 5)
        await session.hand_over([genuine, rubbish, alice.write(), alice.write(), alice.write()])
        assert await session.note_on(alice) == NONE
        await session.say(bob, 2)
        await session.hand_over(bob.messages)
        await eventually(lambda: len(pub.feed(bob.keys.public)) == 2, pub)
        assert [frame for frame in session.arrived() if alice.keys.id in frame] == []  # said once
        assert pub.feed(alice.keys.public) == [genuine.encoded]
        assert pub.value("messages_received_total", result="bad_signature") == 1
        assert not mallory.gone.is_set()
        async with connect(pub, alice.keys) as line:  # from the author herself it is welcome
            hers = await replicate(line)
            await hers.say(alice, 5)
            await hers.hand_over(alice.messages[1:])
            await eventually(lambda: len(pub.feed(alice.keys.public)) == 5, pub)
        await pub.settle()
        assert [frame for frame in session.arrived() if alice.keys.id in frame] == []


async def test_a_refusal_is_logged_once_however_much_was_sent_behind_it(tmp_path: Path) -> None:
    alice = Author("alice")
    messages = [forged(alice), *(message.encoded for message in alice.write_many(50))]
    async with open_pub(tmp_path) as pub, connect(pub) as mallory:
        await pub.follow(alice.keys.public)
        session = await replicate(mallory)
        with capture_logs() as lines:
            await session.say(alice, 51)
            await session.hand_over(messages)
            assert await session.note_on(alice) == NONE
            await pub.settle()
        assert [line["event"] for line in lines] == ["message_refused"]


async def test_a_refusal_that_comes_late_hits_nobody_else(tmp_path: Path) -> None:
    """Mallory leaves while her message is being verified; Bob takes her place, and must not pay for it."""
    alice, verifier = Author("alice"), Closed()
    rubbish = forged(alice)
    async with open_pub(tmp_path, verifier=verifier) as pub:
        await pub.follow(alice.keys.public)
        async with connect(pub) as mallory:
            session = await replicate(mallory)
            await session.say(alice, 1)
            await session.hand_over([rubbish])
            await pub.settle()
        async with connect(pub, Author("bob").keys) as bob:
            session = await replicate(bob)
            await session.say(alice, 0)
            await pub.settle()
            verifier.opened.set()
            await pub.settle()
            assert pub.value("messages_received_total", result="bad_signature") == 1
            await pub.take_in(alice.messages)
            assert (await session.next_message())["sequence"] == 1


async def test_bob_waits_for_carol_to_join(tmp_path: Path) -> None:
    """He asked for her feed when the pub did not follow her. He is not asked again, and need not reconnect."""
    bob, carol = Author("bob"), Author("carol")
    carol.write_many(3)
    async with open_pub(tmp_path) as pub, connect(pub, bob.keys) as bobs_line, connect(pub, carol.keys) as carols_line:
        bobs = await replicate(bobs_line)
        await bobs.say(carol, 0)
        assert await bobs.note_on(carol) == NONE
        carols = await replicate(carols_line)  # she is on the line as well, under her own key, before she redeems
        await carols.say(carol, 3)
        assert await carols.note_on(carol) == NONE
        async with connect(pub, guest_of(await pub.invite())) as guest:
            await guest.call("invite.use", {"feed": carol.keys.id})
        assert await carols.note_on(carol) == ASK
        await carols.hand_over(carol.messages)
        for _ in carol.messages:
            await bobs.next_message()
        assert bobs.messages == values(carol)


async def test_who_joins_while_connected_is_asked_for_their_own_feed(tmp_path: Path) -> None:
    """Bob has all of them too, but nobody knows a feed better than its author."""
    people = [Author(f"person {number}") for number in range(6)]
    async with open_pub(tmp_path) as pub, AsyncExitStack() as lines, connect(pub, Author("bob").keys) as bobs_line:
        sessions = [await replicate(await lines.enter_async_context(connect(pub, each.keys))) for each in people]
        for each, session in zip(people, sessions, strict=True):
            await session.say(each, 2)
        bob = await replicate(bobs_line)
        await bob.stream.send({each.keys.id: encode_note(2, receive=True) for each in people})
        await pub.settle()
        await pub.follow(*(each.keys.public for each in people))
        await pub.settle()
        bob.arrived()
        for each, session in zip(people, sessions, strict=True):
            session.arrived()
            assert session.notes[each.keys.id] == ASK
            assert bob.notes[each.keys.id] == encode_note(0, receive=False)


async def test_the_pub_stops_when_it_unfollows(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub, connect(pub, alice.keys) as line:
        await pub.follow(alice.keys.public)
        session = await replicate(line)
        await session.say(alice, 1)
        await session.hand_over(alice.write_many(1))
        await eventually(lambda: len(pub.feed(alice.keys.public)) == 1, pub)
        await pub.say(alice.keys.public, following=False)
        await session.hand_over(alice.write_many(1))
        await pub.settle()
        session.arrived()
        assert session.notes[alice.keys.id] == NONE
        assert len(pub.feed(alice.keys.public)) == 1


# --- pubs among themselves --------------------------------------------------------------------------------


async def test_two_pubs_exchange_what_both_follow(tmp_path: Path) -> None:
    """One calls, the other is called; then both grow while they are connected."""
    alice, bob = Author("alice"), Author("bob")
    async with open_pub(tmp_path / "one") as one, open_pub(tmp_path / "two") as two:
        everybody = [alice.keys.public, bob.keys.public, one.rooms.keys.public, two.rooms.keys.public]
        for pub in (one, two):
            await pub.follow(*(key for key in everybody if key != pub.rooms.keys.public))
        await one.take_in(alice.write_many(3))
        await two.take_in(bob.write_many(2))

        def is_level() -> bool:
            feeds = [(one.feed(key), two.feed(key)) for key in everybody]
            return all(near == far and near for near, far in feeds)

        async with dial(one, two):
            await eventually(is_level, one, two)
            await one.take_in(bob.write_many(1))
            await two.take_in(alice.write_many(1))
            await one.rooms.ingest.publish({"type": "post", "text": "still here"})
            await eventually(is_level, one, two)
        assert len(two.feed(alice.keys.public)) == 4
        assert two.value("messages_received_total", result="stored") == 3 + 1 + 3 + 1
        for pub in (one, two):
            assert pub.value("messages_received_total", result="duplicate") == 0


async def test_a_pub_that_is_refused_replication_goes_on(tmp_path: Path) -> None:
    """The other side does not speak EBT: the line stays, for its other uses."""
    async with open_pub(tmp_path) as pub, connect(pub, Role.STRANGER) as other:
        await pub.settle()
        (connection,) = pub.rooms.lobby.connections
        ebt.call(pub.rooms, connection)
        await pub.settle()
        (request,) = other.asked
        assert (request.name, request.args) == (("ebt", "replicate"), [VERSION_3])
        await other.send(other.session.fail(request.number, RpcError("muxrpc: no such command: ebt.replicate")))
        await pub.settle()
        assert await other.call("manifest")


async def test_a_feed_gone_quiet_cuts_no_save_short(
    tmp_path: Path, jump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob announces what he never sends, and his time is up while the clock of Alice's session is being saved."""
    alice, bob, saves, disk = Author("alice"), Author("bob"), list[str](), trio.Event()
    async with open_pub(tmp_path) as pub, connect(pub, bob.keys) as line:
        write = pub.rooms.ingest.write

        async def write_slowly(job: Callable[[Appender], Any]) -> None:
            saves.append("begun")
            await disk.wait()
            await write(job)
            saves.append("done")

        await pub.follow(alice.keys.public, bob.keys.public)
        await (await replicate(line)).say(alice, 5)
        async with connect(pub, alice.keys) as other:
            await (await replicate(other)).say(alice, 0)
            await pub.settle()
            monkeypatch.setattr(pub.rooms.ingest, "write", write_slowly)
        await trio.testing.wait_all_tasks_blocked()
        assert alice.keys.public not in pub.rooms.replication.progress()
        jump_clock.jump(STALL_SECONDS + 1)
        await trio.testing.wait_all_tasks_blocked()
        assert saves == ["begun"]
        monkeypatch.undo()
        disk.set()
        await pub.settle()
        assert saves == ["begun", "done"]
        assert pub.rooms.replication.progress()[bob.keys.public].receiving == 0
