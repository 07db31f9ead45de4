"""The life of the process, from the start to an end that is never violent on our side."""

import faulthandler
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from pub.config import Limits, Settings
from pub.errors import CannotListen, ExitCode, StoreError, StoreLocked, VerifierKilled, leaves
from pub.net.control import PubNotRunning
from pub.net.limbo import MAX_HELD
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import Kind
from pub.service import Started, life, main, prepare
from pub.service.watchdog import Watchdog
from pub.store.env import Store
from tests.service.people import WORLD, Friend, dial, holder_of, open_pub, person, settings_of, stored, write_feed
from tests.service.processes import LOCAL, STOP_LIMIT, all_end, answer_of, is_alive, start_pub

ALICE = person("alice")
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def quiet_main(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``main`` in this process, without what it sets for the whole of one."""
    monkeypatch.setattr(life, "configure", lambda *_: None)
    monkeypatch.setattr(life, "World", lambda: replace(WORLD, watchdog=Watchdog()))
    monkeypatch.setattr(faulthandler, "enable", lambda _: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def end_with(number: signal.Signals, _started: Started) -> None:
    os.kill(os.getpid(), number)


# --- main, in this process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("quiet_main")
def test_a_signal_in_the_moment_of_readiness_is_a_good_end(tmp_path: Path, number: signal.Signals) -> None:
    with structlog.testing.capture_logs() as lines:
        assert main(settings_of(tmp_path), partial(end_with, number)) == 0
    assert [line["event"] for line in lines] == ["ready", "stopping", "stopped"]
    assert lines[1]["signal"] == number.name


@pytest.mark.usefixtures("quiet_main")
def test_a_second_signal_does_not_make_the_end_violent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare_slowly(settings: Settings, *world: Any) -> KeyPair:
        os.kill(os.getpid(), signal.SIGTERM)  # during the start
        return prepare(settings, *world)

    def end_twice(_started: Started) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(life, "prepare", prepare_slowly)
    assert main(settings_of(tmp_path), end_twice) == 0


@pytest.mark.usefixtures("quiet_main")
def test_what_the_operator_can_mend_comes_out_bare(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = {"network.port": taken.getsockname()[1]}
        with pytest.raises(CannotListen, match="Address already in use"):
            main(settings_of(tmp_path, flags), partial(end_with, signal.SIGTERM))
    with Store.open(tmp_path), pytest.raises(StoreLocked, match=f"in use by process {os.getpid()}"):
        main(settings_of(tmp_path), partial(end_with, signal.SIGTERM))


@pytest.mark.usefixtures("quiet_main")
def test_a_bug_is_logged_even_beside_an_operators_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [StoreError("the disk"), KeyError("planted")]
    monkeypatch.setattr(life, "run", partial(fail, faults))
    with structlog.testing.capture_logs() as lines:
        assert main(settings_of(tmp_path), partial(end_with, signal.SIGTERM)) == ExitCode.BUG
    [line] = lines
    assert line["event"] == "bug"
    assert list(leaves(line["exc_info"])) == faults


@pytest.mark.usefixtures("quiet_main")
def test_of_several_faults_of_the_operator_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "run", partial(fail, [StoreError("the disk"), VerifierKilled("the memory")]))
    with structlog.testing.capture_logs() as lines, pytest.raises(StoreError, match="the disk"):
        main(settings_of(tmp_path), partial(end_with, signal.SIGTERM))
    assert [(line["event"], line["reason"]) for line in lines] == [("failed_as_well", "the memory")]


async def fail(faults: list[Exception], *_arguments: object) -> None:
    raise ExceptionGroup("all", faults)


async def test_a_failing_disk_ends_the_pub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise StoreError("input/output error")

    with pytest.RaisesGroup(StoreError, flatten_subgroups=True):
        async with open_pub(tmp_path) as pub:
            monkeypatch.setattr(Store, "write", broken)
            with suppress(PubNotRunning):
                await pub.ask("invite", "create", args=[1])


def test_there_are_file_descriptors_for_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, asked = Limits(), list[tuple[int, int]]()
    needed = limits.max_connections + limits.max_unauthenticated + MAX_HELD + life.OTHER_DESCRIPTORS
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, pair: asked.append(pair))
    events = []
    for soft, hard in [(1024, 524288), (1024, 2000), (1024, resource.RLIM_INFINITY), (65536, 65536)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, pair=(soft, hard): pair)
        with structlog.testing.capture_logs() as lines:
            life._allow_descriptors(limits)
        events.append([line["event"] for line in lines])
    assert asked == [(needed, 524288), (2000, 2000), (needed, resource.RLIM_INFINITY)]
    assert events == [[], ["few_file_descriptors"], [], []]


async def test_those_who_are_connected_get_a_goodbye(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, pub.visited_by(ALICE) as visitor:
        Friend(visitor, [])
        assert not visitor.failures
        pub.stop.set()
        await visitor.gone.wait()
        assert visitor.failures == []  # not a hang-up


async def test_who_does_not_take_the_goodbye_holds_us_up_for_the_grace_only(tmp_path: Path) -> None:
    flags = {"limits.grace_seconds": 0.1, "limits.handshake_seconds": 60}
    async with open_pub(tmp_path, flags) as pub, await trio.open_tcp_stream("127.0.0.1", pub.port) as mute:
        await trio.testing.wait_all_tasks_blocked(0.01)
        pub.stop.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()}, which is stopping"):
            Store.open(tmp_path, readonly=True)  # as commands do when nobody listens any more
        assert await mute.receive_some(1) == b""


# --- a process of its own ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_start_and_the_second(tmp_path: Path) -> None:
    folder = tmp_path / "pub"
    began = time.monotonic()
    with start_pub(folder) as pub:
        assert time.monotonic() - began < 10
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert "\n  #port: 8008\n" in (folder / "config.yaml").read_text()
        assert pub.announced["invite"].startswith(f"127.0.0.1:{pub.port}:{pub.announced['id']}~")
        assert "local only" in pub.announced["notes"][0]
        status = pub.ask("status")
        assert (status["id"], status["address"]) == (pub.announced["id"], pub.announced["address"])
        assert (status["ready"], status["internal_errors"], status["messages"]) == (True, 0, 1)
        assert pub.end() == 0
    with start_pub(folder, "--host", "", "--port", "0", "--address-host", "pub.example.org") as again:
        assert again.announced["id"] == pub.announced["id"]
        assert again.announced["invite"] is None
        assert again.announced["address"].startswith("net:pub.example.org:")
        assert len(again.ask("invite", "list")) == 1
        assert again.end() == 0
    assert all(line["level"] == "info" for line in again.log)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_messages_come_in_loses_none_that_was_handed_on(tmp_path: Path, number: signal.Signals) -> None:
    feed = write_feed(ALICE, 5000)

    async def join_and_send() -> int:
        with trio.fail_after(30):
            async with dial("127.0.0.1", pub.port, pub.key, holder_of(pub.announced["invite"])) as guest:
                await guest.call("invite", "use", args=[{"feed": ALICE.id}])
            async with (
                dial("127.0.0.1", pub.port, pub.key, person("bob")) as bob,
                dial("127.0.0.1", pub.port, pub.key, ALICE) as alice,
            ):
                reader, writer = Friend(bob, []), Friend(alice, feed)
                reader.has(ALICE.id, 0)
                writer.has(ALICE.id, len(feed))
                await reader.wait_for(lambda: reader.received > 100)
                pub.process.send_signal(number)
                await bob.gone.wait()
                return reader.received

    with start_pub(tmp_path / "pub") as pub:
        workers = pub.children
        handed_on = trio.run(join_and_send)
        assert pub.process.wait(STOP_LIMIT) == 0
    assert all_end(workers)
    kept = stored(tmp_path / "pub", ALICE.public)
    assert 100 < handed_on <= len(kept)
    assert kept == [message.encoded for message in feed[: len(kept)]]
    assert [line for line in pub.log if line["level"] != "info"] == []


@pytest.mark.slow
def test_one_pub_in_one_folder_and_on_one_port(tmp_path: Path) -> None:
    with start_pub(tmp_path / "pub") as pub:
        second = answer_of(tmp_path / "pub", "run", *LOCAL)
        assert (second.returncode, second.stdout) == (74, "")
        assert f"in use by process {pub.process.pid}" in second.stderr
        port = str(pub.port)
        other = answer_of(tmp_path / "other", "run", "--host", "127.0.0.1", "--port", port)
        assert (other.returncode, other.stdout) == (69, "")
        assert other.stderr.splitlines()[-1] == f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use"
        assert pub.ask("status")["ready"] is True  # none of this hurt the first
        assert pub.end() == 0


@pytest.mark.slow
def test_a_pub_that_is_killed_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    with start_pub(tmp_path / "pub") as pub:
        workers = pub.children
        assert workers
        assert all(map(is_alive, workers))
        assert pub.end(signal.SIGKILL) == -signal.SIGKILL
    assert all_end(workers)
    assert (tmp_path / "pub" / "socket").exists()
    assert answer_of(tmp_path / "pub", "whoami").stdout.strip() == pub.announced["id"]
    with start_pub(tmp_path / "pub") as again:
        assert again.ask("whoami") == {"id": pub.announced["id"]}
        assert again.end() == 0


@pytest.mark.slow
def test_a_bug_in_a_handler_is_one_internal_error_and_the_pub_lives(tmp_path: Path) -> None:
    bug = (
        "from dataclasses import replace; from pub.service.wiring import METHODS; from pub.cli import main;"
        "METHODS['gossip', 'ping'] = replace(METHODS['gossip', 'ping'], handler=lambda *_: {}['planted']);"
        "main()"
    )

    async def ping() -> None:
        async with dial("127.0.0.1", pub.port, pub.key, ALICE) as visitor:
            visitor.connection.open_stream(("gossip", "ping"), [{}], Kind.DUPLEX)
            await visitor.gone.wait()

    with start_pub(tmp_path / "pub", program=(sys.executable, "-c", bug)) as pub:
        trio.run(ping)
        assert pub.ask("status")["internal_errors"] == 1
        [line] = [line for line in pub.log if line["event"] == "internal_error"]
        assert "KeyError: 'planted'" in line["exception"]
        assert pub.end() == 0
