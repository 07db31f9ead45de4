"""The disk of one simulated machine: the real store on a real folder, and what goes wrong with it.

Every commit counts. It can be refused for want of room, and the machine can die just before or just after it. In both
cases the job has run, since that is when a real disk fails: with the commit. What is dead writes nothing any more.

A commit takes time, in which the event loop goes on while the job has run and nothing is on disk. So the job is
*rehearsed*: run, undone, and after a while run again and committed. (Jobs must be repeatable anyway.) Whoever is told
of it in between is told too early, and somebody will see that.

A simulated death leaves the kernel's cache be, so nothing is gained by waiting for the disk: the store syncs nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import lmdb
import pytest

from pub.errors import StoreFull
from pub.store.env import Store, Txn


class Crashed(BaseException):
    """The simulated machine has died at this point. (Nothing in a pub may catch it.)"""


class Rehearsed(BaseException):
    """The job has run, and is to be run again for good."""


class Fate(Enum):
    """What becomes of one commit."""

    DIE_BEFORE = "dies before it"
    DIE_AFTER = "dies after it"
    FULL = "no room"


class Disk:
    """One folder, over all lives of its machine. ``fates`` are by the number of the commit, counted from now."""

    def __init__(self, died: Callable[[], None], committed: Callable[[Store], None]) -> None:
        self.commits = 0
        self.fates: dict[int, Fate] = {}
        self.is_full = False
        self.is_dead = False
        self.is_rehearsal = False
        self._died = died
        self._committed = committed

    def open(self, folder: Path) -> Store:
        """What ``World.open_store`` asks for."""
        disk = self

        class WatchedStore(Store):
            __slots__ = ()

            def write(self, job: Callable[[Txn], Any]) -> Any:
                return disk.write(self, super().write, job)

            def has_room(self) -> bool:
                return not disk.is_full

        return WatchedStore.open(folder)

    def plan(self, fate: Fate, commits_from_now: int) -> None:
        """Let this happen at one of the next commits."""
        self.fates[self.commits + commits_from_now] = fate

    def write(self, store: Store, write: Callable[[Callable[[Txn], Any]], Any], job: Callable[[Txn], Any]) -> Any:
        """Commit, or not."""
        if self.is_dead:
            raise Crashed
        if self.is_rehearsal:
            self.is_rehearsal = False
            return write(lambda txn: _fail(job(txn), Rehearsed()))
        self.commits += 1
        fate = self.fates.pop(self.commits, Fate.FULL if self.is_full else None)
        if fate is Fate.FULL:
            return write(lambda txn: _fail(job(txn), StoreFull("no room left on the simulated disk")))
        if fate is Fate.DIE_BEFORE:
            self._died()
            return write(lambda txn: _fail(job(txn), Crashed()))
        result = write(job)
        if hasattr(store, "clocks"):  # the last database that opening it opens
            self._committed(store)
        if fate is Fate.DIE_AFTER:
            self._died()
            raise Crashed
        return result


def _fail(_result: object, error: BaseException) -> None:
    raise error


@contextmanager
def no_syncs() -> Iterator[None]:
    """LMDB hands its pages to the kernel and waits for nothing, inside this block."""
    opened = lmdb.open

    def open_unsynced(path: str, **options: Any) -> Any:
        return opened(path, **(options | {"sync": False, "metasync": False}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lmdb, "open", open_unsynced)
        yield
