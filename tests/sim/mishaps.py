"""What befalls a world while it is in trouble. Each mishap is a function; some undo themselves after a while.

``heal`` ends all trouble: the network is whole, disks have room, everybody is there. What was lost stays lost, and
connections that are dead without anybody knowing stay so until somebody notices.
"""

import random
from collections.abc import Awaitable, Callable

import trio

from tests.sim.disk import Fate
from tests.sim.machines import Machine, Surroundings
from tests.sim.people import Person
from tests.sim.wire import Wire

DAY = 86_400.0


class Trouble:
    """Who can be hit; ``rng`` says who is, and how hard."""

    def __init__(self, around: Surroundings, people: list[Person], rng: random.Random) -> None:
        self.around = around
        self.people = people
        self.rng = rng

    def note(self, event: str, **values: object) -> None:
        self.around.trace.note(event, **values)

    def machine(self) -> Machine:
        return self.rng.choice(self.around.machines)

    def person(self) -> Person:
        return self.rng.choice(self.people)

    def pair(self) -> tuple[str, str]:
        """Two hosts that have to do with each other."""
        pairs = [(person.name, pub.host) for person in self.people for pub in person.pubs]
        pairs += [(machine.host, peer.host) for machine in self.around.machines for peer in machine.peers]
        return self.rng.choice(pairs)

    def wire(self) -> Wire | None:
        """Any, but for control sockets: those never leave their machine."""
        wires = [wire for wire in self.around.network.open_wires() if wire.ends[0].peer != wire.ends[1].peer]
        return self.rng.choice(wires) if wires else None

    async def a_while(self, longest: float = 40.0) -> None:
        await trio.sleep(self.rng.uniform(1.0, longest))


async def partition(trouble: Trouble) -> None:
    """Two hosts do not reach each other."""
    one, other = trouble.pair()
    trouble.note("parted", one=one, other=other)
    trouble.around.network.part(one, other)
    await trouble.a_while(90)
    trouble.note("joined", one=one, other=other)
    trouble.around.network.join(one, other)


async def half_open(trouble: Trouble) -> None:
    """A connection goes dead, and neither end hears of it."""
    if (wire := trouble.wire()) is not None:
        trouble.note("half-open", wire=wire.ends[0].name)
        wire.darken()


async def reset(trouble: Trouble) -> None:
    """A connection breaks."""
    if (wire := trouble.wire()) is not None:
        trouble.note("reset", wire=wire.ends[0].name)
        wire.reset()


async def slow_line(trouble: Trouble) -> None:
    """Bytes take long between two hosts."""
    one, other = trouble.pair()
    weather = trouble.around.network.weather(one, other)
    weather.latency, weather.jitter = trouble.rng.uniform(0.1, 1.5), trouble.rng.uniform(0, 1.0)
    trouble.note("slow line", one=one, other=other, latency=weather.latency)
    await trouble.a_while()
    weather.latency, weather.jitter = trouble.around.network.calm.latency, trouble.around.network.calm.jitter


async def death(trouble: Trouble) -> None:
    """A pub is killed, or its machine loses its power, between two steps."""
    machine = _doomed(trouble)
    machine.die()


async def death_at_commit(trouble: Trouble) -> None:
    """The same just before or just after one of the next commits."""
    machine = _doomed(trouble)
    machine.disk.plan(trouble.rng.choice([Fate.DIE_BEFORE, Fate.DIE_AFTER]), trouble.rng.randint(1, 12))


def _doomed(trouble: Trouble) -> Machine:
    machine = trouble.machine()
    machine.dies_silently = trouble.rng.random() < 0.3
    machine.downtime = trouble.rng.uniform(0.1, 20)
    return machine


async def stop(trouble: Trouble) -> None:
    """A pub is stopped as it should be, and started again."""
    machine = trouble.machine()
    machine.downtime = trouble.rng.uniform(0.1, 20)
    machine.stop()


async def full_disk(trouble: Trouble) -> None:
    """For a while nothing can be written."""
    machine = trouble.machine()
    trouble.note("disk full", pub=machine.name)
    machine.disk.is_full = True
    await trouble.a_while()
    trouble.note("disk has room", pub=machine.name)
    machine.disk.is_full = False


async def full_at_commit(trouble: Trouble) -> None:
    """One commit finds no room, the next one does."""
    trouble.machine().disk.plan(Fate.FULL, trouble.rng.randint(1, 12))


async def clock_jump(trouble: Trouble) -> None:
    """Somebody sets a pub's clock, forth or back, by seconds or by days."""
    machine = trouble.machine()
    seconds = trouble.rng.choice([-1, 1]) * 10 ** trouble.rng.uniform(-1, 5.5)
    trouble.note("clock jumps", pub=machine.name, seconds=seconds)
    machine.clock.jump(seconds)


async def absence(trouble: Trouble) -> None:
    """Somebody's phone is off."""
    person = trouble.person()
    trouble.note("leaves", person=person.name)
    person.leave()
    await trouble.a_while(60)
    trouble.note("comes back", person=person.name)
    person.come_back()


async def slow_reader(trouble: Trouble) -> None:
    """Somebody reads a few bytes at a time, from its next connection on."""
    person = trouble.person()
    person.slowness = trouble.rng.uniform(0.05, 1.0)
    trouble.note("reads slowly", person=person.name)
    await trouble.a_while(60)
    person.slowness = 0.0


MISHAPS: dict[str, Callable[[Trouble], Awaitable[None]]] = {
    "partition": partition,
    "half-open": half_open,
    "reset": reset,
    "slow line": slow_line,
    "death": death,
    "death at commit": death_at_commit,
    "stop": stop,
    "full disk": full_disk,
    "full at commit": full_at_commit,
    "clock jump": clock_jump,
    "absence": absence,
    "slow reader": slow_reader,
}


def heal(trouble: Trouble) -> None:
    """No more trouble from now on."""
    trouble.note("all trouble ends")
    trouble.around.network.clear_up()
    for machine in trouble.around.machines:
        machine.disk.is_full = False
        machine.disk.fates.clear()
        machine.downtime = 1.0
    for person in trouble.people:
        person.slowness = 0.0
        person.come_back()
