"""Reconnect: a member who has everything comes back, and nothing is new.

The member was there before and told the pub all it has. Each visit dials, opens EBT, reads the pub's greeting and
answers it; it is over when the pub has answered a question asked after that, so it has dealt with our notes too. The
member either answers only what the pub mentions, as clients do that remember what the pub has, or lists all its feeds,
as after a restart of a client that forgets.
"""

from functools import partial
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple

from benchmarks.connection import Connection, Inbox
from benchmarks.dataset import DataSet, keys_of
from benchmarks.figures import KIB, Figure, Figures
from benchmarks.members import EbtSession, barrier, join
from benchmarks.meter import cpu
from benchmarks.peers import Peer
from pub.protocol.ebt import encode_note
from pub.protocol.keys import KeyPair

BETWEEN_SECONDS = 0.3  # the pub notices that we left, and writes down what we had


class Visit(NamedTuple):
    """Seconds, seconds of the pub's CPU, bytes on the wire in each direction."""

    wall: float
    cpu: float
    received: int
    sent: int


def reconnect(peer: Peer, data: DataSet, visits: int) -> Figures:
    """So many visits of either kind."""
    keys = keys_of("returning")
    join(peer, keys)
    clock = {feed.id: encode_note(len(feed.messages), receive=True) for feed in data.feeds}
    clock[keys.id] = encode_note(0, receive=True)
    visit = partial(_visit, peer, keys, clock)
    visit(lists_all=True)  # the first time, the pub does not know yet what we have
    visit(lists_all=False)
    return [
        *_figures("remembering", [visit(lists_all=False) for _ in range(visits)]),
        *_figures("forgetful", [visit(lists_all=True) for _ in range(visits)]),
    ]


def _figures(who: str, visits: list[Visit]) -> Figures:
    return [
        Figure(f"{who}: greeted after", median(visit.wall for visit in visits) * 1000, "ms"),
        Figure(f"{who}: CPU", median(visit.cpu for visit in visits) * 1000, "ms"),
        Figure(f"{who}: from the pub", median(visit.received for visit in visits) / KIB, "KiB"),
        Figure(f"{who}: to the pub", median(visit.sent for visit in visits) / KIB, "KiB"),
    ]


def _visit(peer: Peer, keys: KeyPair, clock: dict[str, int], *, lists_all: bool) -> Visit:
    sleep(BETWEEN_SECONDS)
    start, start_cpu = perf_counter(), cpu(peer.pid)
    connection = Connection(peer, keys)
    inbox = Inbox(connection)
    session = EbtSession(connection)
    greeting = session.wait_notes(inbox)
    session.send_notes(clock if lists_all else {feed: clock[feed] for feed in greeting if feed in clock})
    barrier(connection, inbox)
    visit = Visit(perf_counter() - start, cpu(peer.pid) - start_cpu, connection.received_bytes, connection.sent_bytes)
    inbox.close()
    connection.close()
    return visit
