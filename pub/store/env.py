"""The LMDB environment: one folder, one process, one writer at a time, a map that grows by itself.

Reads run in any thread and see one snapshot. Writes are jobs: ``write`` opens a transaction, calls the job
and commits, and the commit has reached the disk when it returns. LMDB cannot store more than its map holds,
so a job that meets the end of the map is undone, the map is doubled and the job runs again: a job must be
repeatable, that is, change nothing but its transaction before it returns.

Growing moves the map, so it waits until nobody reads (gate.py). The folder is locked while the store is
open (lock.py): one process writes, and no command reads behind its back.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias, TypeVar

import lmdb

from pub.errors import StoreError
from pub.store.faults import can_grow, engine_of, explain, is_of_the_store
from pub.store.gate import Gate
from pub.store.lock import FolderLock

# py-lmdb bundles two engines that cannot read each other's files, and the environment variable
# LMDB_DEFAULT_LIB_VERSION changes its default: we always name the one whose format all LMDB tools know.
ENGINE_MAJOR = 0
ENGINE = "0.9"
SCHEMA = 2  # the layout of the sub-databases; another number is another layout
OLD_SCHEMA = 1  # what upgrade.py rewrites

UNBORN = "data.new"  # where a new file is made
INITIAL_MAP = 16 << 20  # bytes of address space, not of disk: the file grows with what is in it
META_PAGES = 2  # of the format: the two roots that take turns
ROOM = 1 << 20  # bytes a disk that was full must have before it is trusted again: one large transaction

Txn: TypeAlias = "lmdb.Transaction[bytes]"
Database: TypeAlias = lmdb._Database
T = TypeVar("T")


class Usage(NamedTuple):
    """How the store's file is filled: pages of ``page_size`` bytes."""

    page_size: int
    pages: int
    """In the file, up to the last one in use."""
    used: int
    map_size: int

    @property
    def free(self) -> int:
        """Pages that wait to be used again (and the few that list them)."""
        return self.pages - self.used


