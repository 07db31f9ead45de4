"""EBT (epidemic broadcast trees), version 3: what goes over the wire.

A duplex stream carries JSON objects of two kinds. A *note object* maps feed ids to notes; a note says how much of a
feed its sender has and whether it wants more of it from us now. Everything else is a classic message. Who says what
when is the business of `replicator`; this file reads frames and spells notes.

A frame of either kind comes from a stranger. Most are messages, so a frame is first read as one with msgspec, which
steps over the content undecoded; whatever msgspec does not like decides nothing and is read again by `canonical.parse`.

A frame larger than any message can only be notes, and `parse_clock` reads it as nothing else: as JSON of another kind
it could fill a hundred times its size in memory, and take seconds to read.
"""

from typing import Any

import msgspec

from pub.errors import EbtError, InvalidJson
from pub.protocol.canonical import parse
from pub.protocol.classic import MAX_WIRE_BYTES

MAX_FRAME = MAX_WIRE_BYTES  # of a message, and of notes that are read without suspicion
MAX_NOTE = 2**31 - 1  # JavaScript shifts in 32 bits, so there are no larger notes
NOTE_BYTES = 58  # of the shortest note: an id in quotation marks, a colon, a digit, a comma

Notes = dict[str, Any]  # feed id -> note; ids and notes as a stranger wrote them, not checked


class Note(msgspec.Struct, frozen=True, gc=False):
    """What a peer says about one feed: how far it has it, and whether it wants what follows."""

    replicate: bool
    receive: bool
    sequence: int


class MessageFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame that is a message: the feed id it claims and its place there. Nothing about it is verified."""

    author: str
    sequence: int


class _Envelope(msgspec.Struct, gc=False):
    author: str = ""
    sequence: int = 0
    content: msgspec.Raw = msgspec.Raw(b"0")


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_notes = msgspec.json.Decoder(dict[str, int]).decode
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeError)


def encode_note(sequence: int, receive: bool) -> int:
    """The note for having a feed up to `sequence` (-1: not replicated); `receive` asks for what follows.

    Sequences from 2**30 wrap as in 32-bit JavaScript; a feed would need a thousand million messages to get there.
    """
    if sequence < 0:
        return -1
    note = sequence << 1 | (not receive)
    return note if note <= MAX_NOTE else note - 2**32


def decode_note(note: object) -> Note | None:
    """What a note says, or None for anything that is not an integer from -1 to 2**31-1."""
    if type(note) is not int or not -1 <= note <= MAX_NOTE:
        return None
    return Note(note != -1, note & 1 == 0, note >> 1)


def parse_frame(body: bytes) -> MessageFrame | Notes:
    """A message, or else the notes it carries. Raises EbtError when the body is no JSON object.

    Whoever listens to strangers gives a body over MAX_FRAME to `parse_clock` instead.
    """
    try:
        envelope = _read_envelope(body)
        if envelope.sequence > 0 and envelope.author:
            content = memoryview(envelope.content)
            if len(content) > 2 and content[0] in b'{["':  # an object, a list or a string, and not an empty one
                return MessageFrame(envelope.author, envelope.sequence)
        return _read_notes(body)
    except _UNREADABLE:
        return _parse_slowly(body)


def parse_clock(body: bytes) -> Notes:
    """The notes of a frame that is too large for a message. Raises EbtError, before it has read a frame that holds more
    commas than notes fit into it.
    """
    if body.count(b",") * NOTE_BYTES <= len(body):
        try:
            return _read_notes(body)
        except _UNREADABLE:
            pass
    raise EbtError(f"an EBT frame of {len(body)} bytes is not a note object")


def _parse_slowly(body: bytes) -> MessageFrame | Notes:
    try:
        frame = parse(body)
    except InvalidJson as error:
        raise EbtError(f"an EBT frame is {error}") from None
    if type(frame) is not dict:
        raise EbtError("an EBT frame is not an object")
    author, sequence = frame.get("author"), frame.get("sequence")
    if type(sequence) is int and sequence > 0 and type(author) is str and _is_truthy(frame.get("content")):
        return MessageFrame(author, sequence)
    clock = frame.get("clock")  # room for frames with further properties, which nobody ever sent
    return clock if type(clock) is dict else frame


def _is_truthy(value: object) -> bool:
    """Truth as JavaScript has it: empty objects and lists are true."""
    return isinstance(value, dict | list) or bool(value)
