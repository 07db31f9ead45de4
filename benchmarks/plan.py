"""Which loads run on which pub, and in which order.

A *scene* is one fresh pub and the steps that run on it, one after the other. Where a scene has a data set, its first
step fills the pub with it, also when only later steps were asked for. Every peer goes through the same scenes in the
same order, so each step finds each pub in the same state. A step that is not for all of them says why.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from benchmarks import large, sweep
from benchmarks.busy import attacked, fan_out_meanwhile, pulled
from benchmarks.dataset import FOLDER, DataSet, Shape, load
from benchmarks.fanout import fan_out
from benchmarks.figures import Figures
from benchmarks.hostile import ATTACKS
from benchmarks.idle import idle, state
from benchmarks.ingest import ingest
from benchmarks.mapped import Mapped
from benchmarks.peers import OURS, SINK, THEIRS, Peer
from benchmarks.reconnect import reconnect
from benchmarks.serve import serve_ebt, serve_history

MANY = Shape(1000, 100)
ONE = Shape(1, 50_000)
SHORT = Shape(1000, 1)  # feeds that are only spoken of
FAR = Shape(10_000, 1)
MEANWHILE = Shape(1000, 300, label=" meanwhile")  # has to last for as long as the fan-out
BROUGHT = Shape(1000, 50)  # while somebody is in the way
LARGE = Shape(20_000, 100)
ALL, OURS_ALONE = frozenset({OURS, THEIRS, SINK}), frozenset({OURS})
Data = Callable[[], DataSet]
LOADS = ("ingest", "serve", "fanout", "idle", "state", "reconnect", "busy", "hostile")  # a quarter of an hour each run
LONG = ("large", "sweep")
EVERY_LOAD = (*LOADS, *LONG)

TOO_SLOW = "two million messages take ssb-server most of an hour"
TOO_FAST = "the sink has it all before it begins"
NO_BOUNDS = "ssb-server has no bounds to be measured against"
OURS_GROWS = "it is how ours grows that is asked"


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults are those of README.md."""

    many: Shape = MANY
    one: Shape = ONE
    short: Shape = SHORT
    far: Shape = FAR
    followers: tuple[int, ...] = (20, 100, 1000)
    published: int = 100
    idle: tuple[int, ...] = (1000, 10_000)
    idle_ebt: int = 1000
    state: int = 200  # connections
    hold_seconds: float = 5.0
    visits: int = 10
    meanwhile: Shape = MEANWHILE
    brought: Shape = BROUGHT
    large: Shape = LARGE
    sweep_stored: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000)
    sweep_writers: int = 100  # of each step
    sweep_feeds: tuple[int, ...] = (100, 1000, 10_000)
    sweep_peers: tuple[int, ...] = (10, 100, 1000)


@dataclass(frozen=True)
class Step:
    """One measurement: which load, what the table calls it, and what it does to a peer."""

    load: str
    title: str
    run: Callable[[Peer], Figures]
    fills: bool = False  # the pub for the steps after it
    peers: frozenset[str] = ALL  # whom it is for
    why: str = ""  # not for the others


Scene = list[Step]


def scenes(sizes: Sizes, only: frozenset[str] = frozenset(EVERY_LOAD), folder: Path = FOLDER) -> Iterator[Scene]:
    """What to run of the loads in ``only``; a data set is made or read when its first step runs."""
    everything = [
        [*_feeds(sizes.many, folder), _reconnect(sizes, sizes.many, folder)],
        _feeds(sizes.one, folder),
        *([_fan_out(sizes, clients)] for clients in sizes.followers),
        *([_idle(sizes, connections)] for connections in sizes.idle),
        [_fill(sizes.short, folder), _idle_ebt(sizes, folder)],
        [_fill(sizes.far, folder), _reconnect(sizes, sizes.far, folder), _state(sizes, folder)],
        _busy(sizes, folder),
        _hostile(sizes, folder),
        [_into_empty(sizes, folder)],
        _large(sizes, folder),
        _sweep_stored(sizes, folder),
        *(_sweep_feeds(count, folder) for count in sizes.sweep_feeds),
        *(_sweep_peers(count) for count in sizes.sweep_peers),
    ]
    for scene in everything:
        if any(step.load in only for step in scene):
            yield [step for step in scene if step.load in only or step.fills]


@cache
def read(shape: Shape, folder: Path) -> DataSet:
    """A data set, kept in memory for the next step."""
    return load(shape, folder)


def _feeds(shape: Shape, folder: Path) -> Scene:
    data = partial(read, shape, folder)
    return [
        Step("ingest", f"ingest {shape}", lambda peer: ingest(peer, data()), fills=True),
        Step("serve", f"serve {shape}, EBT", lambda peer: serve_ebt(peer, data())),
        Step("serve", f"serve {shape}, history", lambda peer: serve_history(peer, data())),
    ]


def _fill(shape: Shape, folder: Path) -> Step:
    """No load: nobody asks for its figures."""
    return Step("", f"fill {shape}", lambda peer: ingest(peer, read(shape, folder)), fills=True)


