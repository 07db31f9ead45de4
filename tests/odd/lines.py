"""What odd peers have: a wire to the pub, and any bytes they like."""

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import trio

from pub.errors import HungUp
from pub.net.stream import SecretStream, open_handshake
from pub.protocol.keys import KeyPair
from pub.protocol.packets import GOODBYE, Goodbye, Packet, PacketReader
from pub.protocol.shs import MAIN_NETWORK
from tests.odd.house import PATIENCE, House

RNG = random.Random(2)
HERE = "127.0.0.1"
STREAM, END, TEXT, JSON = 8, 4, 1, 2

DUPLEX = "duplex"
EBT = {"name": ["ebt", "replicate"], "args": [{"version": 3}], "type": DUPLEX}
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def somebody() -> KeyPair:
    """Whom the pub has never met."""
    return KeyPair.generate(RNG.randbytes(32))


def packet(number: int, body: object, flags: int = JSON, *, length: int | None = None) -> bytes:
    """Any packet whatsoever; a body that is no bytes is written as JSON. ``length`` is what the header says."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return struct.pack(">BIi", flags, len(data) if length is None else length, number) + data


def request(number: int, name: str, *args: Any, kind: str = "async") -> bytes:
    """A call as everybody makes it."""
    body = {"name": name.split("."), "args": args, "type": kind}
    return packet(number, body, JSON if kind == "async" else JSON | STREAM)


class Wrapped(trio.abc.Stream):
    """A stream over another; whoever derives from it does something odd."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


class Line:
    """One connection of an odd peer. It raises what a test need not care about: nothing, when the pub hung up."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = PacketReader(lambda _number: 1 << 30)

    async def send(self, *data: bytes) -> bool:
        """False: the pub has hung up."""
        try:
            await self.stream.send_all(b"".join(data))
        except GONE:
            return False
        return True

    async def next(self) -> Packet | Goodbye | None:
        """The pub's next packet; ``None`` once it has hung up."""
        with trio.fail_after(PATIENCE):
            while (found := self._reader.next_packet()) is None:
                try:
                    data = await self.stream.receive_some()
                except (*GONE, HungUp):
                    return None
                if not data:
                    return None
                self._reader.receive_data(bytes(data))
            return found

    async def answer(self, number: int) -> Packet:
        """The next packet about this request of ours."""
        while (found := await self.next()) is not None:
            if isinstance(found, Packet) and found.request == -number:
                return found
        raise AssertionError(f"the pub hung up and did not answer {number}")

    async def text(self, number: int) -> str:
        """What the pub's next packet about this request says."""
        return (await self.answer(number)).body.decode()

    async def answers(self, count: int) -> list[bytes]:
        """The bodies of the next packets, whatever they answer."""
        bodies: list[bytes] = []
        while len(bodies) < count:
            found = await self.next()
            assert isinstance(found, Packet), "the pub hung up"
            bodies.append(found.body)
        return bodies

    async def page(self, number: int) -> list[bytes]:
        """All data of this stream until the pub ends it."""
        bodies = []
        while not (found := await self.answer(number)).end:
            bodies.append(found.body)
        return bodies

    async def rest(self) -> list[Packet]:
        """All that the pub says until it hangs up, which it must."""
        packets = []
        while (found := await self.next()) is not None:
            if isinstance(found, Packet):
                packets.append(found)
        return packets

    async def is_served(self, number: int = 9999) -> bool:
        """Is this connection as good as ever?"""
        await self.send(request(number, "manifest"))
        return b'"createHistoryStream"' in (await self.answer(number)).body

    async def leave(self) -> None:
        """Say goodbye and wait for the pub's."""
        await self.send(GOODBYE)
        await self.rest()


async def knock(house: House, host: str = HERE, receive_buffer: int | None = None) -> trio.SocketStream:
    """A connection from this address of the loopback; what happens next is up to the caller."""
    connection = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await connection.bind((host, 0))
        await connection.connect((HERE, house.pub.port))
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


async def say_no_more(transport: trio.SocketStream) -> None:
    """Close our direction; it may be that the pub has closed both by now."""
    with suppress(*GONE):
        await transport.send_eof()


async def shake_hands(house: House, transport: trio.abc.Stream, keys: KeyPair | None = None) -> SecretStream:
    return await shake_hands_with(transport, house.key, keys)


async def shake_hands_with(transport: trio.abc.Stream, pub: bytes, keys: KeyPair | None = None) -> SecretStream:
    return await open_handshake(transport, keys or somebody(), MAIN_NETWORK, RNG.randbytes(32), pub)


@asynccontextmanager
async def enter(
    house: House, keys: KeyPair | None = None, host: str = HERE, receive_buffer: int | None = None
) -> AsyncIterator[Line]:
    """Come in by the handshake, as a stranger unless ``keys`` say otherwise; gone without a word at the end."""
    transport = await knock(house, host, receive_buffer)
    try:
        yield Line(await shake_hands(house, transport, keys))
    finally:
        await trio.aclose_forcefully(transport)


async def is_closed_without_a_word(transport: trio.abc.Stream) -> bool:
    """Did the pub hang up, having said nothing (more)?"""
    with trio.fail_after(PATIENCE):
        try:
            return not await transport.receive_some(1)
        except GONE:
            return True


async def begin_ebt(line: Line, number: int = 1) -> dict[str, int]:
    """Open EBT; the pub's first notes."""
    await line.send(packet(number, EBT, STREAM | JSON))
    notes: dict[str, int] = msgspec.json.decode((await line.answer(number)).body)
    return notes
