"""Odd frames on an EBT stream: what is no object is the end of the connection, what is no note says nothing."""

from contextlib import AsyncExitStack

import msgspec
import pytest

from pub.net.peer import MAX_HELD_BYTES
from pub.protocol.feedsets import MAX_UNKNOWN_WANTS
from pub.protocol.refs import feed_id
from pub.rpc.ebt import CLOCK_LIMIT
from tests.odd.house import House
from tests.odd.lines import END, JSON, RNG, STREAM, TEXT, Line, begin_ebt, enter, packet, somebody

pytestmark = pytest.mark.slow

NO_OBJECTS = [
    *(b"null", b"true", b"false", b"0", b"-1", b'"x"', b"[]", b"[null]", b"NaN", b"{", b'{"a":}', b"nul", b"\0"),
    *(b"\xff\xfe\xfd", b"\xef\xbb\xbf{}", b"{}{}", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000),
    b'{"content":' * 5000 + b"1" + b"}" * 5000,
]
NO_NOTES: list[object] = [
    *(None, True, 0.5, -2, 2**31, 2**53, 2**64, 1e308, -1e308, "", "7", [], [1], {}, {"a": 1}, {"replicate": True}),
]
NO_FEEDS = ["", "@", "__proto__", "constructor", "x" * 50_000, "\0", "@" + "A" * 43 + "=.ed25519 ", "€" * 100]


async def is_at_peace(line: Line) -> bool:
    """Does the pub go on with this peer, and with EBT on this connection?"""
    stranger = somebody().id
    await line.send(packet(1, {stranger: 0}, STREAM | JSON))
    while stranger not in (notes := msgspec.json.decode((await line.answer(1)).body)):
        pass
    return bool(notes[stranger] == -1)


async def test_a_frame_that_is_no_object(house: House) -> None:
    """`null` kills the reference server."""
    async with house.watched():
        for body in NO_OBJECTS:
            async with enter(house) as line:
                await begin_ebt(line)
                await line.send(packet(1, body, STREAM | JSON))
                assert await line.rest() == [], body[:20]


async def test_frames_that_are_no_json(house: House) -> None:
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        for flags in (STREAM, STREAM | TEXT):
            await line.send(packet(1, b"null", flags), packet(1, b"\xff" * 1000, flags), packet(1, b"", flags))
        assert await is_at_peace(line)


async def test_notes_of_nonsense(house: House) -> None:
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        for value in NO_NOTES:
            await line.send(packet(1, {somebody().id: value}, STREAM | JSON))
        for key in NO_FEEDS:
            await line.send(packet(1, {key: 2}, STREAM | JSON))
        await line.send(packet(1, {"clock": dict.fromkeys(NO_FEEDS[:3], 1)}, STREAM | JSON))
        assert await is_at_peace(line)


@pytest.mark.parametrize(
    "sequence", ["2**53", "1e308", "-1", "0", "1.5", '"1"', "null", "9" * 400, "1e400", "-0", "[]"]
)
async def test_messages_whose_sequence_is_no_sequence(house: House, sequence: str) -> None:
    """Of a feed that the pub asks for: they are no messages, or not the next one."""
    value = sequence.replace("2**53", str(2**53))
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        body = f'{{"author":"{(await house.ask("whoami"))["id"]}","sequence":{value},"content":{{"type":"post"}}}}'
        await line.send(packet(1, body.encode(), STREAM | JSON))
        assert await is_at_peace(line)


async def test_a_clock_of_130_000_unknown_feeds(house: House) -> None:
    """As large as a frame may be, three times over; what is beyond the bound is counted and not remembered."""
    notes = {feed_id(RNG.randbytes(32)): 2 for _ in range(130_000)}
    body = msgspec.json.encode(notes)
    assert len(body) < CLOCK_LIMIT
    async with house.watched(memory=CLOCK_MEMORY), enter(house) as line:
        refused = await house.limit_hits("unknown_wants")
        await begin_ebt(line)
        for _ in range(3):
            await line.send(packet(1, body, STREAM | JSON))
        assert await line.is_served()
        hits = await house.limit_hits("unknown_wants") - refused
        assert hits >= 3 * (len(notes) - MAX_UNKNOWN_WANTS)


CLOCK_MEMORY = 96 << 20  # such a frame is 8 MB on the wire and five times that as a dictionary, for a moment
ROOM = CLOCK_LIMIT - 100
LARGE = {
    "lists in a note": b'{"a":[' + b"[]," * (ROOM // 3) + b"1]}",
    "numbers in a note": b'{"a":[' + b"1," * (ROOM // 2) + b"1]}",
    "short names": b"{" + b",".join(b'"%x":0' % n for n in range(ROOM // 11)) + b"}",
    "floats": b"{" + b",".join(b'"%x":.5' % n for n in range(ROOM // 12)) + b"}",
    "one name": b"{" + b'"a":0,' * (ROOM // 6) + b'"a":0}',
    "depth": b"[" * ROOM,
    "depth of objects": b'{"a":' * (ROOM // 5),
    "nothing but space": b" " * ROOM,
    "a long text": b'{"a":"' + b"x" * ROOM + b'"}',
    "escapes": b'{"a":"' + rb"\ud800" * (ROOM // 6) + b'"}',
    "a message": b'{"author":"@x","sequence":1,"content":"' + b"x" * ROOM + b'"}',
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
async def test_the_largest_frames_that_are_no_clocks(house: House, body: bytes) -> None:
    """Eight megabytes of JSON can be a hundred times that as objects, and seconds of work: it does not come to it."""
    assert len(body) <= CLOCK_LIMIT
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        await line.send(packet(1, body, STREAM | JSON))
        assert await line.rest() == []


async def test_large_frames_that_never_end(house: House) -> None:
    """Many peers announce the largest clock there is, send all but its last byte, and wait."""
    peers = 40
    async with house.watched(memory=MAX_HELD_BYTES + CLOCK_MEMORY), AsyncExitStack() as stack:
        refused = await house.limit_hits("held_bytes")
        for _ in range(peers):
            line = await stack.enter_async_context(enter(house))
            await begin_ebt(line)
            await line.send(packet(1, b" " * (CLOCK_LIMIT - 1), STREAM | JSON, length=CLOCK_LIMIT))
        assert await house.limit_hits("held_bytes") - refused >= peers - MAX_HELD_BYTES // CLOCK_LIMIT - 1


async def test_ends_of_every_kind(house: House) -> None:
    """After its end a stream is over, whatever comes for it still."""
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        over = packet(1, b"true", STREAM | JSON | END)
        await line.send(over, over, packet(1, b'{"@x":1}', STREAM | JSON), over)
        assert await line.is_served()
