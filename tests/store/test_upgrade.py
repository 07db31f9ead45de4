"""A store of the version before: nothing of it is lost, whatever stops its rewriting."""

import subprocess
import sys
from pathlib import Path

import pytest

import pub.store.upgrade as upgrade_module
from pub.errors import StoreError, StoreLocked
from pub.protocol.classic import Chain, Head, Message, create
from pub.protocol.keys import KeyPair
from pub.store.env import Store
from pub.store.log import Appender, Log
from pub.store.upgrade import upgrade
from tests.store.authors import RECEIVED, Author, commit
from tests.store.schema1 import write_store

EVERYTHING = 1 << 30  # bytes
ALICE, BOB = (KeyPair.generate(name.ljust(32)) for name in (b"alice", b"bob"))
SILENT = bytes(range(32))
OTHERS = {
    name: {b"%d of %b" % (number, name.encode()): bytes([number]) * 50 for number in range(40)}
    for name in ("edges", "forks", "members", "invites", "peers", "clocks", "meta")
}


def feed(keys: KeyPair, count: int) -> list[Message]:
    messages: list[Message] = []
    for number in range(count):
        head = messages[-1].head if messages else None
        messages.append(create(keys, head, {"type": "post", "text": f"{number} ö✓"}, RECEIVED))
    return messages


ALICES, BOBS = feed(ALICE, 50), feed(BOB, 20)
ODD = Author("somebody whose messages are no classic ones").write_many(18)
MESSAGES = [*ALICES[:3], *(message for pair in zip(BOBS, ALICES[3:23], strict=True) for message in pair), *ALICES[23:]]
MESSAGES += ODD


def write_old(folder: Path) -> bytes:
    """The old store of these people, whose second feed is forked."""
    write_store(folder, MESSAGES, RECEIVED, silent=(SILENT,), forked=(1,), others=OTHERS)
    return (folder / "data.mdb").read_bytes()


def assert_is_whole(folder: Path, left: frozenset[str] = frozenset()) -> None:
    """Everything that was in the old store is in the new one, and it works."""
    files = {"data.mdb", "lock", "lock.mdb"}
    assert {path.name for path in folder.iterdir()} == files | left
    with Store.open(folder) as store:
        assert {path.name for path in folder.iterdir()} == files
        log = Log(store)
        assert log.keys == [ALICE.public, BOB.public, ODD[0].author, SILENT]
        assert (list(log.heads), log.forked, log.message_count) == ([50, 20, 18, 0], {1}, len(MESSAGES))
        received: dict[bytes, float] = {}
        for number, messages in enumerate((ALICES, BOBS, ODD)):
            for after in range(len(messages)):
                assert log.page(number, after, EVERYTHING) == [message.encoded for message in messages[after:]]
            records = log.records(number, 0, EVERYTHING)
            assert [record.id for record in records] == [message.id for message in messages]
            received |= {record.id: record.received for record in records}
        assert [received[message.id] for message in MESSAGES] == [RECEIVED + n for n in range(len(MESSAGES))]
        assert_others(store)
        assert store.write(lambda txn: Appender(log, txn).head(0)) == ALICES[-1].head
        more = create(ALICE, ALICES[-1].head, {"type": "post", "text": "more"}, RECEIVED)
        assert commit(log, [more, BOBS[3], ALICES[30]]) == [Chain.NEXT, Chain.DUPLICATE, Chain.DUPLICATE]
        assert log.page(0, 49, EVERYTHING) == [ALICES[49].encoded, more.encoded]


def assert_others(store: Store) -> None:
    with store.read() as txn:
        for name, table in OTHERS.items():
            stored = dict(txn.cursor(getattr(store, name)))
            assert stored.items() >= table.items()
            assert name == "meta" or stored == table


