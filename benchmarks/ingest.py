"""Ingest: a member arrives with many feeds that the pub wants, and hands over every message.

Before the clock starts, the member has joined and the pub holds the member's own feed, which follows all authors; the
pub has asked for each of their feeds from the beginning; and the whole stream, one message of each feed in turn, lies
boxed in memory. So each peer gets the same bytes, and this process does nothing but hand them to the socket.

The clock stops when the last message of every feed can be read back, byte for byte, over a second connection. CPU time
and memory are counted until the pub has come to rest: what it puts off belongs to what it took in. That every single
message is there is what ``serve`` proves, on the same pub.
"""

from benchmarks.dataset import DataSet
from benchmarks.figures import MIB, Figure, Figures
from benchmarks.members import join, offer, upload, wait_stored, watch
from benchmarks.meter import disk, measured, wait_rest
from benchmarks.peers import Peer


def ingest(peer: Peer, data: DataSet) -> Figures:
    """Fill a fresh pub."""
    join(peer, data.hub.keys)
    upload(peer, data.hub)[0].close()
    watcher = watch(peer, data.hub)
    connection, session, _inbox = offer(peer, data.hub.keys, data.feeds)
    boxes = connection.box(session.page(data.round_robin()))
    with measured(peer.pid) as usage:
        connection.send_boxes(boxes)
        wait_stored(watcher, data.feeds)
        usage.stop_clock()
        wait_rest(peer.pid)
    connection.close()
    watcher.close()
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("messages per CPU second", data.count / usage.cpu, "", more_is_better=True),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        Figure("peak resident memory", usage.peak_resident / MIB, "MiB"),
        Figure("disk per byte of message", disk(peer.folder) / data.raw_bytes, ""),
        Figure("CPU of the client", usage.client_cpu, "s"),
    ]
