"""The log: every message in the order it was received, and the indices that find it again.

Feeds are known by dense numbers, given in the order they were first heard of. Layout (big-endian, so that
LMDB's byte order is numeric order):

* ``feeds``      feed u32 → public key (32), head sequence u32, head id (32), head timestamp f64 (NaN: it is no
                 number), state u8 (0: ordinary, 1: forked, see forks.py)
* ``messages``   receive number u64, from 1 → feed u32, sequence u32, id (32), received f64, JSON text
* ``sequences``  feed u32, sequence u32 → receive number u64
* ``ids``        message id (32) → receive number u64
* ``edges``      author u32, target u32 → value of the last contact message i8

``Log`` mirrors in memory what is asked for constantly: keys, numbers, head sequences, and which feeds are forked.
Only ``apply`` changes the mirror, after the commit, so nobody is shown what is not on disk. ``Appender`` is one batch
of the writer: it collects, and writes sub-database by sub-database in ``finish``, because what costs in LMDB is the
call.

Reading starts from the mirror's head, which is never ahead of a snapshot taken afterwards. Messages of one feed
that arrived together lie together and are read by stepping; others are looked up one by one.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from pub.protocol.classic import Chain, Head, Message, chain
from pub.store.env import Database, Store, Txn
from pub.store.forks import Fork, Forks

MAX_RUN = 64  # messages tested at once for lying together: one lookup for each end
EDGES_SLICE = 4096  # edges read at once: growth of the map waits for no more than this

_FEED = struct.Struct(">32sI32sdB")
_HEADER = struct.Struct(">II32sd")
_NUMBER = struct.Struct(">I")
_PAIR = struct.Struct(">II")
_RECEIVE = struct.Struct(">Q")
_EDGE = struct.Struct(">b")

_JSON = _HEADER.size
_ORDINARY = 0
_FORKED = 1
_NO_ID = bytes(32)


class Record(NamedTuple):
    """A stored message: ``received`` in milliseconds since the epoch, ``encoded`` its JSON text."""

    sequence: int
    id: bytes
    received: float
    encoded: bytes


@dataclass(slots=True)
class Changes:
    """What one committed batch has changed."""

    keys: list[bytes] = field(default_factory=list)  # of new feeds, in the order of their numbers
    heads: dict[int, int] = field(default_factory=dict)  # feed → head sequence
    appended: list[tuple[int, int]] = field(default_factory=list)  # (feed, sequence) in receive order
    edges: list[tuple[int, int, int]] = field(default_factory=list)  # (author, target, value), the last one counts
    announced: list[tuple[int, str]] = field(default_factory=list)  # (author, address of a pub)
    forked: dict[int, Fork] = field(default_factory=dict)  # feeds whose first proof of a fork this is


class Log:
    """The stored feeds. Lists and dicts are for reading only; feed numbers are positions in ``keys`` and ``heads``."""

    __slots__ = ("forked", "heads", "keys", "message_count", "numbers", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys: list[bytes] = []
        self.heads = array("I")
        self.forked: set[int] = set()
        with store.read() as txn:
            for value in txn.cursor(store.feeds).iternext(keys=False, values=True):
                self.keys.append(value[:32])
                self.heads.append(int.from_bytes(value[32:36], "big"))
                if value[-1] == _FORKED:
                    self.forked.add(len(self.keys) - 1)
            self.message_count: int = txn.stat(store.messages)["entries"]
        self.numbers = {key: feed for feed, key in enumerate(self.keys)}

    def page(self, feed: int, after: int, max_bytes: int) -> list[bytes]:
        """JSON of the messages after sequence ``after`` (0 and up), as many whole ones as ``max_bytes`` holds.

        The first comes even if it is larger: an empty page means that the feed ends there.
        """
        page: list[bytes] = []
        head = self.heads[feed]
        if after >= head:
            return page
        room = max_bytes
        with self.store.read() as txn:
            for raw in self._walk(txn, feed, after, head):
                encoded = raw[_JSON:]
                room -= len(encoded)
                if room < 0 and page:
                    break
                page.append(encoded)
        return page

    def records(self, feed: int, after: int, max_bytes: int) -> list[Record]:
        """The same messages as ``page``, with sequence, id and time of receipt."""
        records: list[Record] = []
        head = self.heads[feed]
        room = max_bytes
        with self.store.read() as txn:
            for raw in self._walk(txn, feed, after, head):
                record = _record(raw)
                room -= len(record.encoded)
                if room < 0 and records:
                    break
                records.append(record)
        return records

    def find(self, digest: bytes) -> Record | None:
        """The message with this id."""
        with self.store.read() as txn:
            number = txn.get(digest, db=self.store.ids)
            raw = None if number is None else txn.get(number, db=self.store.messages)
        return None if raw is None else _record(raw)

    def edges(self) -> Iterator[tuple[int, int, int]]:
        """Every (author, target, value); slice by slice, so those committed meanwhile may be missing."""
        start = b"\0"
        while True:
            with self.store.read() as txn:
                cursor = txn.cursor(self.store.edges)
                part = list(islice(cursor, EDGES_SLICE)) if cursor.set_range(start) else []
            for key, value in part:
                yield *_PAIR.unpack(key), *_EDGE.unpack(value)
            if len(part) < EDGES_SLICE:
                return
            start = part[-1][0] + b"\0"

    def apply(self, changes: Changes) -> None:
        """Take over a committed batch. The next batch may begin only afterwards."""
        for key in changes.keys:
            self.heads.append(0)
            self.keys.append(key)
            self.numbers[key] = len(self.keys) - 1
        for feed, sequence in changes.heads.items():
            self.heads[feed] = sequence
        self.forked.update(changes.forked)
        self.message_count += len(changes.appended)

    def _walk(self, txn: Txn, feed: int, after: int, head: int) -> Iterator[bytes]:
        """Raw records of ``feed`` from sequence ``after + 1`` to ``head``, which was read before ``txn`` began."""
        sequences, messages = self.store.sequences, self.store.messages
        while after < head:
            count = min(head - after, MAX_RUN)
            first = txn.get(_PAIR.pack(feed, after + 1), b"", db=sequences)
            last = first if count == 1 else txn.get(_PAIR.pack(feed, after + count), b"", db=sequences)
            # receive numbers of a feed only rise: if the ends are as far apart as their sequences, nothing is between
            if int.from_bytes(last, "big") - int.from_bytes(first, "big") == count - 1:
                if count == 1:
                    yield txn.get(first, b"", db=messages)
                else:
                    cursor = txn.cursor(messages)
                    cursor.set_key(first)
                    yield from islice(cursor.iternext(keys=False, values=True), count)
            else:
                cursor = txn.cursor(sequences)
                cursor.set_key(_PAIR.pack(feed, after + 1))
                for number in islice(cursor.iternext(keys=False, values=True), count):
                    yield txn.get(number, b"", db=messages)
            after += count


class Appender:
    """One batch of messages in the write transaction ``txn``: ``append`` as often as needed, then ``finish`` once."""

    __slots__ = (
        "_changes",
        "_edges",
        "_heads",
        "_ids",
        "_log",
        "_messages",
        "_new",
        "_receive",
        "_sequences",
        "txn",
    )

    def __init__(self, log: Log, txn: Txn) -> None:
        if txn.stat(log.store.feeds)["entries"] != len(log.keys):
            raise RuntimeError("the batch before was committed but not applied: feed numbers would be given twice")
        last = txn.cursor(log.store.messages)
        self._receive = int.from_bytes(last.key(), "big") if last.last() else 0
        self._log = log
        self.txn = txn
        self._new: dict[bytes, int] = {}
        self._heads: dict[int, Head | None] = {}
        self._messages: list[tuple[bytes, bytes]] = []
        self._sequences: list[tuple[bytes, bytes]] = []
        self._ids: dict[bytes, bytes] = {}
        self._edges: dict[bytes, bytes] = {}
        self._changes = Changes()

    def intern(self, key: bytes) -> int:
        """The number of the feed with this public key; it gets the next one if it has none."""
        feed = self._number(key)
        if feed is None:
            feed = len(self._log.keys) + len(self._new)
            self._new[key] = feed
            self._heads[feed] = None
        return feed

    def head(self, feed: int) -> Head | None:
        """The last message of ``feed``, those of this batch included; None when it has none."""
        try:
            return self._heads[feed]
        except KeyError:
            head = self._heads[feed] = self._stored_head(feed)
            return head

    def edge(self, author: bytes, target: bytes) -> int | None:
        """What the author with this key last said of ``target`` (contacts.py); those of this batch included."""
        numbers = self._number(author), self._number(target)
        if numbers[0] is None or numbers[1] is None:
            return None
        key = _PAIR.pack(*numbers)
        value = self._edges.get(key) or self.txn.get(key, db=self._log.store.edges)
        return None if value is None else int(_EDGE.unpack(value)[0])

    def append(self, message: Message, received: float) -> Chain:
        """Judge how ``message`` continues its feed, and take it in if it is the next one.

        Its contact becomes an edge, and the feed it names gets a number. Of the others the first that contradicts
        what we have of its feed is kept, as the proof of a fork. ``received`` in milliseconds.
        """
        feed = self._number(message.author)
        verdict = chain(None if feed is None else self.head(feed), message)
        if verdict is Chain.NEXT:
            if feed is None:
                feed = self.intern(message.author)
            self._take(feed, message, received)
            if message.contact is not None:
                self._connect(feed, self.intern(message.contact.target), message.contact.value)
        elif feed is not None and self._contradicts(verdict, message):
            if not self.is_forked(feed):
                self._keep_proof(feed, message, message.sequence - (verdict is Chain.FORK), received)
            return Chain.FORK
        return verdict

    def is_forked(self, feed: int) -> bool:
        """Is there a proof, or is one kept by this batch, that the author gave this feed two continuations?"""
        return feed in self._changes.forked or feed in self._log.forked

    def finish(self) -> Changes:
        """Write the batch into the transaction. Give the result to ``Log.apply`` once that is committed."""
        store = self._log.store
        self._changes.keys = list(self._new)
        self._put(store.feeds, self._feed_records())
        self.txn.cursor(store.messages).putmulti(self._messages, append=True)
        self._put(store.sequences, self._sequences)
        self._put(store.ids, list(self._ids.items()))
        self._put(store.edges, list(self._edges.items()))
        return self._changes

    def _number(self, key: bytes) -> int | None:
        feed = self._log.numbers.get(key)
        return self._new.get(key) if feed is None else feed

    def _stored_head(self, feed: int) -> Head | None:
        record = self.txn.get(_NUMBER.pack(feed), db=self._log.store.feeds)
        if record is None:
            raise LookupError(f"there is no feed number {feed}")
        _key, sequence, digest, timestamp, _state = _FEED.unpack(record)
        return Head(sequence, digest, None if math.isnan(timestamp) else timestamp) if sequence else None

    def _take(self, feed: int, message: Message, received: float) -> None:
        sequence, digest = message.sequence, message.id
        self._receive += 1
        number = _RECEIVE.pack(self._receive)
        self._messages.append((number, _HEADER.pack(feed, sequence, digest, received) + message.encoded))
        self._sequences.append((_PAIR.pack(feed, sequence), number))
        self._ids[digest] = number
        self._heads[feed] = message.head
        self._changes.heads[feed] = sequence
        self._changes.appended.append((feed, sequence))
        if message.announced is not None:
            self._changes.announced.append((feed, message.announced))

    def _contradicts(self, verdict: Chain, message: Message) -> bool:
        """Has the author signed two messages for one place? It takes one lookup, for duplicates alone."""
        if verdict is not Chain.DUPLICATE:
            return verdict is Chain.FORK
        if message.sequence < 1 or message.id in self._ids:
            return False
        return self.txn.get(message.id, db=self._log.store.ids) is None

    def _keep_proof(self, feed: int, message: Message, sequence: int, found: float) -> None:
        fork = Fork(sequence, self._id_at(feed, sequence), message.id, found, message.encoded)
        Forks(self._log.store).put(self.txn, feed, fork)
        self._changes.forked[feed] = fork

    def _id_at(self, feed: int, sequence: int) -> bytes:
        """The id of a message we have; slow for one of this batch, but nobody asks twice of one feed."""
        store, place = self._log.store, _PAIR.pack(feed, sequence)
        number = self.txn.get(place, db=store.sequences)
        if number is not None:
            raw = self.txn.get(number, b"", db=store.messages)
        else:
            batch = zip(self._sequences, self._messages, strict=True)
            raw = next(raw for (taken, _), (_, raw) in batch if taken == place)
        return _record(raw).id

    def _connect(self, author: int, target: int, value: int) -> None:
        self._edges[_PAIR.pack(author, target)] = _EDGE.pack(value)
        self._changes.edges.append((author, target, value))

    def _feed_records(self) -> list[tuple[bytes, bytes]]:
        """The records of all new feeds, of all whose head moved and of all that turned out to be forked."""
        known = self._log.keys
        feeds = self._changes.heads.keys() | self._new.values() | self._changes.forked.keys()
        records = []
        for feed in feeds:
            key = known[feed] if feed < len(known) else self._changes.keys[feed - len(known)]
            records.append((_NUMBER.pack(feed), _pack_feed(key, self._heads[feed], self.is_forked(feed))))
        return records

    def _put(self, database: Database, items: list[tuple[bytes, bytes]]) -> None:
        """Put in key order: neighbours share a page, which is then found and copied once."""
        items.sort()
        self.txn.cursor(database).putmulti(items)


def _pack_feed(key: bytes, head: Head | None, is_forked: bool) -> bytes:
    if head is None:
        return _FEED.pack(key, 0, _NO_ID, math.nan, _ORDINARY)
    timestamp = math.nan if head.timestamp is None else head.timestamp
    return _FEED.pack(key, head.sequence, head.id, timestamp, _FORKED if is_forked else _ORDINARY)


def _record(raw: bytes) -> Record:
    _feed, sequence, digest, received = _HEADER.unpack_from(raw)
    return Record(sequence, digest, received, raw[_JSON:])
