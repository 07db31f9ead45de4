"""The longest pause of a pub's event loop, seen from outside: a process asks ``whoami`` every two milliseconds.

It runs on its own, so that a busy load generator adds nothing: ``with Pauses(socket) as pauses``; ``pauses.longest()``
is the longest time that an answer took since the last call of it, in seconds.
"""

import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pub.net.control import reachable
from pub.protocol.muxrpc import Kind, ReplyReceived, Session

INTERVAL = 0.002  # seconds between two questions: a pause is known that exactly


class Pauses:
    """See the file's text."""

    def __init__(self, control: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pauses", str(control)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.longest()  # the process has begun

    def longest(self) -> float:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends with that
        self._process.__exit__(kind, error, trace)


def main() -> None:
    session, longest = Session(), 0.0
    with socket.socket(socket.AF_UNIX) as control, reachable(Path(sys.argv[1])) as name:
        control.connect(name)
        while True:
            longest = max(longest, _ask(control, session))
            if select.select([sys.stdin], [], [], INTERVAL)[0]:
                if not sys.stdin.readline():
                    return
                sys.stdout.write(f"{longest}\n")
                sys.stdout.flush()
                longest = 0.0


def _ask(control: socket.socket, session: Session) -> float:
    began = time.perf_counter()
    _number, request = session.open(("whoami",), [], Kind.ASYNC)
    control.sendall(request)
    while True:
        session.receive_data(control.recv(1 << 16))
        while (event := session.next_event()) is not None:
            if isinstance(event, ReplyReceived):
                return time.perf_counter() - began


if __name__ == "__main__":
    main()
