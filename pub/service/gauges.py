"""The figures a scrape looks up, and those it measures.

What lives in the event loop is looked up there, by functions that the gauges call when they are collected. What has to
ask the disk or the kernel is measured in a thread just before. Making the text of a scrape takes most of its time, so
that is done in the thread, too; the event loop is held for the collecting alone.
"""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from pub import __version__, logs
from pub.config import Settings
from pub.metrics import LEVELS, Metrics, render
from pub.rpc.context import Pub
from pub.service.health import Health
from pub.store.invites import InviteState, state

LAG_INTERVAL = 0.25  # seconds between two looks at the clock: 0.02 % of a core, and no stall longer than this is missed
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """What the kernel says of a process: seconds and bytes."""

    cpu: float
    resident: int
    anonymous: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What has to be asked for."""

    disk_free: int
    disk_size: int
    page_size: int
    pages: int
    used_pages: int
    oldest_read: float
    members: int
    open_invites: int
    processes: dict[str, list[Process]]


class Gauges:
    """Answers scrapes for one pub."""

    def __init__(self, pub: Pub, settings: Settings, health: Health) -> None:
        self._pub = pub
        self._folder = settings.data
        self._scraping = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # of its own: hanging name lookups may have taken all others
        self._cpu_seen = dict.fromkeys(("pub", "verifier"), 0.0)
        self._lines_seen = dict.fromkeys(LEVELS, 0)
        self._repeats_seen = 0
        pub.metrics.build.info({"version": __version__, "python": platform.python_version()})
        pub.metrics.max_connections.set(settings.limits.max_connections)
        pub.metrics.max_held_bytes.set(settings.limits.ingest_bytes)
        pub.metrics.disk_floor.set(settings.operations.disk_floor)
        _look_up(pub, health)

    async def scrape(self, accept: str) -> tuple[str, bytes]:
        """Content type and text, for this ``Accept`` header."""
        async with self._scraping:
            in_thread = partial(trio.to_thread.run_sync, limiter=self._thread, abandon_on_cancel=True)
            measured = await in_thread(measure, self._pub, self._folder)
            self._take(measured)
            self._take_log()
            return await in_thread(render, self._pub.metrics.families(), accept)

    def _take(self, measured: Measured) -> None:
        metrics = self._pub.metrics
        metrics.disk_free.set(measured.disk_free)
        metrics.disk_size.set(measured.disk_size)
        metrics.store_used.set(measured.used_pages * measured.page_size)
        metrics.store_file.set(measured.pages * measured.page_size)
        metrics.store_free.set(measured.pages - measured.used_pages)
        metrics.oldest_read.set(measured.oldest_read)
        metrics.members.set(measured.members)
        metrics.open_invites.set(measured.open_invites)
        for name, processes in measured.processes.items():
            metrics.processes.labels(name).set(len(processes))
            metrics.resident_bytes.labels(name).set(sum(each.resident for each in processes))
            metrics.anonymous_bytes.labels(name).set(sum(each.anonymous for each in processes))
            cpu = sum(each.cpu for each in processes)
            metrics.cpu_seconds.labels(name).inc(max(0.0, cpu - self._cpu_seen[name]))
            self._cpu_seen[name] = max(cpu, self._cpu_seen[name])

    def _take_log(self) -> None:
        for level, count in logs.written.items():
            self._pub.metrics.log_lines.labels(level).inc(count - self._lines_seen[level])
            self._lines_seen[level] = count
        self._pub.metrics.limit_hits.labels("log_repeats").inc(logs.repeats.suppressed - self._repeats_seen)
        self._repeats_seen = logs.repeats.suppressed


def _look_up(pub: Pub, health: Health) -> None:
    """Give each gauge of the event loop its function."""
    metrics, heads, ingest = pub.metrics, pub.log.heads, pub.ingest
    replicator = pub.replication.replicator
    lookups: dict[str, Callable[[], float]] = {
        "known": lambda: len(heads),
        "stored": lambda: len(heads) - heads.count(0),
        "replicated": lambda: len(replicator.replicated),
        "awaited": lambda: len(replicator.senders.awaited),
        "forked": lambda: len(pub.log.forked),
    }
    for name, lookup in lookups.items():
        metrics.feeds.labels(name).set_function(lookup)
    metrics.ready.set_function(lambda: health.is_well)
    metrics.shaking_hands.set_function(lambda: sum(pub.lobby.unauthenticated.values()))
    metrics.held_connections.set_function(lambda: pub.lobby.limbo.count)
    metrics.messages.set_function(lambda: pub.log.message_count)
    metrics.ebt_sessions.set_function(lambda: pub.replication.count)
    metrics.legacy_peers.set_function(lambda: pub.legacy.count)
    metrics.streams.set_function(lambda: sum(each.stream_count for each in pub.lobby.connections))
    metrics.verify_queue.set_function(lambda: ingest.queued_messages)
    metrics.held_bytes.set_function(lambda: ingest.held_bytes)
    metrics.commit_age.set_function(lambda: ingest.commit_age)
    metrics.store_mapped.set_function(lambda: pub.store.map_size)
    metrics.tasks.set_function(lambda: trio.lowlevel.current_statistics().tasks_living)


async def watch_event_loop(metrics: Metrics) -> None:
    """See how late this task is woken, for ever.

    A task of its own, and no instrument of trio's: that would be called for every step of every task.
    """
    while True:
        due = trio.current_time() + LAG_INTERVAL
        await trio.sleep_until(due)
        metrics.loop_lag.observe(max(0.0, trio.current_time() - due))


# --- in a thread --------------------------------------------------------------------------------------------


def measure(pub: Pub, folder: Path) -> Measured:
    """Ask disk, store and kernel."""
    disk, oldest_read, usage = shutil.disk_usage(folder), pub.store.oldest_read(), pub.store.usage()
    now = pub.wall_clock()
    with pub.store.read() as txn:
        members = pub.members.count(txn)
        open_invites = sum(state(each, now) is InviteState.OPEN for each in pub.invites.records(txn))
    return Measured(
        disk_free=disk.free,
        disk_size=disk.total,
        page_size=usage.page_size,
        pages=usage.pages,
        used_pages=usage.used,
        oldest_read=oldest_read,
        members=members,
        open_invites=open_invites,
        processes={"pub": _processes([os.getpid()]), "verifier": _processes(pub.verifier_pids)},
    )


def _processes(pids: Iterable[int]) -> list[Process]:
    return [found for pid in pids if (found := _process(pid)) is not None]


def _process(pid: int) -> Process | None:
    """``None``: there is none any more."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    anonymous = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return Process(
        cpu=(int(numbers[11]) + int(numbers[12])) / TICKS,  # utime and stime of proc(5), counted from the state
        resident=int(numbers[21]) * PAGE,
        anonymous=int(anonymous[1]) * 1024 if anonymous else 0,
    )
