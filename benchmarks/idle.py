"""Idle: people who are connected and say nothing, which is what most people do most of the time.

Each connection has an identity of its own; eight at a time are made. What is timed ends with the handshake. Then each
client asks one question, because ssb-server hangs up on those who say nothing at all for five seconds; with EBT it
also says that it has all feeds of the data set, and wants whatever comes next. When all have been quiet for a while,
every connection must still answer.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter, sleep

from benchmarks.connection import Connection, Inbox
from benchmarks.dataset import DataSet, keys_of
from benchmarks.figures import Figure, Figures
from benchmarks.members import EbtSession, barrier
from benchmarks.meter import cpu, share
from benchmarks.peers import Peer
from pub.protocol.calls import Kind
from pub.protocol.ebt import encode_note

AT_A_TIME = 8
SETTLE_SECONDS = 2.0  # until what connecting took has been given back
KIB = 1024


def idle(peer: Peer, connections: int, hold_seconds: float, data: DataSet | None = None) -> Figures:
    """So many connections, quiet for so long; with EBT open over all feeds of ``data``."""
    before = share(peer.pid)
    notes = {feed.id: encode_note(len(feed.messages), receive=True) for feed in data.feeds} if data else {}
    keys = [keys_of("idle", number) for number in range(connections)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        start = perf_counter()
        open_connections = list(pool.map(partial(Connection, peer), keys))
        connected = perf_counter() - start
        for connection in open_connections:
            connection.open("whoami", [], Kind.ASYNC)
        list(pool.map(partial(_introduce, notes), open_connections))
    sleep(SETTLE_SECONDS)
    start, start_cpu = perf_counter(), cpu(peer.pid)
    sleep(hold_seconds)
    busy = (cpu(peer.pid) - start_cpu) / (perf_counter() - start)
    held = share(peer.pid) - before
    for connection in open_connections:
        inbox = Inbox(connection)
        barrier(connection, inbox)
        inbox.close()
        connection.close()
    return [
        Figure("memory per connection", held / connections / KIB, "KiB"),
        Figure("handshakes/s", connections / connected, "", more_is_better=True),
        Figure("CPU while idle", busy * 100, "%"),
    ]


def _introduce(notes: dict[str, int], connection: Connection) -> None:
    inbox = Inbox(connection)
    if notes:
        session = EbtSession(connection)
        session.wait_notes(inbox)
        session.send_notes(notes)
    barrier(connection, inbox)
    inbox.close()
