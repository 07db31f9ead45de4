"""Two sides that are both full: each has megabytes to send, the line holds a few kilobytes, and both are slow to read.

Whoever takes in what a peer sends must not wait for a send to that peer, or the two wait for each other for ever.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from pub.net.control import call
from pub.protocol.classic import Head, Message, create
from pub.protocol.ebt import encode_note
from pub.protocol.keys import KeyPair
from tests.odd.house import Beats, House
from tests.odd.lines import HERE, JSON, STREAM, Line, Wrapped, begin_ebt, enter, packet, request, somebody
from tests.service.processes import Process, start_pub

pytestmark = pytest.mark.slow

NOON = 1_700_000_000_000.0
TEXT = "x" * 4000
MESSAGES = 300  # of four kilobytes each way, a hundred times what the line between them holds
SMALL = 4096  # bytes asked of the kernel for a socket's buffer
NARROW = 1 << 15  # the same for a line between pubs: over loopback less is no line, but a wait for acknowledgements
PATIENCE = 60  # seconds until a deadlock fails the test
SETTINGS = "log: {format: json}\ninvites: {first_uses: 0}\n"

Feed = tuple[KeyPair, list[Message]]


def write_feed(count: int = MESSAGES) -> Feed:
    keys, feed = somebody(), list[Message]()
    head: Head | None = None
    for number in range(count):
        feed.append(create(keys, head, {"type": "post", "text": TEXT}, NOON + number))
        head = feed[-1].head
    return keys, feed


def frames(feed: list[Message]) -> bytes:
    return b"".join(packet(1, message.encoded, STREAM | JSON) for message in feed)


async def give(house: House, feed: Feed) -> None:
    """Have the pub follow this author and take the whole feed."""
    keys, messages = feed
    await house.ask("friends", "follow", args=[keys.id])
    async with enter(house, keys) as line:
        await begin_ebt(line)
        await line.send(packet(1, {keys.id: encode_note(len(messages), receive=True)}, STREAM | JSON), frames(messages))
        await house.wait_for_head(keys, len(messages))


async def received(line: Line, count: int) -> list[int]:
    """The sequences of so many messages of the one feed that comes."""
    sequences: list[int] = []
    while len(sequences) < count:
        frame = msgspec.json.decode((await line.answer(1)).body)
        if "content" in frame:
            sequences.append(frame["sequence"])
    return sequences


async def test_a_peer_that_writes_all_before_it_reads_a_byte(house: House) -> None:
    """The pub is full of a feed for a peer that reads nothing before its own feed is out: the pub reads."""
    carol, dave = write_feed(), write_feed()
    await give(house, dave)
    await house.ask("friends", "follow", args=[carol[0].id])
    async with house.watched(), enter(house, carol[0], receive_buffer=SMALL) as line:
        await begin_ebt(line)
        wants = {carol[0].id: encode_note(MESSAGES, receive=True), dave[0].id: encode_note(0, receive=True)}
        with trio.fail_after(PATIENCE):
            await line.send(packet(1, wants, STREAM | JSON))
            await trio.sleep(0.2)  # until the line is full of what nobody reads
            await line.send(frames(carol[1]))
            await house.wait_for_head(carol[0], MESSAGES)
            assert await received(line, MESSAGES) == list(range(1, MESSAGES + 1))


async def test_both_at_full_speed_and_both_slow_to_read(house: House) -> None:
    """Both ways over one connection: EBT, history streams and calls, a kilobyte read at a time."""
    carol, dave = write_feed(), write_feed()
    await give(house, dave)
    await house.ask("friends", "follow", args=[carol[0].id])
    async with house.watched(), enter(house, carol[0], receive_buffer=SMALL) as line:
        await begin_ebt(line)
        line = Line(SlowReader(line.stream))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_upload, line, carol, dave)
            with trio.fail_after(PATIENCE):
                assert await received(line, MESSAGES) == list(range(1, MESSAGES + 1))
                await house.wait_for_head(carol[0], MESSAGES)


async def _upload(line: Line, carol: Feed, dave: Feed) -> None:
    wants = {carol[0].id: encode_note(MESSAGES, receive=True), dave[0].id: encode_note(0, receive=True)}
    await line.send(packet(1, wants, STREAM | JSON))
    for number, message in enumerate(carol[1], start=2):
        await line.send(packet(1, message.encoded, STREAM | JSON), request(number, "manifest"))


class SlowReader(Wrapped):
    """Reads a kilobyte, and then does something else for a moment."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.sleep(0.0002)
        return await self.stream.receive_some(1024)


# --- two pubs ---------------------------------------------------------------------------------------------------


class Narrows:
    """A line between two pubs through which a few kilobytes go at a time, in both directions at once."""

    def __init__(self, port: int) -> None:
        self.carried = [0, 0]
        self._port = port

    async def serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(HERE, self._port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, near, far, 0)
            nursery.start_soon(self._carry, far, near, 1)

    async def _carry(self, source: trio.SocketStream, sink: trio.SocketStream, way: int) -> None:
        for stream in (source, sink):
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, NARROW)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, NARROW)
        try:
            while data := await source.receive_some(NARROW // 2):
                await sink.send_all(data)
                self.carried[way] += len(data)
                await trio.sleep(0.0005)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await trio.aclose_forcefully(sink)


@contextmanager
def two_pubs(folder: Path) -> Iterator[tuple[Process, Process]]:
    for name in ("island", "harbour"):
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(SETTINGS)
    with start_pub(folder / "island") as island, start_pub(folder / "harbour") as harbour:
        yield island, harbour


@asynccontextmanager
async def narrows(port: int) -> AsyncIterator[tuple[Narrows, int]]:
    line = Narrows(port)
    [listener] = await trio.open_tcp_listeners(0, host=HERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, line.serve, [listener])
        yield line, listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(pub: Process, name: str, *args: Any) -> Any:
    return await call(pub.folder / "socket", tuple(name.split(".")), list(args))


async def test_two_pubs_full_of_each_others_feeds(tmp_path: Path) -> None:
    """Each has five feeds that the other wants, far more than the line between them holds."""
    with two_pubs(tmp_path) as (island, harbour):
        feeds = [write_feed(100) for _ in range(10)]
        for pub, its, others in ((island, feeds[:5], feeds[5:]), (harbour, feeds[5:], feeds[:5])):
            house = House(pub, Beats(pub.process))
            for feed in its:
                await give(house, feed)
            for keys, _messages in others:
                await ask(pub, "friends.follow", keys.id)
        await ask(harbour, "friends.follow", island.announced["id"])
        async with narrows(harbour.port) as (line, port):
            address = harbour.announced["address"].replace(f":{harbour.port}~", f":{port}~")
            assert (await ask(island, "conn.connect", address))["connected"]
            with trio.fail_after(PATIENCE):
                for pub in (island, harbour):
                    for keys, messages in feeds:
                        await House(pub, Beats(pub.process)).wait_for_head(keys, len(messages), PATIENCE)
            assert min(line.carried) > 5 * 100 * len(TEXT)
        for pub in (island, harbour):
            assert (await ask(pub, "status"))["internal_errors"] == 0
            assert pub.end() == 0
