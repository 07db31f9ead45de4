"""People who want something of a pub while others do (see others.py): who pulls everything, who reads now and then, who
brings another data set.

Each checks what it gets as the load does that measures it alone: what arrives is compared with what was sent.
"""

import os
import threading
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from benchmarks.connection import Connection, Inbox, LoadFailed
from benchmarks.dataset import DataSet, Feed
from benchmarks.figures import percentile
from benchmarks.ingest import prepare
from benchmarks.members import EbtSession, is_message
from benchmarks.peers import Peer
from benchmarks.serve import compare
from pub.protocol.calls import Kind
from pub.protocol.keys import KeyPair

READERS = 5  # at once
PAUSE_SECONDS = 0.01  # between two feeds that somebody reads now and then


def stranger() -> KeyPair:
    return KeyPair.generate(os.urandom(32))


@dataclass
class _Pull:
    """One fresh client and what it has so far."""

    request: bytes
    messages: list[bytes] = field(default_factory=list)


class _Pulling:
    """Five fresh clients pull everything; who has it all goes, and the next one comes."""

    def __init__(self, peer: Peer, data: DataSet) -> None:
        self._peer = peer
        self._data = data
        self._inbox = Inbox()
        self._pulls: dict[Connection, _Pull] = {}
        for _ in range(READERS):
            self._enter()

    def _enter(self) -> Connection:
        connection = Connection(self._peer, stranger())
        inbox = Inbox(connection)
        session = EbtSession(connection)
        session.wait_notes(inbox)
        inbox.close()
        self._pulls[connection] = _Pull(session.notes(dict.fromkeys((feed.id for feed in self._data.feeds), 0)))
        self._inbox.add(connection)
        return connection

    def run(self, stopped: threading.Event) -> dict[str, Any]:
        try:
            return self._run(stopped)
        finally:
            for connection in self._pulls:
                connection.close()

    def _run(self, stopped: threading.Event) -> dict[str, Any]:
        start, seconds, count, complete = perf_counter(), 0.0, 0, 0
        for connection, pull in self._pulls.items():
            connection.send(pull.request)
        while self._pulls:
            arrival = self._inbox.wait()
            pull = self._pulls[arrival.connection]
            before = len(pull.messages)
            pull.messages += [packet.body for packet in arrival.packets if is_message(packet)]
            if not seconds:
                count += len(pull.messages) - before
                seconds = arrival.time - start if stopped.is_set() else 0.0
            if len(pull.messages) >= self._data.count:
                self._leave(arrival.connection)
                complete += 1
                if not stopped.is_set():
                    connection = self._enter()
                    connection.send(self._pulls[connection].request)
        return {"messages": count, "seconds": seconds or perf_counter() - start, "complete": complete}

    def _leave(self, connection: Connection) -> None:
        self._inbox.remove(connection)
        compare(self._pulls.pop(connection).messages, self._data)


class _Reading:
    """Somebody reads one feed after another by history stream, with a pause between them."""

    def __init__(self, peer: Peer, data: DataSet) -> None:
        self._feeds = data.feeds
        self._connection = Connection(peer, stranger())
        self._inbox = Inbox(self._connection)

    def run(self, stopped: threading.Event) -> dict[str, Any]:
        delays: list[float] = []
        try:
            while not stopped.wait(PAUSE_SECONDS) or not delays:
                delays.append(self._read(self._feeds[len(delays) % len(self._feeds)]) * 1000)
        finally:
            self._connection.close()
        return {"feeds": len(delays), "p50": percentile(delays, 0.5), "p99": percentile(delays, 0.99)}

    def _read(self, feed: Feed) -> float:
        start = perf_counter()
        asked = {"id": feed.id, "seq": 1, "limit": -1, "keys": False, "live": False}
        number = self._connection.open("createHistoryStream", [asked], Kind.SOURCE)
        messages: list[bytes] = []
        while True:
            arrival = self._inbox.wait()
            mine = [packet for packet in arrival.packets if packet.request == number]
            messages += [packet.body for packet in mine if not packet.end]
            if any(packet.end for packet in mine):
                if messages != feed.messages:
                    raise LoadFailed(f"{feed.id} did not arrive as it was sent")
                return arrival.time - start


def _bring(peer: Peer, data: DataSet) -> Any:
    delivery = prepare(peer, data)

    def run(_stopped: threading.Event) -> dict[str, Any]:
        start = perf_counter()
        delivery.run()
        return {"seconds": perf_counter() - start}

    return run


PEOPLE = {
    "pull": lambda peer, data: _Pulling(peer, data).run,
    "read": lambda peer, data: _Reading(peer, data).run,
    "bring": _bring,
}
