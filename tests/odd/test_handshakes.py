"""Odd bytes instead of a handshake, and in it: every one of these finds a closed socket, and not a word."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from nacl.bindings import crypto_secretbox

from pub.protocol.keys import KeyPair
from pub.protocol.shs import ACCEPT_BYTES, HELLO_BYTES, MAIN_NETWORK, PROOF_BYTES, ClientHandshake
from tests.odd.house import HANDSHAKE_SECONDS, House
from tests.odd.lines import (
    RNG,
    Line,
    Wrapped,
    enter,
    is_closed_without_a_word,
    knock,
    request,
    say_no_more,
    shake_hands,
    somebody,
)

pytestmark = pytest.mark.slow

ZERO = bytes(32)
ONE = bytes([1]).ljust(32, b"\0")
# X25519 points of low order, two of them not reduced, and the Ed25519 identities of small order
LOW_ORDER = [
    ZERO,
    ONE,
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
TLS = bytes.fromhex("16030100f5010000f10303") + RNG.randbytes(234)
INSTEAD = {
    "one byte": b"\0",
    "all but one byte": bytes(63),
    "zeros": bytes(HELLO_BYTES),
    "noise": RNG.randbytes(HELLO_BYTES),
    "a megabyte of noise": RNG.randbytes(1 << 20),
    "http": b"GET / HTTP/1.1\r\nHost: pub.example.org\r\nUser-Agent: Mozilla/5.0 (a scanner)\r\n\r\n",
    "tls": TLS,
    "ssh": b"SSH-2.0-OpenSSH_9.2p1\r\n".ljust(HELLO_BYTES, b"\0"),
    "muxrpc": request(1, "whoami").ljust(HELLO_BYTES, b" "),
}


def hello(ephemeral: bytes, network: bytes = MAIN_NETWORK) -> bytes:
    """With a good MAC, whatever the key."""
    return hmac.digest(network, ephemeral, "sha512")[:32] + ephemeral


@pytest.mark.parametrize("data", INSTEAD.values(), ids=INSTEAD)
async def test_something_else_than_a_handshake(house: House, data: bytes) -> None:
    async def one() -> None:
        async with await knock(house) as stream:
            with trio.move_on_after(HANDSHAKE_SECONDS / 2):  # the pub reads no more than it needs
                await Line(stream).send(data)
            if len(data) < HELLO_BYTES:
                await say_no_more(stream)
            assert await is_closed_without_a_word(stream)

    async with house.watched(), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)


async def are_all_closed_without_a_word(house: House, attempts: list[bytes]) -> None:
    """Each is held for a while, so all are made at once."""
    async with house.watched(), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await knock(house)) for _ in attempts]
        for stream, data in zip(streams, attempts, strict=True):
            await stream.send_all(data)
        for stream in streams:
            assert await is_closed_without_a_word(stream)


async def test_nothing_at_all(house: House) -> None:
    async with house.watched():
        timeouts = await house.limit_hits("handshake_seconds")
        stream = await knock(house)
        assert await is_closed_without_a_word(stream)
        await stream.aclose()
        assert await house.limit_hits("handshake_seconds") == timeouts + 1


async def test_a_low_order_hello(house: House) -> None:
    """One of these kills the reference server."""
    await are_all_closed_without_a_word(house, [hello(point) + RNG.randbytes(PROOF_BYTES) for point in LOW_ORDER])


@pytest.mark.parametrize("identity", [ONE, *LOW_ORDER[:1], *LOW_ORDER[4:]], ids=lambda key: key.hex()[:8])
async def test_the_capability_bypass(house: House, identity: bytes) -> None:
    """Cremers and Jackson: with a·b and a·B zero, who knows the network key alone can make the box; and a signature
    R = identity, S = 0 under an identity of small order fits whatever it is to sign, if nobody looks closely."""
    key = hashlib.sha256(MAIN_NETWORK + ZERO + ZERO).digest()
    proof = crypto_secretbox(ONE + ZERO + identity, bytes(24), key)
    await are_all_closed_without_a_word(house, [hello(point) + proof for point in LOW_ORDER])


async def test_the_recorded_attacks_of_the_vectors(house: House) -> None:
    """They are for another server key: what is left of them must still be harmless."""
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "shs.json").read_text())

    async def attack(messages: list[str]) -> None:
        async with await knock(house) as stream:
            for message in messages:
                await Line(stream).send(bytes.fromhex(message))
            await say_no_more(stream)
            with trio.fail_after(5):
                assert len(await _all_of(stream)) in (0, HELLO_BYTES)

    async with house.watched(), trio.open_nursery() as nursery:
        for failure in vectors["failures"]:
            nursery.start_soon(attack, failure["recv"])


async def _all_of(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        while part := await stream.receive_some():
            data += part
    except trio.BrokenResourceError:
        pass
    return data


def regions() -> Iterator[tuple[str, int, int]]:
    """(name, message, byte): something in every region of both messages of the client."""
    yield from (("mac of the hello", 0, at) for at in (0, 31))
    yield from (("key of the hello", 0, at) for at in (32, 63))
    yield from (("mac of the proof", 1, at) for at in (0, 15))
    yield from (("signature", 1, at) for at in (16, 47, 79))
    yield from (("identity", 1, at) for at in (80, 111))


@pytest.mark.parametrize("name", ["hello", "proof"])
async def test_a_byte_flipped_in_each_region(house: House, name: str) -> None:

    async def attack(region: str, message: int, at: int) -> None:
        async with await knock(house) as stream:
            client = ClientHandshake(somebody(), MAIN_NETWORK, RNG.randbytes(32), house.key)
            await stream.send_all(_flipped(client.hello(), at) if message == 0 else client.hello())
            if message:
                answer = await _exactly(stream, HELLO_BYTES)
                await stream.send_all(_flipped(client.receive_hello(answer), at))
            assert await is_closed_without_a_word(stream), region

    async with house.watched(), trio.open_nursery() as nursery:
        for region, message, at in regions():
            if (message == 0) is (name == "hello"):
                nursery.start_soon(attack, region, message, at)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive_some(count - len(data))
    return data


async def test_another_network_another_server(house: House) -> None:
    async with house.watched():
        for network, server in [(RNG.randbytes(32), house.key), (MAIN_NETWORK, somebody().public)]:
            stream = await knock(house)
            client = ClientHandshake(somebody(), network, RNG.randbytes(32), server)
            await stream.send_all(client.hello())
            if network == MAIN_NETWORK:
                await stream.send_all(client.receive_hello(await _exactly(stream, HELLO_BYTES)))
            assert await is_closed_without_a_word(stream)
            await stream.aclose()


class Recorder(Wrapped):
    """Keeps what goes out."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.sent: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await self.stream.send_all(data)


