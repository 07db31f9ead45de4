"""Which loads run on which pub, and in which order.

A *scene* is one fresh pub and the steps that run on it, one after the other. Where a scene has a data set, its first
step fills the pub with it, also when only later steps were asked for. Every peer goes through the same scenes in the
same order, so each step finds each pub in the same state.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from benchmarks.dataset import FOLDER, DataSet, Shape, load
from benchmarks.fanout import fan_out
from benchmarks.figures import Figures
from benchmarks.idle import idle
from benchmarks.ingest import ingest
from benchmarks.peers import Peer
from benchmarks.reconnect import reconnect
from benchmarks.serve import serve_ebt, serve_history

MANY = Shape(1000, 100)
ONE = Shape(1, 50_000)
SHORT = Shape(1000, 1)  # feeds that are only spoken of
Data = Callable[[], DataSet]
LOADS = ("ingest", "serve", "fanout", "idle", "reconnect")


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults are those of README.md."""

    many: Shape = MANY
    one: Shape = ONE
    short: Shape = SHORT
    followers: tuple[int, ...] = (20, 100)
    published: int = 100
    idle: tuple[int, ...] = (500, 1000)
    idle_ebt: int = 200
    hold_seconds: float = 5.0
    visits: int = 10


@dataclass(frozen=True)
class Step:
    """One measurement: which load, what the table calls it, and what it does to a peer."""

    load: str
    title: str
    run: Callable[[Peer], Figures]
    fills: bool = False  # the pub for the steps after it


Scene = list[Step]


def scenes(sizes: Sizes, only: frozenset[str] = frozenset(LOADS), folder: Path = FOLDER) -> Iterator[Scene]:
    """What to run of the loads in ``only``; a data set is made or read when its first step runs."""
    many, one, empty = (partial(_read, shape, folder) for shape in (sizes.many, sizes.one, sizes.short))
    everything = [
        [*_feeds(sizes.many, many), _reconnect(sizes, many)],
        _feeds(sizes.one, one),
        [_fan_out(sizes, clients) for clients in sizes.followers],
        *([_idle(sizes, connections)] for connections in sizes.idle),
        [_fill(empty), _idle_ebt(sizes, empty)],
    ]
    for scene in everything:
        if any(step.load in only for step in scene):
            yield [step for step in scene if step.load in only or step.fills]


@cache
def _read(shape: Shape, folder: Path) -> DataSet:
    return load(shape, folder)


def _feeds(shape: Shape, data: Data) -> Scene:
    return [
        Step("ingest", f"ingest {shape}", lambda peer: ingest(peer, data()), fills=True),
        Step("serve", f"serve {shape}, EBT", lambda peer: serve_ebt(peer, data())),
        Step("serve", f"serve {shape}, history", lambda peer: serve_history(peer, data())),
    ]


def _fill(data: Data) -> Step:
    """No load: nobody asks for its figures."""
    return Step("", "fill", lambda peer: ingest(peer, data()), fills=True)


def _reconnect(sizes: Sizes, data: Data) -> Step:
    title = f"reconnect, {sizes.many.feeds:,} feeds"
    return Step("reconnect", title, lambda peer: reconnect(peer, data(), sizes.visits))


def _fan_out(sizes: Sizes, clients: int) -> Step:
    return Step("fanout", f"fan-out to {clients:,}", lambda peer: fan_out(peer, clients, sizes.published))


def _idle(sizes: Sizes, connections: int) -> Step:
    return Step("idle", f"idle, {connections:,}", lambda peer: idle(peer, connections, sizes.hold_seconds))


def _idle_ebt(sizes: Sizes, data: Data) -> Step:
    title = f"idle, {sizes.idle_ebt:,} with EBT over {sizes.short.feeds:,} feeds"
    return Step("idle", title, lambda peer: idle(peer, sizes.idle_ebt, sizes.hold_seconds, data()))
