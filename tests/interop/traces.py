"""Reads what strace saw of the pub: which system call began and ended when, on which socket or file."""

import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

# what LMDB may write and flush with, what trio sends and receives with, and who connects
CALLS = "fdatasync,fsync,msync,write,writev,pwrite64,pwritev,send,sendto,sendmsg,recvfrom,recvmsg,read,accept4"
SYNCS = frozenset({"fdatasync", "fsync", "msync"})
SENDS = frozenset({"write", "writev", "sendto", "sendmsg"})
RECEIVES = frozenset({"read", "recvfrom", "recvmsg"})

LINE = re.compile(r"(?P<thread>\d+) +(?P<time>[\d.]+) (?P<text>.*)")
WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)")
BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)")
TARGET = re.compile(r"\d+<(?P<target>TCP\w*:\[.*?\]|.*?)>")
DURATION = re.compile(r"<(?P<seconds>\d+\.\d+)>$")


@dataclass(frozen=True, slots=True)
class Call:
    """One finished system call. ``start`` and ``end`` are seconds since the epoch."""

    name: str
    target: str  # "TCP:[host:port->host:port]" or a path
    start: float
    end: float
    result: int
    rest: str  # what follows the result: for accept4 the new socket


def parse(lines: Iterable[str]) -> list[Call]:
    """Calls in the order in which they began; lines are those of ``strace -f -yy -ttt -T``."""
    begun: dict[str, tuple[float, str]] = {}
    calls: list[Call] = []
    for line in lines:
        if not (found := LINE.match(line)):
            continue
        thread, time, text = found["thread"], float(found["time"]), found["text"]
        if unfinished := BEGUN.match(text):
            begun[thread] = (time, unfinished["arguments"])
        elif (resumed := RESUMED.match(text)) and thread in begun:
            start, arguments = begun.pop(thread)
            calls.append(_call(resumed, arguments + resumed["arguments"], start))
        elif whole := WHOLE.match(text):
            calls.append(_call(whole, whole["arguments"], time))
    return sorted(calls, key=lambda call: call.start)


def _call(found: re.Match[str], arguments: str, start: float) -> Call:
    target = TARGET.match(arguments)
    took = DURATION.search(found["rest"])
    end = start + (float(took["seconds"]) if took else 0.0)
    return Call(found["name"], target["target"] if target else "", start, end, int(found["result"]), found["rest"])


def accepted_after(calls: list[Call], time: float) -> str:
    """The socket of the first connection that was accepted after this moment."""
    for call in calls:
        if call.name == "accept4" and call.result >= 0 and call.end > time:
            found = TARGET.search(f"{call.result}{call.rest}")
            assert found, call
            return found["target"]
    raise AssertionError(f"no connection was accepted after {time}")


def first(calls: list[Call], names: frozenset[str], target: str, after: float) -> Call:
    """The first such call on this socket that began after this moment and moved bytes."""
    for call in calls:
        if call.name in names and call.target == target and call.start > after and call.result > 0:
            return call
    raise AssertionError(f"no {sorted(names)} on {target} after {after}")


def is_committed_between(calls: list[Call], received: Call, answered: Call) -> bool:
    """Was the store flushed, all of it, after the one call had ended and before the other began?"""
    between = [call for call in calls if received.end < call.start < answered.start and ".mdb" in call.target]
    flushed = [call for call in between if call.name in SYNCS and call.result == 0]
    return bool(flushed) and all(call.end <= answered.start for call in between)


@contextlib.asynccontextmanager
async def traced(pid: int, output: Path) -> AsyncIterator[None]:
    """Attach strace to a running process and all its threads; detached when the block ends."""
    command = ["strace", "-f", "-yy", "-ttt", "-T", "-s", "16", "-e", f"trace={CALLS}", "-o", str(output)]
    process = await trio.lowlevel.open_process([*command, "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        said = b""
        while b"attached" not in said:
            more = await process.stderr.receive_some()
            assert more, f"strace did not attach: {said.decode()}"
            said += more
        yield
    finally:
        process.terminate()
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await process.wait()
