"""Odd packets: every body type, request number and length, for and against the letter of muxrpc."""

import struct
from itertools import product

import pytest

from pub.protocol.muxrpc import BODY_LIMIT, MAX_OPEN_REQUESTS, MAX_REQUEST_BODY
from pub.protocol.packets import GOODBYE, Goodbye
from tests.odd.house import House
from tests.odd.lines import DUPLEX, END, JSON, STREAM, TEXT, Line, enter, packet, request

pytestmark = pytest.mark.slow

MOST = 2**31 - 1
NUMBERS = [1, 2, MOST, 0, -1, -MOST, -MOST - 1]
FLAGS = [flags for flags in range(16) if flags & 3 != 3]
TOO_LONG = (BODY_LIMIT + 1, 2**31, 2**32 - 1)
PING = ("gossip.ping", {"timeout": 300_000})


# --- lengths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", TOO_LONG)
async def test_a_gigantic_length_ends_the_connection_before_its_body_comes(house: House, length: int) -> None:
    """Of every type, with every flag, for every number: the reference server waits for ever for the rest."""
    async with house.watched():
        for number, flags in product(NUMBERS, FLAGS):
            async with enter(house) as line:
                await line.send(packet(number, b"{", flags, length=length))
                assert await line.rest() == []


async def test_a_gigantic_length_on_an_open_stream(house: House) -> None:
    async with house.watched():
        for flags in (STREAM, STREAM | TEXT, STREAM | JSON, STREAM | JSON | END):
            async with enter(house) as line:
                await line.send(request(1, *PING, kind=DUPLEX), packet(1, b"1", flags, length=2**32 - 1))
                assert await line.rest() == []


async def test_a_body_of_nothing_says_nothing(house: House) -> None:
    """JavaScript reads a goodbye there; for us only number 0 is one. A million bytes of them cost nothing."""
    async with house.watched(), enter(house) as line:
        numbers = [number for number in NUMBERS if number != 0]
        await line.send(*(packet(number, b"", flags) for number, flags in product(numbers, FLAGS) if not flags & END))
        assert await line.is_served()
        await line.send(packet(7, b"", JSON) * 100_000)
        assert await line.is_served(10_000)


async def test_a_body_of_nothing_for_number_0_is_a_goodbye(house: House) -> None:
    async with house.watched():
        for flags in range(16):
            async with enter(house) as line:
                await line.send(packet(0, b"", flags))
                assert isinstance(await line.next(), Goodbye)
                assert await line.rest() == []


async def test_a_request_larger_than_any_is_refused_and_the_next_one_served(house: House) -> None:
    async with house.watched(), enter(house) as line:
        body = {"name": ["manifest"], "args": ["x" * MAX_REQUEST_BODY], "type": "async"}
        await line.send(packet(1, body))
        assert "request is too large" in await line.text(1)
        assert await line.is_served()


# --- types ----------------------------------------------------------------------------------------------------


async def test_a_body_type_that_does_not_exist(house: House) -> None:
    async with house.watched():
        for number, flags in product(NUMBERS, (3, 7, 11, 15)):
            async with enter(house) as line:
                await line.send(packet(number, b"{}", flags))
                assert await line.rest() == []


async def test_the_upper_half_of_the_flags_means_nothing(house: House) -> None:
    async with house.watched(), enter(house) as line:
        await line.send(packet(1, {"name": ["manifest"], "args": []}, JSON | 0xF0))
        assert b"createHistoryStream" in (await line.answer(1)).body


async def test_requests_that_are_not_json(house: House) -> None:
    """Text and bytes are no calls: refused. What says that it is JSON and is not, is the end."""
    async with house.watched():
        async with enter(house) as line:
            for number, flags in enumerate((0, TEXT, STREAM, STREAM | TEXT), start=1):
                await line.send(packet(number, b'{"name":["manifest"],"args":[]}', flags))
                assert "args should be array" in await line.text(number)
            assert await line.is_served()
        for body in (
            b"\xff\xfe",
            b"{",
            b"nul",
            b"NaN",
            b'{"name":["manifest"],"args":[NaN]}',
            b"'",
            b"\0",
            b"[" * 60_000,
        ):
            async with enter(house) as line:
                await line.send(packet(1, body))
                assert await line.rest() == []


