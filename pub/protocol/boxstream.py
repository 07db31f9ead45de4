"""Box stream: a byte stream cut into encrypted, authenticated boxes. One key and one nonce counter per direction.

Every chunk of 1 to 4096 bytes becomes a header of 34 bytes and a body as long as the chunk. The header boxes the length
of the chunk and the tag of the body's box, under nonce n; the body is boxed under n + 1; then n grows by 2. Nonces are
big-endian numbers of 192 bits that wrap to zero. A header of zeros is the goodbye: the one clean way for a stream to
end, so that nobody on the way can cut it unnoticed. Where boxes begin and end means nothing to what is inside.
The rules are those of the SSB protocol guide ("Box stream").
"""

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from pub.errors import BoxStreamError

MAX_CHUNK = 4096  # what the guide allows in one box. A header that claims more is refused before its body is buffered.

_TAG_BYTES = 16
_LENGTH_BYTES = 2
_HEADER_BYTES = _TAG_BYTES + _LENGTH_BYTES + _TAG_BYTES
_GOODBYE = bytes(_LENGTH_BYTES + _TAG_BYTES)
_NONCE_BYTES = 24
_NONCE_MASK = (1 << 8 * _NONCE_BYTES) - 1


class Boxer:
    """The sending direction. What it returns must go out whole and in order."""

    __slots__ = ("_counter", "_key")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._counter = int.from_bytes(nonce, "big")

    def box(self, data: bytes) -> bytes:
        """Boxes data of any length; nothing for nothing."""
        key = self._key
        counter = self._counter
        wire: list[bytes] = []
        for start in range(0, len(data), MAX_CHUNK):
            chunk = data[start : start + MAX_CHUNK]
            body = crypto_secretbox(chunk, _nonce(counter + 1), key)
            header = len(chunk).to_bytes(_LENGTH_BYTES, "big") + body[:_TAG_BYTES]
            wire += (crypto_secretbox(header, _nonce(counter), key), body[_TAG_BYTES:])
            counter += 2
        self._counter = counter
        return b"".join(wire)

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

    __slots__ = ("_buffer", "_counter", "_key", "_length", "_offset", "_tag", "is_closed")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._counter = int.from_bytes(nonce, "big")
        self._buffer = bytearray()
        self._offset = 0  # what lies before it in the buffer is done with
        self._length = 0
        self._tag = b""  # of the body that is due; empty while a header is
        self.is_closed = False

    def receive_data(self, data: bytes | bytearray) -> None:
        """Buffers bytes as they came from the wire."""
        if self.is_closed:
            return
        del self._buffer[: self._offset]
        self._offset = 0
        self._buffer += data

    def next_chunk(self) -> bytes | None:
        """The content of the next box, never empty; None when more data is needed or the stream has ended."""
        while self._tag or self._open_header():
            end = self._offset + self._length
            if len(self._buffer) < end:
                return None
            chunk = self._open(self._tag + self._buffer[self._offset : end], self._counter + 1)
            self._offset = end
            self._counter += 2
            self._tag = b""
            if chunk:  # a box of nothing is odd, but legal for other implementations
                return chunk
        return None

    def _open_header(self) -> bool:
        """Whether a body follows: not yet, when the header is incomplete; never again, after the goodbye."""
        end = self._offset + _HEADER_BYTES
        if len(self._buffer) < end:
            return False
        header = self._open(bytes(self._buffer[self._offset : end]), self._counter)
        if header == _GOODBYE:
            self.is_closed = True
            self._buffer.clear()
            self._offset = 0
            return False
        length = int.from_bytes(header[:_LENGTH_BYTES], "big")
        if length > MAX_CHUNK:
            raise BoxStreamError(f"a box of {length} bytes: more than {MAX_CHUNK} are not allowed")
        self._offset = end
        self._length = length
        self._tag = header[_LENGTH_BYTES:]
        return True

    def _open(self, boxed: bytes, counter: int) -> bytes:
        try:
            return crypto_secretbox_open(boxed, _nonce(counter), self._key)
        except CryptoError:
            raise BoxStreamError("a box does not open: the stream was damaged or tampered with") from None


def _nonce(counter: int) -> bytes:
    return (counter & _NONCE_MASK).to_bytes(_NONCE_BYTES, "big")
