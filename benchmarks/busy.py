"""Busy: everything at once. A member hands over a data set while five fresh clients pull another one, again and again;
and somebody publishes to twenty who listen meanwhile.

Both are measured alone and with the others there, on the same pub: it is the share that counts.

Hostile: a member hands over a data set, and somebody reads a feed every ten milliseconds; with nobody in the way, then
with one who means ill, then in peace again. What they lose is the difference to the mean of both, for the pace of a
machine that is shared changes within a minute, by more than what is asked.

The others are processes of their own and take their part of the machine, which these figures contain. Where that hides
what the pub itself loses, the figure per CPU second (of the pub) tells.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep

from benchmarks.connection import LoadFailed
from benchmarks.dataset import FOLDER, Shape, load
from benchmarks.fanout import gather
from benchmarks.figures import MIB, Figure, Figures, client_cpu
from benchmarks.ingest import prepare
from benchmarks.meter import measured
from benchmarks.others import others
from benchmarks.peers import Peer

UNDER_WAY_SECONDS = 0.5
COMPARED = {  # beside somebody who means ill and in peace: the unit, and whether more is better
    "messages/s": ("", True),
    "messages per CPU second": ("", True),
    "a feed is read, p50": ("ms", False),
}


def pulled(peer: Peer, there: Shape, brought: Shape, folder: Path = FOLDER) -> Figures:
    """A member brings one data set, while five pull another that is there."""
    data = load(brought, folder)
    delivery = prepare(peer, data)
    with others(peer, "pull", there, folder) as readers:
        readers.go()
        sleep(UNDER_WAY_SECONDS)
        with measured(peer.pid) as usage:
            delivery.run()
        said = readers.stop()
    delivery.close()
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("pulled messages/s", said["messages"] / said["seconds"], "", more_is_better=True),
        Figure("pulled whole", said["complete"], "", more_is_better=True),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        Figure("CPU of who pulls", said["cpu"], "s", is_compared=False),
        client_cpu(usage.client_cpu),
    ]


def fan_out_meanwhile(
    peer: Peer, clients: int, messages: int, there: Shape, brought: Shape, folder: Path = FOLDER
) -> Figures:
    """Fan-out, while five pull and a member brings a data set; it has to be large enough to last, and is broken off."""
    with others(peer, "pull", there, folder) as pullers:
        with others(peer, "bring", brought, folder) as bringer:
            party = gather(peer, clients, messages, "publisher meanwhile")
            for each in (pullers, bringer):
                each.go()
            sleep(UNDER_WAY_SECONDS)
            figures = party.run()
            if not bringer.is_busy:
                raise LoadFailed(f"{brought} was brought before the last message was published")
        pullers.stop()
    return figures


def attacked(peer: Peer, who: str, served: Shape, brought: Shape, folder: Path = FOLDER) -> Figures:
    """A member brings a data set and somebody reads of another that is there: in peace, beside ``who``, in peace."""
    before, beside, after = (
        _brought(peer, crowd, served, replace(brought, label=f" {who} {number}"), folder)
        for number, crowd in enumerate((("read",), ("read", who), ("read",)))
    )
    figures = []
    for name, value in beside.compared.items():
        peace = (before.compared[name] + after.compared[name]) / 2
        unit, more_is_better = COMPARED[name]
        figures += [
            Figure(f"{name}, in peace", peace, unit, more_is_better),
            Figure(name, value, unit, more_is_better),
            Figure(f"{name}, of peace", value / peace * 100, "%", more_is_better),
        ]
    return figures + beside.others


@dataclass(frozen=True)
class _Delivered:
    """What is compared with peace, by the names in ``COMPARED``, and what is only said."""

    compared: dict[str, float]
    others: Figures


def _brought(peer: Peer, crowd: Sequence[str], served: Shape, brought: Shape, folder: Path) -> _Delivered:
    """A member brings a data set, beside all of ``crowd``; the first of them reads."""
    data = load(brought, folder)
    delivery = prepare(peer, data)
    with ExitStack() as stack:
        people = [stack.enter_context(others(peer, what, served, folder)) for what in crowd]
        for each in people:
            each.go()
        sleep(UNDER_WAY_SECONDS)
        with measured(peer.pid) as usage:
            delivery.run()
        reading, *villain = [each.stop() for each in people]
    delivery.close()
    values = (data.count / usage.wall, data.count / usage.cpu, reading["p50"])
    return _Delivered(
        dict(zip(COMPARED, values, strict=True)),
        [
            Figure("a feed is read, p99", reading["p99"], "ms"),
            Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
            *(Figure("connections of the villain", said["connections"], "", is_compared=False) for said in villain),
            *(Figure("CPU of the villain", said["cpu"], "s", is_compared=False) for said in villain),
            client_cpu(usage.client_cpu),
        ],
    )
