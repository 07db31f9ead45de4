"""The bounds of every pub that is up, looked at once a second."""

import trio

from pub.net.connection import SEND_BUFFER, Connection
from pub.net.limbo import MAX_HELD
from pub.net.peer import MAX_CONTROL_OUTBOUND
from pub.net.roles import Role
from pub.rpc.context import Pub
from tests.sim.ledger import demand
from tests.sim.machines import Machine, Surroundings, tasks_of

LOOK_SECONDS = 1.0
LARGEST_MESSAGE = 1 << 16  # bytes: what is larger than all the room may enter when it is empty
OWN_TASKS = 40  # of a pub without peers; there are two dozen
TASKS_PER_CONNECTION = 8  # two, and some for requests that are being answered


async def watch(around: Surroundings) -> None:
    """For ever. Raises ``Broken``."""
    while True:
        await trio.sleep(LOOK_SECONDS)
        for machine in around.machines:
            if machine.rooms is not None:
                _look(machine, machine.rooms)


def _look(machine: Machine, pub: Pub) -> None:
    limits, lobby = machine.settings.limits, pub.lobby
    demand(pub.metrics.value("internal_errors_total") == 0, "no pub has a bug", machine.name)
    held = pub.ingest.held_bytes
    demand(0 <= held <= max(limits.ingest_bytes, LARGEST_MESSAGE), "ingest holds a bounded number of bytes", held)
    demand(len(lobby.connections) <= limits.max_connections, "connections are bounded", len(lobby.connections))
    demand(lobby.unauthenticated.total() <= limits.max_unauthenticated, "so are those who shake hands")
    demand(lobby.limbo.count <= MAX_HELD, "and those that came to nothing")
    for connection in lobby.connections:
        _look_at_connection(connection, limits.outbound_bytes_per_peer)
    count = sum(1 for _ in tasks_of(machine.name))
    peers = len(lobby.connections) + lobby.unauthenticated.total()
    most = OWN_TASKS + TASKS_PER_CONNECTION * peers + lobby.limbo.count
    demand(count <= most, "tasks are bounded", machine.name, count)


def _look_at_connection(connection: Connection, limit: int) -> None:
    most = MAX_CONTROL_OUTBOUND if connection.peer.role is Role.CONTROL else limit
    outbox = len(connection._outbox)
    demand(outbox <= most + SEND_BUFFER, "what waits for a peer is bounded", connection.peer.address, outbox)
