"""Replication with peers that have no EBT: our side calls their ``createHistoryStream``, once for every feed.

Who is such a peer? One that refuses our ``ebt.replicate``; one that has been connected for a minute without a word of
EBT; and, at once, one that asks for its own feed, which is how these clients begin: it says so how much of that feed
it has. As soon as EBT is spoken after all, our streams end.

A stream is asked from the message behind our head and stays open for what is written later. It costs an entry of a
dictionary and no task. Requests are written when the socket is free, so that ten thousand of them wait as a list of
feed numbers. What several peers send is dropped as a duplicate, before it costs a verification, once it is stored.

Only peers we dialled and those whose own feed we replicate are asked: the streams of one peer take two megabytes,
which a stranger shall not make us spend. Of our own feed anybody may show us more: after a lost disk all are strangers.

*Recovery* asks a peer for single feeds, whether it speaks EBT or not: EBT of the classic clients remembers what we once
had, and never sends again what we lost.
"""

import math
from contextlib import suppress

import structlog
import trio

from pub.errors import EbtError, RpcError
from pub.net.connection import Connection
from pub.net.roles import Role
from pub.net.rpcstream import RpcStream
from pub.protocol.arrivals import Expectation
from pub.protocol.ebt import MessageFrame, parse_frame
from pub.protocol.muxrpc import CLOSED_TEXT, MAX_OPEN_REQUESTS, Kind
from pub.protocol.refs import feed_id
from pub.rpc.context import Pub
from pub.rpc.history import NAME
from pub.rpc.incoming import Incoming

log = structlog.get_logger()

PATIENCE = 60.0  # seconds a peer that dialled us gets to open EBT; phones that wake up need some
REQUEST_BYTES = 200  # of one request on the wire, about
CATCHING_UP = 64  # feeds asked at a time, beyond the live ones, for what is missing now
MAX_LIVE = MAX_OPEN_REQUESTS - CATCHING_UP  # we ask no peer for more than we would grant


class Legacy:
    """All peers that we ask for history streams."""

    def __init__(self, pub: Pub) -> None:
        self._pub = pub
        self._peers: dict[bytes, LegacyPeer] = {}
        self._recoveries: dict[bytes, LegacyPeer] = {}
        self._judged = -math.inf  # those that connected until then had their minute

    @property
    def count(self) -> int:
        """How many peers seem to have no EBT; those that left count until the next ``tick``."""
        return len(self._peers)

    def begin(self, connection: Connection) -> None:
        """This peer seems to have no EBT: ask it for history streams, and no older connection of the same peer."""
        peer = connection.peer
        if peer.role not in (Role.MEMBER, Role.STRANGER) or self._pub.replication.is_spoken_by(peer.key):
            return
        older = self._peers.get(peer.key)
        if older is not None:
            if older.connection is connection:
                return
            older.stop()
        legacy = self._peers[peer.key] = LegacyPeer(self._pub, connection)
        if legacy.may_be_asked():
            legacy.ask_for_everything()
        else:
            self.recover(connection, self._pub.own)
        log.debug("legacy_replication", peer=feed_id(peer.key), address=peer.address)

    def recover(self, connection: Connection, feed: int) -> None:
        """Ask this peer for what it has of ``feed`` beyond our head, once for each connection."""
        recovery = self._recoveries.get(connection.peer.key)
        if recovery is None or recovery.connection is not connection:
            recovery = self._recoveries[connection.peer.key] = LegacyPeer(self._pub, connection)
        if feed == self._pub.own or recovery.may_be_asked():
            recovery.ask_once(feed)

    def end(self, key: bytes) -> None:
        """This peer has EBT."""
        if (legacy := self._peers.pop(key, None)) is not None:
            legacy.stop()

    def update_feed(self, feed: int) -> None:
        """We replicate ``feed`` from now on, or do not any more."""
        for legacy in self._peers.values():
            legacy.update_feed(feed)

    def tick(self, now: float) -> None:
        """Every few seconds: begin with those whose minute is over, forget those who left."""
        connections, judged = self._pub.lobby.connections, now - PATIENCE
        for asked in (self._peers, self._recoveries):
            for key, legacy in list(asked.items()):
                if legacy.connection not in connections:
                    del asked[key]
                else:
                    legacy.tick()
        for connection in [each for each in connections if self._judged < each.opened <= judged]:
            self.begin(connection)
        self._judged = judged


