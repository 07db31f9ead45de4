"""The pub under test as its operator sees it: a process, a data folder and the command line.

Nothing here imports the pub. What the tests rely on is what scripts may rely on: ``run --json``, ``status --json``,
``invite create --json``, SIGTERM and the exit code.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).parents[2]
SSB_PUB = [sys.executable, "-c", "from pub.cli import main; main()"]  # what the installed command does
START_LIMIT = 15.0  # seconds; ready in one on a quiet machine
STOP_LIMIT = 15.0  # the grace that open connections get, and some


class Pub:
    """One data folder, and the process that serves it while it runs."""

    def __init__(self, folder: Path, nursery: trio.Nursery, settings: Mapping[str, Any], host: str) -> None:
        self.id = ""
        self.host = host
        self.port = 0
        self.data = folder / "data"
        self._log = folder / "pub.log"
        self._announced = folder / "announced.json"  # what `run` prints once the pub is ready
        self._nursery = nursery
        self._process: trio.Process | None = None
        self.data.mkdir(parents=True, exist_ok=True)
        if settings:
            (self.data / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML

    @property
    def address(self) -> str:
        """Where clients connect to under their own key, as a multiserver address."""
        return f"net:{self.host}:{self.port}~shs:{self.id[1:].removesuffix('.ed25519')}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def start(self) -> None:
        """Start the pub, on the port of its first start when this is a restart; return when it is ready."""
        self._announced.unlink(missing_ok=True)
        command = self._command("run", "--host", self.host, "--port", str(self.port), "--json")
        with self._log.open("ab") as log, self._announced.open("wb") as announced:
            self._process = await self._nursery.start(_start, command, announced, log)
        with trio.move_on_after(START_LIMIT):
            while not (line := self._announced.read_text()).endswith("\n"):
                assert self._process.returncode is None, self.log
                await trio.sleep(0.05)
            started = json.loads(line)
            self.id = started["id"]
            self.port = int(started["address"].split("~")[0].rpartition(":")[2])
            return
        raise AssertionError(f"the pub was not ready within {START_LIMIT} s\n{self.log}")

    async def stop(self) -> None:
        """SIGTERM, as systemd and containers do it; the pub had no bug to report and ends with 0."""
        assert self._process is not None
        status = await self.status()
        assert status["internal_errors"] == 0, self.log
        self._process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_LIMIT):
            await self._process.wait()
        assert self._process.returncode == 0, f"exit code {self._process.returncode}\n{self.log}"
        assert "Traceback" not in self.log, self.log

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = await self.json("status")
        return status

    async def feeds(self, *flags: str) -> dict[str, dict[str, Any]]:
        """The stored feeds by id, as ``feeds --json`` shows them."""
        return {feed["id"]: feed for feed in await self.json("feeds", *flags)}

    async def sequence(self, feed: str) -> int:
        """How much of a feed the pub has."""
        stored = (await self.feeds()).get(feed)
        return int(stored["sequence"]) if stored else 0

    async def connected(self, feed: str) -> list[dict[str, Any]]:
        """The connections of one identity, as ``peers --json`` shows them, the oldest first."""
        return [peer for peer in (await self.json("peers"))["connected"] if peer["id"] == feed]

    async def create_invite(self, uses: int = 1, **options: str) -> dict[str, Any]:
        """The answer of ``invite create``; ``["code"]`` is what people paste into their client."""
        flags = [text for name, value in options.items() for text in (f"--{name}", value)]
        created: dict[str, Any] = await self.json("invite", "create", "--uses", str(uses), *flags)
        return created

    async def invite(self, uses: int = 1) -> str:
        return str((await self.create_invite(uses))["code"])

    async def revoked_invite(self) -> str:
        code = await self.invite()
        await self.json("invite", "revoke", code)
        return code

    async def expired_invite(self) -> str:
        code = str((await self.create_invite(expires="1s"))["code"])
        await trio.sleep(1.1)  # the pub's clock is the machine's: nothing to fake from out here
        return code

    async def json(self, *arguments: str) -> Any:
        """Run one command of the command line and return what it prints."""
        finished = await trio.run_process(
            self._command(*arguments, "--json"),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=ROOT,
            env=_environment(),
        )
        assert finished.returncode == 0, finished.stderr.decode()
        return json.loads(finished.stdout)

    def _command(self, *arguments: str) -> list[str]:
        return [*SSB_PUB, "--data", str(self.data), *arguments]


@contextlib.asynccontextmanager
async def open_pub(folder: Path, host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[Pub]:
    """A fresh, running pub; leaving the block stops it and asserts that it ended well.

    ``settings`` are the sections of its settings file: ``open_pub(folder, replication={"hops": 4})``.
    """
    async with trio.open_nursery() as nursery:
        pub = Pub(folder, nursery, settings, host)
        try:
            await pub.start()
            yield pub
            await pub.stop()
        finally:
            pub.kill()


def _environment() -> dict[str, str]:
    """Ours without settings of the person who runs the tests; several pubs run at once."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PUB_")}
    return ours | {"PUB_OPERATIONS_PORT": "0"}


async def _start(command: list[str], announced: Any, log: Any, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=announced,
        stderr=log,
        check=False,
        cwd=ROOT,
        env=_environment(),
        task_status=task_status,
    )
