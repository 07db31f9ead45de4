"""Ingest: a member arrives with many feeds that the pub wants, and hands over every message.

Before the clock starts, the member has joined and the pub holds the member's own feed, which follows all authors; the
pub has asked for each of their feeds from the beginning; and the whole stream, one message of each feed in turn, lies
boxed in memory. So each peer gets the same bytes, and this process does nothing but hand them to the socket.

The clock stops when the last message of every feed can be read back, byte for byte, over a second connection. CPU time
and memory are counted until the pub has come to rest: what it puts off belongs to what it took in. That every single
message is there is what ``serve`` proves, on the same pub.
"""

from dataclasses import dataclass

from benchmarks.connection import Connection
from benchmarks.dataset import DataSet
from benchmarks.figures import MIB, Figure, Figures, client_cpu
from benchmarks.limit import verifications_per_second
from benchmarks.members import join, offer, upload, wait_stored, watch
from benchmarks.meter import disk, measured, wait_rest
from benchmarks.peers import Peer


@dataclass
class Delivery:
    """All of it ready to be handed over: see the file's text."""

    data: DataSet
    connection: Connection
    watcher: Connection
    boxes: bytes

    def run(self) -> None:
        """Hand it over; returns when it can be read back."""
        self.connection.send_boxes(self.boxes)
        wait_stored(self.watcher, self.data.feeds)

    def close(self) -> None:
        self.connection.close()
        self.watcher.close()


def prepare(peer: Peer, data: DataSet) -> Delivery:
    """All but the sending. The pub has come to rest."""
    join(peer, data.hub.keys)
    upload(peer, data.hub)[0].close()
    watcher = watch(peer, data.hub)
    connection, session, _inbox = offer(peer, data.hub.keys, data.feeds)
    return Delivery(data, connection, watcher, connection.box(session.page(data.round_robin())))


def ingest(peer: Peer, data: DataSet, there: int = 0) -> Figures:
    """Fill a pub; ``there`` are the bytes of messages that it has already."""
    delivery, limit = prepare(peer, data), verifications_per_second()
    with measured(peer.pid) as usage:
        delivery.run()
        usage.stop_clock()
        wait_rest(peer.pid)
    delivery.close()
    per_cpu_second = data.count / usage.cpu
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("messages per CPU second", per_cpu_second, "", more_is_better=True),
        Figure("libsodium verifies per core and second", limit, "", is_compared=False),
        Figure("of the libsodium limit", per_cpu_second / limit * 100, "%", more_is_better=True),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        Figure("peak resident memory", usage.peak_resident / MIB, "MiB"),
        Figure("disk per byte of message", disk(peer.folder) / (there + data.raw_bytes), ""),
        client_cpu(usage.client_cpu),
    ]
