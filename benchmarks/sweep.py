"""Sweep: how the costs grow with what is stored, with feeds and with peers. plots.py draws it.

Stored messages come as more messages of a few hundred feeds, so that it is not the feeds that are seen; feeds have one
message each, so that it is not the messages; peers are idle, or listen to somebody who publishes.
"""

from benchmarks.dataset import DataSet
from benchmarks.fanout import fan_out
from benchmarks.figures import MIB, Figure, Figures
from benchmarks.idle import idle
from benchmarks.ingest import ingest
from benchmarks.meter import share
from benchmarks.peers import Peer
from benchmarks.reconnect import reconnect
from benchmarks.serve import serve_ebt

PUBLISHED = 20
VISITS = 5


def stored(peer: Peer, more: DataSet, first: DataSet) -> Figures:
    """Some messages more, and then those read that came first."""
    return [
        Figure("ingest, CPU per message", _cost(ingest(peer, more)), "µs"),
        Figure("serve, CPU per message", _cost(serve_ebt(peer, first)), "µs"),
        _memory(peer),
    ]


def feeds(peer: Peer, data: DataSet) -> Figures:
    """Many feeds that are only spoken of."""
    cost = _cost(ingest(peer, data))
    visits = [figure for figure in reconnect(peer, data, VISITS) if figure.name.endswith(": CPU")]
    return [Figure("ingest, CPU per message", cost, "µs"), *visits, _memory(peer)]


def peers(peer: Peer, count: int) -> Figures:
    """Many connections, silent ones first."""
    quiet = idle(peer, count, 1.0)
    listening = fan_out(peer, count, PUBLISHED)
    return [_named(quiet, "memory per connection"), _named(listening, "CPU per message and client")]


def _cost(figures: Figures) -> float:
    """Microseconds of CPU per message."""
    return 1e6 / _named(figures, "messages per CPU second").value


def _memory(peer: Peer) -> Figure:
    return Figure("anonymous memory", share(peer.pid) / MIB, "MiB")


def _named(figures: Figures, name: str) -> Figure:
    return next(figure for figure in figures if figure.name == name)
