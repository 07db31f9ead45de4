"""The step from schema 1: a store of the version before is rewritten, once, when the pub starts on it.

The new file is made beside the old one and takes its name when it is whole (``Store.make``). So whatever stops this,
a full disk or a power cut, leaves the old store as it was, and the next start begins again. It takes half as much disk
as the old store until it is done, and less than a minute for two million messages.

Schema 1 had the whole text in each record of ``messages``, an index of all messages by feed and sequence, another one
by id (``ids``), and of a feed key and head in one record. The other sub-databases are the same and copied as they are.
"""

from __future__ import annotations

import math
import struct
import time
from array import array
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import lmdb
import structlog

from pub.errors import StoreError, StoreFull
from pub.protocol.classic import Head
from pub.store.env import OLD_SCHEMA, Database, Store, Txn, open_environment
from pub.store.faults import explain
from pub.store.lock import FolderLock
from pub.store.log import STRIDE, pack_head
from pub.store.records import Record, pack

SLICE = 4 << 20  # bytes written at once: what the rewriting holds in memory, besides a few numbers for each feed

_FEED = struct.Struct(">32sI32sdB")  # key, head sequence, head id, head timestamp, state
_HEADER = struct.Struct(">II32sd")  # feed, sequence, id, received; then the JSON text
_PAIR = struct.Struct(">II")
_SAME = (b"edges", b"forks", b"members", b"invites", b"peers", b"clocks")

log = structlog.get_logger()

Pair = tuple[bytes, bytes]


def upgrade(folder: Path) -> None:
    """Rewrite the store in ``folder``, if there is one and it is of schema 1.

    Raises StoreLocked when another process has it, StoreFull when there is no room for the new file, StoreError when
    disk or store are broken; the old store is then as it was.
    """
    if not _size(folder):
        return
    lock = FolderLock(folder, shared=False)
    try:
        with closing(open_environment(folder, readonly=True, map_size=_size(folder))) as env:
            if _is_old(env):
                _rewrite(folder, lock, _Old(folder, env))
    except lmdb.Error as error:
        raise explain(error, folder) from error
    finally:
        lock.release()


def _size(folder: Path) -> int:
    """Of the store's file, in bytes; 0: there is none, or nothing in it."""
    file = folder / "data.mdb"
    return file.stat().st_size if file.exists() else 0


def _is_old(env: lmdb.Environment) -> bool:
    try:
        meta = env.open_db(b"meta", create=False)
    except lmdb.NotFoundError:
        return False  # it was never finished: whoever opens it will say so
    with env.begin(db=meta) as txn:
        return txn.get(b"schema") == b"%d" % OLD_SCHEMA


class _Old:
    """The store of schema 1. Nobody writes it meanwhile, so all reads see the same."""

    def __init__(self, folder: Path, env: lmdb.Environment) -> None:
        self.folder = folder
        self._env = env
        self._databases = {name: env.open_db(name, create=False) for name in (b"feeds", b"messages", b"meta", *_SAME)}
        with env.begin() as txn:
            self.messages: int = txn.stat(self._databases[b"messages"])["entries"]

    def items(self, name: bytes) -> Iterator[Pair]:
        """All of one sub-database, in order."""
        with self._env.begin() as txn:
            yield from txn.cursor(self._databases[name])


def _rewrite(folder: Path, lock: FolderLock, old: _Old) -> None:
    size, began = _size(folder), time.monotonic()
    log.warning("store_upgrade_began", messages=old.messages, megabytes=size // 1_000_000)
    try:
        Store.make(folder, lock, size, partial(_fill, old))
    except StoreFull:
        raise StoreFull(
            f"no room in {folder} to rewrite the store for this version: while that lasts it takes up to "
            f"{size // 1_000_000 + 1} MB more; the store is as it was"
        ) from None
    log.warning("store_upgraded", messages=old.messages, seconds=round(time.monotonic() - began, 1))


def _fill(old: _Old, new: Store) -> None:
    chains = _Chains(old.folder, [record[:32] for _, record in old.items(b"feeds")])
    for part in _slices(old.items(b"messages")):
        messages = [(number, chains.message(number, record)) for number, record in part]
        _put(new, {new.messages: messages, new.sequences: chains.take_entries()})
    for part in _slices(old.items(b"feeds")):
        heads = [(number, chains.head(number, record)) for number, record in part]
        _put(new, {new.feeds: [(number, record[:32]) for number, record in part]})
        _put(new, {new.heads: [(number, head) for number, head in heads if head is not None]})
    for name in _SAME:
        for part in _slices(old.items(name)):
            _put(new, {getattr(new, name.decode()): part})
    _put(new, {new.meta: [(name, value) for name, value in old.items(b"meta") if name != b"schema"]})


class _Chains:
    """The feeds, as far as their messages are rewritten: what the next one of each is packed with."""

    def __init__(self, folder: Path, keys: list[bytes]) -> None:
        self._folder = folder
        self._keys = keys
        self._heads = array("I", bytes(4 * len(keys)))
        self._newest = array("Q", bytes(8 * len(keys)))
        self._ids: list[bytes | None] = [None] * len(keys)
        self._entries: list[Pair] = []

    def message(self, number: bytes, record: bytes) -> bytes:
        """The record of a message as it is now."""
        feed, sequence, digest, received = _HEADER.unpack_from(record)
        if feed >= len(self._keys) or sequence != self._heads[feed] + 1:
            raise self._damage(feed)
        message = Record(sequence, digest, received, record[_HEADER.size :])
        packed = pack(feed, self._keys[feed], self._newest[feed], self._ids[feed], message)
        self._heads[feed], self._ids[feed] = sequence, digest
        self._newest[feed] = int.from_bytes(number, "big")
        if sequence % STRIDE == 0:
            self._entries.append((_PAIR.pack(feed, sequence), number))
        return packed

    def take_entries(self) -> list[Pair]:
        """What the index got by the messages since the last call."""
        entries, self._entries = self._entries, []
        return entries

    def head(self, number: bytes, record: bytes) -> bytes | None:
        """The record of a feed's head as it is now, if it has one; all messages must have been rewritten before."""
        feed = int.from_bytes(number, "big")
        _key, sequence, digest, timestamp, state = _FEED.unpack(record)
        if sequence != self._heads[feed]:
            raise self._damage(feed)
        if not sequence:
            return None
        head = Head(sequence, digest, None if math.isnan(timestamp) else timestamp)
        return pack_head(head, self._newest[feed], bool(state))

    def _damage(self, feed: int) -> StoreError:
        return StoreError(f"the store in {self._folder} is damaged: messages of feed number {feed} are missing")


def _slices(items: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Lists of items that have ``SLICE`` bytes, or a little more."""
    part: list[Pair] = []
    size = 0
    for item in items:
        part.append(item)
        size += len(item[1])
        if size >= SLICE:
            yield part
            part, size = [], 0
    yield part


def _put(store: Store, tables: dict[Database, list[Pair]]) -> None:
    def job(txn: Txn) -> None:
        for database, pairs in tables.items():
            txn.cursor(database).putmulti(pairs)

    store.write(job)
