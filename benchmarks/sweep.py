"""Sweep: how the costs grow with what is stored, with feeds and with peers. plots.py draws it.

Stored messages come as more messages of a few hundred feeds, so that it is not the feeds that are seen; feeds have one
message each, so that it is not the messages; peers are idle, or listen to somebody who publishes.
"""

import re
from typing import Any

from benchmarks.dataset import DataSet
from benchmarks.fanout import fan_out
from benchmarks.figures import MIB, Figure, Figures
from benchmarks.idle import idle
from benchmarks.ingest import ingest
from benchmarks.meter import share
from benchmarks.peers import OURS, Peer
from benchmarks.reconnect import reconnect
from benchmarks.serve import serve_ebt

PUBLISHED = 20
VISITS = 5

_POINT = re.compile(r"sweep, (?P<axis>[^:]+): (?P<size>[\d,]+)")

Curves = dict[str, list[tuple[int, float]]]  # "figure (unit)" -> (size, median)


def stored(peer: Peer, more: DataSet, first: DataSet) -> Figures:
    """Some messages more, and then those read that came first."""
    return [
        Figure("ingest, CPU per message", _cost(ingest(peer, more)), "µs"),
        Figure("serve, CPU per message", _cost(serve_ebt(peer, first)), "µs"),
        _memory(peer),
    ]


def feeds(peer: Peer, data: DataSet) -> Figures:
    """Many feeds that are only spoken of."""
    ingest(peer, data)
    visits = [figure for figure in reconnect(peer, data, VISITS) if figure.name.endswith(": CPU")]
    return [*visits, _memory(peer)]


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


def curves(steps: dict[str, Any]) -> dict[str, Curves]:
    """What was measured, by what grows; ``steps`` are those of a result."""
    found: dict[str, Curves] = {}
    for step, figures in steps.items():
        if point := _POINT.fullmatch(step):
            for name, told in figures.items():
                curve = found.setdefault(point["axis"], {}).setdefault(f"{name} ({told['unit']})", [])
                curve.append((int(point["size"].replace(",", "")), told["peers"][OURS]["median"]))
    return found
