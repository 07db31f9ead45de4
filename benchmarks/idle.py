"""Idle: people who are connected and say nothing, which is what most people do most of the time.

Each connection has an identity of its own; eight at a time are made. What is timed ends with the handshake and one
question, which nobody waits for: ssb-server hangs up on those who say nothing for five seconds. With EBT a client then
says that it has all feeds of the data set, and wants whatever comes next. When all have been quiet for a while,
every connection must still answer.

``state`` asks what a pub remembers of a peer: with all of them connected, each tells of many feeds more, and the
memory that this takes in the pub is divided by the number of notes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter, sleep

from benchmarks.connection import Connection, Inbox
from benchmarks.dataset import DataSet, Feed, keys_of
from benchmarks.figures import KIB, Figure, Figures
from benchmarks.members import EbtSession, barrier
from benchmarks.meter import cpu, share, wait_rest
from benchmarks.peers import Peer
from pub.protocol.calls import Kind
from pub.protocol.ebt import encode_note

AT_A_TIME = 8
SETTLE_SECONDS = 2.0  # until what connecting took has been given back


def idle(peer: Peer, connections: int, hold_seconds: float, data: DataSet | None = None) -> Figures:
    """So many connections, quiet for so long; with EBT open over all feeds of ``data``."""
    before = share(peer.pid)
    start = perf_counter()
    with _connected(peer, connections) as crowd:
        connected = perf_counter() - start
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(partial(_introduce, data.feeds if data else []), crowd))
        sleep(SETTLE_SECONDS)
        start, start_cpu = perf_counter(), cpu(peer.pid)
        sleep(hold_seconds)
        busy = (cpu(peer.pid) - start_cpu) / (perf_counter() - start)
        held = share(peer.pid) - before
        _question(crowd)
    return [
        Figure("connections held", len(crowd), "", more_is_better=True),
        Figure("memory per connection", held / len(crowd) / KIB, "KiB"),
        Figure("handshakes/s", connections / connected, "", more_is_better=True),
        Figure("CPU while idle", busy * 100, "%"),
    ]


def state(peer: Peer, connections: int, data: DataSet, few: int) -> Figures:
    """What a peer takes for each feed that it tells of beyond the first ``few``."""
    with _connected(peer, connections) as crowd, ThreadPoolExecutor(AT_A_TIME) as pool:
        sessions = list(pool.map(partial(_introduce, data.feeds[:few]), crowd))
        wait_rest(peer.pid)
        before = share(peer.pid)
        list(pool.map(partial(_tell, data.feeds[few:]), sessions))
        wait_rest(peer.pid)
        grown = share(peer.pid) - before
        _question(crowd)
    notes = connections * (len(data.feeds) - few)
    return [Figure("bytes per feed and peer", grown / notes, "")]


@contextmanager
def _connected(peer: Peer, count: int) -> Iterator[list[Connection]]:
    """So many people, connected until the end of the block."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        crowd = list(pool.map(partial(_enter, peer), range(count)))
    try:
        yield crowd
    finally:
        for connection in crowd:
            connection.close()


def _enter(peer: Peer, number: int) -> Connection:
    connection = Connection(peer, keys_of("idle", number))
    connection.open("whoami", [], Kind.ASYNC)
    return connection


def _introduce(feeds: list[Feed], connection: Connection) -> EbtSession | None:
    """Speak EBT if there are feeds to speak of; returns when the pub has dealt with that."""
    inbox = Inbox(connection)
    session = None
    if feeds:
        session = EbtSession(connection)
        session.wait_notes(inbox)
        session.send_notes(_notes(feeds))
    barrier(connection, inbox)
    inbox.close()
    return session


def _tell(feeds: list[Feed], session: EbtSession | None) -> None:
    assert session is not None
    inbox = Inbox(session.connection)
    session.send_notes(_notes(feeds))
    barrier(session.connection, inbox)
    inbox.close()


def _notes(feeds: list[Feed]) -> dict[str, int]:
    return {feed.id: encode_note(len(feed.messages), receive=True) for feed in feeds}


def _question(crowd: list[Connection]) -> None:
    """Each must still answer. Raises LoadFailed."""
    for connection in crowd:
        inbox = Inbox(connection)
        barrier(connection, inbox)
        inbox.close()
