"""``createHistoryStream``: what the reference sends, live streams by the thousand, and odd arguments."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.net.roles import Role
from pub.protocol.classic import Message, examine
from pub.protocol.muxrpc import Kind
from pub.protocol.refs import feed_id, message_id
from tests.ingest.people import Author
from tests.pubs import NOW, Client, ClientStream, RunningPub, connect, open_pub
from tests.vectors import load

VECTORS = load("history_stream")
FINISHED = [case for case in VECTORS["cases"] if "live_log_had" not in case]
LIVE = [case for case in VECTORS["cases"] if "live_log_had" in case]
SHAPES = {None: None, "key": "key", "value": "value", "keyvalue {key,value,timestamp}": "keyvalue"}


def name_of(case: dict[str, Any]) -> str:
    names = {feed: name for name, feed in VECTORS["feeds"].items()}
    return " ".join(f"{key}={names.get(value, value)}" for key, value in case["args"].items()) or "nothing"


def vector_messages(feed: str, count: int) -> list[Message]:
    return [examine(json.dumps(message["value"]).encode()) for message in VECTORS["messages"][feed][:count]]


async def history(client: Client, **asked: Any) -> ClientStream:
    return await client.open("createHistoryStream", asked, kind=Kind.SOURCE)


def shape_of(values: list[Any]) -> str | None:
    shapes = {
        "key" if isinstance(value, str) else "keyvalue" if list(value) == ["key", "value", "timestamp"] else "value"
        for value in values
    }
    assert len(shapes) <= 1
    return shapes.pop() if shapes else None


def sequence_of(value: Any) -> Any:
    if value == {"sync": True}:
        return "SYNC"
    return "key" if isinstance(value, str) else value.get("value", value)["sequence"]


def sequences(values: Iterable[Any]) -> list[Any]:
    return [sequence_of(value) for value in values]


# --- the reference ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FINISHED, ids=name_of)
async def test_reference(tmp_path: Path, case: dict[str, Any]) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.take_in(vector_messages("A", 6) + vector_messages("B", 3))
        stream = await history(alice, **case["args"])
        if case.get("never_ended"):
            await pub.settle()
            values = stream.arrived()
            await stream.end()
            assert await stream.rest() == []
        else:
            values = await stream.rest()
        assert sequences(values) == case["sequences"]
        assert len(values) == case["count"]
        assert shape_of(values) == SHAPES[case["shape"]]
        for key in case.get("field_types", {}):
            assert all(isinstance(value[key], int | float) for value in values)


@pytest.mark.parametrize("case", LIVE, ids=name_of)
async def test_reference_live(tmp_path: Path, case: dict[str, Any]) -> None:
    """The log has grown by a message per case; those after the 7th are not in the vectors, so the feed is another's."""
    author = Author("A")
    author.write_many(case["appended_sequence"])
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.take_in(author.messages[: case["live_log_had"]])
        stream = await history(alice, **case["args"] | {"id": author.keys.id})
        await pub.settle()
        before = stream.arrived()
        assert sequences(before) == case["before_append"]
        await pub.take_in(author.messages[case["live_log_had"] :])
        after = await stream.take(len(case["all"]) - len(before))
        assert sequences(before + after) == case["all"]
        await pub.settle()
        assert stream.arrived() == []
        messages = [value for value in before + after if value != {"sync": True}]
        assert shape_of(messages) == ("value" if case["args"].get("keys") is False else "keyvalue")


def test_every_case_is_tried() -> None:
    assert len(FINISHED) + len(LIVE) == 36


async def test_messages_are_the_vectors_to_the_letter(tmp_path: Path) -> None:
    expected = VECTORS["messages"]["A"][:6]
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.take_in(vector_messages("A", 6))
        full = await (await history(alice, id=VECTORS["feeds"]["A"])).rest()
        bare = await (await history(alice, id=VECTORS["feeds"]["A"], keys=False)).rest()
        keys = await (await history(alice, id=VECTORS["feeds"]["A"], values=False)).rest()
    assert [json.dumps(value["value"]) for value in full] == [json.dumps(each["value"]) for each in expected]
    assert [value["key"] for value in full] == [each["key"] for each in expected] == keys
    assert [json.dumps(value) for value in bare] == [json.dumps(each["value"]) for each in expected]
    assert [value["timestamp"] for value in full] == [NOW] * 6


# --- live -------------------------------------------------------------------------------------------------


async def test_alice_waits_for_a_feed_nobody_has_yet(tmp_path: Path) -> None:
    carol = Author("carol")
    carol.write_many(3)
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        stream = await history(alice, id=carol.keys.id, live=True, keys=False)
        late = await history(alice, id=carol.keys.id, live=True, keys=False, seq=3)
        await pub.settle()
        assert stream.arrived() == []
        await pub.follow(carol.keys.public)  # now the feed has a number, and no messages
        await pub.settle()
        assert stream.arrived() == []
        await pub.take_in(carol.messages)
        assert sequences(await stream.take(3)) == [1, 2, 3]
        assert sequences(await late.take(1)) == [3]


