"""``ebt.replicate``: the replication state machine of ``pub.protocol`` between a muxrpc stream, ingest and the log.

What arrives: notes go to the state machine; a message it was waiting for goes on to ingest, one submission for all
that one read brought. What leaves is pulled by the connection's sender: notes first, then pages of the log, each feed
that the peer wants in turn. A commit marks the feed in the sessions that want it and wakes them, and that is all it
costs: the log is the queue.
"""

from typing import Any

import msgspec
import structlog
import trio

from pub.errors import InvalidReference, RpcError
from pub.ingest.ingest import NotStored, Submission
from pub.net.connection import Connection, Method, Methods, RpcStream
from pub.net.roles import Role
from pub.protocol.ebt import MessageFrame, decode_note, parse_frame
from pub.protocol.muxrpc import Kind
from pub.protocol.refs import feed_id, feed_key
from pub.protocol.replication import Expectation, ReplicatorSession
from pub.protocol.replicator import Replicator
from pub.rpc.arguments import options
from pub.rpc.context import Pub
from pub.store.log import Changes

log = structlog.get_logger()

NAME = ("ebt", "replicate")
VERSION = 3
FORMAT = "classic"
CLOCK_LIMIT = 8 << 20  # bytes of one frame: the clock of 130,000 feeds at 60 bytes a note
NOTES_PER_FRAME = 5000  # 300 KB of notes in one packet: between them, messages of other feeds may pass
RECONNECTED = "reconnected to peer"  # what the older of two sessions is told


class Replication:
    """All EBT sessions of this pub and the one state machine behind them."""

    def __init__(self, pub: Pub) -> None:
        self._pub = pub
        self.replicator = Replicator(pub.log.keys, pub.log.numbers, pub.log.heads)
        self._open: dict[bytes, EbtStream] = {}
        self._streams: dict[ReplicatorSession, RpcStream] = {}
        self._bell = trio.Event()

    def watch(self, changes: Changes) -> None:
        """Called after each commit: whom we follow decides what we replicate, then everybody who waits is woken."""
        for key in changes.keys:
            if (ebt := self._open.get(key)) is not None:
                ebt.session.peer_feed = self._pub.log.numbers[key]
        for author, target, _value in changes.edges:
            if author == self._pub.own:
                self.update_feed(target)
        for feed in changes.heads:
            self.replicator.appended(feed)
        self.wake()

    def update_feed(self, feed: int) -> None:
        """Replicate ``feed`` if the pub follows it, else stop."""
        if self._pub.graph.is_following(self._pub.own, feed):
            self.replicator.replicate(feed)
        else:
            self.replicator.stop_replicating(feed)

    def wake(self) -> None:
        """Let the senders know that the state machine has something for them."""
        woken = self.replicator.woken
        while woken:
            stream = self._streams.get(woken.pop())
            if stream is not None:
                stream.wake()
        self._bell.set()
        for limit, count in self.replicator.limit_hits.items():
            self._pub.metrics.limit_hits.labels(limit).inc(count)
        self.replicator.limit_hits.clear()

    async def run(self) -> None:
        """Look after feeds whose sender has gone quiet, for ever."""
        while True:
            self._bell = trio.Event()
            at = self.replicator.next_timeout()
            with trio.move_on_at(float("inf") if at is None else at):
                await self._bell.wait()
                continue
            self.replicator.timeout(trio.current_time())
            self.wake()

    def start(self, stream: RpcStream, *, speaks_first: bool) -> None:
        """Begin a session on ``stream``; an older one of the same peer ends."""
        key = stream.connection.peer.key
        older = self._open.get(key)
        if older is not None:
            older.stream.end(RpcError(RECONNECTED))
            older.ended(None)
        session = self.replicator.open(speaks_first=speaks_first, peer_feed=self._pub.log.numbers.get(key))
        self._open[key] = EbtStream(self._pub, stream, session)
        self._streams[session] = stream
        stream.receiver = stream.source = self._open[key]
        stream.wake()
        self.wake()

    def is_open(self, session: ReplicatorSession) -> bool:
        """Is this session still going on? One that is closed must not be told anything: its slot may be another's."""
        return session in self._streams

    def forget(self, ebt: "EbtStream") -> None:
        """A session is over."""
        if self._streams.pop(ebt.session, None) is None:
            return
        ebt.session.close()
        if self._open.get(ebt.key) is ebt:
            del self._open[ebt.key]
        self.wake()


