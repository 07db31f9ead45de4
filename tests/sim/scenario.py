"""What a seed makes: a few pubs, the people around them, what they do, and what befalls them.

A world has two halves. In the first there is trouble (``mishaps``); people write, follow each other and join. Then
all trouble ends, but for liars, who never do, and everybody writes once more, and again when it is quiet. Every guest
must have an answer, and within ``PATIENCE`` everybody what it should have (``agreement``), though no connection is
made anew for that. All the while, at every commit and every second, what must always hold is held against the world
(``ledger``, ``bounds``). At last all pubs are stopped.
"""

import traceback
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from tests.sim.agreement import missing
from tests.sim.bounds import watch
from tests.sim.clock import chance, run_virtually
from tests.sim.disk import no_syncs
from tests.sim.guests import Code, ask_operator, make_code, redeem
from tests.sim.ledger import Broken, Ledger, demand
from tests.sim.liars import BEHAVIOURS, Liar
from tests.sim.machines import Machine, Surroundings, rooms_seen
from tests.sim.mishaps import MISHAPS, Trouble, heal
from tests.sim.network import Network
from tests.sim.people import Person
from tests.sim.trace import Trace

ANSWER_PATIENCE = 900.0  # seconds: of strangers a pub believes five lies of a minute each, and publishes nothing then
PATIENCE = 240.0  # seconds: a dead connection is given up after two minutes, and then the next dial may be a minute off
LOOK_SECONDS = 5.0


