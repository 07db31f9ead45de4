"""A pub that stands still, breaks or meets a broken disk ends by itself, says why, and can be started again."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from pub.errors import ExitCode, OperatorError
from pub.ingest.verify import FEW_MESSAGES
from pub.net.control import ask
from pub.protocol.classic import Message
from pub.service import watchdog
from pub.service.watchdog import Watchdog
from pub.store.env import Store
from tests.service.people import Friend, dial, holder_of, person, write_feed
from tests.service.processes import LOCAL, STOP_LIMIT, Process, all_end, answer_of, start_pub

ALICE = person("alice")


def faulty(folder: Path, fault: str) -> AbstractContextManager[Process]:
    """A pub that answers ``whoami`` with this fault of ``faulty.py``."""
    return start_pub(folder, program=(sys.executable, "-m", "tests.service.faulty", fault))


def end_of(pub: Process) -> int:
    """The exit code, once the fault has broken out."""
    with suppress(OperatorError):
        ask(pub.folder / "socket", ("whoami",), [])
    return pub.process.wait(STOP_LIMIT)


def starts_again(pub: Process) -> bool:
    """Is all well after a restart?"""
    with start_pub(pub.folder) as again:
        assert ask(pub.folder / "socket", ("whoami",), []) == {"id": pub.announced["id"]}
        return again.end() == 0


def text_of(pub: Process) -> str:
    return pub.folder.with_suffix(".log").read_text()


def last_words(pub: Process) -> tuple[str, str]:
    """What stood still, and the stacks."""
    stacks, stalled = pub.log[-2:]
    assert (stacks["event"], stalled["event"], stalled["level"]) == ("stacks", "stalled", "critical")
    assert stalled["seconds"] > 0
    return stalled["what"], stacks["stack"]


def join_and_send(pub: Process) -> None:
    """Alice joins and sends more messages than are verified on the spot; until the pub is gone."""

    async def alice() -> None:
        with trio.fail_after(STOP_LIMIT):
            async with dial("127.0.0.1", pub.port, pub.key, holder_of(pub.announced["invite"])) as guest:
                await guest.call("invite", "use", args=[{"feed": ALICE.id}])
            async with dial("127.0.0.1", pub.port, pub.key, ALICE) as visitor:
                Friend(visitor, write_feed(ALICE, FEW_MESSAGES + 1)).has(ALICE.id, FEW_MESSAGES + 1)
                await visitor.gone.wait()

    trio.run(alice)


# --- what stands still ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["sleep", "spin"])
def test_an_event_loop_that_stands_still_ends_the_pub(tmp_path: Path, fault: str) -> None:
    with faulty(tmp_path / "pub", fault) as pub:
        workers = pub.children
        assert end_of(pub) == ExitCode.STALLED
    what, stacks = last_words(pub)
    assert what == "event loop"
    threads, _, tasks = stacks.partition(" × task ")
    assert f" {fault}\n" in threads
    assert "\n1 × task pub.service.upkeep.keep_house\n" in tasks
    assert all_end(workers)


@pytest.mark.slow
def test_a_writer_that_stands_still_ends_the_pub(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "writer") as pub:
        assert end_of(pub) == ExitCode.STALLED
    what, stacks = last_words(pub)
    assert what == "writer"
    assert " Ingest._commit\n" in stacks
    assert starts_again(pub)


@pytest.mark.slow
def test_a_verifier_that_stands_still_ends_the_pub(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "none") as pub:
        [worker] = pub.children
        os.kill(worker, signal.SIGSTOP)
        join_and_send(pub)
        assert pub.process.wait(STOP_LIMIT) == ExitCode.STALLED
        os.kill(worker, signal.SIGCONT)
    what, stacks = last_words(pub)
    assert what == "verifiers"
    assert " _Worker._receive_frame\n" in stacks
    assert all_end([worker])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["endless end", "endless break"])
def test_an_end_that_never_comes_is_forced(tmp_path: Path, fault: str) -> None:
    with faulty(tmp_path / "pub", fault) as pub:
        assert end_of(pub) == ExitCode.STALLED
    what, stacks = last_words(pub)
    assert what == "end"
    assert " Ingest._commit\n" in stacks
    assert any(line["event"] == "stopping" for line in pub.log) is (fault == "endless end")


@pytest.mark.slow
def test_a_thread_that_keeps_the_interpreter_lock_ends_the_pub(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "lock") as pub:
        assert end_of(pub) == -signal.SIGPROF
    assert "in keep_the_interpreter_lock" in text_of(pub)


@pytest.mark.slow
def test_a_log_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "log") as pub:
        assert end_of(pub) == ExitCode.STALLED
    assert "in hold_the_log" in text_of(pub)


@pytest.mark.slow
def test_a_process_that_is_stopped_for_a_while_does_not_stand_still(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "none") as pub:
        pub.process.send_signal(signal.SIGSTOP)
        time.sleep(2)  # every bound of this pub is a second
        pub.process.send_signal(signal.SIGCONT)
        assert ask(pub.folder / "socket", ("status",), [])["ready"] is True
        assert pub.end() == ExitCode.STOPPED
    assert all(line["level"] == "info" for line in pub.log)


# --- what breaks ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bug_in_the_core_ends_the_pub_with_all_that_went_wrong(tmp_path: Path) -> None:
    with faulty(tmp_path / "pub", "core") as pub:
        assert end_of(pub) == ExitCode.BUG
    line = pub.log[-1]
    assert (line["event"], line["level"]) == ("bug", "critical")
    assert "KeyError: 'planted here'" in line["exception"]
    assert "ValueError: planted there" in line["exception"]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "said"), [("disk", " cannot be used: "), ("damage", " is damaged: ")])
def test_a_store_that_breaks_while_the_pub_runs_is_a_sentence(tmp_path: Path, fault: str, said: str) -> None:
    with faulty(tmp_path / "pub", fault) as pub:
        assert end_of(pub) == ExitCode.STORE
    assert text_of(pub).splitlines()[-1].startswith("Error: the ")
    assert said in text_of(pub)
    assert "Traceback" not in text_of(pub)
    assert fault == "damage" or starts_again(pub)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, ExitCode.SYSTEM, "was killed (signal 9)"),
        (signal.SIGSEGV, ExitCode.BUG, "crashed: Segmentation fault (signal 11)"),
    ],
)
def test_a_verifying_process_that_dies_ends_the_pub(
    tmp_path: Path, number: signal.Signals, code: ExitCode, said: str
) -> None:
    with faulty(tmp_path / "pub", "none") as pub:
        [worker] = pub.children
        os.kill(worker, number)
        join_and_send(pub)
        assert pub.process.wait(STOP_LIMIT) == code
    assert f"verifying process {worker} {said}" in text_of(pub)


@pytest.mark.slow
def test_a_data_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    answer_of(tmp_path, "init")
    for damage, said in (
        (set_schema, "has schema version 99; this pub reads version 2"),
        (overwrite, "is damaged"),
        (misspell, "prot is no setting of the pub; did you mean"),
    ):
        damage(tmp_path)
        refused = answer_of(tmp_path, "run", *LOCAL)
        code = ExitCode.CONFIG if damage is misspell else ExitCode.STORE
        assert (refused.returncode, refused.stdout) == (code, "")
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


def set_schema(folder: Path) -> None:
    with Store.open(folder) as store:
        store.write(lambda txn: txn.put(b"schema", b"99", db=store.meta))


def overwrite(folder: Path) -> None:
    (folder / "data.mdb").write_bytes(b"\xff" * 65536)


def misspell(folder: Path) -> None:
    (folder / "config.yaml").write_text("network:\n  prot: 8008\n")


# --- what the watchdog sees ----------------------------------------------------------------------------------


async def test_the_stacks_show_every_task_and_those_alike_once(nursery: trio.Nursery) -> None:
    for _ in range(1000):
        nursery.start_soon(trio.sleep_forever)
    await trio.testing.wait_all_tasks_blocked()
    stacks = watchdog._stacks(trio.lowlevel.current_root_task())
    assert "\n1000 × task trio.sleep_forever\n" in stacks
    assert "thread MainThread\n" in stacks
    assert " test_the_stacks_show_every_task_and_those_alike_once\n" in stacks


async def test_what_is_under_way_is_noted_oldest_first(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    dog = Watchdog()
    ends = {name: trio.Event() for name in ("first", "second")}
    nursery.start_soon(dog.beat, 10)
    watched = dog.watch_verifier(Held(ends))
    notes = []
    nursery.start_soon(watched.verify, [b"first"])
    await trio.sleep(0.1)
    nursery.start_soon(watched.verify, [b"second"])
    for end in (*ends.values(), None):
        await trio.sleep(1.5)
        notes.append(dict(dog._notes))
        if end is not None:
            end.set()
    loop = [note[watchdog.LOOP] for note in notes]
    assert len(set(loop)) == len(loop)
    first, second, nothing = (note[watchdog.VERIFIERS] for note in notes)
    assert first is not None
    assert second is not None
    assert first < second
    assert nothing is None
    assert [note[watchdog.WRITER] for note in notes] == [None] * 3
    assert [note[watchdog.END] for note in notes] == [None] * 3


class Held:
    """A verifier that keeps each chunk until it may go on."""

    lanes = 2

    def __init__(self, ends: dict[str, trio.Event]) -> None:
        self._ends = ends

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        await self._ends[chunk[0].decode()].wait()
        return [None]