# --- numbers --------------------------------------------------------------------------------------------------


async def test_answers_to_what_nobody_asked(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for number, flags in product((-1, -2, -MOST, -MOST - 1, 0), FLAGS):
            await line.send(packet(number, b"true", flags))
        assert await line.is_served()


async def test_the_largest_number_again_and_again(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for _ in range(10):
            await line.send(request(MOST, "manifest"))
            assert b"createHistoryStream" in (await line.answer(MOST)).body
        await line.send(request(MOST, *PING, kind=DUPLEX), request(MOST, "manifest"))
        assert "is in use" in await line.text(MOST)
        await line.send(packet(MOST, b"1", STREAM | JSON))
        assert (await line.text(MOST)).isdecimal(), "the stream that had the number first goes on"


async def test_one_number_for_two_calls_at_once(house: House) -> None:
    async with house.watched(), enter(house) as line:
        await line.send(request(1, *PING, kind=DUPLEX), request(1, "manifest"))
        assert "is in use" in await line.text(1)
        assert await line.is_served()


async def test_ends_in_every_number(house: House) -> None:
    """Two ends, ends before a start, data after an end, and an end that is an error, or rubbish, or too long."""
    ends = [b"true", b"null", b"0", b'{"message":5,"name":[]}', b"x" * 100_000, b"\xff", b"[" * 1000, b""]
    async with house.watched(), enter(house) as line:
        for number, body in enumerate(ends, start=1):
            over = packet(number, body, STREAM | JSON | END)
            await line.send(over, over, request(number, *PING, kind=DUPLEX), packet(number, b"1", STREAM | JSON), over)
            await line.send(3 * packet(number, b"1", STREAM | JSON), over, packet(number, body or b"1", JSON | END))
        assert await line.is_served()


async def test_an_end_of_what_was_refused_and_its_echo(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for number in range(1, 3000):
            await line.send(request(number, "no.such.stream", kind="source"))
            assert b"not in list" in (await line.answer(number)).body
        assert await line.is_served()


# --- how it comes -----------------------------------------------------------------------------------------------


async def test_one_byte_in_each_box(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for byte in request(1, "manifest") + packet(2, {"name": ["manifest"], "args": []}):
            await line.send(bytes([byte]))
        assert b"createHistoryStream" in (await line.answer(2)).body


async def test_goodbye_and_then_data(house: House) -> None:
    async with house.watched():
        for behind in (request(1, "manifest"), b"\xff" * 100_000, packet(1, b"", 3)):
            async with enter(house) as line:
                await line.send(GOODBYE + behind)
                assert isinstance(await line.next(), Goodbye)
                assert await line.rest() == []


async def test_a_header_and_then_nothing(house: House) -> None:
    """It is no offence to be slow; whoever hangs up in the middle is gone like everybody else."""
    async with house.watched():
        for cut in range(1, 12):
            async with enter(house) as line:
                await line.send(request(1, "manifest")[:cut])


async def test_packets_of_one_byte_as_fast_as_they_go(house: House) -> None:
    """Answers, pings and refusals by the hundred thousand, from a peer that reads them."""
    async with house.watched(), enter(house) as line:
        for data in (packet(-5, b"1", STREAM | JSON), packet(5, b"1", JSON | END), packet(0, b"1")):
            await line.send(data * 100_000)
            assert await line.is_served()  # within seconds: what is for nobody is cheap, for both sides


async def _refused(line: Line, first: int, count: int) -> None:
    await line.send(*(packet(number, b"{}") for number in range(first, first + count)))
    for number in range(first, first + count):
        assert b"args should be array" in (await line.answer(number)).body


async def test_refusals_cost_nothing_that_lasts(house: House) -> None:
    async with house.watched(), enter(house) as line:
        for first in range(1, 5 * MAX_OPEN_REQUESTS, MAX_OPEN_REQUESTS // 4):
            await _refused(line, first, MAX_OPEN_REQUESTS // 4)
        assert await line.is_served(10**6)


def test_a_packet_is_what_the_wire_says() -> None:
    """The tool of these tests itself."""
    assert packet(-2, b"ab", STREAM | JSON, length=9) == struct.pack(">BIi", 10, 9, -2) + b"ab"
