"""Busy: everything at once. A member hands over a data set while five fresh clients pull another one, again and again;
and somebody publishes to twenty who listen meanwhile.

Both are measured alone and with the others there, on the same pub: it is the share that counts.

Hostile: a member hands over a data set, and somebody reads a feed every ten milliseconds; first with nobody in the way,
then with one who means ill. What they lose is the difference, as far as the machine keeps its pace: what libsodium verifies
is measured beside it.

The others are processes of their own and take their part of the machine, which these figures contain. Where that hides
what the pub itself loses, the figure per CPU second (of the pub) tells.
"""

from contextlib import ExitStack
from pathlib import Path
from time import sleep

from benchmarks.connection import LoadFailed
from benchmarks.dataset import FOLDER, Shape, load
from benchmarks.fanout import gather
from benchmarks.figures import MIB, Figure, Figures, client_cpu
from benchmarks.ingest import prepare
from benchmarks.limit import verifications_per_second
from benchmarks.meter import measured
from benchmarks.others import others
from benchmarks.peers import Peer

UNDER_WAY_SECONDS = 0.5


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


def attacked(peer: Peer, who: str | None, served: Shape, brought: Shape, folder: Path = FOLDER) -> Figures:
    """A member brings one data set, somebody reads of another that is there; ``who`` is in the way."""
    data = load(brought, folder)
    delivery, limit = prepare(peer, data), verifications_per_second()
    with ExitStack() as stack:
        crowd = [stack.enter_context(others(peer, what, served, folder)) for what in ("read", who) if what]
        for each in crowd:
            each.go()
        sleep(UNDER_WAY_SECONDS)
        with measured(peer.pid) as usage:
            delivery.run()
        reading, *villain = [each.stop() for each in crowd]
    delivery.close()
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("messages per CPU second", data.count / usage.cpu, "", more_is_better=True),
        Figure("libsodium verifies per core and second", limit, "", is_compared=False),
        Figure("a feed is read, p50", reading["p50"], "ms"),
        Figure("a feed is read, p99", reading["p99"], "ms"),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        *(Figure("connections of the villain", said["connections"], "", is_compared=False) for said in villain),
        *(Figure("CPU of the villain", said["cpu"], "s", is_compared=False) for said in villain),
        client_cpu(usage.client_cpu),
    ]
