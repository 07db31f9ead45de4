"""Real clients as objects: each is a node process that takes one JSON command per line (see client.js).

``async with open_client("classic", folder) as alice: await alice.call("publish", content)``. Calls may overlap;
each waits for its own answer. Leaving the block closes the client the way a person closes the application;
opening the same folder again is the same person coming back.
"""

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import trio

HERE = Path(__file__).parent
FAMILIES = ("classic", "db2")
START_LIMIT = 30.0  # seconds: node loads a few hundred files
CALL_LIMIT = 40.0  # longer than the client's own limit, whose message says more
CLOSE_LIMIT = 10.0


class ClientError(Exception):
    """The client answered a command with an error; the text is what its person would read."""


class Client:
    """One running client. ``feed`` is its identity."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self.feed = ""
        self._process = process
        self._log = log
        self._started = trio.Event()
        self._answers: dict[int, tuple[trio.Event, dict[str, Any]]] = {}
        self._last = 0

    async def call(self, command: str, *args: Any) -> Any:
        """Send one command and return its result. Raises ClientError with the client's own words."""
        self._last += 1
        answered, answer = self._answers[self._last] = (trio.Event(), {})
        line = json.dumps({"id": self._last, "command": command, "args": args}) + "\n"
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode())
        with trio.move_on_after(CALL_LIMIT):
            await answered.wait()
        if not answer:
            raise AssertionError(f"no answer to {command}\n{self._log.read_text()}")
        if "error" in answer:
            raise ClientError(answer["error"]["message"])
        return answer["result"]

    async def run(self) -> None:
        """Read answers until the process ends; then nobody waits any longer."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._receive(json.loads(line))
        for answered, _ in self._answers.values():
            answered.set()

    def _receive(self, line: dict[str, Any]) -> None:
        if "feed" in line:
            self.feed = line["feed"]
            self._started.set()
            return
        answered, answer = self._answers.pop(line["id"])
        answer.update(line)
        answered.set()

    async def wait_started(self) -> None:
        with trio.move_on_after(START_LIMIT):
            await self._started.wait()
        assert self.feed, f"the client did not start\n{self._log.read_text()}"

    async def close(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(CLOSE_LIMIT):
            await self._process.wait()


@contextlib.asynccontextmanager
async def open_client(
    kind: str, folder: Path, *, port: int | None = None, within: Sequence[str] = ()
) -> AsyncIterator[Client]:
    """A client of one family, or

    * ``legacy``: the classic one without EBT,
    * ``server``: ssb-server as a pub that listens on ``port``,
    * ``raw``: a bare muxrpc peer for calls that no client makes by itself,
    * ``crowd``: a peer that holds many feeds in memory and replicates them as it is told,
    * ``reader``: a peer that fetches feeds of any length, checks each message against the one before, and keeps none.

    ``within`` is a command that runs the client somewhere else, such as ``ip netns exec NAME``.
    """
    log = _log_in(folder)
    command = [*within, "node", str(HERE / "client.js"), "--kind", kind, "--dir", str(folder)]
    if port is not None:
        command += ["--port", str(port)]
    async with trio.open_nursery() as nursery:
        with log.open("ab") as stderr:
            process = await nursery.start(_start, command, stderr)
        client = Client(process, log)
        nursery.start_soon(client.run)
        try:
            await client.wait_started()
            yield client
            await client.close()
        finally:
            if process.returncode is None:
                process.kill()


def _log_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "stderr.log"


async def _start(command: list[str], stderr: Any, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, check=False, task_status=task_status
    )
