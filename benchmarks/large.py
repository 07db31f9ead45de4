"""Large: twenty thousand feeds and two million messages in one pub, and what everything costs then.

A member brings 100,000 messages to an empty pub; another pub is filled with two million and gets the same 100,000 on
top, so these two are rates of the same thing. In between somebody new fetches everything, and the member comes back;
afterwards everyone becomes a member, the operator asks the command line, and the pub is started again.

Each step proves itself: the pub's own count is what it must be, every message that is fetched is compared with the one
that was sent, and a pub that was started again shows the last message of a feed. Pauses of the event loop are those
that a third process sees (pauses.py), whose questions cost the pub some 40 ms of CPU a second.
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.clients import Carrier, Reader, Session, dial, redeem
from benchmarks.connection import LoadFailed
from benchmarks.dataset import keys_of
from benchmarks.figures import MIB, Figure, Figures
from benchmarks.mapped import Mapped
from benchmarks.members import join, read_back
from benchmarks.meter import cpu, disk, measured, wait_rest
from benchmarks.pauses import Pauses
from benchmarks.peers import Peer, running
from pub.net.control import ask
from pub.protocol.ebt import encode_note
from tests.service.processes import answer_of

LOOK_SECONDS = 0.25  # between two looks at how much is stored
SETTLING_SECONDS = 1.0  # after which a session that ended is over in the pub, too
SILENT_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # without one more message stored or fetched
STARTS = 3
PROBES = 64  # places of a file that are looked at for being in memory
COMMANDS = (("status",), ("feeds",), ("feeds", "--forked"), ("peers",), ("members",), ("invite", "list"))


def fill(peer: Peer, data: Mapped) -> Figures:
    """A member brings it all, 16 KiB of one feed at a time, as the pub asks for them."""
    join(peer, data.hub)
    before = message_count(peer)
    with measured(peer.pid) as usage:
        trio.run(_carry, peer, data, before + data.count)
        usage.stop_clock()
        wait_rest(peer.pid)
    stored = message_count(peer) - before
    if stored != data.count:
        raise LoadFailed(f"{stored} messages were stored of {data.count}")
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("messages per CPU second", data.count / usage.cpu, "", more_is_better=True),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        Figure("disk per byte of message", disk(peer.folder) / data.raw_bytes, ""),
    ]


async def _carry(peer: Peer, data: Mapped, wanted: int) -> None:
    async with dial(peer.port, peer.key, data.hub) as connection:
        Carrier(connection, data)
        await _until(wanted, lambda: message_count(peer))


async def _until(wanted: int, count: Callable[[], int]) -> None:
    """Return when there are so many, or no more for a while: the caller counts."""
    seen, since = -1, time.perf_counter()
    while (now := await trio.to_thread.run_sync(count)) < wanted:
        if now != seen:
            seen, since = now, time.perf_counter()
        if time.perf_counter() - since > PATIENCE_SECONDS:
            return
        await trio.sleep(LOOK_SECONDS)


def message_count(peer: Peer) -> int:
    """How many messages are stored, asked over the control socket itself: starting a command costs more."""
    return int(ask(peer.control, ("status",), [])["messages"])


def pull(peer: Peer, data: Mapped) -> Figures:
    """Somebody new fetches all feeds over EBT."""
    with Pauses(peer.control) as pauses:
        pauses.longest()
        with measured(peer.pid) as usage:
            trio.run(_fetch, peer, data)
        longest = pauses.longest()
    return [
        Figure("messages/s", data.count / usage.wall, "", more_is_better=True),
        Figure("messages per CPU second", data.count / usage.cpu, "", more_is_better=True),
        Figure("peak anonymous memory", usage.peak_anonymous / MIB, "MiB"),
        Figure("longest pause", longest * 1000, "ms"),
    ]


async def _fetch(peer: Peer, data: Mapped) -> None:
    async with dial(peer.port, peer.key, keys_of("somebody new")) as connection:
        reader = Reader(connection, data)
        await _until(data.count, lambda: reader.messages)
    reader.complete()


def come_back(peer: Peer, data: Mapped) -> Figures:
    """A member with all these feeds connects again: as after a first sync, and as a client that remembers."""
    clock = {each: encode_note(data.length(feed), False) for feed, each in enumerate(data.ids)}
    hub = {data.ids[0]: clock[data.ids[0]]}
    says_all = _visit(peer, data, clock)
    _visit(peer, data, hub)
    return [
        *_visit_figures("says all", *says_all),
        *_visit_figures("says what is new", *_visit(peer, data, hub)),
    ]


def _visit(peer: Peer, data: Mapped, clock: dict[str, int]) -> tuple[float, float, int]:
    """Seconds of CPU, seconds of the longest pause, and bytes of the pub's notes."""
    with Pauses(peer.control) as pauses:
        pauses.longest()
        before = cpu(peer.pid)
        size = trio.run(_greet, peer, data, clock)
        time.sleep(SETTLING_SECONDS)  # the session's end, and its clock on disk
        return cpu(peer.pid) - before, pauses.longest(), size


