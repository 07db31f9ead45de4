import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import lmdb
import pytest

from pub.errors import StoreError, StoreLocked
from pub.store.env import Store, Txn

SMALL_MAP = 256 << 10  # bytes; holds the empty store and little more
VALUE = SMALL_MAP  # bytes; twelve of them need four doublings of the map
PATIENCE = 5  # seconds until a deadlock fails the test


def put(store: Store, key: bytes, value: bytes) -> None:
    def job(txn: Txn) -> None:
        txn.put(key, value, db=store.meta)

    store.write(job)


def get(store: Store, key: bytes) -> bytes | None:
    with store.read() as txn:
        return txn.get(key, db=store.meta)


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        put(store, b"carol", b"was here")
    with Store.open(tmp_path) as store:
        assert get(store, b"carol") == b"was here"


def test_the_result_of_a_job_comes_out(store: Store) -> None:
    assert store.write(lambda _: "done") == "done"


def test_a_failed_job_changes_nothing(store: Store) -> None:
    def job(txn: Txn) -> None:
        txn.put(b"half", b"of it", db=store.meta)
        raise ValueError("the other half")

    with pytest.raises(ValueError, match="the other half"):
        store.write(job)
    assert get(store, b"half") is None


def test_a_bug_in_a_job_is_not_blamed_on_the_disk(store: Store) -> None:
    with pytest.raises(lmdb.BadValsizeError):
        put(store, bytes(600), b"the key is too long")


def test_a_read_sees_one_snapshot(store: Store) -> None:
    put(store, b"n", b"1")
    with store.read() as txn:
        writer = threading.Thread(target=put, args=(store, b"n", b"2"))
        writer.start()
        writer.join(PATIENCE)
        assert txn.get(b"n", db=store.meta) == b"1"
        assert get(store, b"n") == b"2"  # a nested read has its own


def test_the_map_grows_and_the_job_runs_again(tmp_path: Path) -> None:
    runs = []
    with Store.open(tmp_path, initial_map=SMALL_MAP) as store:

        def job(txn: Txn) -> None:
            runs.append(store.map_size)
            for n in range(100):
                txn.put(b"key %d" % n, bytes(10_000), db=store.meta)

        store.write(job)
        assert runs == [SMALL_MAP, 2 * SMALL_MAP, 4 * SMALL_MAP, 8 * SMALL_MAP]
        assert get(store, b"key 99") == bytes(10_000)


