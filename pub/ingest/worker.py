"""A verifying process: chunks of raw messages in on its standard input, verdicts out on the same socket.

libsodium needs about 55 µs a signature, most of what ingest costs. In a thread of the pub each return from
libsodium would wait for the interpreter lock of a busy event loop, so the work is done in processes. They hold no
state and never touch the store: killing one loses nothing but the chunk it works on.

Frames are ``length u32 big-endian ‖ msgpack``: in a list of bytes, out a list of messages, refusal texts
and nils for bugs. The
process ends when the socket does, so none outlives the pub, however that died.
"""

import faulthandler
import os
import socket
import struct
import traceback
from contextlib import suppress

import msgspec

from pub.errors import InvalidMessage
from pub.protocol.classic import Message, examine

FRAME_HEADER = struct.Struct(">I")
NICENESS = 5  # a third of the processor where there is not enough: what is verified would only wait for the event loop
RECEIVE_SIZE = 1 << 18  # a chunk of 256 messages of 600 bytes is 150 KiB: one read


def encode_frame(value: object) -> bytes:
    """One frame of the socket between the pub and a verifying process."""
    body = msgspec.msgpack.encode(value)
    return FRAME_HEADER.pack(len(body)) + body


def verdict(raw: bytes, hmac_key: bytes | None) -> Message | str | None:
    """The verified message, or why it is refused (anything but the chain is checked).

    ``None``: examining it failed, which is a bug of ours. It must not end the process: whoever sent the message would
    send it again.
    """
    try:
        return examine(raw, hmac_key)
    except InvalidMessage as error:
        return str(error)
    except Exception:
        traceback.print_exc()
        return None


def take_frame(buffer: bytearray) -> bytes | None:
    """Cut the body of the first frame off ``buffer``, which may hold more; ``None``: it is not all there yet."""
    if len(buffer) < FRAME_HEADER.size:
        return None
    end = FRAME_HEADER.size + FRAME_HEADER.unpack_from(buffer)[0]
    if len(buffer) < end:
        return None
    body = bytes(buffer[FRAME_HEADER.size : end])
    del buffer[:end]
    return body


def receive_frame(connection: socket.socket, buffer: bytearray) -> bytes | None:
    """The next frame's body; ``None`` when the pub closed the socket. ``buffer`` keeps what was read too much."""
    while (body := take_frame(buffer)) is None:
        data = connection.recv(RECEIVE_SIZE)
        if not data:
            return None
        buffer += data
    return body


def main() -> None:
    """Answer chunks until the socket ends. (The pub blocked the signals that mean "stop": it drains first.)"""
    faulthandler.enable()
    os.nice(NICENESS)
    with suppress(ConnectionError):  # the pub died and left verdicts unread
        serve(socket.socket(fileno=0))


def serve(connection: socket.socket) -> None:
    """Answer what comes over ``connection``. The first frame is the network's HMAC key, or nil."""
    buffer = bytearray()
    hello = receive_frame(connection, buffer)
    hmac_key = msgspec.msgpack.decode(hello, type=bytes | None) if hello else None
    decode = msgspec.msgpack.Decoder(list[bytes]).decode
    while (frame := receive_frame(connection, buffer)) is not None:
        connection.sendall(encode_frame([verdict(raw, hmac_key) for raw in decode(frame)]))


if __name__ == "__main__":
    main()