class Store:
    """The open data folder. Sub-databases are attributes; their layouts are described where they are used."""

    __slots__ = (
        "_closed",
        "_env",
        "_gate",
        "_lock",
        "_readonly",
        "_writer",
        "clocks",
        "edges",
        "feeds",
        "folder",
        "forks",
        "heads",
        "invites",
        "map_size",
        "members",
        "messages",
        "meta",
        "peers",
        "sequences",
    )

    feeds: Database
    heads: Database
    messages: Database
    sequences: Database
    edges: Database
    forks: Database
    members: Database
    invites: Database
    peers: Database
    clocks: Database
    meta: Database

    def __init__(self, folder: Path, env: lmdb.Environment, lock: FolderLock, map_size: int, readonly: bool) -> None:
        self.folder = folder
        self.map_size = map_size
        self._env = env
        self._lock = lock
        self._readonly = readonly
        self._gate = Gate()
        self._closed = False
        self._writer = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, readonly: bool = False, initial_map: int = INITIAL_MAP) -> Self:
        """Open (unless ``readonly``: or make) the store in ``folder``.

        Raises StoreLocked when another process has it, StoreError when it is missing, damaged, or of another
        engine or schema, StoreFull when there is no room to make it.
        """
        if readonly and not (folder / "data.mdb").exists():
            raise StoreError(f"there is no pub's data in {folder}")
        lock = FolderLock(folder, shared=readonly)
        try:
            if not readonly:
                shutil.rmtree(folder / UNBORN, ignore_errors=True)
            if not (folder / "data.mdb").exists():
                cls.make(folder, lock, initial_map, lambda _store: None)
            return cls._open(folder, lock, initial_map, readonly)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open(cls, folder: Path, lock: FolderLock, initial_map: int, readonly: bool) -> Self:
        map_size = _fitting_map(folder / "data.mdb", initial_map)
        env = open_environment(folder, readonly, map_size)
        try:
            store = cls(folder, env, lock, map_size, readonly)
            store._open_databases()
        except BaseException:
            env.close()
            raise
        return store

    @classmethod
    def make(cls, folder: Path, lock: FolderLock, initial_map: int, fill: Callable[[Self], None]) -> None:
        """A new store, filled by ``fill``, gets its name when it is whole: what is cut short can be made again.

        LMDB writes a new file without waiting for the disk, and what a power cut leaves of it may be no store at all.
        """
        unborn = folder / UNBORN
        shutil.rmtree(unborn, ignore_errors=True)
        unborn.mkdir(mode=0o700)  # LMDB would give the folder the mode of its file, and only root could enter it
        try:
            store = cls._open(unborn, lock, initial_map, readonly=False)
            with closing(store._env):
                fill(store)
            (unborn / "data.mdb").rename(folder / "data.mdb")
            sync_folder(folder)
        finally:
            shutil.rmtree(unborn, ignore_errors=True)

    def note_stopping(self) -> None:
        """Whoever is kept out of the folder is told that it is not for long."""
        self._lock.note_stopping()

    def close(self) -> None:
        """Wait for the writer and every reader, then close and unlock. Closing twice is allowed."""
        self._refuse_inside_read("close")
        with self._writer, self._gate.closed():
            if not self._closed:
                self._closed = True
                self._env.close()
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def read(self) -> Read:
        """``with store.read() as txn``: a snapshot, in any thread; entered and left in the same one.

        Growth waits for it: a read lasts milliseconds, is never held across an ``await``, and a long scan
        reads slice by slice. Reads may be nested; each has its own snapshot.
        """
        return Read(self._env, self._gate, self.folder)

    def usage(self) -> Usage:
        """How full the file is."""
        databases = [getattr(self, name) for name, kind in Store.__annotations__.items() if kind == "Database"]
        with self.read() as txn:
            stats = [self._env.stat(), *map(txn.stat, databases)]
            info = self._env.info()
        used = sum(each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"] for each in stats)
        return Usage(stats[0]["psize"], info["last_pgno"] + 1, used + META_PAGES, info["map_size"])

    def oldest_read(self) -> float:
        """Seconds that the oldest open read has lasted; 0: none is open."""
        return self._gate.oldest()

    def write(self, job: Callable[[Txn], T]) -> T:
        """Run ``job`` in one write transaction and commit it to disk. Its result is returned after the commit.

        An exception of the job undoes the transaction and comes out unchanged. Raises StoreFull when the disk
        is full and StoreError when it fails; the store then still holds what it held before.
        """
        if self._readonly:
            raise RuntimeError("write to a store that was opened for reading")
        self._refuse_inside_read("write")
        with self._writer:
            while True:
                try:
                    with self._transaction() as txn:
                        return job(txn)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise explain(error, self.folder) from error

    def has_room(self) -> bool:
        """Could the store grow now? For whoever was told StoreFull; to be asked in the thread that writes."""
        with self._writer:
            return can_grow(self.folder / "data.mdb", ROOM)

    @contextmanager
    def _transaction(self) -> Iterator[Txn]:
        txn = self._env.begin(write=True)
        try:
            yield txn
            txn.commit()
        except BaseException:
            # py-lmdb undoes only at a moment when no other thread is inside a call of it. Among readers who never
            # rest that moment may take seconds to come: keep them out.
            with self._gate.closed():
                txn.abort()
            raise

    def _refuse_inside_read(self, what: str) -> None:
        if self._gate.is_reading():
            raise RuntimeError(f"{what} inside a read of the same thread would wait for itself")

    def _grow(self) -> None:
        with self._gate.closed():
            try:
                self._env.set_mapsize(self.map_size * 2)
            except lmdb.Error as error:
                self._env.close()  # the old map is gone and there is no new one: any access would be a crash
                raise StoreError(f"cannot map {self.map_size * 2} bytes for {self.folder}: {error}") from error
            self.map_size *= 2

    def _open_databases(self) -> None:
        if self._readonly:
            self.meta = self._database(None, b"meta")
            with self.read() as txn:
                self._check_versions(txn)
            self._open_tables(None)
        else:
            self.write(self._make_databases)

    def _make_databases(self, txn: Txn) -> None:
        self.meta = self._database(txn, b"meta")
        self._check_versions(txn)
        self._open_tables(txn)

    def _open_tables(self, txn: Txn | None) -> None:
        self.feeds = self._database(txn, b"feeds")
        self.heads = self._database(txn, b"heads")
        self.messages = self._database(txn, b"messages")
        self.sequences = self._database(txn, b"sequences")
        self.edges = self._database(txn, b"edges")
        self.forks = self._database(txn, b"forks")
        self.members = self._database(txn, b"members")
        self.invites = self._database(txn, b"invites")
        self.peers = self._database(txn, b"peers")
        self.clocks = self._database(txn, b"clocks")

    def _database(self, txn: Txn | None, name: bytes) -> Database:
        try:
            return self._env.open_db(name, txn, create=not self._readonly)
        except lmdb.NotFoundError as error:
            raise StoreError(f"the store in {self.folder} was never finished: start the pub once") from error
        except lmdb.Error as error:
            raise explain(error, self.folder) from error

    def _check_versions(self, txn: Txn) -> None:
        """Compare the versions in ``meta`` with ours; a store that has none yet gets ours."""
        for name, ours in ((b"engine", ENGINE), (b"schema", str(SCHEMA))):
            found = txn.get(name, db=self.meta)
            if found is None and not self._readonly:
                txn.put(name, ours.encode(), db=self.meta)
            elif found != ours.encode():
                theirs = "none" if found is None else found.decode("ascii", "replace")
                if name == b"schema" and theirs == str(OLD_SCHEMA):
                    raise StoreError(f"the store in {self.folder} is of an older version: start the pub once")
                raise StoreError(f"{self.folder} has {name.decode()} version {theirs}; this pub reads version {ours}")


class Read:
    """A read transaction inside the gate; made by ``Store.read``. Raises StoreError for a damaged store."""

    __slots__ = ("_env", "_folder", "_gate", "_txn")

    _txn: Txn

    def __init__(self, env: lmdb.Environment, gate: Gate, folder: Path) -> None:
        self._env = env
        self._folder = folder
        self._gate = gate

    def __enter__(self) -> Txn:
        self._gate.enter()
        try:
            self._txn = self._env.begin()
        except BaseException:
            self._gate.leave()
            raise
        return self._txn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._txn.abort()
        self._gate.leave()
        if isinstance(error, lmdb.Error) and is_of_the_store(error):
            raise explain(error, self._folder) from error


def sync_folder(path: Path) -> None:
    """The names in a folder reach the disk with the folder, not with the files."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fitting_map(path: Path, smallest: int) -> int:
    """A map that holds the existing file and is a doubling of ``smallest``."""
    size = path.stat().st_size if path.exists() else 0
    while smallest < size:
        smallest *= 2
    return smallest


def open_environment(folder: Path, readonly: bool, map_size: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(folder),
            map_size=map_size,
            readonly=readonly,
            create=not readonly,
            mode=0o600,
            max_dbs=16,  # ours and room for those of later versions
            metasync=True,
            sync=True,
            lib_version=ENGINE_MAJOR,
        )
    except lmdb.Error as error:
        engine = engine_of(folder / "data.mdb")
        if engine not in (ENGINE, None):
            raise StoreError(f"{folder} has engine version {engine}; this pub reads version {ENGINE}") from error
        raise explain(error, folder) from error
