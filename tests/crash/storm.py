"""Kills at random moments."""

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from tests.crash.supervisor import Supervisor

COMMIT_SECONDS = 0.02  # a kill comes up to so much after its moment: before, in, or after a commit
POLL_SECONDS = 0.0005

Fuse = Callable[[int], None]


async def rage(supervisor: Supervisor, kills: int, moment: Callable[[], Awaitable[None]], fuse: Fuse) -> None:
    """Kill so often, starts that are killed included: in each life when ``moment`` has come and ``fuse`` has burnt."""
    end = supervisor.kills + kills
    while supervisor.kills < end:
        await supervisor.up.wait()
        await moment()
        await supervisor.kill(fuse)


def short_fuse(rng: random.Random) -> Fuse:
    """Milliseconds."""
    return lambda _pid: time.sleep(rng.uniform(0, COMMIT_SECONDS))


class Pace:
    """Random moments, spread over what there is to do. ``progress`` says how much is done, from 0 to 1."""

    FIRST_SECONDS = 0.4  # of life before a kill, on the average, while we don't know yet how fast it is
    LONGEST_SECONDS = 3.0  # on a slow machine the kills shall come to an end, too

    def __init__(self, rng: random.Random, kills: int, progress: Callable[[], float]) -> None:
        self._rng = rng
        self._left = kills
        self._progress = progress
        self._lived = 0.0

    async def wait(self) -> None:
        """On the average three quarters of what would spread the kills evenly."""
        began, done = time.perf_counter(), self._progress()
        even = (1 - done) / self._left * self._lived / done if done else self.FIRST_SECONDS
        await trio.sleep(self._rng.uniform(0, min(1.5 * even, self.LONGEST_SECONDS)))
        self._left = max(1, self._left - 1)
        self._lived += time.perf_counter() - began


def wait_for_growth(pid: int) -> None:
    """Until the store of this process has a larger map, or the process has ended. It blocks."""
    before = size = _map_size(pid)
    while size is not None and before is not None and size <= before:
        time.sleep(POLL_SECONDS)
        size = _map_size(pid)


def _map_size(pid: int) -> int | None:
    """How many bytes of address space the store takes: 0 between two maps, ``None`` when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return None
    spans = (line.split()[0].split("-") for line in lines if line.endswith("/data.mdb"))
    return sum(int(end, 16) - int(start, 16) for start, end in spans)
