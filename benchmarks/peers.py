"""What is measured: our pub, ssb-server 16, and the sink; each a process (with children) on a fresh data folder.

All three print one line of JSON when they are ready: id, address (multiserver) and an invite code of many uses. They
listen on 127.0.0.1 and write to the same disk.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pub.protocol.refs import feed_key

ROOT = Path(__file__).parents[1]
NODE_MODULES = ROOT / "tests" / "interop" / "classic" / "node_modules"
HOST = "127.0.0.1"
USES = 1000  # of the invite code: each load redeems it once or twice
MAX_CONNECTIONS = 12_000  # our own limit is 2,000, to fit small machines; ssb-server has none
START_SECONDS = 30
STOP_SECONDS = 20
LOG_CHARACTERS = 4000  # of the end of its log, when a load fails

OURS = "ours"
THEIRS = "theirs"
SINK = "sink"


def _ours(folder: Path) -> list[str]:
    address = ["--host", HOST, "--port", "0"]
    return [sys.executable, "-m", "pub.cli", "--data", str(folder), "run", "--json", *address]


def _theirs(folder: Path) -> list[str]:
    return ["node", str(ROOT / "benchmarks" / "ssb-server.js"), str(NODE_MODULES), str(folder), HOST, str(USES)]


def _sink(_folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.sink"]


COMMANDS = {OURS: _ours, THEIRS: _theirs, SINK: _sink}


@dataclass(frozen=True)
class Peer:
    """A running peer. ``key`` is its public key (32 bytes), ``pid`` its first process; only a new one has an invite."""

    kind: str
    folder: Path
    pid: int
    host: str
    port: int
    key: bytes
    invite: str

    @property
    def control(self) -> Path:
        """The operator's socket; ours only."""
        return self.folder / "socket"

    def to_json(self) -> str:
        """For a program of ours that talks to it."""
        return json.dumps(asdict(self) | {"folder": str(self.folder), "key": self.key.hex()})

    @classmethod
    def from_json(cls, text: str) -> "Peer":
        fields = json.loads(text)
        return cls(**fields | {"folder": Path(fields["folder"]), "key": bytes.fromhex(fields["key"])})

    @property
    def is_over(self) -> bool:
        """Has it ended, before its block?"""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def stop(self) -> None:
        """Let it end before its block does, so that another can run on its folder."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def start(kind: str, folder: Path) -> Iterator[Peer]:
    """A peer on an empty folder, ready; it and its folder are gone at the end of the block."""
    folder.mkdir(parents=True)
    with running(kind, folder) as peer:
        yield peer
    shutil.rmtree(folder)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Peer]:
    """A peer on a folder that may hold something, ready; it has ended when the block has."""
    log = folder.with_suffix(".log")
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            COMMANDS[kind](folder), stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, env=_environment()
        ) as process,
    ):
        try:
            yield _announced(kind, folder, process)
        except Exception as error:
            state = "still runs" if process.poll() is None else f"ended with {process.returncode}"
            error.add_note(f"{kind} {state} and wrote:\n{log.read_text()[-LOG_CHARACTERS:]}")
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    log.unlink(missing_ok=True)  # that of a pub which took over the folder is gone


def _announced(kind: str, folder: Path, process: subprocess.Popen[bytes]) -> Peer:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_SECONDS)[0]:
        raise RuntimeError(f"{kind} did not start within {START_SECONDS} s")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{kind} did not start")
    announced = json.loads(line)
    port = re.match(r"net:.*:(\d+)~shs:", announced["address"])
    assert port is not None
    return Peer(kind, folder, process.pid, HOST, int(port[1]), feed_key(announced["id"]), announced["invite"] or "")


def _environment() -> dict[str, str]:
    """Ours without settings of the person who measures, and with those that measuring needs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PUB_")}
    needed = {
        "PUB_INVITES_FIRST_USES": str(USES),
        "PUB_LIMITS_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
        "PUB_OPERATIONS_PORT": "0",
    }
    return clean | needed
