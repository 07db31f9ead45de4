"""A peer that checks nothing and keeps everything in memory: what the load programs reach when the pub costs least.

It speaks enough of the protocol for every load: invites (all are good), ``createHistoryStream`` without live messages,
and EBT that wants every feed it is told of and passes messages on to whoever asked. One thread per connection; no
signature is looked at, no JSON of a message is parsed, nothing is written. Where our figures come near the sink's, it
is the clients that are measured.
"""

import json
import os
import socket
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Any

import msgspec

from benchmarks.peers import HOST
from pub.protocol.addresses import Address, format_address
from pub.protocol.boxstream import Boxer, Unboxer
from pub.protocol.calls import encode_end, parse_request
from pub.protocol.ebt import decode_note, encode_note
from pub.protocol.invites import format_invite
from pub.protocol.keys import KeyPair
from pub.protocol.packets import Packet, PacketReader, encode_packet, encode_page
from pub.protocol.shs import HELLO_BYTES, MAIN_NETWORK, PROOF_BYTES, ServerHandshake

READ_BYTES = 1 << 18
BODY_LIMIT = 1 << 28
BACKLOG = 1024

_AUTHOR = b'"author":"'
_ID_BYTES = 53


class Client:
    """One connection, and the thread that serves it."""

    def __init__(self, sink: "Sink", connection: socket.socket) -> None:
        self._sink = sink
        self._socket = connection
        self._sending = threading.Lock()
        self.ebt = 0  # number of its EBT stream on the wire

    def run(self) -> None:
        with suppress(OSError), self._socket:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self._shake_hands()
            self._boxer = Boxer(session.encrypt_key, session.encrypt_nonce)
            self._read(Unboxer(session.decrypt_key, session.decrypt_nonce))
        self._sink.forget(self)

    def _shake_hands(self) -> Any:
        handshake = ServerHandshake(self._sink.keys, MAIN_NETWORK, os.urandom(32))
        self._socket.sendall(handshake.receive_hello(self._socket.recv(HELLO_BYTES, socket.MSG_WAITALL)))
        handshake.receive_proof(self._socket.recv(PROOF_BYTES, socket.MSG_WAITALL))
        self._socket.sendall(handshake.accept())
        return handshake.session

    def _read(self, unboxer: Unboxer) -> None:
        reader = PacketReader(lambda _request: BODY_LIMIT)
        while data := self._socket.recv(READ_BYTES):
            unboxer.receive_data(data)
            while (chunk := unboxer.next_chunk()) is not None:
                reader.receive_data(chunk)
                while isinstance(packet := reader.next_packet(), Packet):
                    self._take(packet)

    def _take(self, packet: Packet) -> None:
        if packet.end or packet.request < 0:
            return
        if packet.request != self.ebt:
            self._answer(packet)
        elif packet.body.startswith(b'{"previous":'):
            self._sink.keep(packet.body)
        else:
            self._receive_notes(msgspec.json.decode(packet.body))

    def _answer(self, packet: Packet) -> None:
        request = parse_request(packet)
        if request.name == ("ebt", "replicate"):
            self.ebt = packet.request
            self.send_page([b"{}"])
        elif request.name == ("createHistoryStream",):
            asked = request.args[0]
            messages = self._sink.after(asked["id"], asked.get("seq", 1) - 1)
            end = encode_end(-packet.request, None, stream=True)
            self.send(encode_page(-packet.request, messages) + end)
        else:
            self.send(encode_packet(-packet.request, b"{}"))

    def _receive_notes(self, notes: dict[str, int]) -> None:
        wanted = {}
        for feed, value in notes.items():
            note = decode_note(value)
            have = self._sink.length(feed)
            if note is not None and note.sequence > have:
                wanted[feed] = encode_note(have, receive=True)
            elif note is not None and note.receive:
                self._sink.subscribe(self, feed)
                self.send_page(self._sink.after(feed, note.sequence))
        if wanted:
            self.send_page([msgspec.json.encode(wanted)])

    def send_page(self, bodies: list[bytes]) -> None:
        self.send(encode_page(-self.ebt, bodies))

    def send(self, packets: bytes) -> None:
        with self._sending:
            self._socket.sendall(self._boxer.box(packets))


class Sink:
    """What was sent, by feed, and who wants more of it."""

    def __init__(self) -> None:
        self.keys = KeyPair.generate(os.urandom(32))
        self._feeds: dict[bytes, list[bytes]] = defaultdict(list)
        self._subscribers: dict[bytes, list[Client]] = defaultdict(list)

    def length(self, feed: str) -> int:
        return len(self._feeds[feed.encode()])

    def after(self, feed: str, sequence: int) -> list[bytes]:
        return self._feeds[feed.encode()][sequence:]

    def subscribe(self, client: Client, feed: str) -> None:
        self._subscribers[feed.encode()].append(client)

    def forget(self, client: Client) -> None:
        for clients in list(self._subscribers.values()):
            if client in clients:
                clients.remove(client)

    def keep(self, message: bytes) -> None:
        start = message.index(_AUTHOR) + len(_AUTHOR)
        author = message[start : start + _ID_BYTES]
        self._feeds[author].append(message)
        for client in self._subscribers.get(author, ()):
            client.send_page([message])

    def run(self) -> None:
        """Announce ourselves as the others do, and take connections for ever."""
        with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
            address = Address(HOST, listener.getsockname()[1], self.keys.public)
            announcement = {"id": self.keys.id, "address": format_address(address)}
            invite = format_invite(address, os.urandom(32))
            print(json.dumps(announcement | {"invite": invite}), flush=True)
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=Client(self, connection).run, daemon=True).start()


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    Sink().run()
