"""``ebt.replicate``: the replication state machine of ``pub.protocol`` between a muxrpc stream, ingest and the log.

What arrives: notes go to the state machine; a message it was waiting for goes on to ingest, one submission for all
that one read brought. What leaves is pulled by the connection's sender: notes first, then pages of the log, each feed
that the peer wants in turn. A commit marks the feed in the sessions that want it and wakes them, and that is all it
costs: the log is the queue.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
import trio

from pub.errors import EbtError, RpcError, StoringStopped
from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.net.roles import Role
from pub.net.rpcstream import RpcStream
from pub.protocol.clocks import Clock
from pub.protocol.contacts import BLOCK
from pub.protocol.ebt import MAX_FRAME, MessageFrame, Notes, decode_note, parse_clock, parse_frame
from pub.protocol.muxrpc import CLOSED_TEXT, Kind
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator
from pub.rpc.arguments import options
from pub.rpc.context import Pub
from pub.rpc.incoming import Incoming
from pub.rpc.resends import Resends
from pub.store.log import Appender, Changes

log = structlog.get_logger()
T = TypeVar("T")

NAME = ("ebt", "replicate")
VERSION = 3
FORMAT = "classic"
CLOCK_LIMIT = 8 << 20  # bytes of one frame: the clock of 130,000 feeds at 60 bytes a note
NOTES_PER_TURN = 1000  # of a peer's, before others get their turn: 2 ms
NOTES_PER_PACKET = 8  # so many cost as much as a packet with a message, and shorten their sender's turn as it does
NOTES_PER_FRAME = 1000  # 60 KB of notes in one packet, 3 ms: between them others get their turn
RECONNECTED = "reconnected to peer"  # what the older of two sessions is told


class Progress(NamedTuple):
    """How many feeds a peer is sending us messages of, and how many we are sending it."""

    receiving: int
    sending: int


class Replication:
    """All EBT sessions of this pub and the one state machine behind them."""

    def __init__(self, pub: Pub) -> None:
        self._pub = pub
        self.replicator = Replicator(pub.log.keys, pub.log.numbers, pub.log.heads)
        self.resends = Resends(pub.metrics)
        self._open: dict[bytes, EbtStream] = {}
        self._streams: dict[ReplicatorSession, RpcStream] = {}
        self._unsaved: dict[bytes, bytes] = {}
        self._timeout: float | None = None  # when ``run`` means to look at the state machine again
        self._bell = trio.Event()
        self.clock_desk = trio.Lock()
        """Clocks too large for one turn are taken in one at a time: as objects they are five times as large."""
        self.large_clock_read = trio.Event()
        """Set after such a clock; who gives the memory back that it took makes it anew."""

    def watch(self, changes: Changes) -> None:
        """Called after each commit: who follows whom decides what we replicate, then everybody who waits is woken."""
        for key in changes.keys:
            if key in self._open:
                self._open[key].session.peer_feed = self._pub.log.numbers[key]
        self._set_edges(changes.edges)
        for feed in changes.heads:
            self.replicator.appended(feed)
        self.resends.committed(changes, self.replicator.interest.has)
        self.wake()

    def _set_edges(self, edges: list[tuple[int, int, int]]) -> None:
        pub = self._pub
        veiled: list[tuple[int, int]] = []
        for author, target, value in edges:
            if BLOCK in (value, pub.graph.edge(author, target)):
                veiled.append((author, target))
            pub.graph.set_edge(author, target, value)
        for feed in pub.hops.update():
            if pub.hops.is_replicated(feed):
                self.replicator.replicate(feed)
            else:
                self.replicator.stop_replicating(feed)
            pub.legacy.update_feed(feed)
        for author, target in veiled:
            if (ebt := self._open.get(pub.log.keys[target])) is not None:
                ebt.session.visibility_changed(author)
            if pub.graph.is_blocking(pub.own, target):
                pub.lobby.drop_blocked(pub.log.keys[target])

    def watch_disk(self) -> None:
        """Called when the disk has become full, and when it has room again: only then it makes sense to ask."""
        if self._pub.ingest.disk.full is None:
            self.replicator.senders.resume()
            self.wake()
        else:
            self.replicator.senders.hold()

    def wake(self) -> None:
        """Let the senders know that the state machine has something for them."""
        woken = self.replicator.woken
        while woken:
            stream = self._streams.get(woken.popitem()[0])
            if stream is not None:
                stream.wake()
        if self._unsaved or self.replicator.next_timeout() != self._timeout:
            self._bell.set()
        for limit, count in self.replicator.limit_hits.items():
            self._pub.metrics.limit_hits.labels(limit).inc(count)
        self.replicator.limit_hits.clear()

    async def run(self) -> None:
        """Look after feeds whose sender has gone quiet, for ever."""
        while True:
            while self._unsaved:
                await self.save_clocks()
            self._bell = trio.Event()
            self._timeout = self.replicator.next_timeout()
            with trio.move_on_at(float("inf") if self._timeout is None else self._timeout) as wait:
                await self._bell.wait()
            if wait.cancelled_caught:
                self.replicator.timeout(trio.current_time())
                self.wake()

    async def save_clocks(self) -> None:
        """Put the clocks of the sessions that have ended on disk. (If that is missed, the next greeting is longer.)"""
        if self._unsaved:
            clocks = dict(self._unsaved)
            try:
                await self._pub.ingest.write(partial(self._put_clocks, clocks))
            except StoringStopped as refusal:
                log.debug("clocks_not_saved", reason=refusal.message)
            for key, clock in clocks.items():
                if self._unsaved.get(key) is clock:  # no newer one: only now may a peer that is back get it from disk
                    del self._unsaved[key]

    def _put_clocks(self, clocks: dict[bytes, bytes], appender: Appender) -> None:
        for key, clock in clocks.items():
            if self._pub.clocks.get(appender.txn, key) != clock:  # a peer that lost its own may have repeated it all
                self._pub.clocks.put(appender.txn, key, clock)

    def _saved_clock(self, key: bytes) -> Clock | None:
        packed = self._unsaved.get(key)
        if packed is None and self._keeps_clock_of(key):
            with self._pub.store.read() as txn:
                packed = self._pub.clocks.get(txn, key)
        try:
            return None if packed is None else Clock.unpack(packed)
        except EbtError:  # as an older version wrote it: this greeting will be longer
            return None

    def _keeps_clock_of(self, key: bytes) -> bool:
        """Only of those whose feeds we replicate, so that strangers cannot fill the disk."""
        feed = self._pub.log.numbers.get(key)
        return feed is not None and self._pub.hops.is_replicated(feed)

    def _is_hidden_from(self, key: bytes, feed: int) -> bool:
        """Does the author of ``feed`` block the peer with ``key``?"""
        peer_feed = self._pub.log.numbers.get(key)
        return peer_feed is not None and self._pub.graph.is_blocking(feed, peer_feed)

    def start(self, stream: RpcStream, *, speaks_first: bool) -> None:
        """Begin a session on ``stream``; an older one of the same peer ends."""
        key = stream.connection.peer.key
        older = self._open.get(key)
        if older is not None:
            older.stream.end(RpcError(RECONNECTED))
            older.ended(None)
        session = self.replicator.open(
            speaks_first=speaks_first,
            peer_feed=self._pub.log.numbers.get(key),
            saved=self._saved_clock(key),
            is_hidden=partial(self._is_hidden_from, key),
        )
        self._open[key] = EbtStream(self._pub, stream, session, is_silent=not speaks_first)
        if speaks_first:
            self._pub.legacy.end(key)
        self._streams[session] = stream
        stream.receiver = stream.source = self._open[key]
        stream.wake()
        self.wake()

    @property
    def count(self) -> int:
        """How many sessions are open."""
        return len(self._open)

    def is_spoken_by(self, key: bytes) -> bool:
        """Is there a session with this peer that it has opened or answered?"""
        ebt = self._open.get(key)
        return ebt is not None and not ebt.is_silent

    def progress(self) -> dict[bytes, Progress]:
        """What is on its way in each session, by the peer's key."""
        senders = self.replicator.senders
        receiving = Counter(senders.by_feed[feed] for feed in senders.awaited)
        return {key: Progress(receiving[ebt.session], ebt.session.owed) for key, ebt in self._open.items()}

    def forget(self, ebt: "EbtStream") -> None:
        """A session is over."""
        if self._streams.pop(ebt.session, None) is None:
            return
        ebt.session.close()
        if ebt.session.has_learned and self._keeps_clock_of(ebt.key):
            self._unsaved[ebt.key] = ebt.session.clock_to_save().pack()
        if self._open.get(ebt.key) is ebt:
            del self._open[ebt.key]
        self.wake()


