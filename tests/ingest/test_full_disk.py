"""A disk that is full, and one that is broken. A limit on file sizes fails the same writes as a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
import trio
import trio.testing

from pub.errors import RpcError, StoreError, StoringStopped
from pub.ingest import disk
from pub.ingest.batch import NotStored
from pub.store.log import Appender, Changes
from tests.ingest.people import Author, Closed, Desk, MakeDesk, encoded

ALICE = 7  # the number the submissions give her feed
POST = {"type": "post", "text": "hello"}
PAGE = 4096
PAGE_FLAGS = 10  # where LMDB says what kind of page it is


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.01)


@contextmanager
def full_disk(desk: Desk) -> Iterator[None]:
    """No file of this process gets larger than the store is now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (desk.store.folder / "data.mdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def wait_for_room(desk: Desk) -> None:
    has_room = trio.Event()
    desk.ingest.disk.watchers.append(has_room.set)
    if desk.ingest.disk.full is not None:
        await has_room.wait()


def large(author: Author, count: int) -> None:
    for _ in range(count):
        author.write("x" * 7000)


def damage_page_with(text: bytes, desk: Desk) -> None:
    """The page on disk that holds ``text`` is neither branch nor leaf any more."""
    path = desk.store.folder / "data.mdb"
    start = path.read_bytes().index(text) // PAGE * PAGE
    with path.open("r+b") as file:
        file.seek(start + PAGE_FLAGS)
        file.write(b"\xff\x00")


async def test_what_does_not_fit_is_refused_and_taken_when_there_is_room(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    large(alice, 20)
    watched: list[Changes] = []
    told: list[str | None] = []
    async with desk.running():
        first = await desk.ingest.publish(POST)
        desk.ingest.watchers.append(watched.append)
        desk.ingest.disk.watchers.append(lambda: told.append(desk.ingest.disk.full))
        with structlog.testing.capture_logs() as lines, full_disk(desk):
            for _ in range(3):
                await desk.settle(alice.messages, ALICE)
                desk.log.message_count = 1  # what `settle` counts with
            reason = desk.ingest.disk.full or ""
            assert reason.startswith(f"no room left for the data folder {desk.store.folder}")
            assert desk.refused == [(ALICE, n, NotStored.DISK_FULL, reason) for n in range(1, 21)] * 3
            assert desk.received("disk_full") == 60
            assert watched == []
            await trio.sleep(5 * disk.LOOK_SECONDS)
            assert desk.ingest.disk.full is not None
        await wait_for_room(desk)
        await desk.settle(alice.messages, ALICE)
    assert [line["event"] for line in lines] == ["disk_full"]
    assert told == [reason, None]
    assert desk.metrics.value("full_disks_total") == 1
    assert desk.stored(alice) == encoded(alice.messages)
    assert desk.stored(desk.pub) == [first.encoded]


async def test_a_job_on_a_full_disk_is_refused_and_leaves_nothing(make_desk: MakeDesk) -> None:
    desk = make_desk()

    def spend(appender: Appender) -> None:
        appender.txn.put(b"spent", bytes(1 << 20), db=desk.store.meta)
        desk.ingest.append_own(appender, POST)

    async with desk.running():
        with full_disk(desk):
            with pytest.raises(StoringStopped) as refusal:
                await desk.ingest.write(spend)
            assert isinstance(refusal.value, RpcError)
            assert str(desk.store.folder) not in refusal.value.message
        assert desk.stored(desk.pub) == []
        await desk.ingest.write(spend)
    assert len(desk.stored(desk.pub)) == 1


async def test_what_was_handed_in_behind_it_is_refused_for_the_same_reason(make_desk: MakeDesk) -> None:
    """Else the next message of a feed would fit, seem to be a gap, and be held against its sender."""
    verifier = Closed(lanes=4)
    desk, alice = make_desk(verifier), Author("alice")
    large(alice, 40)
    async with desk.running():
        await desk.submit(alice.messages[:20], ALICE)
        await trio.testing.wait_all_tasks_blocked()
        await desk.submit(alice.messages[20:30], ALICE)
        await trio.testing.wait_all_tasks_blocked()
        with full_disk(desk):
            desk.ingest.watchers.append(lambda _changes: pytest.fail("nothing fits"))
            await desk.submit(alice.messages[30:39], ALICE)
            verifier.opened.set()
            while len(desk.refused) < 39:
                await trio.lowlevel.checkpoint()
        desk.ingest.watchers.clear()
        assert [refusal[1:3] for refusal in desk.refused] == [(n, NotStored.DISK_FULL) for n in range(1, 40)]
        assert desk.ingest.held_bytes == 0
        await wait_for_room(desk)
        await desk.settle(alice.messages, ALICE)
    assert desk.stored(alice) == encoded(alice.messages)


async def test_who_waits_at_the_valve_is_refused_too(make_desk: MakeDesk) -> None:
    verifier = Closed()
    desk, alice = make_desk(verifier, max_bytes=100_000), Author("alice")
    large(alice, 20)
    async with desk.running(), trio.open_nursery() as nursery:
        await desk.submit(alice.messages[:13], ALICE)
        nursery.start_soon(desk.submit, alice.messages[13:], ALICE)
        await trio.testing.wait_all_tasks_blocked()
        with full_disk(desk):
            verifier.opened.set()
            while len(desk.refused) < 20:
                await trio.lowlevel.checkpoint()
    assert {refusal[2] for refusal in desk.refused} == {NotStored.DISK_FULL}


async def test_a_disk_that_fails_inside_a_job_ends_the_writer_and_is_not_the_jobs_fault(make_desk: MakeDesk) -> None:
    desk = make_desk()
    desk.store.write(lambda txn: txn.put(b"harbour", b"net:...", db=desk.store.peers))
    damage_page_with(b"harbour", desk)
    results: list[str] = []

    async def ask() -> None:
        await desk.ingest.write(lambda appender: appender.txn.get(b"harbour", db=desk.store.peers))
        results.append("answered")

    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="is damaged"), flatten_subgroups=True):
        async with desk.running(), trio.open_nursery() as nursery:
            nursery.start_soon(ask)
    assert results == []
