"""A real pub under odd peers: its process, two members who talk through it all the while, and what one case cost it.

``House.watched`` is around every case. When the block is over, the pub must live, have no bug counted and none in its
log, have as many files open as before, have grown by no more memory than the case may cost (anonymous memory of all its
processes, at the worst moment), have written no more lines than an operator would read, and each message that one
member published meanwhile must have reached the other within ``IN_TIME`` seconds.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from pub.net.control import call
from pub.protocol.keys import KeyPair
from tests.service.processes import ROOT, Process, environment, start_pub

IN_TIME = 1.0  # seconds from one member to the other, whatever is going on
# The machine that runs the tests may stop for a moment; the pub may not. A beat is 0.1 s: one late message means that
# something stood still for little over a second, two in a row would be a second and more of standing still twice.
FORGIVEN = 1
PATIENCE = 10  # seconds until something that hangs fails the test
MEMORY = 32 << 20  # bytes that a case may cost, unless it says why it costs more
FOREVER = 64 << 20  # bytes that all cases together may leave behind
LINES = 20  # of the log, per case
SAMPLE_SECONDS = 0.02

HANDSHAKE_SECONDS = 1  # and so long is held what comes to nothing

SETTINGS = f"""
limits:
  handshake_seconds: {HANDSHAKE_SECONDS}
invites:
  first_uses: 0
log:
  format: json
"""


@dataclass
class Beats:
    """What the members' process says: when a message was published, and how long it took to the other member."""

    process: subprocess.Popen[str]
    said: list[tuple[float, float]] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            beat = json.loads(line)
            self.said.append((beat["said"], beat["seconds"]))

    async def wait_after(self, moment: float) -> None:
        """Until a message that was said after ``moment`` has arrived."""
        deadline = time.monotonic() + PATIENCE
        while not (self.said and self.said[-1][0] > moment):
            assert self.process.poll() is None, "the members lost their pub"
            assert time.monotonic() < deadline, f"nothing has arrived at a member for {PATIENCE} seconds"
            await trio.sleep(0.01)

    def late(self, since: float) -> list[float]:
        """How long each late message took."""
        return [seconds for said, seconds in list(self.said) if said >= since and seconds > IN_TIME]


@dataclass
class Peak:
    """The most anonymous memory that was seen."""

    process: Process
    bytes: int = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(SAMPLE_SECONDS):
                self.bytes = max(self.bytes, anonymous(self.process))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@dataclass
class House:
    """The pub, with its two members inside."""

    pub: Process
    beats: Beats

    @property
    def key(self) -> bytes:
        return self.pub.key

    async def ask(self, *name: str, args: list[Any] | None = None) -> Any:
        return await call(self.pub.folder / "socket", name, args or [])

    async def limit_hits(self, name: str) -> int:
        hits: dict[str, int] = (await self.ask("status"))["limit_hits"]
        return hits.get(name, 0)

    async def wait_for_head(self, keys: KeyPair, sequence: int, patience: float = PATIENCE) -> None:
        """Until this is the pub's last message of that feed."""
        deadline = time.monotonic() + patience
        while not any((each["id"], each["sequence"]) == (keys.id, sequence) for each in await self.ask("feeds")):
            assert time.monotonic() < deadline, f"message {sequence} was not stored"
            await trio.sleep(0.01)

    @asynccontextmanager
    async def watched(
        self, memory: int = MEMORY, lines: int = LINES, alarms: tuple[str, ...] = ()
    ) -> AsyncIterator[None]:
        """See the file's text. ``memory`` in bytes; ``alarms`` are events that an operator must hear of."""
        began, before, files = time.monotonic(), anonymous(self.pub), open_files(self.pub)
        read, peak = len(self.pub.log), Peak(self.pub)
        with peak.watched(), trio.fail_after(6 * PATIENCE):
            yield
            await self.beats.wait_after(time.monotonic())
            await self._wait_until_closed(files)
        assert self.pub.process.poll() is None, "the pub has died"
        assert (await self.ask("status"))["internal_errors"] == 0
        assert_quiet(self.pub.log[read:], lines, alarms)
        assert len(late := self.beats.late(began)) <= FORGIVEN, f"messages of a member took {late} seconds"
        assert peak.bytes - before < memory, f"grew by {(peak.bytes - before) >> 20} MB at the worst moment"

    async def _wait_until_closed(self, files: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while (now := open_files(self.pub)) > files:
            assert time.monotonic() < deadline, f"{now} files are open, {files} were"
            await trio.sleep(0.01)


def assert_quiet(lines: list[dict[str, Any]], most: int, alarms: tuple[str, ...]) -> None:
    """Nothing that an operator would have to look into, and not so much that they would not."""
    loud = [line["event"] for line in lines if line["level"] not in ("debug", "info")]
    assert [event for event in loud if event not in (*alarms, "repeats_suppressed")] == []
    assert len(lines) <= most, f"{len(lines)} lines in the log, such as {lines[:3]}"


def anonymous(pub: Process) -> int:
    """Bytes of memory that no file backs, of all the pub's processes."""
    return sum(map(_anonymous, [pub.process.pid, *pub.children]))


def _anonymous(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def open_files(pub: Process) -> int:
    return len(list(Path(f"/proc/{pub.process.pid}/fd").iterdir()))


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """A pub with its members; at the end it stops in peace, and has kept nothing of all the odd peers."""
    folder.mkdir()
    (folder / "config.yaml").write_text(SETTINGS)
    with start_pub(folder) as pub, _open_members(pub) as beats:
        trio.run(beats.wait_after, 0.0)
        before = anonymous(pub)
        yield House(pub, beats)
        assert (left := anonymous(pub) - before) < FOREVER, f"odd peers left {left >> 20} MB behind"
        beats.process.kill()
        assert pub.end() == 0
        assert [line["event"] for line in pub.log if line["event"] != "repeats_suppressed"][-1] == "stopped"


@contextmanager
def _open_members(pub: Process) -> Iterator[Beats]:
    arguments = [str(pub.folder / "socket"), pub.announced["id"], str(pub.port)]
    command = [sys.executable, "-m", "tests.odd.members", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        beats = Beats(process)
        thread = threading.Thread(target=beats.read)
        thread.start()
        try:
            yield beats
        finally:
            process.kill()
            thread.join()
