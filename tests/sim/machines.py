"""The machines that pubs run on: the real ``service.life.run``, again and again on one folder, until the world ends.

A machine stops its pub as an operator does, has it killed, or loses its power, between any two steps or at a commit.
Dead is dead: in that moment the network lets nothing of it pass and the disk takes nothing, whatever the tasks of the
dead pub still do while they are cancelled. After a while the machine starts the pub again. A pub that ends by itself,
for any reason but a full disk at its start, breaks the world.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from pub.config import Settings, load
from pub.errors import StoreFull
from pub.ingest.verify import Verifier
from pub.ingest.worker import verdict
from pub.protocol.addresses import Address, format_address
from pub.protocol.classic import Message
from pub.protocol.keys import SEED_BYTES, KeyPair
from pub.rpc.context import Pub
from pub.service import Started, doors, life
from pub.service.wiring import World
from pub.store.env import Store
from tests.sim.clock import WallClock, chance
from tests.sim.disk import Crashed, Disk, Rehearsed
from tests.sim.ledger import Ledger, demand
from tests.sim.network import HostNetwork, Network
from tests.sim.trace import Trace, who

PORT = 8008
STOP_SECONDS = 15.0  # limits.grace_seconds, one goodbye, and what commits take
COMMIT_SECONDS = 0.02  # at most, and so for a chunk of messages to be verified

T = TypeVar("T")


@dataclass
class Surroundings:
    """What all machines of a world have in common."""

    seed: int
    folder: Path
    network: Network
    ledger: Ledger
    trace: Trace
    machines: "list[Machine]" = field(default_factory=list)


class Machine:
    """One pub with its disk, clock and network, over all its lives."""

    def __init__(self, around: Surroundings, name: str, peers: Sequence["Machine"] = (), **flags: Any) -> None:
        self.name = name
        self.host = f"10.0.0.{len(around.machines) + 1}"
        self.keys = KeyPair.generate(chance(around.seed, f"{name} key").randbytes(SEED_BYTES))
        self.key = self.keys.public
        self.address = Address(self.host, PORT, self.key)
        self.clock = WallClock()
        self.disk = Disk(self.die, self._committed)
        self.peers = list(peers)
        self.rooms: Pub | None = None
        """Of the life that is up now."""
        self.is_up = trio.Event()
        self.is_down = trio.Event()
        self.lives = 0
        self.downtime = 1.0
        """Seconds until the pub is started again."""
        self.dies_silently = False
        """When it dies: has it lost its power, or was only the process killed?"""
        self.settings = self._settings(around.folder / name, flags)
        self._around = around
        self._rng = chance(around.seed, f"{name} machine")
        self._network = HostNetwork(around.network, self.host)
        self._scope = trio.CancelScope()
        self._stop = trio.Event()
        around.machines.append(self)
        around.trace.name(self.key, name)
        around.ledger.add_pub(self.key)

    def _settings(self, folder: Path, flags: dict[str, Any]) -> Settings:
        dialled = ", ".join(format_address(peer.address) for peer in self.peers)
        where = {"network.host": self.host, "network.port": PORT, "connections.peers": dialled}
        without = {"invites.first_uses": 0, "operations.host": ""}  # HTTP would want sockets of this machine
        return load(environ={}, data=folder, flags=where | without | flags)

    # --- what befalls it ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM."""
        self._around.trace.note("stop", pub=self.name)
        self._stop.set()

    def die(self) -> None:
        """SIGKILL, or the plug is pulled."""
        if not self.disk.is_dead:
            self._around.trace.note("dies", pub=self.name, silently=self.dies_silently, commits=self.disk.commits)
            self.disk.is_dead = True
            if self.dies_silently:
                self._network.lose_power()
            else:
                self._network.kill()
            self._scope.cancel()

    # --- its lives ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """One life after the other, until cancelled."""
        who.set(self.name)
        while True:
            await self._live()
            await trio.sleep(self.downtime)

    async def _live(self) -> None:
        self.lives += 1
        self.is_down = trio.Event()
        self._scope, self._stop = trio.CancelScope(), trio.Event()
        self._network = HostNetwork(self._around.network, self.host)
        self._around.network.power_on(self.host)
        self.disk.is_dead = False
        self._around.trace.note("starts", life=self.lives)
        try:
            with self._scope:
                await life.run(self.settings, self._announce, self._world(), self._wait_for_stop)
        except BaseException as error:
            if not _is_expected(error):
                raise
        finally:
            self.rooms = None
            if self.is_up.is_set():
                self.is_up = trio.Event()
        demand(self.disk.is_dead or not self._scope.cancelled_caught, "a pub stops in time", self.name)
        demand(self.disk.is_dead or not self._network.open_ends, "a pub that has stopped holds no connection")
        demand(not list(tasks_of(self.name)), "a pub that has stopped leaves no task behind", self.name)
        self._around.trace.note("is down", life=self.lives)
        self.is_down.set()

    async def _wait_for_stop(self) -> None:
        await self._stop.wait()
        self._scope.deadline = trio.current_time() + STOP_SECONDS
        self._around.trace.note("stops")

    def _announce(self, _started: Started) -> None:
        assert self.rooms is not None
        self._around.ledger.reopened(self.key, self.rooms.store)
        self.is_up.set()

    def _committed(self, store: Store) -> None:
        self._around.ledger.committed(self.key, store)

    def _world(self) -> World:
        return World(
            random_bytes=self._random_bytes(),
            wall_clock=self.clock,
            open_store=self.disk.open,
            open_verifiers=self._open_verifiers,
            run_blocking=self._run_blocking,
            network=self._network,
        )

    def _random_bytes(self) -> Callable[[int], bytes]:
        rng = chance(self._around.seed, f"{self.name} life {self.lives}")

        def random_bytes(count: int) -> bytes:
            is_unborn = not self.settings.secret.exists()  # the first of all bytes become the key, in whichever life
            return self.keys.seed if is_unborn else rng.randbytes(count)

        return random_bytes

    @asynccontextmanager
    async def _open_verifiers(self, _count: int, hmac_key: bytes | None) -> AsyncIterator[Verifier]:
        yield _SlowVerifier(self._pause, hmac_key)

    async def _run_blocking(self, work: Callable[[], T], /) -> T:
        """As a thread would: not to be interrupted, and the event loop goes on before and after."""
        with trio.CancelScope(shield=True):
            await self._pause()
            try:
                self.disk.is_rehearsal = True
                result = work()
            except Rehearsed:
                await self._pause()
                result = work()
            finally:
                self.disk.is_rehearsal = False
            await self._pause()
        return result

    async def _pause(self) -> None:
        await trio.sleep(self._rng.random() * COMMIT_SECONDS)


class _SlowVerifier:
    """Verifies on the spot, and takes some time over it: of two chunks the second may be done first."""

    lanes = 2

    def __init__(self, pause: Callable[[], Awaitable[None]], hmac_key: bytes | None) -> None:
        self._pause = pause
        self._hmac_key = hmac_key

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        await self._pause()
        return [verdict(raw, self._hmac_key) for raw in chunk]


@contextmanager
def rooms_seen(machines: Sequence[Machine]) -> Iterator[None]:
    """Each machine knows the rooms of its pub inside this block: what ``life`` hands to its doors."""
    make = doors.host_of

    def make_and_remember(pub: Pub, settings: Settings) -> Any:
        next(machine for machine in machines if machine.settings is settings).rooms = pub
        return make(pub, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(life, "host_of", make_and_remember)
        yield


def _is_expected(error: BaseException) -> bool:
    """Did the machine die, or was its disk full when the pub started?"""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, Crashed | StoreFull)


def tasks_of(name: str) -> Iterator[trio.lowlevel.Task]:
    """All tasks but the caller that belong to this machine."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    todo = [root]
    while todo:
        task = todo.pop()
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        if task.context.get(who) == name and task is not trio.lowlevel.current_task():
            yield task
