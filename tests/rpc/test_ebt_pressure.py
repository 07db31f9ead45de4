"""``ebt.replicate`` with peers who do not read, and with peers who do not speak it."""

import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from pub.net.connection import SEND_BUFFER
from pub.protocol.ebt import encode_note
from pub.protocol.feedsets import MAX_UNKNOWN_WANTS
from pub.protocol.muxrpc import Kind, Session
from pub.protocol.packets import BodyType
from pub.protocol.refs import feed_id
from pub.rpc.ebt import CLOCK_LIMIT, NOTES_PER_PACKET, NOTES_PER_TURN
from tests.ingest.people import Author
from tests.pubs import connect, open_pub
from tests.rpc.replicas import VERSION_3, replicate


class Unread(trio.abc.SendStream):
    """A line into which one buffer goes and which then is full until the peer hangs up."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.hung_up = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.taken.append(len(data))
        await self.hung_up.wait()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_many_notes_shorten_the_turn_of_who_sends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[int] = []
    async with open_pub(tmp_path) as pub, connect(pub) as mallory:
        replica = await replicate(mallory)
        await pub.settle()
        monkeypatch.setattr(Session, "charge", lambda _self, packets: charged.append(packets))
        for count in (1, NOTES_PER_PACKET - 1, NOTES_PER_PACKET, 10 * NOTES_PER_PACKET):
            notes = {feed_id(number.to_bytes(32, "big")): 0 for number in range(count)}
            await replica.stream.send(notes)
            await pub.settle()
        assert charged == [1, 10]


async def test_who_does_not_read_costs_one_buffer(tmp_path: Path) -> None:
    """However long the log is, and however much it grows: the rest stays in the log, under a cursor."""
    alice = Author("alice")
    alice.messages = []
    long = "x" * 4000
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public)
        await pub.take_in([alice.write(long) for _ in range(100)])
        ours, theirs = trio.testing.memory_stream_pair()
        unread = Unread()
        line = trio.StapledStream(unread, theirs.receive_stream)
        async with connect(pub, transport=(ours, line)) as mallory:
            stream = await mallory.open("ebt.replicate", VERSION_3)
            await stream.send({alice.keys.id: encode_note(0, receive=True)})
            for _ in range(20):
                await mallory.open("createHistoryStream", {"id": alice.keys.id, "live": True}, kind=Kind.SOURCE)
            await pub.settle()
            assert len(unread.taken) == 1
            assert unread.taken[0] <= SEND_BUFFER + len(alice.messages[0].encoded) + 1000
            sent = pub.value("messages_sent_total")
            assert sent <= SEND_BUFFER // len(long) + 1
            for _ in range(5):
                await pub.take_in([alice.write(long) for _ in range(20)])
            await pub.settle()
            assert (pub.value("messages_sent_total"), len(unread.taken)) == (sent, 1)
            unread.hung_up.set()


@pytest.mark.parametrize("frame", [b"null", b"7", b"[]", b'"notes"', b"true", b"{", b"\xff", b"{}x", b"[" * 100_000])
async def test_what_is_no_frame_ends_that_connection_only(tmp_path: Path, frame: bytes) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub, connect(pub, alice.keys) as line:
        await pub.follow(alice.keys.public)
        session = await replicate(line)
        async with connect(pub) as mallory:
            hers = await replicate(mallory)
            await hers.stream.send({}, frame)
            await mallory.gone.wait()
        assert pub.value("disconnects_total", reason="protocol") == 1
        await session.say(alice, 1)
        await session.hand_over(alice.write_many(1))
        await pub.settle()
        assert len(pub.feed(alice.keys.public)) == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        b'{"clock":{}}',
        b'{"@rubbish":2,"%id":"x","":null}',
        b'{"author":"@rubbish","sequence":1,"content":{}}',
        b'{"author":7,"sequence":1,"content":{}}',
        b'{"sequence":1e400}',
        b'{"@' + b"A" * 44 + b'.ed25519":1' + b"0" * 400 + b"}",
        b'{"\\ud800":1}',
    ],
    ids=lambda frame: frame[:40].decode(),
)
async def test_odd_frames_mean_nothing(tmp_path: Path, frame: bytes) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub, connect(pub) as line:
        await pub.follow(alice.keys.public)
        session = await replicate(line)
        await session.stream.send(frame)
        await session.say(alice, 1)
        await session.hand_over(alice.write_many(1))
        await pub.settle()
        assert len(pub.feed(alice.keys.public)) == 1


async def test_binary_data_on_the_stream_is_stepped_over(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as line:
        session = await replicate(line)
        await line.send(line.session.data(-1, b"null", BodyType.BINARY))
        await session.say(Author("alice"), 1)
        assert await session.note_on(Author("alice")) == -1


async def test_a_clock_of_too_many_unknown_feeds_is_remembered_in_part(tmp_path: Path) -> None:
    """Each is answered -1 while there is room; the rest is counted."""
    keys = [feed_id(number.to_bytes(32, "big")) for number in range(MAX_UNKNOWN_WANTS + 500)]
    async with open_pub(tmp_path) as pub, connect(pub) as line:
        session = await replicate(line)
        await session.stream.send(dict.fromkeys(keys, 0))
        await pub.settle()
        session.arrived()
        assert len(session.notes) == MAX_UNKNOWN_WANTS + 1  # and the pub's own feed
        assert pub.value("limit_hits_total", limit="unknown_wants") == 500


async def test_a_clock_larger_than_its_bound_ends_the_connection(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub) as line:
        await replicate(line)
        await line.send(struct.pack(">BIi", 8 | 2, CLOCK_LIMIT + 1, 1))
        await line.gone.wait()
        await pub.settle()
        assert pub.value("disconnects_total", reason="protocol") == 1


async def test_a_clock_in_hand_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """A large clock is taken in piece by piece, and belongs to nobody when its session has ended meanwhile."""
    alice = Author("alice")
    notes = {feed_id(number.to_bytes(32, "big")): 0 for number in range(5 * NOTES_PER_TURN)}
    async with open_pub(tmp_path) as pub, connect(pub) as line:
        await pub.follow(alice.keys.public)
        first = await replicate(line)
        await first.stream.send({alice.keys.id: encode_note(7, receive=True)} | notes)
        second = await replicate(line)  # "reconnected to peer", while the clock is being read
        await pub.settle()
        assert pub.rooms.replication.replicator.senders.awaited == {}, "nobody is asked for what a closed session said"
        await second.stream.send({alice.keys.id: encode_note(7, receive=True)} | notes)
        await pub.settle()
        assert list(pub.rooms.replication.replicator.senders.awaited) == [pub.rooms.log.numbers[alice.keys.public]]