class LegacyPeer:
    """What we ask of one peer. The ``Taker`` of its messages and the ``Source`` of our requests."""

    __slots__ = (
        *("_asked_once", "_calls", "_has_turn", "_incoming", "_pub", "_queue", "_refused", "_withdrawn"),
        *("connection", "key"),
    )

    def __init__(self, pub: Pub, connection: Connection) -> None:
        self.connection = connection
        self.key = connection.peer.key
        self._pub = pub
        self._incoming = Incoming(pub, self, connection.session.in_vain)
        self._calls: dict[int, HistoryCall] = {}
        self._queue: list[int] = []  # feeds to ask for, the next one last
        self._has_turn = False  # the sender will ask us for requests
        self._asked_once: set[int] = set()  # these only, and not for what is written later
        self._refused: set[int] = set()  # what it sent of these was no continuation
        self._withdrawn: list[int] = []  # these could not be stored

    # --- what to ask for ----------------------------------------------------------------------------------

    def ask_for_everything(self) -> None:
        """Ask for each feed we replicate, the peer's own first, then the nearest."""
        hops = self._pub.hops
        own = self._pub.log.numbers.get(self.key)
        self._queue = [feed for feed in hops.hops if feed != own and hops.is_replicated(feed)]
        self._queue.sort(key=hops.hops.__getitem__, reverse=True)
        if own is not None and hops.is_replicated(own):
            self._queue.append(own)
        self._take_turn()

    def ask_once(self, feed: int) -> None:
        """Ask for one feed, and not again: what the peer shows of it now is all that it has."""
        if feed not in self._asked_once:
            self._asked_once.add(feed)
            self._queue.append(feed)
            self._take_turn()

    def update_feed(self, feed: int) -> None:
        """See ``Legacy``. The peer's own feed decides about all of them."""
        is_replicated = self._pub.hops.is_replicated(feed)
        if not self.may_be_asked():
            self.stop()
        elif is_replicated and feed == self._pub.log.numbers.get(self.key):
            self.ask_for_everything()
        elif is_replicated:
            self._queue.append(feed)
            self._take_turn()
        else:
            self._end_call(feed)

    def tick(self) -> None:
        """Ask again for what could not be stored, once it can."""
        if self._pub.ingest.disk.full is None:
            self._queue += self._withdrawn
            self._withdrawn.clear()
            self._take_turn()

    def stop(self) -> None:
        """No more of all this with this peer."""
        self._queue.clear()
        self._withdrawn.clear()
        for feed in list(self._calls):
            self._end_call(feed)

    def next_page(self, budget: int) -> list[bytes]:
        """The socket is free: write requests, as many as fit."""
        self._has_turn = False
        while budget > 0 and self._queue and len(self._calls) < MAX_OPEN_REQUESTS:
            feed = self._queue.pop()
            if feed not in self._calls and feed not in self._refused and self._pub.hops.is_replicated(feed):
                self._ask(feed)
                budget -= REQUEST_BYTES
        self._take_turn()
        return []

    def may_be_asked(self) -> bool:
        """Is this a peer we dialled, or one whose own feed we replicate?"""
        feed = self._pub.log.numbers.get(self.key)
        return self.connection.peer.is_outgoing or (feed is not None and self._pub.hops.is_replicated(feed))

    def _take_turn(self) -> None:
        if self._queue and not self._has_turn and len(self._calls) < MAX_OPEN_REQUESTS:
            self._has_turn = True
            self.connection.when_free(self)

    def _ask(self, feed: int) -> None:
        is_live = len(self._calls) < MAX_LIVE
        if not is_live:
            self._pub.metrics.limit_hits.labels("history_streams").inc()
        asked = {
            "id": feed_id(self._pub.log.keys[feed]),
            "seq": self._pub.log.heads[feed] + 1,
            # of ours the peer has more only if we lost it
            "live": is_live and feed != self._pub.own and feed not in self._asked_once,
            "keys": False,
        }
        try:
            stream = self.connection.open_stream(NAME, [asked], Kind.SOURCE)
        except RpcError:  # one of us has said goodbye
            self._queue.clear()
        else:
            self._calls[feed] = stream.receiver = HistoryCall(self, feed, stream)

    def _end_call(self, feed: int) -> None:
        call = self._forget(feed)
        if call is not None:
            call.stream.end()

    def _forget(self, feed: int) -> "HistoryCall | None":
        if feed == self._pub.own:
            self._pub.ingest.own_feed.shown(self.key)
        return self._calls.pop(feed, None)

    # --- what comes ---------------------------------------------------------------------------------------

    async def receive(self, bodies: list[bytes]) -> None:
        """What one read brought for one of the streams. What is no message (``{"sync": true}``) says nothing to us."""
        for body in bodies:
            with suppress(EbtError):
                frame = parse_frame(body)
                if isinstance(frame, MessageFrame):
                    self._incoming.take(frame, body)
        await self._incoming.hand_in()

    def ended(self, feed: int, error: RpcError | None) -> None:
        """The peer has no more of this feed for us; or no such method, whatever the feed; or it is gone."""
        if error is not None and error.message == CLOSED_TEXT:
            self._calls.pop(feed, None)
            self._pub.ingest.own_feed.left(self.key, trio.current_time())
        else:
            self._forget(feed)
        if error is not None and NAME[0] in error.message:
            self._queue.clear()
        self._take_turn()

    def expects(self, feed: int, sequence: int, now: float) -> Expectation:
        """See ``Taker``. A message that does not follow the one before ends the stream."""
        call = self._calls.get(feed)
        if call is None:
            return Expectation.NOT_WANTED
        last = max(self._pub.log.heads[feed], call.submitted)
        if sequence <= last:
            return Expectation.DUPLICATE
        if sequence > last + 1:
            self.refused(feed)
            return Expectation.GAP
        if feed == self._pub.own:
            self._claim_own(sequence + 1, now)
        call.submitted = sequence
        return Expectation.NEXT

    def _claim_own(self, sequence: int, now: float) -> None:
        """The peer has a message of ours that we lost: one more may follow, until its stream ends."""
        if self._pub.replication.is_spoken_by(self.key):
            return  # its note has told how many there are
        is_member = self.connection.peer.role is Role.MEMBER
        if not self._pub.ingest.own_feed.claim(self.key, sequence, now, is_member, is_word=False):
            self._pub.metrics.limit_hits.labels("own_feed_claims").inc()

    def shares(self, feed: int) -> bool:
        """See ``Taker``."""
        return feed in self._calls

    def refused(self, feed: int) -> None:
        """See ``Taker``."""
        self._refused.add(feed)
        self._end_call(feed)

    def withdrawn(self, feed: int) -> None:
        """See ``Taker``."""
        self._end_call(feed)
        self._withdrawn.append(feed)


class HistoryCall:
    """One stream: the ``Receiver`` of one feed's messages."""

    __slots__ = ("_feed", "_peer", "stream", "submitted")

    def __init__(self, peer: LegacyPeer, feed: int, stream: RpcStream) -> None:
        self.stream = stream
        self.submitted = 0
        """The last sequence handed in."""
        self._peer = peer
        self._feed = feed

    async def receive(self, bodies: list[bytes]) -> None:
        """See ``LegacyPeer``."""
        await self._peer.receive(bodies)

    def ended(self, error: RpcError | None) -> None:
        """See ``LegacyPeer``."""
        self._peer.ended(self._feed, error)
