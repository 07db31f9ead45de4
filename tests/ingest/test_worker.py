"""The frames between the pub and a verifying process, and the process at the end of its socket."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pub.ingest.worker import encode_frame, receive_frame, serve, take_frame, verdict
from pub.protocol.classic import Message, create
from tests.ingest.people import NOW, PATIENCE, Author

decode = msgspec.msgpack.Decoder(list[Message | str | None]).decode


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_any_split_of_the_bytes_gives_the_same_frames(values: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    buffer, found = bytearray(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[start:end]
        while (frame := take_frame(buffer)) is not None:
            found.append(msgspec.msgpack.decode(frame))
    assert found == values
    assert not buffer


def test_two_frames_that_arrive_together_are_two() -> None:
    ours, theirs = socket.socketpair()
    buffer = bytearray()
    with ours, theirs:
        ours.sendall(encode_frame(b"first") + encode_frame(b"second"))
        ours.close()
        frames = [receive_frame(theirs, buffer) for _ in range(3)]
    assert frames == [msgspec.msgpack.encode(b"first"), msgspec.msgpack.encode(b"second"), None]


def test_half_a_frame_is_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_frame(b"first")[:-1])
        ours.close()
        assert receive_frame(theirs, bytearray()) is None


def test_a_verdict_is_the_message_or_a_sentence() -> None:
    alice = Author("alice")
    message = alice.write()
    assert verdict(message.encoded, None) == message
    assert verdict(message.encoded, bytes(32)) == f"{alice.keys.id} seq 1: the signature does not match"
    assert verdict(b"\xff", None) == "not JSON: Expecting value: line 1 column 1 (char 0)"


@pytest.mark.parametrize("hmac_key", [None, bytes(range(32))])
def test_the_first_frame_says_the_key_and_each_other_is_answered(hmac_key: bytes | None) -> None:
    alice = Author("alice")
    message = create(alice.keys, None, {"type": "post"}, NOW, hmac_key)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for frame in (hmac_key, [message.encoded, b"{}"], []):
            ours.sendall(encode_frame(frame))
        ours.shutdown(socket.SHUT_WR)
        serve(theirs)
        buffer = bytearray()
        first, second = receive_frame(ours, buffer), receive_frame(ours, buffer)
    assert first is not None
    assert second is not None
    assert decode(first) == [message, "None seq None: not the seven fields in one of their two orders"]
    assert decode(second) == []


def test_a_pub_that_goes_away_before_it_says_anything() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        serve(theirs)


@contextmanager
def worker() -> "Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]":
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "pub.ingest.worker"]
    with subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE) as process, ours:
        theirs.close()
        ours.settimeout(PATIENCE)
        ours.sendall(encode_frame(None))
        yield ours, process


@pytest.mark.slow
def test_the_process_ends_without_a_word_when_its_socket_does() -> None:
    with worker() as (ours, process):
        ours.close()
        assert process.communicate(timeout=PATIENCE)[1] == b""
        assert process.returncode == 0


@pytest.mark.slow
def test_the_process_ends_without_a_word_when_the_pub_was_killed_at_work() -> None:
    raw = Author("alice").write().encoded
    with worker() as (ours, process):
        for _ in range(20):
            ours.sendall(encode_frame([raw]))
        assert ours.recv(1), "it works, and most of what it says will not be read"
        ours.close()
        assert process.communicate(timeout=PATIENCE)[1] == b""
        assert process.returncode == 0


def test_a_bug_in_examining_is_a_nil_and_the_process_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(_raw: bytes, _hmac_key: bytes | None) -> Message:
        raise KeyError("planted")

    monkeypatch.setattr("pub.ingest.worker.examine", stumble)
    assert verdict(b"{}", None) is None
    assert "planted" in capsys.readouterr().err
