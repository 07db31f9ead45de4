"""Time and chance of a simulated world. Both come from the seed alone, so that a run can be had again.

trio's clock is virtual and jumps as soon as nobody has anything left to do. trio's scheduler takes its decisions from a
``Random`` that is seeded here. Each pub has a wall clock of its own beside that, which may be set forth and back.
Whoever needs chance takes a ``Random`` by name: what one part of the world draws never shifts what another draws.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run as scheduler

NOON = 1_700_000_000_000.0  # ms since the epoch, when every world begins
MAX_ROUNDS = 200_000  # of the event loop at one moment: tasks that only wake each other never let the clock go on

T = TypeVar("T")


def run_virtually(seed: int, world: Callable[[], Awaitable[T]]) -> T:
    """Run ``world`` to its end on a virtual clock, with the scheduling that this seed makes."""
    with _seeded_scheduling(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(world, clock=clock, instruments=[_Standstill()])


def chance(seed: int, name: str) -> random.Random:
    """The randomness of this name. (From text, since ``hash`` differs from process to process.)"""
    return random.Random(f"{seed} {name}")


class WallClock:
    """Milliseconds since the epoch, as one machine believes."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return NOON + trio.current_time() * 1000 + self._ahead

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._ahead += seconds * 1000


@contextmanager
def _seeded_scheduling(seed: int) -> Iterator[None]:
    """What trio offers to Hypothesis: ready tasks are sorted by age and shuffled by a generator that we seed."""
    allowed, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        scheduler._r.setstate(state)


class _Standstill(trio.abc.Instrument):
    """Ends a world in which time has come to a stop."""

    def __init__(self) -> None:
        self._now = -1.0
        self._rounds = 0

    def after_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        self._rounds = self._rounds + 1 if now == self._now else 0
        self._now = now
        if self._rounds > MAX_ROUNDS:
            self._rounds = 0
            root = trio.lowlevel.current_root_task()
            assert root is not None
            for nursery in root.child_nurseries:
                nursery.cancel_scope.cancel()
