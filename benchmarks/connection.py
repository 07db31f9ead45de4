"""A client's connection: secret handshake, boxes and packets over a blocking socket.

A client must not be slower than what it measures. So what arrives is read at once and stamped with the time, and is
opened later, when no socket has anything to read: an ``Inbox`` looks after any number of connections like this. A
reader that is late then costs memory of its own, and never a wrong time.
"""

import os
import select
import socket
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import msgspec

from benchmarks.peers import Peer
from pub.protocol.boxstream import Boxer, Unboxer
from pub.protocol.calls import Kind, encode_end, encode_request, method_not_allowed
from pub.protocol.keys import KeyPair
from pub.protocol.packets import Goodbye, Packet, PacketReader
from pub.protocol.shs import ACCEPT_BYTES, HELLO_BYTES, MAIN_NETWORK, ClientHandshake

PATIENCE = 30.0  # seconds without anything from the peer until a load is broken off
READ_BYTES = 1 << 16  # opening that much takes half a millisecond, in which nothing is read
WRITE_BYTES = 1 << 20  # the socket's timeout is for so much at once
BODY_LIMIT = 1 << 28  # the peers are ours: a clock may be as large as it gets


class LoadFailed(Exception):
    """The peer did not do what is measured; there is no figure."""


class Connection:
    """Authenticated as ``keys``. Requests of the peer are refused, as by a client that can do nothing else."""

    def __init__(self, peer: Peer, keys: KeyPair) -> None:
        self.socket = socket.create_connection((peer.host, peer.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received_bytes = 0  # boxes and all, without the handshake
        self.sent_bytes = 0
        self._last_number = 0
        self._reader = PacketReader(lambda _request: BODY_LIMIT)
        self._shake_hands(keys, peer.key)

    def _shake_hands(self, keys: KeyPair, server_key: bytes) -> None:
        handshake = ClientHandshake(keys, MAIN_NETWORK, os.urandom(32), server_key)
        self.socket.sendall(handshake.hello())
        self.socket.sendall(handshake.receive_hello(self._receive_exactly(HELLO_BYTES)))
        handshake.receive_accept(self._receive_exactly(ACCEPT_BYTES))
        session = handshake.session
        self._boxer = Boxer(session.encrypt_key, session.encrypt_nonce)
        self._unboxer = Unboxer(session.decrypt_key, session.decrypt_nonce)

    def _receive_exactly(self, count: int) -> bytes:
        data = self.socket.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise LoadFailed("the peer hung up during the handshake")
        return data

    def fileno(self) -> int:
        return self.socket.fileno()

    def open(self, name: str, args: Sequence[Any], kind: Kind) -> int:
        """Call a method of the peer: the number that its packets will carry."""
        self.send(self.request(name, args, kind))
        return -self._last_number

    def request(self, name: str, args: Sequence[Any], kind: Kind) -> bytes:
        """The same, to be sent later; numbers count 1, 2, 3… in the order of these calls."""
        self._last_number += 1
        return encode_request(self._last_number, name.split("."), args, kind)

    def send(self, packets: bytes) -> None:
        self.send_boxes(self.box(packets))

    def box(self, packets: bytes) -> bytes:
        """Box packets that go out later, but before any others."""
        return self._boxer.box(packets)

    def send_boxes(self, boxes: bytes) -> None:
        view = memoryview(boxes)
        for start in range(0, len(boxes), WRITE_BYTES):
            self.socket.sendall(view[start : start + WRITE_BYTES])
        self.sent_bytes += len(boxes)

    def receive(self) -> bytes:
        """What lies in the socket, as it is. Raises LoadFailed when the peer has hung up."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise LoadFailed("the peer hung up")
        self.received_bytes += len(data)
        return data

    def unpack(self, data: bytes) -> list[Packet]:
        """The answers in it. What the peer asks is refused, and its ends are confirmed, here."""
        self._unboxer.receive_data(data)
        packets = []
        while (chunk := self._unboxer.next_chunk()) is not None:
            self._reader.receive_data(chunk)
            while isinstance(packet := self._reader.next_packet(), Packet):
                packets.append(packet)
            if isinstance(packet, Goodbye):
                raise LoadFailed("the peer said goodbye")
        for packet in packets:
            if packet.request < 0 and packet.stream and packet.end:
                self.send(encode_end(-packet.request, None, stream=True))
            elif packet.request > 0 and not packet.end:
                self._refuse(packet)
        return [packet for packet in packets if packet.request < 0]

    def _refuse(self, packet: Packet) -> None:
        asked = msgspec.json.decode(packet.body)
        if isinstance(asked, dict) and "name" in asked:
            name = asked["name"] if isinstance(asked["name"], list) else [asked["name"]]
            self.send(encode_end(-packet.request, method_not_allowed(name), stream=packet.stream))

    def close(self) -> None:
        self.socket.close()


class Arrival(NamedTuple):
    """What one read brought; ``time`` is when it was read (``perf_counter``)."""

    time: float
    connection: Connection
    packets: list[Packet]


class Inbox:
    """What arrives on some connections: see the file's text."""

    def __init__(self, *connections: Connection) -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._unopened: deque[tuple[float, Connection, bytes]] = deque()
        for connection in connections:
            self.add(connection)

    def add(self, connection: Connection) -> None:
        """Look after this one, too."""
        self._connections[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def remove(self, connection: Connection) -> None:
        """Of this one nothing more is due; it is closed."""
        del self._connections[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        self._unopened = deque(each for each in self._unopened if each[1] is not connection)
        connection.close()

    def next(self, patience: float = PATIENCE) -> Arrival | None:
        """The next packets; None when ``patience`` (seconds) is over before any come."""
        deadline = perf_counter() + patience
        while True:
            while ready := self._epoll.poll(0 if self._unopened else max(0.0, deadline - perf_counter())):
                for number, _ in ready:
                    connection = self._connections[number]
                    data = connection.receive()
                    self._unopened.append((perf_counter(), connection, data))
            if not self._unopened:
                return None
            time, connection, data = self._unopened.popleft()
            if packets := connection.unpack(data):
                return Arrival(time, connection, packets)

    def wait(self) -> Arrival:
        """The next packets. Raises LoadFailed when none come."""
        arrival = self.next()
        if arrival is None:
            raise LoadFailed(f"nothing came for {PATIENCE:g} s")
        return arrival

    def close(self) -> None:
        """The connections stay open; what was read of them is opened, or their next inbox would miss a box."""
        for _time, connection, data in self._unopened:
            connection.unpack(data)
        self._epoll.close()
