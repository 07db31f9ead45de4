"""Odd requests: of the wrong shape, kind and name, with arguments nobody thought of. They are answered, one by one."""

from typing import Any

import msgspec
import pytest

from pub.protocol.muxrpc import MAX_REQUEST_BODY
from tests.odd.house import House
from tests.odd.lines import EBT, HERE, JSON, RNG, STREAM, enter, packet, request, somebody

pytestmark = pytest.mark.slow

ARGS = "args should be array"
NAME = "name should be array of strings"
DENIED = "is not in list of allowed methods"
LISTED = "is on list of disallowed methods"
KIND = "unsupported stream type"

NO_CALLS = {
    b"null": ARGS,  # kills the reference server
    b"true": ARGS,
    b"0": ARGS,
    b'"manifest"': ARGS,
    b"[]": ARGS,
    b"{}": ARGS,
    b'{"name":["manifest"]}': ARGS,
    b'{"name":["manifest"],"args":null}': ARGS,
    b'{"name":["manifest"],"args":{}}': ARGS,
    b'{"name":["manifest"],"args":{"length":1e9}}': ARGS,
    b'{"args":[]}': NAME,
    b'{"name":null,"args":[]}': NAME,
    b'{"name":[],"args":[]}': NAME,
    b'{"name":[null],"args":[]}': NAME,
    b'{"name":[["manifest"]],"args":[]}': NAME,
    b'{"name":{"0":"manifest"},"args":[]}': NAME,
    b'{"name":5,"args":[]}': NAME,
    b'{"name":[""],"args":[]}': DENIED,
    b'{"name":["manifest",""],"args":[]}': DENIED,
    b'{"name":["Manifest"],"args":[]}': DENIED,
    b'{"name":["manifest\\u0000"],"args":[]}': DENIED,
    b'{"name":["manifest.manifest"],"args":[]}': DENIED,
    b'{"name":["\\ud800"],"args":[]}': DENIED,
    b'{"name":["\xff"],"args":[]}': DENIED,
    b'{"name":["__proto__"],"args":[]}': LISTED,
    b'{"name":["constructor"],"args":[]}': LISTED,
    b'{"name":["__proto__","constructor"],"args":[]}': LISTED,
    b'{"name":["__proto__","polluted"],"args":[{"__proto__":{"admin":true}}]}': DENIED,
    b'{"name":["hasOwnProperty"],"args":[]}': LISTED,
    b'{"__proto__":{"name":["manifest"]},"args":[]}': NAME,
    b'{"name":["invite","use"],"args":[{"feed":"@"}]}': DENIED,
    b'{"name":["invite","create"],"args":[1000]}': DENIED,
    b'{"name":["status"],"args":[]}': DENIED,
    b'{"name":["close"],"args":[]}': DENIED,
    b'{"name":["publish"],"args":[{"type":"post"}]}': DENIED,
}
NO_STREAMS = {
    b'{"name":["ebt","replicate"],"args":[]}': KIND,
    b'{"name":["ebt","replicate"],"args":[],"type":"async"}': KIND,
    b'{"name":["ebt","replicate"],"args":[],"type":"sync"}': KIND,
    b'{"name":["ebt","replicate"],"args":[],"type":"Duplex"}': KIND,
    b'{"name":["ebt","replicate"],"args":[],"type":["duplex"]}': KIND,
    b'{"name":["ebt","replicate"],"args":[],"type":null}': KIND,
    b'{"name":["ebt","replicate"],"args":[{"version":3}],"type":"source"}': "no source:ebt,replicate",
    b'{"name":["ebt","replicate"],"args":[{"version":3}],"type":"sink"}': "no sink:ebt,replicate",
    b'{"name":["createHistoryStream"],"args":[{}],"type":"duplex"}': "no duplex:createHistoryStream",
    b'{"name":["manifest"],"args":[],"type":"source"}': "no source:manifest",
    b'{"name":["blobs","get"],"args":["&x"],"type":"source"}': DENIED,
    b'{"name":["blobs","add"],"args":[],"type":"sink"}': DENIED,
    b'{"name":["tunnel","connect"],"args":[{}],"type":"duplex"}': DENIED,
    b'{"name":["room","attendants"],"args":[],"type":"source"}': DENIED,
    b'{"name":["createLogStream"],"args":[],"type":"source"}': DENIED,
    b'{"name":["createWriteStream"],"args":[],"type":"sink"}': DENIED,
}
ELSEWHERE = ["blobs.has", "blobs.size", "blobs.want", "room.metadata", "tunnel.isRoom", "tunnel.ping", "private.unbox"]

NUMBERS = ["2**53", "1e308", "-1", "-1e308", "5e-324", "0.5", "1e400", "null", "true", '"7"', "[]", "{}", "-0"]
HUGE = "9" * 5000


