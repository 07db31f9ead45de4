"""Box stream: a byte stream cut into encrypted, authenticated boxes. One key and one nonce counter per direction.

Every chunk of 1 to 4096 bytes becomes a header of 34 bytes and a body as long as the chunk. The header boxes the length
of the chunk and the tag of the body's box, under nonce n; the body is boxed under n + 1; then n grows by 2. Nonces are
big-endian numbers of 192 bits that wrap to zero. A header of zeros is the goodbye: the one clean way for a stream to
end, so that nobody on the way can cut it unnoticed. Where boxes begin and end means nothing to what is inside.
The rules are those of the SSB protocol guide ("Box stream").
"""

from struct import Struct

from nacl._sodium import ffi, lib
from nacl.bindings import crypto_secretbox

from pub.errors import BoxStreamError

MAX_CHUNK = 4096  # what the guide allows in one box. A header that claims more is refused before its body is buffered.

_TAG_BYTES = 16
_LENGTH_BYTES = 2
_HEADER_BYTES = _TAG_BYTES + _LENGTH_BYTES + _TAG_BYTES
_GOODBYE = bytes(_LENGTH_BYTES + _TAG_BYTES)
_NONCE_BYTES = 24
_NONCE_MASK = (1 << 8 * _NONCE_BYTES) - 1

# PyNaCl's own functions take and return bytes, and copy them three times. On the wire each plaintext lies where its box
# needs it: a body's tag is the end of the header's plaintext, and that lies behind the header's tag.
_seal = lib.crypto_secretbox_easy  # (box, plain, length of plain, nonce, key); the box begins with its tag
_open = lib.crypto_secretbox_open_easy  # (plain, box, length of box, nonce, key): -1 if it does not open
_view = ffi.from_buffer
_LENGTH = Struct(">H")
_put_length, _get_length = _LENGTH.pack_into, _LENGTH.unpack_from


class Boxer:
    """The sending direction. What it returns must go out whole and in order."""

    __slots__ = ("_counter", "_key")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._counter = int.from_bytes(nonce, "big")

    def box(self, data: bytes | bytearray | memoryview) -> bytes:
        """Boxes data of any length; nothing for nothing."""
        key, counter, size = self._key, self._counter, len(data)
        wire = bytearray(size + -(-size // MAX_CHUNK) * _HEADER_BYTES)
        place, header, plain = 0, _view(wire), _view(data)
        for start in range(0, size, MAX_CHUNK):
            length = min(MAX_CHUNK, size - start)
            _seal(header + (_TAG_BYTES + _LENGTH_BYTES), plain + start, length, _nonce(counter + 1), key)
            _put_length(wire, place + _TAG_BYTES, length)
            _seal(header, header + _TAG_BYTES, len(_GOODBYE), _nonce(counter), key)
            header += _HEADER_BYTES + length
            place += _HEADER_BYTES + length
            counter += 2
        self._counter = counter
        return bytes(wire)

    def goodbye(self) -> bytes:
        """Ends the stream: a peer ignores whatever comes after it."""
        wire = crypto_secretbox(_GOODBYE, _nonce(self._counter), self._key)
        self._counter += 1
        return wire


class Unboxer:
    """The receiving direction: feed it with `receive_data`, then call `next_chunk` until that gives None.

    A box that does not open raises BoxStreamError, after the chunks before it and on every call from then on.
    `is_closed` tells that the goodbye was seen; a stream that ends before it was cut off.
    """

    __slots__ = ("_buffer", "_counter", "_is_body_due", "_key", "_length", "_offset", "is_closed")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._counter = int.from_bytes(nonce, "big")
        self._buffer = bytearray()
        self._offset = 0  # what lies before it in the buffer is done with
        self._is_body_due = False  # the header at the offset was opened, where it lies
        self._length = 0  # of that body
        self.is_closed = False

    def receive_data(self, data: bytes | bytearray) -> None:
        """Buffers bytes as they came from the wire."""
        if not self.is_closed:
            self._buffer += data

    def next_chunk(self) -> bytes | None:
        """The content of the next box, never empty; None when more data is needed or the stream has ended."""
        while self._is_body_due or self._open_header():
            if self._length > MAX_CHUNK:
                raise BoxStreamError(f"a box of {self._length} bytes: more than {MAX_CHUNK} are not allowed")
            body = self._offset + _HEADER_BYTES
            end = body + self._length
            if len(self._buffer) < end:
                break
            self._open(body - _TAG_BYTES, self._length, self._counter + 1)
            chunk = bytes(self._buffer[body:end])
            self._offset = end
            self._counter += 2
            self._is_body_due = False
            if chunk:  # a box of nothing is odd, but legal for other implementations
                return chunk
        del self._buffer[: self._offset]
        self._offset = 0
        return None

    def _open_header(self) -> bool:
        """Whether a body follows: not yet, when the header is incomplete; never again, after the goodbye."""
        start = self._offset
        if len(self._buffer) < start + _HEADER_BYTES:
            return False
        self._open(start, len(_GOODBYE), self._counter)
        if self._buffer.startswith(_GOODBYE, start + _TAG_BYTES):
            self.is_closed = True
            self._buffer.clear()
            self._offset = 0
            return False
        (self._length,) = _get_length(self._buffer, start + _TAG_BYTES)
        self._is_body_due = True
        return True

    def _open(self, start: int, length: int, counter: int) -> None:
        """Open the box of ``length`` bytes of content whose tag is at ``start``, in its place."""
        with _view(self._buffer) as buffer:
            box = buffer + start
            if _open(box + _TAG_BYTES, box, _TAG_BYTES + length, _nonce(counter), self._key):
                raise BoxStreamError("a box does not open: the stream was damaged or tampered with")


def _nonce(counter: int) -> bytes:
    return (counter & _NONCE_MASK).to_bytes(_NONCE_BYTES, "big")