class EbtStream:
    """One session: both ends of one ``ebt.replicate`` stream."""

    def __init__(self, pub: Pub, stream: RpcStream, session: ReplicatorSession) -> None:
        self.stream = stream
        self.session = session
        self.key = stream.connection.peer.key
        self._pub = pub

    async def receive(self, bodies: list[bytes]) -> None:
        """Frames of the peer: see ``Receiver``."""
        raws: list[bytes] = []
        places: list[tuple[int, int]] = []
        for body in bodies:
            frame = parse_frame(body)
            if not isinstance(frame, MessageFrame):
                self._receive_notes(frame)
            elif (feed := self._expected(frame)) is not None:
                raws.append(body)
                places.append((feed, frame.sequence))
        self._pub.replication.wake()
        if raws:
            await self._pub.ingest.submit(Submission(raws, places, self._refused))

    def ended(self, _error: RpcError | None) -> None:
        """The peer ended the stream, or went away."""
        self._pub.ingest.own_feed.left(self.key, trio.current_time())
        self._pub.replication.forget(self)

    def next_page(self, budget: int) -> list[bytes]:
        """Notes, then messages: see ``Source``."""
        notes = self.session.next_notes(NOTES_PER_FRAME)
        if notes is not None:
            return [msgspec.json.encode(notes)]
        page: list[bytes] = []
        log_page = self._pub.log.page
        while budget > 0 and (due := self.session.next_slice()) is not None:
            messages = log_page(due.feed, due.after, budget)
            self.session.sent(due.feed, due.after + len(messages))
            page += messages
            budget -= sum(map(len, messages))
        self._pub.metrics.sent.inc(len(page))
        return page

    def _receive_notes(self, notes: dict[str, int]) -> None:
        self.session.receive_notes(notes, trio.current_time())
        note = decode_note(notes.get(self._pub.keys.id))
        if note is not None:
            self._hear_of_own_feed(note.sequence)

    def _hear_of_own_feed(self, sequence: int) -> None:
        """The peer has our own feed up to ``sequence``: is that more than we have, or all there is?"""
        own_feed, head = self._pub.ingest.own_feed, self._pub.log.heads[self._pub.own]
        is_member = self.stream.connection.peer.role is Role.MEMBER
        if sequence > head:
            own_feed.claim(self.key, sequence, trio.current_time(), is_member)
        elif sequence == head and head and is_member:
            own_feed.unconfirmed = False

    def _expected(self, frame: MessageFrame) -> int | None:
        """The feed's number if this message is the one we wait for; the others are counted and dropped."""
        try:
            feed = self._pub.log.numbers.get(feed_key(frame.author))
        except InvalidReference:
            feed = None
        expectation = (
            Expectation.NOT_WANTED if feed is None else self.session.expects(feed, frame.sequence, trio.current_time())
        )
        if expectation is Expectation.NEXT:
            return feed
        self._pub.metrics.received.labels(expectation.name.lower()).inc()
        return None

    def _refused(self, feed: int, sequence: int, outcome: NotStored, reason: str) -> None:
        """The writer did not take a message of this peer's: if that is its fault, no more of that feed from it."""
        if outcome is NotStored.DUPLICATE:
            return  # somebody else's copy was stored, which the session has heard of
        if not self._pub.replication.is_open(self.session) or not self.session.shares(feed):
            return  # the peer has gone, or was refused already: what it sent behind that fails as well
        if outcome is NotStored.DISK_FULL:
            self.session.withdrawn(feed)
        else:
            self.session.refused(feed)
        self._pub.replication.wake()
        log.info("message_refused", feed=feed_id(self._pub.log.keys[feed]), sequence=sequence, reason=reason)


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