def _reconnect(sizes: Sizes, shape: Shape, folder: Path) -> Step:
    title = f"reconnect, {shape.feeds:,} feeds"
    return Step("reconnect", title, lambda peer: reconnect(peer, read(shape, folder), sizes.visits))


def _fan_out(sizes: Sizes, clients: int) -> Step:
    return Step("fanout", f"fan-out to {clients:,}", lambda peer: fan_out(peer, clients, sizes.published))


def _idle(sizes: Sizes, connections: int) -> Step:
    return Step("idle", f"idle, {connections:,}", lambda peer: idle(peer, connections, sizes.hold_seconds))


def _idle_ebt(sizes: Sizes, folder: Path) -> Step:
    title = f"idle, {sizes.idle_ebt:,} with EBT over {sizes.short.feeds:,} feeds"
    return Step("idle", title, lambda peer: idle(peer, sizes.idle_ebt, sizes.hold_seconds, read(sizes.short, folder)))


def _state(sizes: Sizes, folder: Path) -> Step:
    few = sizes.far.feeds // 10
    title = f"state, {sizes.far.feeds:,} feeds"
    return Step("state", title, lambda peer: state(peer, sizes.state, read(sizes.far, folder), few))


def _busy(sizes: Sizes, folder: Path) -> Scene:
    there = sizes.many
    alone, again = (replace(there, label=f" {label}") for label in ("alone", "pulled"))
    few, published = sizes.followers[0], sizes.published
    return [
        _fill(there, folder),
        Step(
            "busy", "busy, ingest alone", lambda peer: ingest(peer, read(alone, folder), read(there, folder).raw_bytes)
        ),
        Step("busy", "busy, ingest while 5 pull everything", lambda peer: pulled(peer, there, again, folder)),
        Step("busy", f"busy, fan-out to {few} alone", lambda peer: fan_out(peer, few, published)),
        Step(
            "busy",
            f"busy, fan-out to {few} meanwhile",
            lambda peer: fan_out_meanwhile(peer, few, published, there, sizes.meanwhile, folder),
            peers=ALL - {SINK},
            why=TOO_FAST,
        ),
    ]


def _hostile(sizes: Sizes, folder: Path) -> Scene:
    def step(who: str) -> Step:
        return Step(
            "hostile",
            f"hostile, {who}",
            lambda peer: attacked(peer, who, sizes.many, sizes.brought, folder),
            peers=OURS_ALONE,
            why=NO_BOUNDS,
        )

    return [_fill(sizes.many, folder), *map(step, ATTACKS)]


def _into_empty(sizes: Sizes, folder: Path) -> Step:
    """The measure for what comes on top."""
    title = f"large, {sizes.many} into an empty store"
    return Step("large", title, lambda peer: ingest(peer, read(sizes.many, folder)), peers=OURS_ALONE, why=TOO_SLOW)


def _large(sizes: Sizes, folder: Path) -> Scene:
    @cache
    def data() -> Mapped:
        return Mapped(sizes.large, folder)

    there = sizes.large.feeds * sizes.large.messages + sizes.large.feeds
    everything = there + sizes.many.feeds * sizes.many.messages + sizes.many.feeds
    steps: dict[str, Callable[[Peer], Figures]] = {
        f"fill {sizes.large}": lambda peer: large.fill(peer, data()),
        "somebody new pulls everything": lambda peer: large.pull(peer, data()),
        f"a member with {sizes.large.feeds:,} feeds comes back": lambda peer: large.come_back(peer, data()),
        f"{sizes.many} on top of {there:,}": lambda peer: ingest(peer, read(sizes.many, folder), data().raw_bytes),
        f"{sizes.large.feeds:,} people become members": lambda peer: large.admit(peer, data()),
        "the operator asks": large.answer,
        f"start with {everything:,} messages": lambda peer: large.restart(peer, data()),
    }
    return [Step("large", f"large, {title}", run, peers=OURS_ALONE, why=TOO_SLOW) for title, run in steps.items()]


def _sweep_stored(sizes: Sizes, folder: Path) -> Scene:
    counts, writers = sizes.sweep_stored, sizes.sweep_writers
    shapes = [
        Shape(writers, (count - before) // writers, label=f" up to {count}")
        for before, count in zip((0, *counts), counts, strict=False)
    ]

    def step(shape: Shape, count: int) -> Step:
        title = f"sweep, messages stored: {count:,}"
        return Step("sweep", title, partial(run, shape), peers=OURS_ALONE, why=OURS_GROWS)

    def run(shape: Shape, peer: Peer) -> Figures:
        return sweep.stored(peer, read(shape, folder), read(shapes[0], folder))

    return list(map(step, shapes, counts))


def _sweep_feeds(count: int, folder: Path) -> Scene:
    shape = Shape(count, 1)
    return [
        Step(
            "sweep",
            f"sweep, feeds: {count:,}",
            lambda peer: sweep.feeds(peer, read(shape, folder)),
            peers=OURS_ALONE,
            why=OURS_GROWS,
        )
    ]


def _sweep_peers(count: int) -> Scene:
    return [
        Step(
            "sweep", f"sweep, peers: {count:,}", lambda peer: sweep.peers(peer, count), peers=OURS_ALONE, why=OURS_GROWS
        )
    ]