async def _greet(peer: Peer, data: Mapped, clock: dict[str, int]) -> int:
    async with dial(peer.port, peer.key, data.hub) as connection:
        session = Session(connection, clock)
        await session.greeted.wait()
        heard = -1
        while heard != session.bytes:
            heard = session.bytes
            await trio.sleep(SILENT_SECONDS)
    if session.messages:
        raise LoadFailed("a member who has everything was sent messages")
    return session.bytes


def _visit_figures(who: str, seconds: float, pause: float, size: int) -> Figures:
    return [
        Figure(f"{who}: CPU", seconds * 1000, "ms"),
        Figure(f"{who}: longest pause", pause * 1000, "ms"),
        Figure(f"{who}: notes of the pub", size / 1000, "KB"),
    ]


def admit(peer: Peer, data: Mapped) -> Figures:
    """Everyone becomes a member."""
    code = _asked(peer, "invite", "create", "--uses", str(len(data.ids)))["code"]
    with Pauses(peer.control) as pauses:
        pauses.longest()
        with measured(peer.pid) as usage:
            trio.run(partial(redeem, peer.port, code, *data.ids[1:]))
        longest = pauses.longest()
    count = len(data.ids) - 1
    if (members := _asked(peer, "status")["members"]) < count:
        raise LoadFailed(f"{members} members, {count} redeemed")
    return [
        Figure("redemptions/s", count / usage.wall, "", more_is_better=True),
        Figure("redemptions per CPU second", count / usage.cpu, "", more_is_better=True),
        Figure("longest pause", longest * 1000, "ms"),
    ]


def answer(peer: Peer) -> Figures:
    """The operator asks the command line."""
    figures = []
    with Pauses(peer.control) as pauses:
        pauses.longest()
        for command in COMMANDS:
            start = time.perf_counter()
            _asked(peer, *command)
            name = f"ssb-pub {' '.join(command)}"
            figures.append(Figure(name, time.perf_counter() - start, "s"))
            figures.append(Figure(f"{name}: longest pause", pauses.longest() * 1000, "ms"))
    return figures


def _asked(peer: Peer, *command: str) -> Any:
    done = answer_of(peer.folder, *command, "--json")
    done.check_returncode()
    return json.loads(done.stdout)


def restart(peer: Peer, data: Mapped) -> Figures:
    """End it, and start it again: with the store's pages in memory, and with none of them."""
    count = message_count(peer)
    start = time.perf_counter()
    peer.stop()
    figures = [Figure("from SIGTERM to exit", time.perf_counter() - start, "s")]
    for name, forget in (("in memory", False), ("on disk", True)):
        times, share = [], 0.0
        for _ in range(STARTS):
            if forget:
                share = forget_cached(peer.folder / "data.mdb")
            times.append(_start(peer, data, count))
        seconds, cpu_seconds = zip(*times, strict=True)
        figures.append(Figure(f"ready, pages {name}", sorted(seconds)[STARTS // 2], "s"))
        figures.append(Figure(f"ready, pages {name}: CPU", sorted(cpu_seconds)[STARTS // 2], "s"))
    return [*figures, Figure("pages that could not be dropped", share * 100, "%", is_compared=False)]


def _start(peer: Peer, data: Mapped, count: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, from exec until it is ready; it must have everything."""
    start = time.perf_counter()
    with running(peer.kind, peer.folder) as again:
        seconds, used = time.perf_counter() - start, cpu(again.pid)
        if message_count(again) != count:
            raise LoadFailed("messages were lost by a new start")
        read_back(again, data.ids[-1], data.page(len(data.ids) - 1, data.shape.messages - 1, 1)[-1])
    return seconds, used


def forget_cached(path: Path) -> float:
    """Have the system forget what it keeps of a file in memory, as after a boot. The share that it kept."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(handle).st_size
        return sum(_is_cached(handle, number * size // PROBES) for number in range(PROBES)) / PROBES
    finally:
        os.close(handle)


def _is_cached(handle: int, place: int) -> bool:
    try:
        return bool(os.preadv(handle, [bytearray(1)], place, os.RWF_NOWAIT))
    except BlockingIOError:
        return False
