"""Other people, each group of them in a process of its own, while something is measured.

    with others(peer, "pull", shape) as crowd:   # the process has prepared itself
        crowd.go()                               # now it does what it is there for, until …
        ...
        said = crowd.stop()                      # … it is told to stop: what it did, and what it used

What they can do is in ``PEOPLE`` (crowds.py and hostile.py). One who finds that the pub did not do its part says so,
and ``stop`` raises LoadFailed.

    python -m benchmarks.others WHAT PEER SHAPE FOLDER
"""

import json
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks import crowds, hostile
from benchmarks.connection import LoadFailed
from benchmarks.dataset import FOLDER, DataSet, Shape, load
from benchmarks.meter import raise_descriptor_limit
from benchmarks.peers import ROOT, Peer

READY_SECONDS = 120  # a data set may have to be read, and a pub to come to rest
STOP_SECONDS = 300  # what was begun is finished: five pulls of 100,000 messages by ssb-server, for one

Said = dict[str, Any]
Work = Callable[[threading.Event], Said]
PEOPLE: dict[str, Callable[[Peer, DataSet], Work]] = {**crowds.PEOPLE, **hostile.PEOPLE}


class Others:
    """One such process: see the file's text."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line(READY_SECONDS)

    def go(self) -> None:
        self._say("go")

    @property
    def is_busy(self) -> bool:
        """Has it more to do?"""
        return not self._has_spoken(0)

    def stop(self) -> Said:
        """Let it finish what it began; what it says, with ``cpu`` (seconds). Raises LoadFailed."""
        self._say("stop")
        said: Said = json.loads(self._line(STOP_SECONDS))
        if "failed" in said:
            raise LoadFailed(said["failed"])
        return said

    def _has_spoken(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _line(self, seconds: float) -> str:
        if not self._has_spoken(seconds):
            raise LoadFailed(f"other people said nothing for {seconds} s")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed("other people gave up")
        return line


@contextmanager
def others(peer: Peer, what: str, shape: Shape, folder: Path = FOLDER) -> Iterator[Others]:
    """A process of them, ready; it is gone at the end of the block."""
    command = [sys.executable, "-m", "benchmarks.others", what, peer.to_json(), json.dumps(asdict(shape)), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Others(process)
        finally:
            process.kill()


def main() -> None:
    what, peer, shape, folder = sys.argv[1:]
    raise_descriptor_limit()
    work = PEOPLE[what](Peer.from_json(peer), load(Shape(**json.loads(shape)), Path(folder)))
    stopped = threading.Event()
    _tell("ready")
    sys.stdin.readline()
    threading.Thread(target=_listen, args=[stopped], daemon=True).start()
    start = process_time()
    try:
        said = work(stopped)
    except LoadFailed as failure:
        said = {"failed": str(failure)}
    _tell(json.dumps(said | {"cpu": process_time() - start}))


def _listen(stopped: threading.Event) -> None:
    sys.stdin.readline()
    stopped.set()


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