class EbtStream:
    """One session: both ends of one ``ebt.replicate`` stream."""

    __slots__ = ("_incoming", "_is_over", "_pub", "is_silent", "key", "session", "stream")

    def __init__(self, pub: Pub, stream: RpcStream, session: ReplicatorSession, *, is_silent: bool) -> None:
        self.stream = stream
        self.session = session
        self.is_silent = is_silent
        """We called and the peer has not answered yet: it may not know EBT."""
        self.key = stream.connection.peer.key
        self._is_over = False
        self._pub = pub
        self._incoming = Incoming(
            pub, session, stream.connection.session.in_vain, partial(pub.legacy.recover, stream.connection)
        )

    async def receive(self, bodies: list[bytes]) -> None:
        """Frames of the peer: see ``Receiver``."""
        if self.is_silent:
            self.is_silent = False
            self._pub.legacy.end(self.key)
        for body in bodies:
            if len(body) > MAX_FRAME:
                try:
                    await self._receive_clock(body)
                finally:
                    self._pub.replication.large_clock_read.set()
                if self._is_over:  # a newer session of this peer has begun meanwhile
                    return
                continue
            frame = parse_frame(body)
            if isinstance(frame, MessageFrame):
                self._incoming.take(frame, body)
            else:
                self.session.receive_notes(frame, trio.current_time())
                self._hear_of_own_feed(frame)
                if len(frame) >= NOTES_PER_PACKET:
                    self.stream.connection.session.charge(len(frame) // NOTES_PER_PACKET)
                    await trio.lowlevel.checkpoint()
                    if self._is_over:
                        return
        self._pub.replication.wake()
        await self._incoming.hand_in()

    def ended(self, error: RpcError | None) -> None:
        """The peer ended the stream, refused it, or went away."""
        self._is_over = True
        self._incoming.close()
        self._pub.ingest.own_feed.left(self.key, trio.current_time())
        self._pub.replication.forget(self)
        if self.is_silent and error is not None and error.message != CLOSED_TEXT:
            self._pub.legacy.begin(self.stream.connection)

    def next_page(self, budget: int) -> list[bytes]:
        """Notes, then messages: see ``Source``."""
        notes = self.session.next_notes(NOTES_PER_FRAME)
        if notes is not None:
            return [msgspec.json.encode(notes)]
        page: list[bytes] = []
        log_page = self._pub.pages.page
        while budget > 0 and (due := self.session.next_slice()) is not None:
            messages = log_page(due.feed, due.after, budget)
            self.session.sent(due.feed, due.after + len(messages))
            self._pub.replication.resends.sent(due.feed, due.after, len(messages))
            page += messages
            budget -= sum(map(len, messages))
        if budget > 0:
            self.stream.rest()
        self._pub.metrics.tally.sent_messages += len(page)
        return page

    async def _receive_clock(self, body: bytes) -> None:
        async with self._pub.replication.clock_desk:
            notes, known = parse_clock(body), dict[int, int]()
            for part in _turns(notes.items()):
                known |= self.session.sift_notes(part)
                await trio.lowlevel.checkpoint()
                if self._is_over:
                    return
            for feeds in _turns(sorted(known)):
                self.session.heed_notes({feed: known[feed] for feed in feeds}, trio.current_time(), is_whole=False)
                await trio.lowlevel.checkpoint()
                if self._is_over:
                    return
            self.session.heed_notes({}, trio.current_time())
            self._hear_of_own_feed(notes)

    def _hear_of_own_feed(self, notes: Notes) -> None:
        """How far has the peer our own feed: more than we have, or all there is?"""
        note = decode_note(notes.get(self._pub.keys.id))
        if note is None:
            return
        sequence = note.sequence
        own_feed, head = self._pub.ingest.own_feed, self._pub.log.heads[self._pub.own]
        is_member = self.stream.connection.peer.role is Role.MEMBER
        if sequence > head:
            own_feed.claim(self.key, sequence, trio.current_time(), is_member)
            self._pub.legacy.recover(self.stream.connection, self._pub.own)
        elif sequence == head and head and is_member:
            own_feed.unconfirmed = False


def _turns(items: Iterable[T]) -> Iterator[list[T]]:
    """What is done with a large clock before others get their turn."""
    left = iter(items)
    return iter(lambda: list(islice(left, NOTES_PER_TURN)), [])


def replicate(pub: Pub, stream: RpcStream, args: list[Any]) -> None:
    """duplex ``[{version: 3, format: "classic"}]``: notes and messages both ways; we, the callee, speak first."""
    if not args:
        raise RpcError("Cannot read properties of undefined (reading 'version')", "TypeError")
    asked = options(args)
    if asked.get("version") not in (VERSION, str(VERSION)):
        raise RpcError("expected ebt.replicate({version: 3})")
    if (wanted := asked.get("format") or FORMAT) != FORMAT:
        raise RpcError(f"Unknown format: {wanted}")
    pub.replication.start(stream, speaks_first=True)


def call(pub: Pub, connection: Connection) -> None:
    """Ask ``connection``'s peer to replicate with us: what the side that dialled does."""
    args = [{"version": VERSION, "format": FORMAT}]
    pub.replication.start(connection.open_stream(NAME, args, Kind.DUPLEX, CLOCK_LIMIT), speaks_first=False)


METHODS: Methods = {NAME: Method("duplex", replicate, CLOCK_LIMIT)}
