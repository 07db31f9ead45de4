"""One message on disk: a header, and of its text what the store does not know otherwise.

Layout (big-endian): feed u32, sequence u32, receive number u64 of the message before it in its feed (0: it is the
first), id (32), received f64, shape u8, length u8 of the timestamp; then the text, which for a classic shape is the
timestamp as it was written, the content, and the 64 bytes of the signature.

Nearly every message is spelled like the templates below, in one of the two orders of its fields. What stands around
timestamp, content and signature follows from the feed (author), the header (sequence) and the header of the message
before (previous): 230 bytes, which are put back when it is read. ``pack`` looks at every part; what would not come
back byte for byte is kept as it is, shape WHOLE. So ``unpack`` has nothing left to decide.
"""

from __future__ import annotations

import math
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

WHOLE = 0
SEQUENCE_FIRST = 1  # how clients write today
AUTHOR_FIRST = 2  # how they did once

_HEADER = struct.Struct(">IIQ32sdBB")
_FRAME = struct.Struct(">4xI8x32s8xBB")  # sequence, id, shape, length of the timestamp
_TEXT = _HEADER.size

place_of: Callable[[bytes], tuple[int, int]] = struct.Struct(">4xIQ").unpack_from
"""Sequence, and receive number of the message before. (Without a call of ours: a chain is followed with it.)"""

_ID = slice(16, 48)

_STARTS = {  # the author's key comes between the two parts
    SEQUENCE_FIRST: (b'{"previous":%b,"sequence":%d,"author":"@', b'.ed25519","timestamp":'),
    AUTHOR_FIRST: (b'{"previous":%b,"author":"@', b'.ed25519","sequence":%d,"timestamp":'),
}
_BEFORE_CONTENT = b',"hash":"sha256","content":'
_BEFORE_SIGNATURE = b',"signature":"'
_END = b'.sig.ed25519"}'
_SIGNATURE_BYTES = 64
_SIGNATURE = slice(-88 - len(_END), -len(_END))  # in base64
_CONTENT_END = _SIGNATURE.start - len(_BEFORE_SIGNATURE)
_REST = b"%b" + _BEFORE_CONTENT + b"%b" + _BEFORE_SIGNATURE + b"%b" + _END
_MAX_LENGTH = 255


class Record(NamedTuple):
    """A stored message: ``received`` in milliseconds since the epoch, ``encoded`` its JSON text."""

    sequence: int
    id: bytes
    received: float
    encoded: bytes


def pack(feed: int, author: bytes, before: int, previous: bytes | None, message: Record) -> bytes:
    """What is stored of ``message``, the next one of ``feed``, whose key is ``author``; ``before`` and ``previous``
    are receive number and id of the one before it (0 and None: there is none).
    """
    sequence, digest, received, encoded = message
    shape, length, text = _shorten(author, previous, sequence, encoded)
    return _HEADER.pack(feed, sequence, before, digest, received, shape, length) + text


def id_of(raw: bytes) -> bytes:
    """The id of the message."""
    return raw[_ID]


def unpack(
    author: bytes, raws: Iterable[bytes], previous: bytes | None, max_bytes: float = math.inf
) -> Iterator[tuple[bytes, bytes]]:
    """Consecutive records of one feed, each with its text, as many as ``max_bytes`` of text hold but at least one.

    ``previous`` is the record before the first one. This is what serving a message costs: a microsecond.
    """
    name = b2a_base64(author, newline=False)
    templates = {shape: name.join(start) + _REST for shape, start in _STARTS.items()}
    link = _link(None if previous is None else previous[_ID])
    size = 0
    for raw in raws:
        sequence, digest, shape, length = _FRAME.unpack_from(raw)
        if shape == WHOLE:
            text = raw[_TEXT:]
        else:
            content = _TEXT + length
            signature = b2a_base64(raw[-_SIGNATURE_BYTES:], newline=False)
            text = templates[shape] % (link, sequence, raw[_TEXT:content], raw[content:-_SIGNATURE_BYTES], signature)
        if size and size + len(text) > max_bytes:
            return
        size += len(text)
        yield raw, text
        link = b'"%%%b.sha256"' % b2a_base64(digest, newline=False)  # as _link says


def record(raw: bytes, encoded: bytes) -> Record:
    """The stored message with its text."""
    _feed, sequence, _before, digest, received, _shape, _length = _HEADER.unpack_from(raw)
    return Record(sequence, digest, received, encoded)


def _shorten(author: bytes, previous: bytes | None, sequence: int, encoded: bytes) -> tuple[int, int, bytes]:
    """Shape, length of the timestamp, and text. Its parts add up to all of ``encoded``, or it stays whole."""
    link, name = _link(previous), b2a_base64(author, newline=False)
    for shape, parts in _STARTS.items():
        start = name.join(parts) % (link, sequence)
        if encoded.startswith(start):
            begin = len(start)
            end = encoded.find(_BEFORE_CONTENT, begin, begin + _MAX_LENGTH + len(_BEFORE_CONTENT))
            signature = _signature(encoded)
            content = end + len(_BEFORE_CONTENT)
            if signature is None or end < 0 or content > len(encoded) + _CONTENT_END:
                break
            return shape, end - begin, encoded[begin:end] + encoded[content:_CONTENT_END] + signature
    return WHOLE, 0, encoded


def _signature(encoded: bytes) -> bytes | None:
    """The 64 bytes, if the text ends with them in the spelling in which they are put back."""
    if not encoded.endswith(_END) or not encoded.startswith(_BEFORE_SIGNATURE, _CONTENT_END):
        return None
    text = encoded[_SIGNATURE]
    try:
        signature = a2b_base64(text)
    except ValueError:
        return None
    is_usual = len(signature) == _SIGNATURE_BYTES and b2a_base64(signature, newline=False) == text
    return signature if is_usual else None


def _link(previous: bytes | None) -> bytes:
    """What stands in the field of that name."""
    return b"null" if previous is None else b'"%%%b.sha256"' % b2a_base64(previous, newline=False)