class Scenario:
    """One world; ``trace`` tells what happened in it."""

    def __init__(self, seed: int, folder: Path) -> None:
        rng = self._rng = chance(seed, "scenario")
        self.trace = Trace()
        self.duration = rng.uniform(20, 90)
        capacity = rng.choice([500, 4_000, 64_000])
        network = Network(chance(seed, "network"), self.trace.bytes_arrived, capacity)
        network.calm.latency, network.calm.jitter = rng.choice([(0.001, 0.0), (0.02, 0.01), (0.2, 0.1)])
        self.around = Surroundings(seed, folder, network, Ledger(self.trace), self.trace)
        self._add_machines()
        self._people = [self._person(f"person {number}") for number in range(rng.randint(2, 5))]
        self._liars = [self._liar(number) for number in range(rng.choice([0, 1, 1, 2, 3, 4]))]
        self._trouble = Trouble(self.around, self._people, chance(seed, "trouble"))
        self._codes: list[Code] = []
        self._waiting = 0

    # --- who is there -------------------------------------------------------------------------------------

    def _add_machines(self) -> None:
        rng, machines = self._rng, self.around.machines
        for number in range(rng.choice([1, 2, 2, 3])):
            peers = [machine for machine in machines if rng.random() < 0.6] or machines[-1:]
            flags: dict[str, Any] = {"limits.ingest_bytes": rng.choice([2_000, 20_000, 1 << 24])}
            Machine(self.around, f"pub {number}", peers, **flags)

    def _person(self, name: str) -> Person:
        rng, machines = self._rng, self.around.machines
        pubs = rng.sample(machines, rng.randint(1, min(2, len(machines))))
        return Person(self.around, name, pubs, is_old=rng.random() < 0.25)

    def _liar(self, number: int) -> Liar:
        name = self._rng.choice(list(BEHAVIOURS))
        return Liar(self.around, f"{name} {number}", self._rng.choice(self.around.machines), BEHAVIOURS[name])

    # --- its course ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the first start to the last stop. Raises ``Broken``."""
        around = self.around
        async with trio.open_nursery() as nursery:
            for machine in around.machines:
                nursery.start_soon(machine.run)
            nursery.start_soon(watch, around)
            for person in self._people:
                for pub in person.pubs:
                    nursery.start_soon(person.gossip, pub)
            for liar in self._liars:
                nursery.start_soon(liar.run)
            async with trio.open_nursery() as trouble:
                self._begin(nursery, trouble)
                await trio.sleep(self.duration)
                trouble.cancel_scope.cancel()
            heal(self._trouble)
            for _ in range(2):
                for person in self._people:
                    person.post("after all that")
                await self._settle()
            self._check_codes()
            await self._stop()
            nursery.cancel_scope.cancel()

    def _begin(self, nursery: trio.Nursery, trouble: trio.Nursery) -> None:
        for machine in self.around.machines:
            nursery.start_soon(self._counted, partial(self._invite, machine, nursery))
        for person in self._people:
            trouble.start_soon(self._write, person)
        for _ in range(self._rng.choice([0, 3, 10, 25])):
            trouble.start_soon(self._befall, self._rng.choice(list(MISHAPS)), self._rng.uniform(0, self.duration))

    async def _befall(self, name: str, when: float) -> None:
        await trio.sleep(when)
        await MISHAPS[name](self._trouble)

    async def _write(self, person: Person) -> None:
        """Somebody's life, as its feed tells it."""
        rng = chance(self.around.seed, f"{person.name} writes")
        for number in range(rng.choice([0, 0, 5, 60])):
            person.post(f"long ago {number}")
        others = [each.key for each in self._people if each is not person]
        for number in range(rng.randint(1, 20)):
            await trio.sleep(rng.expovariate(1 / 4))
            if others and rng.random() < 0.3:
                person.follow(others.pop(rng.randrange(len(others))))
            else:
                person.post(f"{number} {'x' * rng.choice([0, 10, 1000])}")

    # --- invites ------------------------------------------------------------------------------------------

    async def _invite(self, machine: Machine, nursery: trio.Nursery) -> None:
        """The operator follows the pubs it dials, lets in its people, and gives a code to too many."""
        around, rng = self.around, chance(self.around.seed, f"{machine.name} invites")
        for peer in machine.peers:
            if rng.random() < 0.7:
                await ask_operator(around, machine, "friends.follow", peer.keys.id)
        members = [(person.name, person.key) for person in self._people if machine in person.pubs]
        await self._hand_out(machine, members, len(members), nursery)
        crowd = [(f"guest {number} of {machine.name}", rng.randbytes(32)) for number in range(rng.randint(0, 5))]
        await self._hand_out(machine, crowd, rng.randint(1, 4), nursery)

    async def _hand_out(
        self, machine: Machine, people: list[tuple[str, bytes]], uses: int, nursery: trio.Nursery
    ) -> None:
        if people:
            code = await make_code(self.around, machine, uses)
            self._codes.append(code)
            for name, key in people:
                nursery.start_soon(self._counted, partial(redeem, self.around, code, name, key))

    async def _counted(self, work: Callable[[], Awaitable[None]]) -> None:
        self._waiting += 1
        await work()
        self._waiting -= 1

    def _check_codes(self) -> None:
        for code in self._codes:
            expected = min(code.uses, len(code.accepted) + len(code.refused))
            demand(len(code.accepted) == expected, "a code lets in as many as it allows", len(code.accepted), expected)

    # --- its end ------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        await self._wait_for(self._unanswered, ANSWER_PATIENCE)
        await self._wait_for(self._lacking, PATIENCE)

    async def _wait_for(self, complaints: Callable[[], list[str]], patience: float) -> None:
        """Until there are none."""
        began = trio.current_time()
        while (found := complaints()) and trio.current_time() < began + patience:  # noqa: ASYNC110 - rings no bell
            await trio.sleep(LOOK_SECONDS)
        self.trace.note("settled", seconds=trio.current_time() - began)
        demand(not found, "in the end everybody has everything", *found)

    def _lacking(self) -> list[str]:
        return missing(self.around.ledger, self.around.machines, self._people)

    def _unanswered(self) -> list[str]:
        return [f"{self._waiting} wait for an answer"] if self._waiting else []

    async def _stop(self) -> None:
        for machine in self.around.machines:
            await machine.is_up.wait()
            machine.downtime = 1e9
            machine.stop()
            await machine.is_down.wait()


def play(seed: int) -> tuple[Trace, str | None]:
    """The world of this seed: what happened in it, and what was broken in it, if anything."""
    with TemporaryDirectory(prefix="pub-sim-") as folder, no_syncs():
        scenario = Scenario(seed, Path(folder))
        with scenario.trace.logs(), rooms_seen(scenario.around.machines):
            try:
                run_virtually(seed, scenario.run)
            except BaseExceptionGroup as group:
                return scenario.trace, "\n".join(dict.fromkeys(_reasons(group)))
    return scenario.trace, None


def failure_of(seed: int) -> str | None:
    """What was broken in the world of this seed."""
    return play(seed)[1]


def _reasons(error: BaseException) -> Iterator[str]:
    """Of a failure: what must hold and does not, or the traceback of whatever else went wrong."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _reasons(inner)
    elif isinstance(error, Broken):
        yield str(error)
    else:
        yield "".join(traceback.format_exception(error))
