"""muxrpc packets: the frames under every call (packet-stream-codec of the reference implementation).

    flags (1 byte) | body length (uint32, big-endian) | request number (int32, big-endian) | body

Flags: 8 = belongs to a stream, 4 = end or error, 1 and 2 = type of the body; the upper four bits mean nothing.
A positive number belongs to a request of the sender, a negative one to a request of the receiver, 0 to none.

Nine zero bytes are the goodbye; nothing counts after it. The reference implementation takes *every* header with
length 0 for a goodbye. So we never write an empty body, and read one as what it says: a JavaScript sender of a blob
of a multiple of 64 KiB produces an empty packet, and it did not mean to leave.

The reader copies each body once, out of the chunk it came in. Only a packet that spans chunks is put together first,
and only when all of it is there, so that many small chunks cost no more than one large one.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from struct import Struct

import msgspec

from pub.errors import MuxrpcError

HEADER_LENGTH = 9
GOODBYE = bytes(HEADER_LENGTH)

# As large as one box: smaller bodies need nobody's leave, which spares a call for nearly every packet.
FREE_BODY = 4096

STREAM = 8
END = 4


class BodyType(IntEnum):
    """How the body of a packet is to be read; 3 does not exist and ends the connection."""

    BINARY = 0
    TEXT = 1
    JSON = 2


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet; `request` is the number as it stood on the wire, as seen by the receiver."""

    request: int
    stream: bool
    end: bool
    type: BodyType
    body: bytes


class Goodbye(msgspec.Struct, frozen=True, gc=False):
    """The sender closes the session: no packet follows."""


_HEADER = Struct(">BIi")
_pack_header = _HEADER.pack
_read_header = _HEADER.unpack_from

# What the lower four bits of the flags say: (stream, end, type of the body or None for the type that is none).
_SHAPES = tuple(
    (flags & STREAM > 0, flags & END > 0, None if flags & 3 == 3 else BodyType(flags & 3)) for flags in range(16)
)


def encode_packet(
    request: int, body: bytes, body_type: BodyType = BodyType.JSON, *, stream: bool = False, end: bool = False
) -> bytes:
    """One packet as bytes, header and body together. An empty body is our bug: ValueError."""
    if not body:
        raise ValueError("an empty body reads as a goodbye")
    return _pack_header((STREAM if stream else 0) | (END if end else 0) | body_type, len(body), request) + body


def encode_data(request: int, body: bytes, body_type: BodyType = BodyType.JSON) -> bytes:
    """One piece of stream data; the fast form of `encode_packet`. `body` must not be empty."""
    return _pack_header(STREAM | body_type, len(body), request) + body


def encode_page(request: int, bodies: Iterable[bytes]) -> bytes:
    """Many pieces of JSON stream data in one buffer. None of them may be empty."""
    flags = STREAM | BodyType.JSON
    return b"".join([part for body in bodies for part in (_pack_header(flags, len(body), request), body)])


class PacketReader:
    """Turns a stream of bytes into packets.

    `body_limit(request)` gives the largest body allowed for that number. It is asked as soon as a header is complete,
    before its body is buffered, and only about bodies over FREE_BODY.
    """

    __slots__ = ("_body_limit", "_buffer", "_is_closed", "_offset", "_pending")

    def __init__(self, body_limit: Callable[[int], int]) -> None:
        self._body_limit = body_limit
        self._buffer = b""  # being read, from _offset on
        self._offset = 0
        self._pending = bytearray()  # what came after _buffer
        self._is_closed = False

    @property
    def unread(self) -> int:
        """How many bytes wait for the rest of their packet, or to be asked for."""
        return len(self._buffer) - self._offset + len(self._pending)

    def receive_data(self, data: bytes) -> None:
        """Take in bytes from the wire; after the goodbye they are dropped."""
        if self._is_closed:
            return
        if self._offset == len(self._buffer) and not self._pending:
            self._buffer = data
            self._offset = 0
        else:
            self._pending += data

    def close(self) -> None:
        """Forget what was not read, and take in nothing more."""
        self._is_closed = True
        self._buffer = b""
        self._offset = 0
        self._pending = bytearray()

    def next_packet(self) -> Packet | Goodbye | None:
        """The next whole packet, or None until more arrives. Raises MuxrpcError, and then for ever."""
        buffer = self._buffer
        start = self._offset
        body = start + HEADER_LENGTH
        if body > len(buffer):
            return self.next_packet() if self._gather(HEADER_LENGTH) else None
        flags, length, request = _read_header(buffer, start)
        if length > FREE_BODY:
            self._check_length(request, length)
        elif length == 0 and request == 0:
            self.close()
            return Goodbye()
        stream, end, body_type = _SHAPES[flags & 15]
        if body_type is None:
            raise MuxrpcError(f"packet of request {request}: unknown message type")
        stop = body + length
        if stop > len(buffer):
            return self.next_packet() if self._gather(HEADER_LENGTH + length) else None
        self._offset = stop
        return Packet(request, stream, end, body_type, buffer[body:stop])

    def _check_length(self, request: int, length: int) -> None:
        limit = self._body_limit(request)
        if length > limit:
            raise MuxrpcError(f"packet of request {request}: {length} bytes, over the limit of {limit}")

    def _gather(self, wanted: int) -> bool:
        """Join what is unread once that gives `wanted` bytes; False if there are not enough."""
        unread = len(self._buffer) - self._offset
        if unread + len(self._pending) < wanted:
            if not unread:
                self._buffer = b""  # an idle connection need not keep its last chunk
                self._offset = 0
            return False
        self._buffer = self._buffer[self._offset :] + self._pending
        self._offset = 0
        self._pending = bytearray()
        return True
