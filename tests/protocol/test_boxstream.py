from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from pub.errors import BoxStreamError, ProtocolError
from pub.protocol.boxstream import MAX_CHUNK, Boxer, Unboxer
from tests.vectors import load

VECTORS = load("boxstream")
KEY, NONCE = bytes(range(32)), bytes(range(24))
HEADER_BYTES = 34


def content_of(write: str | dict[str, Any]) -> bytes:
    if isinstance(write, str):
        return bytes.fromhex(write)
    content: bytes = bytes.fromhex(write["repeat"]) * write["length"]
    return content


def keys_of(case: dict[str, Any]) -> tuple[bytes, bytes]:
    return bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"])


def chunks_of(unboxer: Unboxer) -> list[bytes]:
    chunks = []
    while (chunk := unboxer.next_chunk()) is not None:
        chunks.append(chunk)
    return chunks


def read(unboxer: Unboxer, wire: bytes, sizes: list[int]) -> tuple[bytes, bool]:
    """Feeds `wire` in pieces of `sizes`, over and over; returns the plaintext and whether a box failed to open."""
    plain = b""
    position = turn = 0
    while position < len(wire):
        size = sizes[turn % len(sizes)]
        unboxer.receive_data(wire[position : position + size])
        position += size
        turn += 1
        try:
            while (chunk := unboxer.next_chunk()) is not None:
                plain += chunk
        except BoxStreamError:
            return plain, True
    return plain, False


def forged_box(length: int, body: bytes) -> bytes:
    """A box whose header claims any length, made by a peer who owns the keys."""
    boxed = crypto_secretbox(body, (int.from_bytes(NONCE, "big") + 1).to_bytes(24, "big"), KEY)
    return crypto_secretbox(length.to_bytes(2, "big") + boxed[:16], NONCE, KEY) + boxed[16:]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["note"])
def test_writes_are_boxed_exactly_as_the_reference_does(case: dict[str, Any]) -> None:
    boxer = Boxer(*keys_of(case))
    wire = b"".join(boxer.box(content_of(write)) for write in case["writes"]) + boxer.goodbye()
    assert len(wire) == case["wire_length"]
    if "wire" in case:
        assert wire.hex() == case["wire"]
    else:
        assert wire.hex().startswith(case["wire_head"])
        assert sha256(wire).hexdigest() == case["wire_sha256"]
    unboxer = Unboxer(*keys_of(case))
    unboxer.receive_data(wire)
    chunks = chunks_of(unboxer)
    assert b"".join(chunks) == b"".join(content_of(write) for write in case["writes"])
    assert len(chunks) == case["boxes"]
    assert unboxer.is_closed


@pytest.mark.parametrize("sizes", [[1], [7], [100_000]], ids=["byte by byte", "by sevens", "at once"])
@pytest.mark.parametrize("case", [case for case in VECTORS["decoder"] if "wire" in case], ids=lambda case: case["note"])
def test_the_reader_judges_as_the_reference_does(case: dict[str, Any], sizes: list[int]) -> None:
    unboxer = Unboxer(*keys_of(case))
    plain, is_damaged = read(unboxer, bytes.fromhex(case["wire"]), sizes)
    assert plain.hex() == case["plain"]
    assert unboxer.is_closed == case["clean_end"]
    assert is_damaged == (case["error"] in ("invalid header", "invalid packet"))


@pytest.mark.parametrize("case", [case for case in VECTORS["decoder"] if "body" in case], ids=lambda case: case["note"])
def test_a_box_over_4096_bytes_is_refused_where_the_reference_takes_it(case: dict[str, Any]) -> None:
    key, nonce = keys_of(case)
    body = content_of(case["body"])
    boxed = crypto_secretbox(body, (int.from_bytes(nonce, "big") + 1).to_bytes(24, "big"), key)
    wire = crypto_secretbox(len(body).to_bytes(2, "big") + boxed[:16], nonce, key) + boxed[16:]
    assert sha256(wire).hexdigest() == case["wire_sha256"]
    plain, is_refused = read(Unboxer(key, nonce), wire, [1000])
    assert is_refused == (len(body) > MAX_CHUNK)
    assert plain == (b"" if is_refused else body)