async def test_an_ended_stream_is_forgotten(tmp_path: Path) -> None:
    carol = Author("carol")
    async with open_pub(tmp_path) as pub:
        async with connect(pub) as alice:
            stream = await history(alice, id=carol.keys.id, live=True)
            await history(alice, id=carol.keys.id, live=True)
            await stream.end()
            await pub.settle()
            assert pub.rooms.history.count == 1
        assert pub.rooms.history.count == 0  # she has left
        await pub.take_in([carol.write()])


async def test_both_sides_end_once(tmp_path: Path) -> None:
    """The caller's answer to the end of a finished stream is not answered, and the number is free again."""
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.take_in(vector_messages("A", 6))
        for _ in range(3):
            await (await history(alice, id=VECTORS["feeds"]["A"])).rest()
        await pub.settle()
        assert alice.session.open_requests == 0
        (connection,) = pub.rooms.lobby.connections
        assert connection.session.open_requests == 0


async def test_a_long_feed_arrives_in_pages(tmp_path: Path) -> None:
    carol = Author("carol")
    carol.write_many(300)
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.take_in(carol.messages)
        page = len(carol.messages[0].encoded) * 300
        assert page > 1 << 16  # more than one buffer
        assert sequences(await (await history(alice, id=carol.keys.id)).rest()) == list(range(1, 301))
        assert pub.value("messages_sent_total") == 300


@pytest.mark.slow
async def test_three_thousand_live_streams_of_one_peer_cost_no_task(tmp_path: Path) -> None:
    authors = [Author(f"author {number}") for number in range(3000)]
    async with open_pub(tmp_path) as pub, connect(pub, Role.MEMBER) as alice:
        await pub.settle()
        before = trio.lowlevel.current_statistics().tasks_living
        streams = [await history(alice, id=author.keys.id, live=True, keys=False) for author in authors]
        await pub.settle()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert pub.rooms.history.count == 3000
        for round_ in (1, 2):
            await pub.take_in([author.write() for author in authors])
            for author, stream in zip(authors, streams, strict=True):
                value = await stream.next()
                assert (value["author"], value["sequence"]) == (author.keys.id, round_)
        await pub.settle()
        assert not any(stream.arrived() for stream in streams)
    assert pub.rooms.history.count == 0


async def test_a_commit_wakes_only_those_who_wait_for_its_feeds(tmp_path: Path) -> None:
    alice, bob = Author("alice"), Author("bob")
    async with open_pub(tmp_path) as pub, connect(pub) as client:
        of_alice = await history(client, id=alice.keys.id, live=True)
        of_bob = await history(client, id=bob.keys.id, live=True)
        await pub.take_in([alice.write()])
        assert (await of_alice.next())["key"] == message_id(alice.messages[0].id)
        await pub.settle()
        assert of_bob.arrived() == []


# --- odd arguments ----------------------------------------------------------------------------------------


async def stored(pub: RunningPub) -> Author:
    carol = Author("carol")
    carol.write_many(3)
    await pub.take_in(carol.messages)
    return carol


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"seq": None}, [1, 2, 3]),
        ({"sequence": None, "seq": 2}, [2, 3]),
        ({"limit": None, "live": None, "keys": None}, [1, 2, 3]),
        ({"limit": "2"}, [1, 2, 3]),
        ({"limit": 1.5}, [1]),
        ({"seq": 10**400}, []),
        ({"seq": -(10**400)}, []),
        ({"seq": 1e300}, []),
        ({"seq": -1e300}, [1, 2, 3]),
        ({"limit": 10**400}, [1, 2, 3]),
        ({"seq": True}, []),
        ({"seq": [1]}, []),
        ({"sync": False}, [1, 2, 3]),  # the mark divides old from live, so it comes in live streams alone
        ({"sync": False, "limit": 0}, []),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_odd_arguments(tmp_path: Path, asked: dict[str, Any], expected: list[int]) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        carol = await stored(pub)
        stream = await history(alice, id=carol.keys.id, **asked)
        assert sequences(await stream.rest()) == expected


@pytest.mark.parametrize("args", [[], [None], ["@x"], [[]], [{"id": None}], [{"id": {}}]])
async def test_without_an_id_it_ends_at_once(tmp_path: Path, args: list[Any]) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await stored(pub)
        stream = await alice.open("createHistoryStream", *args, kind=Kind.SOURCE)
        assert await stream.rest() == []


async def test_a_live_stream_from_beyond_the_end_waits_for_that_message(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        carol = await stored(pub)
        stream = await history(alice, id=carol.keys.id, live=True, seq=5, keys=False)
        await pub.take_in([carol.write()])
        await pub.settle()
        assert stream.arrived() == []
        await pub.take_in([carol.write()])
        assert (await stream.next())["sequence"] == 5


async def test_receive_times_have_the_form_of_the_reference(tmp_path: Path) -> None:
    """Milliseconds; several messages within one are told apart by a fraction."""
    async with open_pub(tmp_path) as pub, connect(pub) as alice:
        await pub.rooms.ingest.publish({"type": "post", "text": "one"})
        await pub.rooms.ingest.publish({"type": "post", "text": "two"})
        raw = await history(alice, id=feed_id(pub.rooms.keys.public))
        assert [value["timestamp"] for value in await raw.rest()] == [NOW, NOW + 0.001]
