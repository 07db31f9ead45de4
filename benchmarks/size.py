"""How a pub bears size: twenty thousand feeds and two million messages, in one run against one real pub.

    python -m benchmarks.size FOLDER [--feeds 20000] [--messages 100]

FOLDER gets the data sets (1.2 GB at full size, kept for the next run) and the pub's data (1 GB). A member brings all
of it over EBT, the pub is started cold and warm, somebody new fetches everything, the member comes back, another one
brings 100,000 messages more, everyone becomes a member, and the operator asks the command line. What it prints is the
table of SIZE.md.

The load generator shares the machine's cores with the pub, so messages per CPU second (of all the pub's processes) say
more than messages per second. Pauses of the event loop are measured by a third process (see pauses.py), whose questions
cost the pub some 40 ms of CPU a second.
"""

import argparse
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from benchmarks.clients import Carrier, Reader, Session, dial, redeem
from benchmarks.dataset import Shape
from benchmarks.mapped import Mapped
from benchmarks.meter import anonymous, cpu, disk
from benchmarks.pauses import Pauses
from pub.net.control import call
from pub.protocol.ebt import encode_note
from pub.protocol.keys import KeyPair
from tests.service.processes import Process, answer_of, start_pub

MORE = Shape(feeds=1000, messages=100)  # what comes on top when everything is there
WINDOW = 100_000  # messages over which a rate is taken
LOOK = 0.25  # seconds between two looks at how much is stored
SETTLING = 1.0  # seconds after which a session that ended is over in the pub, too
QUIET = 3.0  # seconds in which nothing happens: how long pauses are that the machine makes by itself
STRANGER = KeyPair.generate(b"somebody new".ljust(32))
COMMANDS = (("status",), ("feeds",), ("feeds", "--forked"), ("peers",), ("members",), ("invite", "list"))


class Report:
    """Rows of a Markdown table, each printed as soon as it is known."""

    def __init__(self) -> None:
        self.add("", "figure")
        self.add("---", "---")

    def add(self, what: str, figure: str) -> None:
        print(f"| {what} | {figure} |", flush=True)


def mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


async def invite_and_redeem(pub: Process, *feeds: str) -> None:
    code = await asked(pub, "invite", "create", "--uses", str(len(feeds)))
    await redeem(pub.port, code["code"], *feeds)


async def asked(pub: Process, *command: str) -> Any:
    return await trio.to_thread.run_sync(pub.ask, *command)


@asynccontextmanager
async def carried(pub: Process, data: Mapped) -> AsyncIterator[Carrier]:
    async with dial(pub.port, pub.key, data.hub) as connection:
        yield Carrier(connection, data)


async def until_stored(pub: Process, count: int, look: Callable[[int], None]) -> None:
    """Call ``look`` with the number of stored messages again and again, until there are so many."""
    while (stored := await message_count(pub)) < count:
        look(stored)
        await trio.sleep(LOOK)
    look(stored)


async def message_count(pub: Process) -> int:
    """Asked over the control socket itself: starting a command costs more than the answer."""
    return int((await call(pub.folder / "socket", ("status",), []))["messages"])


async def fill(pub: Process, data: Mapped, name: str, report: Report) -> None:
    """A member brings a data set; how fast at which number of stored messages, and how much memory it takes."""
    await invite_and_redeem(pub, data.ids[0])
    before = await message_count(pub)
    curve: list[tuple[float, int]] = []
    memory: list[int] = []

    def look(stored: int) -> None:
        curve.append((time.perf_counter(), stored - before))
        memory.append(anonymous(pub.process.pid))

    began, computed = time.perf_counter(), cpu(pub.process.pid)
    async with carried(pub, data):
        await until_stored(pub, before + data.count, look)
    seconds, computed = time.perf_counter() - began, cpu(pub.process.pid) - computed
    total = data.count
    report.add(
        f"{name}: {total:,} messages", f"{seconds:.1f} s, {total / seconds:,.0f}/s, {total / computed:,.0f}/CPU s"
    )
    if total > 2 * WINDOW:
        for end in (WINDOW, total):
            report.add(f"{name}: rate of the {WINDOW:,} up to {end:,}", f"{rate(curve, end - WINDOW, end):,.0f}/s")
    report.add(f"{name}: anonymous memory, at most", mib(max(memory)))


def rate(curve: list[tuple[float, int]], begin: int, end: int) -> float:
    """Messages per second between two counts, the first point of each being the one beyond it."""
    first = next(point for point in curve if point[1] >= begin)
    last = next(point for point in curve if point[1] >= end)
    return (last[1] - first[1]) / max(last[0] - first[0], LOOK)


@contextmanager
def started(folder: Path, name: str, report: Report) -> Iterator[Process]:
    began = time.perf_counter()
    with start_pub(folder) as pub:
        report.add(f"{name}: from exec to ready", f"{time.perf_counter() - began:.2f} s")
        report.add(f"{name}: anonymous memory after it", mib(anonymous(pub.process.pid)))
        yield pub
        assert pub.ask("status")["internal_errors"] == 0
        began = time.perf_counter()
        assert pub.end() == 0
        report.add(f"{name}: from SIGTERM to exit", f"{time.perf_counter() - began:.2f} s")


