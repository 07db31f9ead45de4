"""From the socket to the disk."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.dataset import DataSet
from benchmarks.stages.conftest import READ_BYTES, Measure
from pub.ingest.intake import CHUNK_MESSAGES
from pub.ingest.worker import encode_frame, take_frame
from pub.protocol.arrivals import Expectation
from pub.protocol.boxstream import Boxer, Unboxer
from pub.protocol.calls import Kind, encode_request
from pub.protocol.canonical import low_bytes, normalise
from pub.protocol.classic import Message, examine
from pub.protocol.ebt import MessageFrame, encode_note, parse_frame
from pub.protocol.keys import verify
from pub.protocol.muxrpc import Session
from pub.protocol.packets import PacketReader, encode_page
from pub.protocol.refs import feed_key
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator
from pub.store.env import Store
from pub.store.log import Appender, Changes, Log

KEY, NONCE = bytes(32), bytes(24)


def reads(data: bytes) -> list[bytes]:
    return [data[start : start + READ_BYTES] for start in range(0, len(data), READ_BYTES)]


def chunks(messages: list[bytes]) -> list[list[bytes]]:
    return [messages[start : start + CHUNK_MESSAGES] for start in range(0, len(messages), CHUNK_MESSAGES)]


def test_unbox(measure: Measure, messages: list[bytes]) -> None:
    """Open the boxes."""
    boxes = reads(Boxer(KEY, NONCE).box(encode_page(1, messages)))

    def unbox() -> None:
        unboxer = Unboxer(KEY, NONCE)
        for data in boxes:
            unboxer.receive_data(data)
            while unboxer.next_chunk() is not None:
                pass

    measure("ingest", unbox)


def test_events(measure: Measure, messages: list[bytes]) -> None:
    """Packets to events of a stream."""
    request = encode_request(1, ("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX)
    packets = [request, *reads(encode_page(1, messages))]

    def receive() -> None:
        session, count = Session(), 0
        for data in packets:
            session.receive_data(data)
            while session.next_event() is not None:
                count += 1
        assert count == len(messages) + 1

    measure("ingest", receive)


def test_packets(measure: Measure, messages: list[bytes]) -> None:
    """Cut into packets."""
    packets = reads(encode_page(1, messages))

    def cut() -> None:
        reader = PacketReader(lambda _request: 1 << 20)
        for data in packets:
            reader.receive_data(data)
            while reader.next_packet() is not None:
                pass

    measure("ingest", cut, of="Packets to events of a stream")


def test_frames(measure: Measure, messages: list[bytes]) -> None:
    """Read author and sequence of a frame."""
    measure("ingest", lambda: [parse_frame(message) for message in messages])


def test_expects(measure: Measure, data: DataSet, messages: list[bytes]) -> None:
    """Did we wait for it."""
    keys = [feed.keys.public for feed in data.feeds]
    numbers = {key: feed for feed, key in enumerate(keys)}
    frames = [frame for frame in map(parse_frame, messages) if isinstance(frame, MessageFrame)]
    assert len(frames) == len(messages)

    def asked() -> ReplicatorSession:
        replicator = Replicator(keys, numbers, [0] * len(keys))
        for feed in range(len(keys)):
            replicator.replicate(feed)
        session = replicator.open(speaks_first=True, peer_feed=None)
        session.receive_notes({feed.id: encode_note(len(feed.messages), False) for feed in data.feeds}, 0.0)
        while session.next_notes(len(keys)):
            pass
        return session

    def expect(session: ReplicatorSession) -> None:
        for frame in frames:
            assert session.expects(numbers[feed_key(frame.author)], frame.sequence, 0.0) is Expectation.NEXT

    measure("ingest", expect, asked)


def test_verifier_frames(measure: Measure, messages: list[bytes]) -> None:
    """To the verifying process and back."""
    examined = [(chunk, [examine(raw) for raw in chunk]) for chunk in chunks(messages)]
    decode_raws = msgspec.msgpack.Decoder(list[bytes]).decode
    decode_verdicts = msgspec.msgpack.Decoder(list[Message | str | None]).decode

    def pass_on() -> None:
        for raws, verdicts in examined:
            decode_raws(take_frame(bytearray(encode_frame(raws))) or b"")
            decode_verdicts(take_frame(bytearray(encode_frame(verdicts))) or b"")

    measure("ingest", pass_on)


def test_examine(measure: Measure, messages: list[bytes]) -> None:
    """Examine."""
    measure("ingest", lambda: [examine(message) for message in messages])


def test_decode(measure: Measure, messages: list[bytes]) -> None:
    """Decode the JSON."""
    decode = msgspec.json.Decoder().decode
    measure("ingest", lambda: [decode(message) for message in messages], of="Examine")


def test_canonical(measure: Measure, messages: list[bytes]) -> None:
    """Decode it and print both normal forms."""
    measure("ingest", lambda: [normalise(message) for message in messages], of="Examine")


def test_signature(measure: Measure, data: DataSet) -> None:
    """Verify the signature."""
    signed = []
    for feed in data.feeds:
        text = normalise(feed.messages[0]).indented
        signed += [(feed.keys.public, feed.keys.sign(text), text)] * len(feed.messages)

    def check() -> None:
        assert all(verify(*each) for each in signed)

    measure("ingest", check, of="Examine")


def test_hash(measure: Measure, messages: list[bytes]) -> None:
    """Hash."""
    texts = [normalise(message).indented for message in messages]
    measure("ingest", lambda: [sha256(low_bytes(text)).digest() for text in texts], of="Examine")


def test_commit(measure: Measure, messages: list[bytes], folder: Callable[[], Path]) -> None:
    """Check the chain, append and commit."""
    examined = [examine(message) for message in messages]

    def job(log: Log, txn: Any) -> Changes:
        appender = Appender(log, txn)
        for message in examined:
            appender.append(message, 1.0)
        return appender.finish()

    def commit(log: Log) -> None:
        log.apply(log.store.write(lambda txn: job(log, txn)))
        assert log.message_count == len(examined)

    measure("ingest", commit, lambda: Log(Store.open(folder())))