async def test_a_replayed_session(house: House) -> None:
    """Who listened to a session can say it all again; the pub's half of the key is another."""
    keys = somebody()
    recorder = Recorder(await knock(house))
    line = Line(await shake_hands(house, recorder, keys))
    assert await line.is_served()
    await line.leave()
    await recorder.aclose()
    async with house.watched():
        for parts in (recorder.sent, [b"".join(recorder.sent)]):
            stream = await knock(house)
            for part in parts:
                await Line(stream).send(part)
            assert len(await _all_of(stream)) in (0, HELLO_BYTES)  # closing on unread bytes may take back its hello
            await stream.aclose()


class Dribbler(Wrapped):
    """Sends one byte at a time."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for byte in bytes(data):
            await super().send_all(bytes([byte]))


async def test_one_byte_at_a_time(house: House) -> None:
    async with house.watched():
        transport = await knock(house)
        transport.setsockopt(6, 1, 1)  # TCP_NODELAY: each byte a packet
        line = Line(await shake_hands(house, Dribbler(transport)))
        assert await line.is_served()
        await line.leave()
        await transport.aclose()


async def test_hanging_up_at_every_byte_of_a_handshake(house: House) -> None:
    async with house.watched():
        for count in (1, 32, 63, 64, 65, HELLO_BYTES + PROOF_BYTES - 1, HELLO_BYTES + PROOF_BYTES):
            stream = await knock(house)
            client = ClientHandshake(somebody(), MAIN_NETWORK, RNG.randbytes(32), house.key)
            await stream.send_all(client.hello()[:count])
            if count > HELLO_BYTES:
                proof = client.receive_hello(await _exactly(stream, HELLO_BYTES))
                await stream.send_all(proof[: count - HELLO_BYTES])
            await stream.aclose()


async def test_data_right_behind_the_proof_is_no_offence(house: House) -> None:
    """A hasty client, not an odd one: what it sends before it has the acceptance counts."""
    keys = KeyPair.generate(RNG.randbytes(32))
    async with house.watched():
        stream = await knock(house)
        client = ClientHandshake(keys, MAIN_NETWORK, RNG.randbytes(32), house.key)
        await stream.send_all(client.hello())
        await stream.send_all(client.receive_hello(await _exactly(stream, HELLO_BYTES)) + RNG.randbytes(34))
        client.receive_accept(await _exactly(stream, ACCEPT_BYTES))
        await stream.aclose()


async def test_a_thousand_scans(house: House) -> None:
    """Each is counted; none is worth a line. So many are not all held: the oldest are closed for the next ones."""
    async with house.watched(lines=0), AsyncExitStack() as stack:
        let_go = await house.limit_hits("held_connections")
        streams = []
        for _ in range(1000):
            streams.append(await stack.enter_async_context(await knock(house)))
            await streams[-1].send_all(bytes(HELLO_BYTES))
        for stream in streams:
            assert await is_closed_without_a_word(stream)
        assert await house.limit_hits("held_connections") > let_go


async def test_a_thousand_intruders_who_shake_hands(house: House) -> None:
    """Who comes in and then sends rubbish is counted each time and logged now and then. It is told goodbye at once."""
    async with house.watched():
        for _ in range(1000):
            async with enter(house) as line:
                await line.send(b"\xff" * 9)
                assert await line.rest() == []
