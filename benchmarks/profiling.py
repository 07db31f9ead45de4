"""A profile: py-spy looks at the stacks of all the pub's processes while a load runs, a hundred times a second.

A sample counts for the innermost function of the pub on its stack, so what a library does counts for who called it, and
for the room that function lives in. The event loop's own work is a room of its own, and so is what Python does without
us. With ``--native`` the frames of C are looked through as well, where py-spy can read them. The figures of a run that
is looked at are worth nothing, and are not shown.

Stacks of other processes may be read by root, or where the kernel's ``ptrace_scope`` is 0; elsewhere there is none.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.dataset import FOLDER, DataSet
from benchmarks.fanout import gather
from benchmarks.ingest import prepare
from benchmarks.peers import OURS, Peer, start
from benchmarks.serve import serve_ebt

RATE = 100  # samples a second
SHOWN = 12  # functions of each load
STOP_SECONDS = 60
SERVED = 20  # times: serving everything once is over too soon
CLIENTS, PUBLISHED = 100, 100
LOOP = "unrolled_run"  # trio's, under which every task runs: above it there is nothing of the pub's own

_FRAME = re.compile(r"(?P<name>.+) \((?P<file>[^():]+)(?::\d+)?\)")

Shares = dict[str, float]
Profile = dict[str, dict[str, Shares]]  # load -> "rooms" and "functions" -> share of the samples


class NotPermitted(Exception):
    """py-spy is not there, or may not look at other processes."""


def profile(data: DataSet, native: bool = False) -> Profile:
    """Of each load on a fresh pub. Raises NotPermitted."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    profiles: Profile = {}
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, start(OURS, Path(folder) / "pub") as peer:
        delivery = prepare(peer, data)
        profiles["ingest"] = _looked_at(peer, native, delivery.run)
        delivery.close()
        profiles["serve"] = _looked_at(peer, native, lambda: [serve_ebt(peer, data) for _ in range(SERVED)])
        profiles["fan-out to 100"] = _looked_at(peer, native, gather(peer, CLIENTS, PUBLISHED).run)
    return profiles


def _looked_at(peer: Peer, native: bool, load: Callable[[], Any]) -> dict[str, Shares]:
    program = shutil.which("py-spy", path=Path(sys.executable).parent)
    if program is None:
        raise NotPermitted("py-spy is not installed")
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        options = ["--subprocesses", "--nonblocking", "--format=raw", f"--rate={RATE}", f"--output={stacks}"]
        command = [program, "record", f"--pid={peer.pid}", *options, *(["--native"] if native else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as looker:
            assert looker.stdout is not None
            if "Sampling" not in (said := looker.stdout.readline() + looker.stdout.readline()):
                raise NotPermitted(said + looker.stdout.read())
            load()
            looker.send_signal(signal.SIGINT)
            looker.communicate(timeout=STOP_SECONDS)
        return shares(stacks.read_text())


def shares(stacks: str) -> dict[str, Shares]:
    """Of each room and of each function, largest first; ``stacks`` are lines of ``outer;inner;innermost count``."""
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        room, function = _owner(stack.split(";"))
        rooms[room] += int(count)
        functions[function] += int(count)
    total = rooms.total()
    return {
        "rooms": {room: count / total for room, count in rooms.most_common()},
        "functions": {name: count / total for name, count in functions.most_common(SHOWN)},
    }


def _owner(stack: list[str]) -> tuple[str, str]:
    """The room and the function that a sample counts for."""
    frames = [(match["name"], Path(match["file"]).parts) for each in reversed(stack) if (match := _FRAME.search(each))]
    for name, parts in frames:
        if name == LOOP:
            return "event loop", "event loop"
        if "pub" in parts[:-1] and "site-packages" not in parts:
            inside = parts[len(parts) - parts[::-1].index("pub") - 1 :]
            room = inside[1].removesuffix(".py")
            return f"pub/{room}", f"{'/'.join(inside)}: {name}"
    return "Python itself", "Python itself"


def profile_table(profiles: Profile) -> str:
    """Markdown: the rooms of all loads side by side, then the functions of each."""
    return "\n".join([*_room_lines(profiles), *_function_lines(profiles)])


def _room_lines(profiles: Profile) -> Iterator[str]:
    rooms = dict.fromkeys(room for load in profiles.values() for room in load["rooms"])
    yield f"| room | {' | '.join(profiles)} |"
    yield f"| --- |{' ---: |' * len(profiles)}"
    for room in rooms:
        cells = [f"{load['rooms'].get(room, 0):.1%}" for load in profiles.values()]
        yield f"| {room} | {' | '.join(cells)} |"


def _function_lines(profiles: Profile) -> Iterator[str]:
    for name, load in profiles.items():
        yield f"\n| {name}: function | share |"
        yield "| --- | ---: |"
        for function, share in load["functions"].items():
            yield f"| `{function}` | {share:.1%} |"
