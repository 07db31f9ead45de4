"""SecretStream: a trio stream over any other, encrypted and with a peer whose key is known.

`open_handshake` and `accept_handshake` turn a transport into one. They read exactly the bytes of the handshake and not
one more, so what a hasty peer sent behind it is still in the transport for the box stream. On any failure, refusal and
cancellation included, they raise without another word to the peer: a stranger can't tell one reason from another.
`open_handshake` closes the transport before; whoever accepted one closes it, at once or later.

Who calls sets the timeouts. One task may send while another receives, but no two may do the same at once: the second
gets trio.BusyResourceError, before anything was boxed.
"""

import operator
from collections.abc import Callable

import trio

from pub.errors import BoxStreamError, HandshakeCutShort, HandshakeError, HungUp
from pub.net.sockets import receive, write_now
from pub.protocol.boxstream import Boxer, Unboxer
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id
from pub.protocol.shs import ACCEPT_BYTES, HELLO_BYTES, PROOF_BYTES, ClientHandshake, ServerHandshake, SessionKeys

RECEIVE_SIZE = 65536  # bytes asked of the transport at once: about sixteen full boxes
GOODBYE_SECONDS = 1.0  # a goodbye is a courtesy: a peer that does not even read it may not hold up our closing


class SecretStream(trio.abc.Stream):
    """Plaintext on this side, box stream on `transport`. `peer_key` is the public key (32 bytes) the peer proved."""

    __slots__ = (
        "_boxer",
        "_is_closed",
        "_is_torn",
        "_received",
        "_receiver",
        "_sender",
        "_unboxer",
        "_unsent",
        "peer_key",
        "transport",
    )

    def __init__(self, transport: trio.abc.Stream, session: SessionKeys, peer_key: bytes) -> None:
        self.transport = transport
        self.peer_key = peer_key
        self._boxer = Boxer(session.encrypt_key, session.encrypt_nonce)
        self._unboxer = Unboxer(session.decrypt_key, session.decrypt_nonce)
        self._received = b""  # plaintext that did not fit into the caller's max_bytes
        self._unsent = b""  # boxes that the transport did not take at once
        self._is_closed = False
        self._is_torn = False  # half a box may be on the wire: nothing can follow it
        self._sender = _OneTask("another task is sending on this stream")
        self._receiver = _OneTask("another task is receiving from this stream")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data` in one write of the transport. One that fails or is cancelled was the last one."""
        with self._sender:
            self._check_sendable()
            self._is_torn = True
            unsent, self._unsent = self._unsent, b""
            await self.transport.send_all(unsent + self._boxer.box(data))
            self._is_torn = False

    def send_now(self, data: bytes | bytearray | memoryview) -> bool:
        """Sends what the transport takes without waiting. False: the rest goes out before the data of the next call.

        A write that fails was the last one, as with `send_all`.
        """
        with self._sender:
            self._check_sendable()
            self._is_torn = True
            boxes = self._unsent + self._boxer.box(data)
            self._unsent = boxes[write_now(self.transport, boxes) :]
            self._is_torn = False
            return not self._unsent

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport's; conflicts with `send_all`."""
        with self._sender:
            self._check_sendable()
            await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, all boxes joined; b"" only after the peer's goodbye.

        Raises BoxStreamError for a damaged box (once everything before it was handed out) and for a transport that
        ended without a goodbye.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiver:
            if self._is_closed:
                raise trio.ClosedResourceError("this stream was closed")
            if self._received:
                await trio.lowlevel.checkpoint()
            else:
                self._received = await self._receive_boxes()
            plain = self._received[:max_bytes]
            self._received = self._received[len(plain) :]
            return plain

    async def aclose(self) -> None:
        """Says goodbye, then closes the transport."""
        try:
            await self.say_goodbye()
        finally:
            await self.transport.aclose()

    async def say_goodbye(self) -> None:
        """The last word, and nothing more is received. Gives up on a peer that does not take it in GOODBYE_SECONDS."""
        is_goodbye_due = not (self._is_closed or self._is_torn or self._unsent)
        self._is_closed = True
        try:
            if is_goodbye_due:
                with trio.move_on_after(GOODBYE_SECONDS):
                    await self.transport.send_all(self._boxer.goodbye())
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # the peer or another closer went first, or a task waits for room to send: there is none for this

    def _check_sendable(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._is_torn:
            raise trio.BrokenResourceError("an earlier send was cut short")

    async def _receive_boxes(self) -> bytes:
        # Everything whole was unboxed by the call before: what is left can only be an error that it held back.
        while not (plain := self._unbox()):
            if self._unboxer.is_closed:
                await trio.lowlevel.checkpoint()
                return b""
            data = await receive(self.transport, RECEIVE_SIZE)
            if not data:
                raise HungUp(f"{feed_id(self.peer_key)} hung up without a goodbye")
            self._unboxer.receive_data(data)
        return plain

    def _unbox(self) -> bytes:
        chunks: list[bytes] = []
        try:
            while (chunk := self._unboxer.next_chunk()) is not None:
                chunks.append(chunk)
        except BoxStreamError:
            if not chunks:  # else these first: the unboxer repeats its error on the next call
                raise
        return b"".join(chunks)


class _OneTask:
    """Refuses the second task that enters (trio's own detector of such conflicts is private)."""

    __slots__ = ("_complaint", "_is_held")

    def __init__(self, complaint: str) -> None:
        self._complaint = complaint
        self._is_held = False

    def __enter__(self) -> None:
        if self._is_held:
            raise trio.BusyResourceError(self._complaint)
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False


async def accept_handshake(
    stream: trio.abc.Stream, keys: KeyPair, network_key: bytes, ephemeral: bytes, authorise: Callable[[bytes], bool]
) -> SecretStream:
    """Answers a peer that dialled us, if `authorise` lets in the key it proves. Raises HandshakeError."""
    handshake = ServerHandshake(keys, network_key, ephemeral)
    await _send(stream, handshake.receive_hello(await _receive_exactly(stream, HELLO_BYTES)))
    peer_key = handshake.receive_proof(await _receive_exactly(stream, PROOF_BYTES))
    if not authorise(peer_key):
        raise HandshakeError(f"{feed_id(peer_key)} may not come in")
    await _send(stream, handshake.accept())
    return SecretStream(stream, handshake.session, peer_key)


async def open_handshake(
    stream: trio.abc.Stream, keys: KeyPair, network_key: bytes, ephemeral: bytes, server_key: bytes
) -> SecretStream:
    """Proves who we are to the peer we dialled, whose key is known. Raises HandshakeError."""
    try:
        handshake = ClientHandshake(keys, network_key, ephemeral, server_key)
        await stream.send_all(handshake.hello())
        await stream.send_all(handshake.receive_hello(await _receive_exactly(stream, HELLO_BYTES)))
        handshake.receive_accept(await _receive_exactly(stream, ACCEPT_BYTES))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return SecretStream(stream, handshake.session, server_key)


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    """So few bytes the kernel takes at once, and who shakes hands waits for an answer before it can do more."""
    if rest := data[write_now(stream, data) :]:
        await stream.send_all(rest)


async def _receive_exactly(stream: trio.abc.Stream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        data = await receive(stream, count - len(received))
        if not data:
            raise HandshakeCutShort(
                f"the peer hung up when {count - len(received)} bytes of a handshake message were due"
            )
        received += data
    return bytes(received)
