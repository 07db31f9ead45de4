"""The real pub under a supervisor that does what systemd does: whenever it has ended, the same command again.

Killed means SIGKILL to the pub alone: what becomes of its verifying processes, its lock and its socket is its business.
"""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pub.net.control import call
from tests.service.processes import ROOT, SSB_PUB, Process, all_end, environment, start_pub

STILLBORN = 0.15  # of all restarts are killed before the pub is ready
START_SECONDS = 0.6  # a start takes about so long


class Supervisor:
    """One data folder, and whichever process serves it now."""

    def __init__(self, folder: Path, rng: random.Random, program: tuple[str, ...] = SSB_PUB) -> None:
        self.folder = folder
        self.up = trio.Event()
        """The present process takes connections."""
        self.start_seconds: list[float] = []
        self.kills = 0
        self._down = trio.Event()
        self._rng = rng
        self._program = program
        self._flags = ("--host", "127.0.0.1", "--port", str(_free_port()))
        self._process: Process | None = None
        self._verifiers: list[int] = []
        self._is_stopping = False

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    async def ask(self, *name: str, args: list[Any] | None = None) -> Any:
        """A call over the control socket."""
        return await call(self.folder / "socket", name, args or [])

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it running until ``stop``; started when it is up for the first time."""
        while not self._is_stopping:
            with ExitStack() as stack:
                began = time.perf_counter()
                enter = partial(stack.enter_context, start_pub(self.folder, *self._flags, program=self._program))
                self._process = await trio.to_thread.run_sync(enter)
                self.start_seconds.append(time.perf_counter() - began)
                await self._inspect()
                self._down = trio.Event()
                self.up.set()
                if len(self.start_seconds) == 1:
                    task_status.started()
                code = await trio.to_thread.run_sync(self._process.process.wait, abandon_on_cancel=True)
            self.up = trio.Event()
            self._down.set()
            assert code == (0 if self._is_stopping else -signal.SIGKILL), f"it ended by itself with exit code {code}"
            while not self._is_stopping and self._rng.random() < STILLBORN:
                await self._start_in_vain()

    async def _inspect(self) -> None:
        """Everything that belonged to the process before is gone, or belongs to this one now."""
        assert (self.folder / "lock").read_text() == f"{self.process.process.pid}\n"
        assert (await self.ask("status"))["ready"] is True
        assert await trio.to_thread.run_sync(all_end, self._verifiers), "verifying processes outlived their pub"
        self._verifiers = self.process.children
        assert self._verifiers

    async def kill(self, fuse: Callable[[int], None]) -> None:
        """The process that is up dies when ``fuse``, called with its id beside our busy event loop, returns."""
        process = self.process.process

        def burn() -> None:
            fuse(process.pid)
            process.kill()

        await trio.to_thread.run_sync(burn, abandon_on_cancel=True)
        self.kills += 1
        await self._down.wait()

    async def _start_in_vain(self) -> None:
        """Between two lives there is one that never gets ready."""
        command = [*SSB_PUB, "--data", str(self.folder), "run", "--json", *self._flags]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=ROOT, env=environment())  # noqa: ASYNC220
        await trio.sleep(self._rng.uniform(0, START_SECONDS))
        process.kill()
        await trio.to_thread.run_sync(process.wait)
        self.kills += 1

    async def stop(self) -> None:
        """SIGTERM, after all that: a good end, and no life had a bug to report."""
        status = await self.ask("status")
        self._is_stopping = True
        assert await trio.to_thread.run_sync(self.process.end) == 0
        assert status["internal_errors"] == 0
        errors = {line["event"] for line in self.process.log if line["level"] not in ("debug", "info", "warning")}
        assert errors <= {"disk_full"}


def _free_port() -> int:
    """One that nobody has now: the pub comes back on the same port, so it can't be any free one each time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