async def read_everything(pub: Process, data: Mapped, report: Report) -> None:
    """Somebody new fetches all feeds over EBT."""
    memory: list[int] = []
    with Pauses(pub.folder / "socket") as pauses:
        began, computed = time.perf_counter(), cpu(pub.process.pid)
        async with dial(pub.port, pub.key, STRANGER) as connection:
            reader = Reader(connection, data.ids)
            while reader.messages < data.count:
                await trio.sleep(LOOK)
                memory.append(anonymous(pub.process.pid))
        seconds, computed = time.perf_counter() - began, cpu(pub.process.pid) - computed
        report.add("serve: event loop's longest pause", ms(pauses.longest()))
    assert all(reader.heads[each] == data.length(feed) for feed, each in enumerate(data.ids))
    total = data.count
    report.add(
        f"serve: {total:,} messages", f"{seconds:.1f} s, {total / seconds:,.0f}/s, {total / computed:,.0f}/CPU s"
    )
    report.add("serve: anonymous memory, at most", mib(max(memory)))


async def come_back(pub: Process, data: Mapped, name: str, clock: dict[str, int], report: Report) -> None:
    """A member with all these feeds connects again: how much is said, and how long does everybody else wait?"""
    with Pauses(pub.folder / "socket") as pauses:
        computed, began = cpu(pub.process.pid), time.perf_counter()
        async with dial(pub.port, pub.key, data.hub) as connection:
            session = Session(connection, clock)
            await session.greeted.wait()
            first, size, notes = time.perf_counter() - began, session.bytes, session.notes
            await until_silent(session)
        await trio.sleep(SETTLING)  # the session's end, and its clock on disk
        computed = cpu(pub.process.pid) - computed
        longest = pauses.longest()
    report.add(name, f"first frame after {ms(first)}: {notes:,} notes, {size / 1000:.0f} KB")
    report.add(
        f"{name}: all",
        f"{session.notes:,} notes, {session.bytes / 1000:.0f} KB, {session.messages} messages, "
        f"{ms(computed)} CPU, longest pause {ms(longest)}",
    )


async def come_back_often(pub: Process, data: Mapped, report: Report) -> None:
    """With all that it has to say, as after a first sync; then with what a client says that remembers the last time."""
    lengths = {each: encode_note(data.length(feed), False) for feed, each in enumerate(data.ids)}
    await come_back(pub, data, "member back, says all", lengths, report)
    await come_back(pub, data, "member back, says what is new", {data.ids[0]: lengths[data.ids[0]]}, report)
    await come_back(pub, data, "the same again", {data.ids[0]: lengths[data.ids[0]]}, report)


async def admit(pub: Process, data: Mapped, report: Report) -> None:
    """Everyone becomes a member."""
    with Pauses(pub.folder / "socket") as pauses:
        began, computed = time.perf_counter(), cpu(pub.process.pid)
        await invite_and_redeem(pub, *data.ids[1:])
        seconds, computed = time.perf_counter() - began, cpu(pub.process.pid) - computed
        count = len(data.ids) - 1
        report.add(
            f"{count:,} redemptions",
            f"{seconds:.1f} s, {count / seconds:,.0f}/s, {count / computed:,.0f}/CPU s, "
            f"longest pause {ms(pauses.longest())}",
        )


async def until_silent(session: Session) -> None:
    heard = -1
    while heard != session.bytes:
        heard = session.bytes
        await trio.sleep(0.5)


async def ask_commands(pub: Process, report: Report) -> None:
    with Pauses(pub.folder / "socket") as pauses:
        await trio.sleep(QUIET)
        report.add("at rest: event loop's longest pause", ms(pauses.longest()))
        for command in COMMANDS:
            began = time.perf_counter()
            await asked(pub, *command)
            took = time.perf_counter() - began
            report.add(f"ssb-pub {' '.join(command)}", f"{took:.2f} s, longest pause {ms(pauses.longest())}")


def ask_folder(folder: Path, report: Report) -> None:
    for command in COMMANDS[:2]:
        began = time.perf_counter()
        answer_of(folder, *command, "--json").check_returncode()
        report.add(f"ssb-pub {' '.join(command)} while no pub runs", f"{time.perf_counter() - began:.2f} s")


async def measure(folder: Path, data: Mapped, more: Mapped, report: Report) -> None:
    with started(folder / "empty", "empty store", report) as pub:
        await fill(pub, more, "into an empty store", report)
    data_folder = folder / "pub"
    with started(data_folder, "first start", report) as pub:
        await fill(pub, data, "fill", report)
    stored = disk(data_folder)
    report.add(
        "disk", f"{stored / 1e6:,.0f} MB, {stored / data.raw_bytes:.2f} of the messages' {data.raw_bytes / 1e6:,.0f} MB"
    )
    forget_cached(data_folder / "data.mdb")
    with started(data_folder, "cold start", report):
        pass
    ask_folder(data_folder, report)
    with started(data_folder, "warm start", report) as pub:
        await read_everything(pub, data, report)
        await come_back_often(pub, data, report)
        await fill(pub, more, "on top of everything", report)
        await admit(pub, data, report)
        await ask_commands(pub, report)
        report.add("anonymous memory in the end", mib(anonymous(pub.process.pid)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a pub bears many feeds and messages.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--feeds", type=int, default=20_000)
    parser.add_argument("--messages", type=int, default=100, help="of each feed")
    asked_for = parser.parse_args()
    report, folder = Report(), asked_for.folder
    shape = Shape(asked_for.feeds, asked_for.messages)
    assert shape != MORE, "what comes on top has to be news"
    for name in ("pub", "empty"):
        remove(folder / name)
    with Mapped(shape, folder) as data, Mapped(MORE, folder) as more:
        trio.run(measure, folder, data, more, report)


def forget_cached(path: Path) -> None:
    """Have the system forget what it keeps of a file in memory, as after a boot. Nobody may have it open."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """What a run before this one left."""
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


if __name__ == "__main__":
    main()