def test_a_store_of_the_version_before_is_rewritten(tmp_path: Path) -> None:
    write_old(tmp_path)
    with pytest.raises(StoreError, match="of an older version: start the pub once"):
        Store.open(tmp_path, readonly=True)
    upgrade(tmp_path)
    assert_is_whole(tmp_path)
    before = (tmp_path / "data.mdb").read_bytes()
    upgrade(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_it_is_rewritten_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_module, "SLICE", 2000)
    writes = []
    write = Store.write

    def watched(store: Store, job: object) -> object:
        writes.append(store.folder)
        return write(store, job)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", watched)
    write_old(tmp_path)
    upgrade(tmp_path)
    assert len(writes) > 20
    assert_is_whole(tmp_path)


def test_what_was_left_of_one_that_was_killed_at_the_end_goes(tmp_path: Path) -> None:
    write_old(tmp_path)
    upgrade(tmp_path)
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "lock.mdb").touch()
    Store.open(tmp_path, readonly=True).close()
    assert_is_whole(tmp_path, left=frozenset({"data.new"}))


def test_an_empty_store_of_the_version_before(tmp_path: Path) -> None:
    write_store(tmp_path, [], RECEIVED)
    upgrade(tmp_path)
    with Store.open(tmp_path) as store:
        assert commit(Log(store), ALICES) == [Chain.NEXT] * len(ALICES)


def test_there_is_nothing_to_rewrite(tmp_path: Path) -> None:
    upgrade(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "data.mdb").touch()
    upgrade(tmp_path)
    with Store.open(tmp_path) as store:
        with pytest.raises(StoreLocked):
            upgrade(tmp_path)
        store.write(lambda txn: txn.put(b"schema", b"77", db=store.meta))
    upgrade(tmp_path)
    with pytest.raises(StoreError, match="has schema version 77"):
        Store.open(tmp_path)


def test_a_head_that_is_no_number_stays_so(tmp_path: Path) -> None:
    carol = Author("carol")
    carol.write()
    carol.write(timestamp=None)
    write_store(tmp_path, carol.messages, RECEIVED)
    upgrade(tmp_path)
    with Store.open(tmp_path) as store:
        log = Log(store)
        assert store.write(lambda txn: Appender(log, txn).head(0)) == Head(2, carol.messages[1].id, None)


@pytest.mark.parametrize("lost", [0, 7, len(MESSAGES) - 1])
def test_a_store_with_a_gap_is_damaged_and_stays_as_it_is(tmp_path: Path, lost: int) -> None:
    write_store(tmp_path, MESSAGES, RECEIVED, lost=MESSAGES[lost])
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match="is damaged: messages of feed number"):
        upgrade(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before
    assert not (tmp_path / "data.new").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import pub.store.upgrade
from pub.store.env import Store
write, left = Store.write, int(sys.argv[2])
def cut_short(store, job):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return write(store, job)
Store.write = cut_short
pub.store.upgrade.SLICE = 2000
pub.store.upgrade.upgrade(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_pub_that_is_killed_meanwhile_begins_again(tmp_path: Path) -> None:
    before = write_old(tmp_path)
    kills = 0
    while kills < 60:
        run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(kills)], check=False)
        if run.returncode == 0:
            break
        assert (tmp_path / "data.mdb").read_bytes() == before
        kills += 4
    assert 20 < kills < 60
    assert_is_whole(tmp_path)


FULL = """
import resource, sys
from pathlib import Path
from pub.errors import StoreFull
from pub.store.upgrade import upgrade
folder = Path(sys.argv[1])
size = (folder / "data.mdb").stat().st_size
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, unlimited[1]))
try:
    upgrade(folder)
except StoreFull as error:
    print(error)
"""


def test_a_disk_without_room_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """A limit on file sizes fails the same writes as a full disk, and needs no disk of our own."""
    before = write_old(tmp_path)
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"no room in {tmp_path} to rewrite the store for this version" in run.stdout
    assert (tmp_path / "data.mdb").read_bytes() == before
    assert not (tmp_path / "data.new").exists()
    upgrade(tmp_path)
    assert_is_whole(tmp_path)
