"""Is there room on the disk? Once it was full, nothing new is taken in until it has room again.

A transaction that finds the disk full is undone. From then on what peers send is refused before it is verified, and
the replicator asks nobody for more; what is stored is served as ever. Every few seconds we look whether the store
could grow again, and then everything is asked for that was refused: nobody has to reconnect or start anything.

Our own jobs are tried all the while: they are few, and pages that became free inside the store may hold them.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from pub.metrics import Metrics

LOOK_SECONDS = 2.0  # how late we notice that there is room again; looking costs one system call

log = structlog.get_logger()


class Disk:
    """``has_room`` looks whether the store could grow."""

    def __init__(self, has_room: Callable[[], Awaitable[bool]], metrics: Metrics) -> None:
        self.full: str | None = None
        """Why nothing can be stored now, for the operator."""
        self.watchers: list[Callable[[], None]] = []
        """Called when the disk has turned out to be full, before anyone is refused, and when it has room again."""
        self._has_room = has_room
        self._metrics = metrics
        self._bell = trio.Event()

    def ran_out(self, reason: str) -> None:
        """A transaction found no room."""
        if self.full is None:
            self.full = reason
            self._metrics.full_disks.inc()
            log.error("disk_full", reason=reason)
            self._bell.set()
            self._tell()

    async def run(self) -> None:
        """Look for room while there was none, for ever."""
        while True:
            await self._bell.wait()
            await trio.sleep(LOOK_SECONDS)
            if await self._has_room():
                self._bell = trio.Event()
                self.full = None
                log.warning("disk_has_room")
                self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()
