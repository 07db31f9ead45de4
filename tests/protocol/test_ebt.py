"""EBT on the wire: notes and frames."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pub.errors import EbtError
from pub.protocol.ebt import MAX_NOTE, MessageFrame, Note, decode_note, encode_note, parse_clock, parse_frame
from pub.protocol.refs import feed_id

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "ebt.json").read_text())


# --- notes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["cases"], ids=str)
def test_notes_are_encoded_like_the_reference(case: dict[str, Any]) -> None:
    assert encode_note(case["sequence"], case["receive"]) == case["note"]


@pytest.mark.parametrize("case", VECTORS["decode"], ids=str)
def test_notes_are_decoded_like_the_reference_or_ignored(case: dict[str, Any]) -> None:
    note = case["note"]
    if type(note) is int and -1 <= note <= MAX_NOTE:
        assert decode_note(note) == Note(case["replicate"], case["receive"], case["sequence"])
    else:
        assert decode_note(note) is None


@given(st.integers(0, 2**30 - 1), st.booleans())
def test_a_note_survives_the_wire(sequence: int, receive: bool) -> None:
    assert decode_note(encode_note(sequence, receive)) == Note(True, receive, sequence)


# --- frames -----------------------------------------------------------------------------------------------

FRAMES = {
    b'{"author":"@a","sequence":3,"content":{"type":"post"}}': MessageFrame("@a", 3),
    b'{"author":"@a","sequence":3,"content":"abc.box"}': MessageFrame("@a", 3),
    b'{"author":"@a","sequence":3,"content":{}}': MessageFrame("@a", 3),
    b'{"author":"@a","sequence":3,"content":1}': MessageFrame("@a", 3),
    b'{"author":"","sequence":3,"content":[1]}': MessageFrame("", 3),
    b' { "sequence" : 1e0, "content" : [ ], "author" : "@a" } ': MessageFrame("@a", 1),
    b'{"author":"@a","sequence":1,"content":{"text":"\\ud800"}}': MessageFrame("@a", 1),
    b'{"author":"@a","sequence":1,"content":{"text":"\xff\xfe"}}': MessageFrame("@a", 1),
    b'{"author":"@a","sequence":3,"content":""}': {"author": "@a", "sequence": 3, "content": ""},
    b'{"author":"@a","sequence":3,"content":null}': {"author": "@a", "sequence": 3, "content": None},
    b'{"author":"@a","sequence":3}': {"author": "@a", "sequence": 3},
    b'{"author":"@a","sequence":0,"content":{}}': {"author": "@a", "sequence": 0, "content": {}},
    b'{"author":"@a","sequence":1.5,"content":{}}': {"author": "@a", "sequence": 1.5, "content": {}},
    b'{"author":"@a","sequence":true,"content":{}}': {"author": "@a", "sequence": True, "content": {}},
    b'{"author":1,"sequence":1,"content":{}}': {"author": 1, "sequence": 1, "content": {}},
    b'{"@a":2,"@b":-1}': {"@a": 2, "@b": -1},
    b'{"@a":2.5,"@b":"x","@a":4}': {"@a": 4, "@b": "x"},
    b'{"clock":{"@a":2}}': {"@a": 2},
    b'{"clock":2}': {"clock": 2},
    b"{}": {},
}


@pytest.mark.parametrize("body", FRAMES, ids=repr)
def test_a_frame_is_a_message_or_notes(body: bytes) -> None:
    assert parse_frame(body) == FRAMES[body]


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"1", b'"x"', b"", b"{", b"{}{}", b"\xff", b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"]
)
def test_a_frame_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(EbtError):
        parse_frame(body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["author", "sequence", "content", "clock", "@a"]), JSON_VALUES))
def test_a_frame_is_what_the_rule_says(frame: dict[str, Any]) -> None:
    """A message if `sequence` is a whole number over 0, `author` a string and `content` true in JavaScript."""
    sequence: Any = frame.get("sequence")
    content = frame.get("content")
    is_number = isinstance(sequence, int | float) and type(sequence) is not bool
    is_message = (
        is_number
        and sequence == int(sequence) > 0
        and type(frame.get("author")) is str
        and (content in ([], {}) or bool(content))
    )
    clock = frame.get("clock")
    read = parse_frame(json.dumps(frame).encode())
    if is_message:
        assert read == MessageFrame(frame["author"], int(frame["sequence"]))
    else:
        assert read == (clock if type(clock) is dict else frame)


@settings(max_examples=60)
@given(st.binary(max_size=60))
@example(b'{"author":"\xff","sequence":1,"content":{}}')
def test_garbage_raises_nothing_else(body: bytes) -> None:
    with suppress(EbtError):
        parse_frame(body)


# --- clocks -----------------------------------------------------------------------------------------------


def test_a_clock_is_read_like_any_notes() -> None:
    notes = {feed_id(number.to_bytes(32, "big")): number % 3 - 1 for number in range(3000)}
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps(notes, separators=separators).encode()
        assert parse_clock(body) == parse_frame(body) == notes
    assert parse_clock(b"{}") == {}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"[]," * 30_000 + b"1]}",
        b"{" + b",".join(b'"%d":0' % number for number in range(10_000)) + b"}",
        b'{"author":"@a","sequence":3,"content":"' + b"x" * 60_000 + b'"}',
        b'{"a":' * 20_000,
        b"[" * 60_000,
        b'{"a":"' + b"x" * 60_000 + b'"}',
        b'{"a":null' + b" " * 60_000 + b"}",
        b"\xff" * 60_000,
    ],
    ids=lambda body: body[:12].decode("ascii", "replace"),
)
def test_what_is_no_clock_is_refused(body: bytes) -> None:
    with pytest.raises(EbtError, match="is not a note object"):
        parse_clock(body)


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_garbage_for_a_clock_raises_nothing_else(body: bytes) -> None:
    with suppress(EbtError):
        parse_clock(body)
