"""What the pub wrote into its store, system call by system call, and what a crash of the machine may leave of that.

strace records every write and sync. Up to a sync all that was written before is on disk. Of what was written since, a
disk may have kept any part, in any order, in sectors of 512 bytes. LMDB writes the page that makes a commit valid
through a second descriptor, opened with O_DSYNC: such a write is on disk when it returns.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CALLS = "openat,lseek,write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,msync,ftruncate,fallocate"
STRACE = ("strace", "-D", "-f", "--seccomp-bpf", "-xx", "-s", str(1 << 24), "-e", f"trace={CALLS}")
ENDED = re.compile(r"^\d+ +\+\+\+ ", re.MULTILINE)
SECTOR = 512  # bytes that a disk writes whole or not at all

LINE = re.compile(r"(?P<thread>\d+) +(?P<text>.*)")
UNFINISHED = re.compile(r"(?P<text>.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<text>.*)")
CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
LAST_NUMBER = re.compile(r", (\d+)$")


class Write(NamedTuple):
    """Bytes that went into the file. ``is_commit``: through the descriptor that waits for the disk."""

    offset: int
    data: bytes
    is_commit: bool

    def sectors(self) -> Iterator["Write"]:
        start = 0
        while start < len(self.data):
            end = min(len(self.data), start + SECTOR - (self.offset + start) % SECTOR)
            yield Write(self.offset + start, self.data[start:end], self.is_commit)
            start = end


class Sync(NamedTuple):
    """All that was written before is on disk."""


Recorded = list[Write | Sync]


@dataclass(frozen=True, slots=True)
class State:
    """What a crash may have left, and how many commits have to be in it, at least and at the most."""

    name: str
    content: bytes
    least: int
    most: int


def strace_of(path: Path, output: Path) -> tuple[str, ...]:
    """The command that records what the command behind it writes to the file."""
    return (*STRACE, "-P", str(path), "-o", str(output))


def read_recording(lines: Iterable[str]) -> Recorded:
    """What happened to the file, in order. There is one writer, so no call begins while another is under way."""
    recorded: Recorded = []
    positions: dict[str, int] = {}
    waiting_for_disk: set[str] = set()
    for name, arguments, result in _calls(lines):
        descriptor = arguments.split(",")[0]
        if name == "openat":
            positions[str(result)] = 0
            (waiting_for_disk.add if "O_DSYNC" in arguments else waiting_for_disk.discard)(str(result))
        elif name == "lseek":
            positions[descriptor] = result
        elif name in ("fdatasync", "fsync"):
            recorded.append(Sync())
        else:
            data = bytes.fromhex("".join(TEXT.findall(arguments)).replace("\\x", ""))
            is_positioned = name.startswith("pwrite")
            assert name in ("write", "writev", "pwrite64", "pwritev"), f"{name} is not understood"
            assert result == len(data)
            offset = int(LAST_NUMBER.findall(arguments)[0]) if is_positioned else positions[descriptor]
            if not is_positioned:
                positions[descriptor] += result
            recorded.append(Write(offset, data, descriptor in waiting_for_disk))
    return recorded


def _calls(lines: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """(name, arguments, result) in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        if (found := LINE.match(line)) is None:
            continue
        thread, text = found["thread"], found["text"]
        if unfinished := UNFINISHED.match(text):
            begun[thread] = unfinished["text"]
            continue
        if resumed := RESUMED.match(text):
            text = begun.pop(thread) + resumed["text"]
        if call := CALL.match(text):
            yield call["name"], call["arguments"], int(call["result"])


def apply(content: bytearray, writes: Iterable[Write]) -> None:
    """Write into the file that ``content`` is."""
    for write in writes:
        content.extend(bytes(max(0, write.offset - len(content))))
        content[write.offset : write.offset + len(write.data)] = write.data


def after_each_commit(base: bytes, recorded: Recorded) -> Iterator[State]:
    """The file as it was to begin with, and after each commit, with nothing lost."""
    content, commits = bytearray(base), 0
    yield State("commit 0", base, 0, 0)
    for each in recorded:
        if isinstance(each, Write):
            apply(content, [each])
            if each.is_commit:
                commits += 1
                yield State(f"commit {commits}", bytes(content), commits, commits)


def crashes(base: bytes, recorded: Recorded, rng: random.Random, count: int) -> Iterator[State]:
    """About ``count`` states of the file after a crash: around every sync as far as that goes, and at random."""
    chosen = _moments(recorded, rng, count // 3)
    disk, pending, commits = bytearray(base), list[Write](), 0
    for number in range(len(recorded) + 1):
        under_way = recorded[number] if number < len(recorded) else Sync()
        if number in chosen:
            yield from _crashes_at(number, disk, pending, under_way, commits, rng)
        if isinstance(under_way, Sync):
            apply(disk, pending)
            pending = []
        elif under_way.is_commit:
            apply(disk, [under_way])
            commits += 1
        else:
            pending.append(under_way)


def _moments(recorded: Recorded, rng: random.Random, count: int) -> set[int]:
    syncs = [number for number, each in enumerate(recorded) if isinstance(each, Sync) or each.is_commit]
    around = [number + step for number in syncs for step in (0, 1)]
    others = sorted(set(range(len(recorded))) - set(around))
    near = rng.sample(around, min(len(around), 2 * count // 3))
    return {*near, *rng.sample(others, min(len(others), count - len(near))), len(recorded)}


def _crashes_at(
    number: int, disk: bytearray, pending: list[Write], under_way: Write | Sync, commits: int, rng: random.Random
) -> Iterator[State]:
    last = [under_way] if isinstance(under_way, Write) else []
    most = commits + any(write.is_commit for write in last)
    yield State(f"{number} in order", _with(disk, pending), commits, commits)
    sectors = [sector for write in last for sector in write.sectors()]
    yield State(f"{number} torn", _with(disk, [*pending, *sectors[: rng.randint(0, len(sectors))]]), commits, most)
    loose = [sector for write in (*pending, *last) for sector in write.sectors()]
    kept = rng.sample(loose, rng.randint(0, len(loose)))
    yield State(f"{number} reordered", _with(disk, kept), commits, most)


def _with(disk: bytearray, writes: Iterable[Write]) -> bytes:
    content = bytearray(disk)
    apply(content, writes)
    return bytes(content)