def test_max_chunk_is_judged_by_the_header_alone() -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(forged_box(MAX_CHUNK + 1, b"")[:HEADER_BYTES])
    with pytest.raises(BoxStreamError, match="4097"):
        unboxer.next_chunk()


def test_a_box_of_nothing_is_skipped_and_does_not_loop() -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(forged_box(0, b""))
    assert unboxer.next_chunk() is None
    assert not unboxer.is_closed
    later = Boxer(KEY, (int.from_bytes(NONCE, "big") + 2).to_bytes(24, "big"))
    unboxer.receive_data(later.box(b"something"))
    assert unboxer.next_chunk() == b"something"


def test_a_box_of_nothing_with_a_wrong_tag_is_refused() -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(crypto_secretbox(bytes([0, 0, *b"sixteen bytes it"]), NONCE, KEY))
    for _ in range(2):
        with pytest.raises(BoxStreamError):
            unboxer.next_chunk()


def test_damage_is_told_after_what_came_before_it_and_ever_after() -> None:
    boxer = Boxer(KEY, NONCE)
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(boxer.box(b"whole") + bytes(HEADER_BYTES))
    assert unboxer.next_chunk() == b"whole"
    for _ in range(2):
        with pytest.raises(BoxStreamError):
            unboxer.next_chunk()
        unboxer.receive_data(boxer.goodbye())
    assert not unboxer.is_closed


def test_nothing_is_kept_after_the_goodbye() -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(Boxer(KEY, NONCE).goodbye() + b"more")
    assert unboxer.next_chunk() is None
    unboxer.receive_data(b"and more" * 1000)
    assert unboxer.next_chunk() is None
    assert unboxer.is_closed
    assert len(unboxer._buffer) == 0


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.binary(max_size=300) | st.integers(4000, 9000).map(bytes), max_size=6),
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    nonce=st.binary(min_size=24, max_size=24) | st.just(b"\xff" * 24),
)
def test_any_split_of_the_bytes_gives_the_same_plaintext(writes: list[bytes], sizes: list[int], nonce: bytes) -> None:
    boxer, unboxer = Boxer(KEY, nonce), Unboxer(KEY, nonce)
    wire = b"".join(map(boxer.box, writes)) + boxer.goodbye()
    plain, is_damaged = read(unboxer, wire, sizes)
    assert plain == b"".join(writes)
    assert unboxer.is_closed
    assert not is_damaged


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.binary(max_size=80), max_size=5), honest=st.binary(max_size=50))
def test_garbage_raises_only_protocol_errors(pieces: list[bytes], honest: bytes) -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(Boxer(KEY, NONCE).box(honest))
    plain = []
    for piece in pieces:
        unboxer.receive_data(piece)
        try:
            plain += chunks_of(unboxer)
        except ProtocolError:
            break
    assert b"".join(plain) in (honest, b"")


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 65535), body=st.binary(max_size=60))
def test_any_header_that_opens_is_obeyed_or_refused(length: int, body: bytes) -> None:
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(forged_box(length, body))
    try:
        chunks = chunks_of(unboxer)
    except ProtocolError:
        assert length > MAX_CHUNK or length < len(body)
    else:
        assert chunks == ([body] if body and length == len(body) else [])
        assert length >= len(body)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=200), position=st.integers(0), bit=st.integers(0, 7))
def test_one_flipped_bit_is_always_noticed(data: bytes, position: int, bit: int) -> None:
    wire = bytearray(Boxer(KEY, NONCE).box(data))
    wire[position % len(wire)] ^= 1 << bit
    unboxer = Unboxer(KEY, NONCE)
    unboxer.receive_data(wire)
    with pytest.raises(BoxStreamError):
        unboxer.next_chunk()
