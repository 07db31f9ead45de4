"""People who mean ill: one who never reads, and four who send garbage as fast as they can, each of another kind.

Each is one process with one connection at a time, and comes back at once when it was thrown out. (See others.py for
the process, and busy.py for what is measured.)
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from benchmarks.connection import Connection, LoadFailed
from benchmarks.crowds import stranger
from benchmarks.dataset import DataSet
from benchmarks.members import EbtSession
from benchmarks.peers import Peer
from pub.protocol.calls import Kind
from pub.protocol.packets import encode_data, encode_packet

FLOOD_BYTES = 1 << 20  # made once, sent again and again
WRITE_BYTES = 1 << 14  # a blocking socket takes all of it, so it may not be much
LOOK_SECONDS = 0.05
SEND_SECONDS = 1.0  # a pub that does not read is asked to, but one who shall stop has to notice

Attack = Callable[[Peer, DataSet, threading.Event], None]


def _repeat(attack: Attack, peer: Peer, data: DataSet) -> Callable[[threading.Event], dict[str, Any]]:
    """Attack, again and again."""

    def run(stopped: threading.Event) -> dict[str, Any]:
        connections = 0
        while not stopped.is_set():
            connections += 1
            with suppress(OSError, LoadFailed):
                attack(peer, data, stopped)
        return {"connections": connections}

    return run


@contextmanager
def _entered(peer: Peer) -> Iterator[Connection]:
    connection = Connection(peer, stranger())
    connection.socket.settimeout(SEND_SECONDS)
    try:
        yield connection
    finally:
        connection.close()


def _never_read(peer: Peer, data: DataSet, stopped: threading.Event) -> None:
    """Ask for everything, in both ways, and read nothing of it."""
    with _entered(peer) as connection:
        session = EbtSession(connection)
        session.send_notes(dict.fromkeys((feed.id for feed in data.feeds), 0))
        asked = ({"id": feed.id, "seq": 1, "live": True} for feed in data.feeds)
        connection.send(b"".join(connection.request("createHistoryStream", [each], Kind.SOURCE) for each in asked))
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLRDHUP)
        while not stopped.wait(LOOK_SECONDS) and not poll.poll(0):
            pass


def _no_handshake(peer: Peer, _data: DataSet, _stopped: threading.Event) -> None:
    """Say anything but hello."""
    with socket.create_connection((peer.host, peer.port), SEND_SECONDS) as line:
        line.sendall(os.urandom(1 << 12))
        while line.recv(1 << 12):
            pass


def _no_packets(peer: Peer, _data: DataSet, stopped: threading.Event) -> None:
    """Shake hands, and then send boxes of noise."""
    with _entered(peer) as connection:
        _flood(connection, os.urandom(FLOOD_BYTES), stopped)


def _requests(peer: Peer, _data: DataSet, stopped: threading.Event) -> None:
    """Packets that call nothing."""
    with _entered(peer) as connection:
        _flood(connection, _many(encode_packet(5, b"{}")), stopped)


def _unasked_messages(peer: Peer, data: DataSet, stopped: threading.Event) -> None:
    """By EBT, what the pub has long had or never wanted, spoiled."""
    with _entered(peer) as connection:
        session = EbtSession(connection)
        spoiled = data.feeds[0].messages[0].replace(b"sha256", b"sha257", 1)
        _flood(connection, _many(encode_data(-session.number, spoiled)), stopped)


def _many(packet: bytes) -> bytes:
    return packet * (FLOOD_BYTES // len(packet))


def _flood(connection: Connection, data: bytes, stopped: threading.Event) -> None:
    """Send it until the pub has had enough. What the pub answers is read, and thrown away."""
    while not stopped.is_set():
        boxes = memoryview(connection.box(data))
        while boxes and not stopped.is_set():
            readable, writable, _ = select.select([connection], [connection], [], LOOK_SECONDS)
            if readable:
                connection.receive()
            if writable:
                boxes = boxes[connection.socket.send(boxes[:WRITE_BYTES]) :]


ATTACKS: dict[str, Attack] = {
    "never reads": _never_read,
    "no handshake": _no_handshake,
    "no packets": _no_packets,
    "requests": _requests,
    "unasked messages": _unasked_messages,
}
PEOPLE = {who: partial(_repeat, attack) for who, attack in ATTACKS.items()}
