"""A pub's door on this machine, and people who come to it."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from pub.metrics import Metrics
from pub.net.connection import Connection
from pub.net.limbo import Limbo
from pub.net.methods import Method
from pub.net.peer import Host, Lobby, PeerLimits, run_peer
from pub.net.roles import Role
from pub.net.stream import SecretStream, open_handshake
from pub.protocol.keys import KeyPair
from pub.protocol.shs import MAIN_NETWORK
from tests.net.ends import PATIENCE, Wire, everything

ALICE = KeyPair.generate(b"alice".ljust(32))
BOB = KeyPair.generate(b"bob".ljust(32))
CAROL = KeyPair.generate(b"carol".ljust(32))
PUB = KeyPair.generate(b"the pub".ljust(32))
HERE = "127.0.0.1"
RNG = random.Random(1)

LIMITS = PeerLimits(
    handshake_seconds=PATIENCE,
    keepalive_seconds=60,
    idle_seconds=600,
    max_connections=100,
    max_connections_per_identity=5,
    max_unauthenticated=50,
    max_unauthenticated_per_address=50,
    outbound_bytes_per_peer=1 << 20,
)


def member(_key: bytes) -> Role | None:
    return Role.MEMBER


def silent(_connection: Connection) -> None:
    """Greets nobody."""


class Door:
    """Serves whoever comes to ``port``; knows how many came and left."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.metrics = host.metrics
        self.lobby = host.lobby
        self.port = 0
        self._left = 0
        self._moved = trio.Condition()

    async def serve(self, transport: trio.SocketStream) -> None:
        await run_peer(self.host, transport, transport.socket.getpeername()[0])
        async with self._moved:
            self._left += 1
            self._moved.notify_all()

    async def wait_left(self, count: int) -> None:
        """Until ``count`` peers have come and gone."""
        async with self._moved:
            while self._left < count:
                await self._moved.wait()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(HERE, self.port)

    async def dial(self, keys: KeyPair = ALICE, network_key: bytes = MAIN_NETWORK) -> SecretStream:
        """Come in by the handshake."""
        return await open_handshake(await self.connect(), keys, network_key, RNG.randbytes(32), PUB.public)

    async def enter(self, keys: KeyPair = ALICE) -> Wire:
        """Come in and be ready to call."""
        return Wire(await self.dial(keys))

    def counted(self, name: str) -> dict[str, int]:
        """The children of one metric that are not 0, by their label."""
        (family,) = (each for each in self.metrics.registry.collect() if each.name == f"ssb_pub_{name}")
        samples = (sample for sample in family.samples if sample.name.endswith("_total"))
        return {next(iter(each.labels.values())): int(each.value) for each in samples if each.value}


@asynccontextmanager
async def open_door(
    methods: dict[str, Method] | None = None,
    *,
    role_of: Callable[[bytes], Role | None] = member,
    greet: Callable[[Connection], None] = silent,
    held_seconds: float = 0.01,
    **limits: float,
) -> AsyncIterator[Door]:
    """The door is open inside this block; whoever is still in at its end is put out, and nobody is left behind.

    ``held_seconds``: how long connections are held that came to nothing (real sockets, so not as long as in life).
    """
    door = Door(
        Host(
            keys=PUB,
            network_key=MAIN_NETWORK,
            random_bytes=RNG.randbytes,
            role_of=role_of,
            methods={(name,): method for name, method in (methods or {}).items()},
            is_allowed=everything,
            greet=greet,
            metrics=Metrics(),
            lobby=Lobby(replace(LIMITS, **limits)),  # type: ignore[arg-type]
        )
    )
    door.lobby.limbo = Limbo(held_seconds)
    listeners = await trio.open_tcp_listeners(0, host=HERE)
    door.port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.lobby.line.run)
            nursery.start_soon(trio.serve_listeners, door.serve, listeners)
            yield door
            nursery.cancel_scope.cancel()
    assert not door.lobby.connections
    assert not door.lobby.identities
    assert not door.lobby.unauthenticated
    assert door.lobby.limbo.count == 0
    assert door.lobby.penance.count == 0
    assert door.metrics.value("connections") == 0
