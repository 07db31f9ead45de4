"""The pub as a process of its own: what scripts, supervisors and kernels see of it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pub.protocol.refs import feed_key

ROOT = Path(__file__).parents[2]
SSB_PUB = (sys.executable, "-m", "pub.cli")
START_LIMIT = 10  # seconds; under one on a quiet machine
STOP_LIMIT = 20
LOCAL = ("--host", "127.0.0.1", "--port", "0")


@dataclass
class Process:
    """A running pub and what it announced."""

    process: subprocess.Popen[str]
    folder: Path
    announced: dict[str, Any]

    @property
    def key(self) -> bytes:
        return feed_key(self.announced["id"])

    @property
    def port(self) -> int:
        return int(self.announced["address"].partition("~")[0].rpartition(":")[2])

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines it wrote so far; one that is no JSON fails the test."""
        return [json.loads(line) for line in self.folder.with_suffix(".log").read_text().splitlines()]

    @property
    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def ask(self, *command: str) -> Any:
        """What a command of the command line answers in JSON."""
        return json.loads(answer_of(self.folder, *command, "--json").stdout)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_LIMIT)


@contextmanager
def start_pub(folder: Path, *flags: str, program: tuple[str, ...] = SSB_PUB) -> Iterator[Process]:
    """``ssb-pub run``, ready; killed at the end of the block if it still lives."""
    command = [*program, "--data", str(folder), "run", "--json", *(flags or LOCAL)]
    with (
        folder.with_suffix(".log").open("a") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment()
        ) as process,
    ):
        try:
            yield Process(process, folder, _announcement(process))
        finally:
            process.kill()


def _announcement(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], START_LIMIT)[0], f"not ready within {START_LIMIT} seconds"
    announced: dict[str, Any] = json.loads(process.stdout.readline())
    return announced


def answer_of(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the command line, run to its end."""
    command = [*SSB_PUB, "--data", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=STOP_LIMIT, check=False
    )


def environment() -> dict[str, str]:
    """Ours without settings of the person who runs the tests; several pubs can run at once."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PUB_")}
    return ours | {"PUB_OPERATIONS_PORT": "0"}


def is_alive(pid: int) -> bool:
    """Does the process still run? (One that nobody has waited for yet does not.)"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_end(pids: list[int], seconds: float = 5) -> bool:
    """Do these processes end by themselves within that time?"""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(is_alive, pids))
