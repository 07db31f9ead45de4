"""What systemd hears from the pub, on sockets like its own."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pub.service.supervisor import keep_watchdog_quiet, notify, watchdog_seconds
from tests.service.processes import start_pub


@pytest.fixture(params=["file", "abstract"])
def ears(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The supervisor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify") if request.param == "file" else f"\0{tmp_path}")
        listening.settimeout(5)
        yield listening


def environ(ears: socket.socket) -> dict[str, str]:
    name = ears.getsockname()
    return {"NOTIFY_SOCKET": name if isinstance(name, str) else "@" + name[1:].decode()}


def test_a_word_arrives(ears: socket.socket) -> None:
    notify("READY=1", environ(ears))
    assert ears.recv(100) == b"READY=1"


def test_without_a_supervisor_nothing_is_said() -> None:
    notify("READY=1", {})


def test_a_supervisor_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # it watches another process
    ],
)
def test_signs_of_life_come_twice_as_often_as_asked(variables: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(variables) == seconds


async def test_signs_of_life_come_for_as_long_as_the_loop_turns(
    ears: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(95):
        await keep_watchdog_quiet({**environ(ears), "WATCHDOG_USEC": "60000000"})
    ears.setblocking(False)
    for _ in range(4):  # at 0, 30, 60 and 90 seconds
        assert ears.recv(100) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        ears.recv(100)


async def test_where_no_signs_are_asked_for_the_task_ends(ears: socket.socket) -> None:
    await keep_watchdog_quiet(environ(ears))
    ears.setblocking(False)
    with pytest.raises(BlockingIOError):
        ears.recv(100)


@pytest.mark.slow
def test_a_pub_says_when_it_is_ready_lives_and_stops(
    ears: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**environ(ears), "WATCHDOG_USEC": "60000000"}.items():
        monkeypatch.setenv(name, value)
    with start_pub(tmp_path / "pub") as pub:
        assert {ears.recv(100), ears.recv(100)} == {b"READY=1", b"WATCHDOG=1"}
        assert pub.end(signal.SIGTERM) == 0
        assert ears.recv(100) == b"STOPPING=1"
