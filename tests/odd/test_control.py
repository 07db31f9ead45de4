"""Odd bytes on the control socket, and odd arguments with all rights: whoever may open it is no enemy, but may slip."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from pub.protocol.muxrpc import Kind
from pub.protocol.packets import GOODBYE
from pub.service.wiring import METHODS
from tests.odd.house import House
from tests.odd.lines import JSON, RNG, STREAM, Line, packet, request, somebody

pytestmark = pytest.mark.slow

GARBAGE = {
    "noise": RNG.randbytes(100_000),
    "zeros": bytes(100_000),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "gigantic": packet(1, b"{", length=2**32 - 1),
    "null": packet(1, b"null"),
    "half a header": b"\x02\0\0",
    "goodbye twice": 2 * GOODBYE,
}
ODD_ARGS = [
    *(
        "[]",
        "[null]",
        "[true]",
        "[0]",
        "[-1]",
        "[1e308]",
        f"[{2**53}]",
        "[1.5]",
        '[""]',
        '["@"]',
        '["\\ud800"]',
        "[[]]",
    ),
    *('[{"__proto__":1}]', "[[[[[[]]]]]]", f'["{"x" * 5000}"]', "[{}]", '[{"after":5}]', '[{"after":"@"}]'),
    *('[{"uses":"x"}]', '[{"uses":1e308}]', '[{"uses":1,"note":5}]', '[{"uses":1,"note":"\\ud800"}]'),
    *('[{"uses":1,"expires":-1}]', '[{"uses":1,"expires":1e308}]', '[{"uses":1,"external":"\\u0000"}]'),
    *('[{"uses":1,"external":{}}]', '["net:x:1~shs:y"]', '["net:[::1]:99999~shs:AAAA"]', '[{"id":"@x","live":true}]'),
]


@asynccontextmanager
async def dialled(house: House) -> AsyncIterator[Line]:
    async with await trio.open_unix_socket(str(house.pub.folder / "socket")) as stream:
        yield Line(stream)


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_garbage(house: House, data: bytes) -> None:
    async with house.watched():
        for _ in range(5):
            async with dialled(house) as line:
                await line.send(data)


async def test_every_method_with_every_argument(house: House) -> None:
    """By every kind of call. Each gets an answer or its end; none finds a bug."""
    async with house.watched(), dialled(house) as line:
        number = 0
        for name in METHODS:
            for args in ODD_ARGS:
                for kind in Kind:
                    number += 1
                    words = ",".join(f'"{part}"' for part in name)
                    body = f'{{"name":[{words}],"args":{args},"type":"{kind}"}}'.encode()
                    await line.send(packet(number, body, JSON if kind is Kind.ASYNC else JSON | STREAM))
                    if kind is Kind.ASYNC and METHODS[name].kind is Kind.ASYNC:
                        assert (await line.answer(number)).body
        await line.send(request(10**6, "status"))
        assert '"internal_errors":0' in await line.text(10**6)


async def test_the_operator_means_somebody_that_is_nobody(house: House) -> None:
    async with house.watched():
        for name in ("follow", "unfollow", "block", "unblock"):
            async with dialled(house) as line:
                await line.send(request(1, f"friends.{name}", somebody().id))
                assert (await line.answer(1)).body
