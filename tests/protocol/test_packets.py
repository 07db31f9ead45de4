"""muxrpc packets: the bytes of the reference implementation, limits, and any split of the bytes."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.errors import MuxrpcError
from pub.protocol.packets import (
    FREE_BODY,
    GOODBYE,
    BodyType,
    Goodbye,
    Packet,
    PacketReader,
    encode_data,
    encode_packet,
    encode_page,
)
from tests.vectors import load

VECTORS = load("muxrpc")
LIMIT = 10_000

PACKETS = st.builds(
    Packet,
    request=st.integers(-(2**31), 2**31 - 1),
    stream=st.booleans(),
    end=st.booleans(),
    type=st.sampled_from(BodyType),
    body=st.binary(min_size=1, max_size=200) | st.just(b"x" * LIMIT),
)


def read(chunks: list[bytes], limit: int = LIMIT) -> list[Any]:
    """Everything that comes out of a reader; an error stands at the end as its text."""
    reader = PacketReader(lambda _: limit)
    out: list[Any] = []
    try:
        for chunk in chunks:
            reader.receive_data(chunk)
            while (packet := reader.next_packet()) is not None:
                out.append(packet)
    except MuxrpcError as error:
        out.append(str(error))
    return out


def encode(packet: Packet) -> bytes:
    return encode_packet(packet.request, packet.body, packet.type, stream=packet.stream, end=packet.end)


def split(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    return [wire[start:stop] for start, stop in pairwise(places)]


def body_of(packet: dict[str, Any]) -> tuple[bytes, BodyType]:
    """The body of a packet of the vectors, as JavaScript would write it."""
    if "value_hex" in packet:
        return bytes.fromhex(packet["value_hex"]), BodyType.BINARY
    if isinstance(packet["value"], str):
        return packet["value"].encode(), BodyType.TEXT
    return json.dumps(packet["value"], separators=(",", ":")).encode(), BodyType.JSON


def expected(packet: Any) -> Packet | Goodbye:
    if packet == "GOODBYE":
        return Goodbye()
    body, body_type = body_of(packet)
    return Packet(packet["req"], packet["stream"], packet["end"], body_type, body)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["note"])
def test_the_reader_understands_what_the_reference_writes(case: dict[str, Any]) -> None:
    assert read([bytes.fromhex(case["wire"])]) == [expected(case["packet"])]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["note"])
def test_we_write_what_the_reference_writes_except_for_empty_bodies(case: dict[str, Any]) -> None:
    packet = expected(case["packet"])
    if isinstance(packet, Goodbye):
        assert bytes.fromhex(case["wire"]) == GOODBYE
    elif packet.body:
        assert encode(packet).hex() == case["wire"]
    else:
        with pytest.raises(ValueError, match="goodbye"):
            encode(packet)


# The reference takes every header of length 0 for a goodbye. We take it for the empty packet that it is when it names
# a request: a JavaScript sender whose blob is a multiple of 64 KiB writes one, and means to stay.
DIFFERENT_ON_PURPOSE = {
    "length 0 with flags set is read as goodbye by JS": [Packet(5, True, False, BodyType.JSON, b"")],
}


@pytest.mark.parametrize("case", VECTORS["decode"], ids=lambda case: case["note"])
def test_odd_bytes_are_read_as_the_reference_reads_them(case: dict[str, Any]) -> None:
    got = read([bytes.fromhex(case["wire"])])
    if case["note"] in DIFFERENT_ON_PURPOSE:
        assert got == DIFFERENT_ON_PURPOSE[case["note"]]
        return
    if case["error"] == "unknown message type":
        assert "unknown message type" in got.pop()
    if case["error"] == "Unexpected end of JSON input":
        # the reader does not look into bodies; the session does: test_muxrpc, "bad JSON"
        assert got.pop().body == b"tru"
    # "stream ended with…" is how the reference reports bytes that end without a goodbye: there is none in `got`
    assert [described(packet) for packet in got] == case["packets"]


def described(packet: Packet | Goodbye) -> Any:
    """A packet in the words of the vectors."""
    if isinstance(packet, Goodbye):
        return "GOODBYE"
    text = packet.body.decode("utf-8", "replace")
    value = text if packet.type is BodyType.TEXT else json.loads(text)
    flags = {"req": packet.request, "stream": packet.stream, "end": packet.end}
    return {**flags, "type": packet.type, "length": len(packet.body), "value": value}


def test_nothing_counts_after_the_goodbye() -> None:
    reader = PacketReader(lambda _: LIMIT)
    reader.receive_data(GOODBYE + b"\xff" * 20)
    assert reader.next_packet() == Goodbye()
    reader.receive_data(encode_packet(1, b"true"))
    assert reader.next_packet() is None


def test_a_large_body_is_refused_at_its_header_before_any_of_it_is_there() -> None:
    asked: list[int] = []

    def body_limit(request: int) -> int:
        asked.append(request)
        return FREE_BODY + 1

    reader = PacketReader(body_limit)
    reader.receive_data(encode_packet(-7, b"x" * (FREE_BODY + 1)))
    assert reader.next_packet() is not None
    reader.receive_data(encode_packet(9, b"x" * (FREE_BODY + 2))[:9])
    for _ in range(2):  # it stays refused
        with pytest.raises(MuxrpcError, match=f"request 9: {FREE_BODY + 2} bytes, over the limit of {FREE_BODY + 1}"):
            reader.next_packet()
    assert asked == [-7, 9, 9]


def test_a_header_that_announces_four_gigabytes_is_refused() -> None:
    assert read([b"\x02\xff\xff\xff\xff\x00\x00\x00\x01"]) == [
        f"packet of request 1: 4294967295 bytes, over the limit of {LIMIT}"
    ]


def test_a_page_is_the_packets_of_its_pieces() -> None:
    bodies = [b'{"a":1}', b"2", b"[3]"]
    assert encode_page(-4, bodies) == b"".join(encode_data(-4, body) for body in bodies)
    assert encode_data(-4, b"2") == encode_packet(-4, b"2", stream=True)
    assert encode_page(-4, []) == b""


def test_a_body_that_comes_byte_by_byte_is_one_packet() -> None:
    reader = PacketReader(lambda _: LIMIT)
    wire = encode_packet(1, b"x" * LIMIT)
    for place in range(len(wire) - 1):
        reader.receive_data(wire[place : place + 1])
        assert reader.next_packet() is None
    reader.receive_data(wire[-1:])
    assert reader.next_packet() == Packet(1, False, False, BodyType.JSON, b"x" * LIMIT)


@given(packets=st.lists(PACKETS, max_size=8), cuts=st.lists(st.integers(0, 30_000), max_size=10))
@settings(max_examples=60, deadline=None)
def test_packets_survive_the_wire_however_it_is_split(packets: list[Packet], cuts: list[int]) -> None:
    assert read(split(b"".join(map(encode, packets)), cuts)) == packets


@given(
    garbage=st.binary(max_size=80)
    | st.lists(st.sampled_from([b"\0", b"\x0a", b"\1", b"\xff"]), max_size=60).map(b"".join),
    cuts=st.lists(st.integers(0, 80), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_garbage_means_the_same_however_it_is_split_and_raises_one_family(garbage: bytes, cuts: list[int]) -> None:
    assert read(split(garbage, cuts)) == read([garbage])
