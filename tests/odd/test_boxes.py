"""Odd boxes: bytes changed, left out, said again or made up behind a good handshake."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from nacl.bindings import crypto_secretbox

from pub.net.stream import SecretStream
from pub.protocol.boxstream import Boxer
from tests.odd.house import House
from tests.odd.lines import RNG, Line, is_closed_without_a_word, knock, request, say_no_more, shake_hands

pytestmark = pytest.mark.slow

HEADER = 34
MANIFEST = request(1, "manifest")


class Forger(Boxer):
    """Makes boxes that say of themselves what it likes."""

    def __init__(self, boxer: Boxer) -> None:
        self._key, self._counter = boxer._key, boxer._counter

    def claim(self, length: int, body: bytes) -> bytes:
        """A box whose header says ``length``, whatever is in it."""
        sealed = crypto_secretbox(body, self._nonce(1), self._key)
        header = crypto_secretbox(length.to_bytes(2, "big") + sealed[:16], self._nonce(0), self._key)
        self._counter += 2
        return header + sealed[16:]

    def _nonce(self, more: int) -> bytes:
        return ((self._counter + more) % 2**192).to_bytes(24, "big")


@asynccontextmanager
async def forging(house: House) -> AsyncIterator[tuple[SecretStream, Forger]]:
    """A stranger who is in, and writes the boxes with its own hand."""
    transport = await knock(house)
    try:
        secret = await shake_hands(house, transport)
        yield secret, Forger(secret._boxer)
    finally:
        await trio.aclose_forcefully(transport)


def flipped(at: int) -> Callable[[Forger], bytes]:
    def forge(forger: Forger) -> bytes:
        box = bytearray(forger.box(MANIFEST))
        box[at] ^= 0x80
        return bytes(box)

    return forge


ODD: dict[str, Callable[[Forger], bytes]] = {
    "a bit of the header's tag": flipped(0),
    "a bit of the length": flipped(16),
    "a bit of the body's tag": flipped(20),
    "the header's last bit": flipped(HEADER - 1),
    "the first byte of the body": flipped(HEADER),
    "the last byte of the body": flipped(-1),
    "noise": lambda _forger: RNG.randbytes(1 << 20),
    "zeros": lambda _forger: bytes(1 << 16),
    "one byte more than a box holds": lambda forger: forger.claim(4097, bytes(4097)),
    "the longest that two bytes can say": lambda forger: forger.claim(0xFFFF, bytes(0xFFFF)),
    "a length that is too short": lambda forger: forger.claim(len(MANIFEST) - 1, MANIFEST),
    "a length that is too long": lambda forger: (
        forger.claim(len(MANIFEST) + 40, MANIFEST + bytes(40))[:-1] + b"\0" * 41
    ),
    "a box left out": lambda forger: (forger.box(MANIFEST), forger.box(MANIFEST))[1],
    "boxes in another order": lambda forger: b"".join(reversed([forger.box(MANIFEST), forger.box(MANIFEST)])),
}


@pytest.mark.parametrize("forge", ODD.values(), ids=ODD)
async def test_a_box_that_does_not_open(house: House, forge: Callable[[Forger], bytes]) -> None:
    async with house.watched():
        for _ in range(3):
            async with forging(house) as (secret, forger):
                await Line(secret.transport).send(forge(forger))
                assert await Line(secret).rest() == []


async def test_a_box_said_twice(house: House) -> None:
    """The first is answered, its replay is the end."""
    async with house.watched(), forging(house) as (secret, forger):
        box, line = forger.box(MANIFEST), Line(secret)
        await secret.transport.send_all(box)
        assert (await line.answer(1)).body
        await secret.transport.send_all(box)
        assert await line.rest() == []


async def test_boxes_of_nothing_are_stepped_over(house: House) -> None:
    async with house.watched(), forging(house) as (secret, forger):
        await secret.transport.send_all(b"".join(forger.claim(0, b"") for _ in range(1000)) + forger.box(MANIFEST))
        assert (await Line(secret).answer(1)).body


async def test_half_a_box_and_no_more(house: House) -> None:
    async with house.watched():
        for cut in (1, HEADER - 1, HEADER, HEADER + 1, -1):
            async with forging(house) as (secret, forger):
                await secret.transport.send_all(forger.box(MANIFEST)[:cut])
                assert isinstance(secret.transport, trio.SocketStream)
                await say_no_more(secret.transport)
                assert await Line(secret).rest() == []


async def test_goodbye_and_then_data(house: House) -> None:
    """Nothing counts after a goodbye."""
    async with house.watched():
        async with forging(house) as (secret, forger):
            await secret.transport.send_all(forger.box(MANIFEST) + forger.goodbye() + 50 * forger.box(MANIFEST))
            assert len(await Line(secret).rest()) <= 1
        async with forging(house) as (secret, forger):
            await Line(secret.transport).send(forger.goodbye() + RNG.randbytes(1 << 20))
            assert await Line(secret).rest() == []
            assert await is_closed_without_a_word(secret.transport)