async def test_calls_that_are_none(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for number, (body, refusal) in enumerate(NO_CALLS.items(), start=1):
            await line.send(packet(number, body))
            assert refusal in await line.text(number), body
        assert await line.is_served()


async def test_streams_that_are_none(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for number, (body, refusal) in enumerate((NO_CALLS | NO_STREAMS).items(), start=1):
            if body not in NO_STREAMS and refusal not in (ARGS, NAME):
                continue
            await line.send(packet(number, body, STREAM | JSON))
            assert refusal in await line.text(number), body
        assert await line.is_served()


async def test_what_this_pub_does_not_have(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for number, name in enumerate(ELSEWHERE, start=1):
            await line.send(request(number, name))
            assert DENIED in await line.text(number)
        assert await line.is_served()


async def test_a_name_as_long_as_a_request(house: House) -> None:
    """It comes back in the refusal, and goes nowhere else."""
    async with house.watched(), enter(house) as line:
        for number, part in enumerate(("x", '"', "\\", "\0", "€", "\U0001f600"), start=1):
            room = MAX_REQUEST_BODY - 100
            size = len(msgspec.json.encode(part)) - 2
            await line.send(packet(number, {"name": [part * (room // size)], "args": []}))
            assert DENIED in await line.text(number)
        await line.send(
            packet(50, {"name": [""] * 20_000, "args": []}), packet(51, {"name": ["constructor"] * 4000, "args": []})
        )
        assert DENIED in await line.text(50)
        assert LISTED in await line.text(51)
        assert await line.is_served()


@pytest.mark.parametrize("brackets", [b"[]", b"{}"], ids=["lists", "objects"])
async def test_depth(house: House, brackets: bytes) -> None:
    """Up to what can be walked through it is an odd argument; deeper, nobody reads on."""
    opening, closing = (b"[", b"]") if brackets == b"[]" else (b'{"a":', b"}")

    def nested(depth: int) -> bytes:
        return b'{"name":["manifest"],"args":[' + opening * depth + b"1" + closing * depth + b"]}"

    async with house.watched():
        async with enter(house) as line:
            await line.send(packet(1, nested(50)))
            assert b"createHistoryStream" in (await line.answer(1)).body
        for depth in (100, 1000, 5000, 8000):
            async with enter(house) as line:
                await line.send(packet(1, nested(depth)))
                assert await line.rest() == []


async def test_numbers_where_numbers_are_read(house: House) -> None:
    """In the options of a history stream, of a ping and of EBT."""
    numbers = [str(2**53) if each == "2**53" else each for each in NUMBERS] + [HUGE, "-" + HUGE]
    feed = msgspec.json.encode((await house.ask("whoami"))["id"]).decode()
    async with house.watched(), enter(house) as line:
        number = 0
        for value in numbers:
            for key in ("seq", "sequence", "limit", "live", "old", "keys", "values", "sync"):
                for live in ("true", "false"):
                    number += 1
                    args = f'[{{"id":{feed},"live":{live},"{key}":{value}}}]'
                    body = f'{{"name":["createHistoryStream"],"args":{args},"type":"source"}}'
                    await line.send(packet(number, body.encode(), STREAM | JSON))
            for name, key in (("gossip.ping", "timeout"), ("ebt.replicate", "version"), ("ebt.replicate", "format")):
                number += 1
                body = f'{{"name":{name.split(".")},"args":[{{"{key}":{value}}}],"type":"duplex"}}'.replace("'", '"')
                await line.send(packet(number, body.encode(), STREAM | JSON), packet(number, b"1", STREAM | JSON))
        assert await line.is_served()


async def test_ids_where_ids_are_read(house: House) -> None:
    ids = [
        "null",
        "5",
        "{}",
        "[]",
        '""',
        '"@"',
        f'"@{"A" * 43}=.ed25519"',
        f'"{"x" * 50_000}"',
        '"\\ud800"',
        '"__proto__"',
    ]
    async with house.watched(), enter(house) as line:
        for number, value in enumerate(ids, start=1):
            for live in ("true", "false"):
                body = f'{{"name":["createHistoryStream"],"args":[{{"id":{value},"live":{live}}}],"type":"source"}}'
                await line.send(packet(2 * number + (live == "true"), body.encode(), STREAM | JSON))
        for number, args in enumerate(("[null]", "[[]]", "[5]", "[]", "[{},{},{}]"), start=100):
            body = f'{{"name":["createHistoryStream"],"args":{args},"type":"source"}}'
            await line.send(packet(number, body.encode(), STREAM | JSON))
            assert await line.text(number) == "true"
        assert await line.is_served()


async def test_ebt_twice_and_again(house: House) -> None:
    """Each call ends the one before, on this connection and on others of the same peer."""
    keys = somebody()
    async with house.watched(), enter(house, keys) as first, enter(house, keys) as second:
        for number in range(1, 200):
            await first.send(packet(number, EBT, STREAM | JSON))
            await second.send(packet(number, EBT, STREAM | JSON))
        assert await first.is_served()
        assert await second.is_served()


async def test_requests_at_random(house: House) -> None:
    """JSON of any shape in the places of a request."""
    shapes: list[Any] = [
        None,
        True,
        0,
        -1,
        2**53,
        1e308,
        "",
        "duplex",
        "source",
        "manifest",
        "__proto__",
        [],
        {},
        [[]],
        [{}],
        [None],
    ]
    async with house.watched(), enter(house) as line:
        for number in range(1, 3000):
            body = {
                RNG.choice(["name", "Name", "__proto__"]): RNG.choice(
                    [*shapes, ["ebt", "replicate"], ["gossip", "ping"]]
                ),
                RNG.choice(["args", "args", "arguments"]): RNG.choice([[RNG.choice(shapes)], RNG.choice(shapes)]),
                "type": RNG.choice(shapes),
            }
            await line.send(packet(number, body, RNG.choice([JSON, STREAM | JSON])))
        assert await line.is_served(), HERE
