"""The log: every message in the order it was received, and the indices that find it again.

Feeds are known by dense numbers, given in the order they were first heard of. Layout (big-endian, so that
LMDB's byte order is numeric order):

* ``feeds``      feed u32 → public key (32)
* ``heads``      feed u32 → of its last message: sequence u32, receive number u64, id (32) and timestamp f64 (NaN: it is
                 no number); state u8 (0: ordinary, 1: forked, see forks.py)
* ``messages``   receive number u64, from 1 → the message, and the receive number of the one before it in its feed
                 (see records.py)
* ``sequences``  feed u32, sequence u32 → receive number u64, of every ``STRIDE``-th message of a feed
* ``edges``      author u32, target u32 → value of the last contact message i8

A feed is a chain through ``messages``, from its last one backwards, and ``sequences`` are the places where one may
enter it: an index of all messages would be written all over the disk, a page for each message when many feeds grow in
turns.

``Log`` mirrors in memory what is asked for constantly: keys, numbers, heads, and which feeds are forked. Only ``apply``
changes the mirror, after the commit, so nobody is shown what is not on disk. ``Appender`` is one batch of the writer:
it collects, and writes sub-database by sub-database in ``finish``, because what costs in LMDB is the call.

Reading starts from the mirror's head, which is never ahead of a snapshot taken afterwards, and goes from entry to
entry. Messages of one feed that arrived together lie together and are read by stepping; of others, the chain from the
next entry back to the last one is followed and turned round.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pub.protocol.classic import Chain, Head, Message, chain
from pub.store.env import Database, Store, Txn
from pub.store.forks import Fork, Forks
from pub.store.records import Record, id_of, pack, place_of, record, unpack

STRIDE = 16  # messages of a feed for one entry of the index; what is read in vain by a page that ends between two
EDGES_SLICE = 4096  # edges read at once: growth of the map waits for no more than this

_HEAD = struct.Struct(">IQ32sdB")
_NUMBER = struct.Struct(">I")
_PAIR = struct.Struct(">II")
_RECEIVE = struct.Struct(">Q")
_EDGE = struct.Struct(">b")

_ORDINARY = 0
_FORKED = 1


@dataclass(slots=True)
class Changes:
    """What one committed batch has changed."""

    keys: list[bytes] = field(default_factory=list)  # of new feeds, in the order of their numbers
    heads: dict[int, int] = field(default_factory=dict)  # feed → head sequence
    newest: dict[int, int] = field(default_factory=dict)  # feed → receive number of its head
    appended: list[tuple[int, int]] = field(default_factory=list)  # (feed, sequence) in receive order
    edges: list[tuple[int, int, int]] = field(default_factory=list)  # (author, target, value), the last one counts
    announced: list[tuple[int, str]] = field(default_factory=list)  # (author, address of a pub)
    forked: dict[int, Fork] = field(default_factory=dict)  # feeds whose first proof of a fork this is


class Log:
    """The stored feeds. Lists and dicts are for reading only; feed numbers are positions in ``keys`` and ``heads``."""

    __slots__ = ("forked", "heads", "keys", "message_count", "newest", "numbers", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self.forked: set[int] = set()
        with store.read() as txn:
            self.keys = list(txn.cursor(store.feeds).iternext(keys=False, values=True))
            self.heads = array("I", bytes(4 * len(self.keys)))
            self.newest = array("Q", bytes(8 * len(self.keys)))  # receive numbers of the heads
            feeds = _numbers(b"".join(txn.cursor(store.heads).iternext(values=False)))
            records = b"".join(txn.cursor(store.heads).iternext(keys=False))
            self.message_count: int = txn.stat(store.messages)["entries"]
        for feed, (sequence, newest, _id, _timestamp, state) in zip(feeds, _HEAD.iter_unpack(records), strict=True):
            self.heads[feed], self.newest[feed] = sequence, newest
            if state == _FORKED:
                self.forked.add(feed)
        self.numbers = dict(zip(self.keys, range(len(self.keys)), strict=True))

    def page(self, feed: int, after: int, max_bytes: int) -> list[bytes]:
        """JSON of the messages after sequence ``after`` (0 and up), as many whole ones as ``max_bytes`` holds.

        The first comes even if it is larger: an empty page means that the feed ends there.
        """
        return [encoded for _raw, encoded in self._read(feed, after, max_bytes)]

    def records(self, feed: int, after: int, max_bytes: int) -> list[Record]:
        """The same messages as ``page``, with sequence, id and time of receipt."""
        return [record(raw, encoded) for raw, encoded in self._read(feed, after, max_bytes)]

    def edges(self) -> Iterator[tuple[array[int], array[int], array[int]]]:
        """Authors, targets and values of all edges, in the order of the first two; slice by slice, so those committed
        meanwhile may be missing.
        """
        start = b"\0"
        while True:
            with self.store.read() as txn:
                cursor = txn.cursor(self.store.edges)
                if not cursor.set_range(start):
                    return
                keys = b"".join(islice(cursor.iternext(values=False), EDGES_SLICE))
                cursor.set_range(start)
                values = array("b", b"".join(islice(cursor.iternext(keys=False), EDGES_SLICE)))
            pairs = _numbers(keys)
            yield pairs[::2], pairs[1::2], values
            start = keys[-_PAIR.size :] + b"\0"

    def apply(self, changes: Changes) -> None:
        """Take over a committed batch. The next batch may begin only afterwards."""
        for key in changes.keys:
            self.heads.append(0)
            self.newest.append(0)
            self.keys.append(key)
            self.numbers[key] = len(self.keys) - 1
        for feed, sequence in changes.heads.items():
            self.newest[feed] = changes.newest[feed]  # first: who reads in another thread finds no head without it
            self.heads[feed] = sequence
        self.forked.update(changes.forked)
        self.message_count += len(changes.appended)

    def _read(self, feed: int, after: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """Raw records and texts; see ``page``."""
        head, newest = self.heads[feed], self.newest[feed]  # in this order, and before the snapshot
        if after >= head:
            return []
        with self.store.read() as txn:
            raws = self._walk(txn, feed, after, head, newest)
            previous = next(raws) if after else None
            return list(unpack(self.keys[feed], raws, previous, max_bytes))

    def _walk(self, txn: Txn, feed: int, after: int, head: int, newest: int) -> Iterator[bytes]:
        """Raw records of ``feed`` from sequence ``after`` (1, if that is 0) to ``head``; ``newest`` is the receive
        number of the head, or of a later one.
        """
        messages = self.store.messages
        done, last = max(after, 1) - 1, 0  # sequence and receive number; 0: not known
        while done < head:
            end = min(head, done - done % STRIDE + STRIDE)
            number = newest if end == head else _number(txn.get(_PAIR.pack(feed, end), b"", db=self.store.sequences))
            # receive numbers of a feed only rise: if the ends are as far apart as their sequences, nothing is between
            if last and number - last == end - done:
                cursor = txn.cursor(messages)
                cursor.set_key(_RECEIVE.pack(last + 1))
                yield from islice(cursor.iternext(keys=False, values=True), end - done)
            else:
                yield from _chain(txn, messages, number, done, end)
            done, last = end, number


class Appender:
    """One batch of messages in the write transaction ``txn``: ``append`` as often as needed, then ``finish`` once."""

    __slots__ = (
        "_changes",
        "_edges",
        "_heads",
        "_log",
        "_messages",
        "_new",
        "_sequences",
        "_stored",
        "txn",
    )

    def __init__(self, log: Log, txn: Txn) -> None:
        if txn.stat(log.store.feeds)["entries"] != len(log.keys):
            raise RuntimeError("the batch before was committed but not applied: feed numbers would be given twice")
        last = txn.cursor(log.store.messages)
        self._stored = _number(last.key()) if last.last() else 0
        self._log = log
        self.txn = txn
        self._new: dict[bytes, int] = {}
        self._heads: dict[int, Head | None] = {}
        self._messages: list[tuple[bytes, bytes]] = []
        self._sequences: dict[bytes, bytes] = {}
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
        head = None if feed is None else self.head(feed)
        verdict = chain(head, message)
        if verdict is Chain.NEXT:
            if feed is None:
                feed = self.intern(message.author)
            self._take(feed, head, message, received)
            if message.contact is not None:
                self._connect(feed, self.intern(message.contact.target), message.contact.value)
        elif feed is not None and self._contradicts(verdict, feed, message):
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
        known = len(self._log.keys)
        self._put(store.feeds, [(_NUMBER.pack(known + new), key) for new, key in enumerate(self._new)])
        self._put(store.heads, self._head_records())
        self.txn.cursor(store.messages).putmulti(self._messages, append=True)
        self._put(store.sequences, list(self._sequences.items()))
        self._put(store.edges, list(self._edges.items()))
        return self._changes

    def _number(self, key: bytes) -> int | None:
        feed = self._log.numbers.get(key)
        return self._new.get(key) if feed is None else feed

    def _stored_head(self, feed: int) -> Head | None:
        if feed >= len(self._log.keys):
            raise LookupError(f"there is no feed number {feed}")
        record = self.txn.get(_NUMBER.pack(feed), db=self._log.store.heads)
        if record is None:
            return None
        sequence, _newest, digest, timestamp, _state = _HEAD.unpack(record)
        return Head(sequence, digest, None if math.isnan(timestamp) else timestamp)

    def _take(self, feed: int, head: Head | None, message: Message, received: float) -> None:
        sequence = message.sequence
        number = self._stored + len(self._messages) + 1
        key = _RECEIVE.pack(number)
        content = Record(sequence, message.id, received, message.encoded)
        previous = None if head is None else head.id
        self._messages.append((key, pack(feed, message.author, self._newest(feed), previous, content)))
        if sequence % STRIDE == 0:
            self._sequences[_PAIR.pack(feed, sequence)] = key
        self._heads[feed] = message.head
        self._changes.heads[feed] = sequence
        self._changes.newest[feed] = number
        self._changes.appended.append((feed, sequence))
        if message.announced is not None:
            self._changes.announced.append((feed, message.announced))

    def _newest(self, feed: int) -> int:
        """The receive number of the head, those of this batch included; 0: there is none."""
        newest = self._changes.newest.get(feed)
        if newest is None:
            newest = self._log.newest[feed] if feed < len(self._log.newest) else 0
        return newest

    def _contradicts(self, verdict: Chain, feed: int, message: Message) -> bool:
        """Has the author signed two messages for one place? It takes a few lookups, for duplicates alone."""
        if verdict is not Chain.DUPLICATE:
            return verdict is Chain.FORK
        return message.sequence >= 1 and self._id_at(feed, message.sequence) != message.id

    def _keep_proof(self, feed: int, message: Message, sequence: int, found: float) -> None:
        fork = Fork(sequence, self._id_at(feed, sequence), message.id, found, message.encoded)
        Forks(self._log.store).put(self.txn, feed, fork)
        self._changes.forked[feed] = fork

    def _id_at(self, feed: int, sequence: int) -> bytes:
        """The id of a message we have: from the next entry of the index back, at most ``STRIDE`` lookups."""
        entry = _PAIR.pack(feed, sequence + -sequence % STRIDE)
        key = self._sequences.get(entry) or self.txn.get(entry, db=self._log.store.sequences)
        raw = self._raw(self._newest(feed) if key is None else _number(key))
        at, before = place_of(raw)
        while at > sequence:
            raw = self._raw(before)
            at, before = place_of(raw)
        return id_of(raw)

    def _raw(self, number: int) -> bytes:
        """The record with this receive number, those of this batch included."""
        if number > self._stored:
            return self._messages[number - self._stored - 1][1]
        return self.txn.get(_RECEIVE.pack(number), b"", db=self._log.store.messages)

    def _connect(self, author: int, target: int, value: int) -> None:
        self._edges[_PAIR.pack(author, target)] = _EDGE.pack(value)
        self._changes.edges.append((author, target, value))

    def _head_records(self) -> list[tuple[bytes, bytes]]:
        """Of all feeds whose head moved and of all that turned out to be forked."""
        records = []
        for feed in self._changes.heads.keys() | self._changes.forked.keys():
            head = self.head(feed)
            if head is not None:
                records.append((_NUMBER.pack(feed), pack_head(head, self._newest(feed), self.is_forked(feed))))
        return records

    def _put(self, database: Database, items: list[tuple[bytes, bytes]]) -> None:
        """Put in key order: neighbours share a page, which is then found and copied once."""
        items.sort()
        self.txn.cursor(database).putmulti(items)


def pack_head(head: Head, newest: int, is_forked: bool) -> bytes:
    """A record of ``heads``; ``newest`` is the receive number of that message."""
    timestamp = math.nan if head.timestamp is None else head.timestamp
    return _HEAD.pack(head.sequence, newest, head.id, timestamp, _FORKED if is_forked else _ORDINARY)


def _chain(txn: Txn, messages: Database, number: int, done: int, end: int) -> list[bytes]:
    """Raw records of one feed after sequence ``done`` up to ``end``, found from ``number`` (of that or a later one)."""
    raws = []
    sequence = end + 1
    get, pack_number = txn.get, _RECEIVE.pack
    while sequence > done + 1:
        raw = get(pack_number(number), b"", messages)
        sequence, number = place_of(raw)
        if sequence <= end:
            raws.append(raw)
    raws.reverse()
    return raws


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")


def _numbers(keys: bytes) -> array[int]:
    """Of u32 after u32."""
    numbers = array("I", keys)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