def test_a_grown_store_opens_with_a_map_that_holds_it(tmp_path: Path) -> None:
    with Store.open(tmp_path, initial_map=SMALL_MAP) as store:
        put(store, b"large", bytes(5 * SMALL_MAP))
    with Store.open(tmp_path, initial_map=SMALL_MAP) as store:
        assert store.map_size == 8 * SMALL_MAP
        assert get(store, b"large") == bytes(5 * SMALL_MAP)
    with Store.open(tmp_path, initial_map=SMALL_MAP, readonly=True) as store:
        assert get(store, b"large") == bytes(5 * SMALL_MAP)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """py-lmdb gives up the interpreter lock at each call; threads that all compute would wait 5 ms to get it back."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(usual)


class Readers:
    """Threads that read all the time, each time several values of one snapshot."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reads = [0] * 3
        self.mistakes: list[object] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(len(self.reads))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_read(self) -> None:
        """Until each has read once more."""
        deadline = time.monotonic() + PATIENCE
        before = list(self.reads)
        while any(now == then for now, then in zip(self.reads, before, strict=True)) and not self.mistakes:
            assert time.monotonic() < deadline
            time.sleep(0.0001)

    def _run(self, reader: int) -> None:
        try:
            while not self._done.is_set():
                with self.store.read() as txn:
                    self._check(txn)
                self.reads[reader] += 1
        except BaseException as error:
            self.mistakes.append(error)

    def _check(self, txn: Txn) -> None:
        count = txn.stat(self.store.peers)["entries"]
        for n in (0, count // 2, count - 1):
            value = txn.get(bytes([n]), b"", db=self.store.peers)
            if (len(value), value[:1], value[-1:]) != (VALUE, bytes([n]), bytes([n])):
                self.mistakes.append((n, count))


def add_value(store: Store, n: int) -> None:
    store.write(lambda txn: txn.put(bytes([n]), bytes([n]) * VALUE, db=store.peers))


def test_growth_under_readers(tmp_path: Path, quick_switches: None) -> None:
    with Store.open(tmp_path, initial_map=SMALL_MAP) as store:
        add_value(store, 0)
        with Readers(store) as readers:
            for n in range(1, 12):
                readers.wait_read()
                add_value(store, n)
            readers.wait_read()
        assert not readers.mistakes
        assert store.map_size == 16 * SMALL_MAP


def test_a_failed_job_is_undone_at_once_under_readers(tmp_path: Path, quick_switches: None) -> None:
    def job(txn: Txn) -> None:
        txn.put(b"half", b"of it", db=store.meta)
        raise ValueError("the other half")

    with Store.open(tmp_path) as store:
        add_value(store, 0)
        with Readers(store) as readers:
            began = time.monotonic()
            for _ in range(10):
                readers.wait_read()
                with pytest.raises(ValueError, match="the other half"):
                    store.write(job)
            assert time.monotonic() - began < PATIENCE
        assert not readers.mistakes
        assert get(store, b"half") is None


def test_growth_waits_for_a_read_and_its_nested_reads(tmp_path: Path) -> None:
    with Store.open(tmp_path, initial_map=SMALL_MAP) as store:
        put(store, b"n", b"1")
        writer = threading.Thread(target=put, args=(store, b"large", bytes(2 * SMALL_MAP)))
        with store.read() as txn:
            writer.start()
            while not store._gate._closed:
                time.sleep(0.001)
            assert get(store, b"n") == b"1"
            assert txn.get(b"n", db=store.meta) == b"1"
            assert store.map_size == SMALL_MAP
        writer.join(PATIENCE)
        assert get(store, b"large") == bytes(2 * SMALL_MAP)


def test_writing_inside_a_read_is_refused(store: Store) -> None:
    with store.read():
        with pytest.raises(RuntimeError, match="write inside a read"):
            put(store, b"a", b"b")
        with pytest.raises(RuntimeError, match="close inside a read"):
            store.close()


def test_writers_take_turns(store: Store) -> None:
    def count(txn: Txn) -> None:
        found = txn.get(b"n", b"", db=store.meta)
        txn.put(b"n", found + b"x", db=store.meta)

    writers = [threading.Thread(target=store.write, args=(count,)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
    assert get(store, b"n") == b"x" * 8


def test_closing_twice_is_allowed_and_unlocks(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(StoreLocked):
        Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(lmdb.Error), store.read():
        pass
    Store.open(tmp_path).close()


def test_commands_read_while_no_pub_runs(tmp_path: Path) -> None:
    with Store.open(tmp_path) as pub:
        put(pub, b"a", b"b")
        with pytest.raises(StoreLocked):
            Store.open(tmp_path, readonly=True)
    with Store.open(tmp_path, readonly=True) as command:
        assert get(command, b"a") == b"b"
        with pytest.raises(StoreLocked, match="a command that reads it"):
            Store.open(tmp_path)
        with pytest.raises(RuntimeError, match="opened for reading"):
            put(command, b"a", b"c")


def test_a_command_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no pub's data in"):
        Store.open(tmp_path / "nowhere", readonly=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(("name", "ours"), [("schema", "2"), ("engine", "0.9")])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_store_of_another_version_is_refused(tmp_path: Path, name: str, ours: str, readonly: bool) -> None:
    with Store.open(tmp_path) as store:
        put(store, name.encode(), b"77")
    with pytest.raises(StoreError, match=f"has {name} version 77; this pub reads version {ours}"):
        Store.open(tmp_path, readonly=readonly)
    with pytest.raises(StoreError, match="version 77"):  # and was left unlocked and as it is
        Store.open(tmp_path)


def test_a_file_of_the_other_engine_is_refused(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path), lib_version=1).close()
    with pytest.raises(StoreError, match=r"has engine version 1\.0; this pub reads version 0\.9"):
        Store.open(tmp_path)


def test_our_engine_is_named_whatever_the_default_is(tmp_path: Path) -> None:
    make = "import sys, pathlib; from pub.store.env import Store; Store.open(pathlib.Path(sys.argv[1])).close()"
    subprocess.run([sys.executable, "-c", make, str(tmp_path)], env={"LMDB_DEFAULT_LIB_VERSION": "1"}, check=True)
    magic, version = struct.unpack_from("<II", (tmp_path / "data.mdb").read_bytes(), 16)
    assert (magic, version) == (0xBEEFC0DE, 1)


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"the store in .* is damaged"):
        Store.open(tmp_path)


def test_damage_that_a_read_meets_is_the_stores(store: Store) -> None:
    error = lmdb.CorruptedError("mdb_get: planted")
    vars(error)["code"] = -30796  # as the library sets it
    with pytest.raises(StoreError, match="is damaged: mdb_get: planted"), store.read():
        raise error
    with pytest.raises(KeyError), store.read():
        raise KeyError("a bug")
    store.write(lambda txn: txn.put(b"after", b"1", db=store.meta))


@pytest.mark.parametrize("left", [b"", bytes(8192), b"\xff" * 20_000], ids=["nothing", "zeros", "rubbish"])
def test_a_first_start_that_was_cut_short_is_made_again(tmp_path: Path, left: bytes) -> None:
    """Whatever a power cut left of the new store: it had no name yet, so nobody counts on it."""
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "data.mdb").write_bytes(left)
    with pytest.raises(StoreError, match="no pub's data"):
        Store.open(tmp_path, readonly=True)
    with Store.open(tmp_path) as store:
        put(store, b"a", b"b")
    assert not (tmp_path / "data.new").exists()
    with Store.open(tmp_path) as store:
        assert get(store, b"a") == b"b"


def test_an_environment_without_our_tables_is_no_store(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path), lib_version=0).close()
    with pytest.raises(StoreError, match="was never finished"):
        Store.open(tmp_path, readonly=True)


FULL_DISK = """
import resource, sys
from pathlib import Path
from pub.errors import StoreFull
from pub.store.env import Store
store = Store.open(Path(sys.argv[1]))
store.write(lambda txn: txn.put(b"before", b"1", db=store.meta))
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
for _ in range(3):
    try:
        store.write(lambda txn: txn.put(b"large", bytes(2 << 20), db=store.meta))
    except StoreFull as error:
        print(error)
with store.read() as txn:
    assert txn.get(b"before", db=store.meta) == b"1" and txn.get(b"large", db=store.meta) is None
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
store.write(lambda txn: txn.put(b"large", bytes(2 << 20), db=store.meta))
store.close()
"""


def test_a_full_disk_takes_nothing_in_and_still_serves(tmp_path: Path) -> None:
    """A limit on file sizes fails the same writes as a full disk, and needs no disk of our own."""
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(f"no room left for the data folder {tmp_path}") == 3
    with Store.open(tmp_path) as store:
        assert get(store, b"large") == bytes(2 << 20)


NO_ADDRESS_SPACE = """
import re, resource, sys
from pathlib import Path
from pub.errors import StoreError
from pub.store.env import Store
store = Store.open(Path(sys.argv[1]), initial_map=256 << 20)
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
try:
    store._grow()
except StoreError as error:
    print(error)
try:
    with store.read() as txn:
        pass
except Exception as error:
    print(type(error).__name__)
store.close()
"""


def test_a_map_that_cannot_grow_stops_the_pub_and_does_not_crash_it(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", NO_ADDRESS_SPACE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert f"cannot map {512 << 20} bytes for {tmp_path}" in run.stdout
    assert run.stdout.endswith("Error\n")


@pytest.mark.slow
def test_a_first_start_needs_no_right_of_root(tmp_path: Path) -> None:
    """Root enters every folder; anybody else, and root in a container, only those whose mode allows it."""
    program = "import sys, pathlib, pub.store.env as env; env.Store.open(pathlib.Path(sys.argv[1])).close()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
