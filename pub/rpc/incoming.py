"""Messages of one peer on their way into ingest, whichever method brought them.

What one read brought is looked at frame by frame (``take``): did we wait for this message of this feed? What we did
is handed in at once (``hand_in``), one submission for all of it. Who decides, and who hears of what was not stored,
is the ``Taker``: the EBT session or the history streams of that peer.
"""

from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from pub.errors import InvalidReference
from pub.ingest.batch import NotStored, Submission
from pub.protocol.arrivals import Expectation
from pub.protocol.ebt import MessageFrame
from pub.protocol.refs import feed_id, feed_key
from pub.rpc.context import Pub

log = structlog.get_logger()

# What a message that we did not wait for costs us. So priced, duplicates come as fast as most people's lines are: what
# two members have in common, and what was on its way when somebody else was quicker, holds up neither.
MESSAGE_PACKETS = 6


class Taker(Protocol):
    """What we expect of the peer, feed by feed. After ``refused`` nothing more of that feed may be expected."""

    def expects(self, feed: int, sequence: int, now: float) -> Expectation:
        """What this message is to us; one that is NEXT counts as handed in."""
        ...

    def shares(self, feed: int) -> bool:
        """Do we still take this feed from the peer?"""
        ...

    def refused(self, feed: int) -> None:
        """What the peer sent of this feed is no continuation of it, and that is its fault."""
        ...

    def withdrawn(self, feed: int) -> None:
        """What was handed in could not be stored, through no fault of the peer: ask again when the disk has room."""
        ...


class Incoming:
    """The messages of one peer: see the top of the file."""

    __slots__ = ("_in_vain", "_is_closed", "_missed", "_places", "_pub", "_raws", "_taker")

    def __init__(
        self, pub: Pub, taker: Taker, in_vain: Callable[[int, int], None], missed: Callable[[int], None] | None = None
    ) -> None:
        """``in_vain`` is told what each message cost that we did not wait for: see ``Session.in_vain``.

        ``missed`` is told of a feed whose messages begin further on than we have it.
        """
        self._in_vain = in_vain
        self._missed = missed
        self._pub = pub
        self._taker = taker
        self._is_closed = False
        self._raws: list[bytes] = []
        self._places: list[tuple[int, int]] = []

    def take(self, frame: MessageFrame, body: bytes) -> None:
        """Keep a message for ``hand_in`` if it is the one we wait for; the others are counted and dropped."""
        try:
            feed = self._pub.log.numbers.get(feed_key(frame.author))
        except InvalidReference:
            feed = None
        expectation = (
            Expectation.NOT_WANTED if feed is None else self._taker.expects(feed, frame.sequence, trio.current_time())
        )
        if feed is not None and expectation is Expectation.NEXT:
            self._raws.append(body)
            self._places.append((feed, frame.sequence))
        else:
            self._in_vain(MESSAGE_PACKETS, len(body))
            self._count(feed, expectation)
            if feed is not None and expectation is Expectation.GAP and self._missed is not None:
                self._missed(feed)

    def _count(self, feed: int | None, expectation: Expectation) -> None:
        pub, result = self._pub, expectation.name.lower()
        if expectation is Expectation.NOT_WANTED and feed is not None and pub.graph.is_blocking(pub.own, feed):
            result = "blocked"
        pub.metrics.received.labels(result).inc()

    async def hand_in(self) -> None:
        """Submit what was taken; waits while ingest is full, which holds the peer back."""
        if self._raws:
            submission = Submission(self, self._raws, self._places, self._refused)
            self._raws, self._places = [], []
            await self._pub.ingest.submit(submission)

    def close(self) -> None:
        """The taker is gone: what becomes of messages that are on their way it shall not hear any more."""
        self._is_closed = True

    def _refused(self, feed: int, sequence: int, outcome: NotStored, reason: str) -> None:
        """The writer did not take a message of this peer's: if that is its fault, no more of that feed from it."""
        if outcome is NotStored.DUPLICATE:
            return  # somebody else's copy was stored, which the taker has heard of
        if self._is_closed or not self._taker.shares(feed):
            return  # the peer has gone, or was refused already: what it sent behind that fails as well
        if outcome is NotStored.DISK_FULL:
            self._taker.withdrawn(feed)  # the log has said that the disk is full, and need not say it for each message
            self._pub.replication.wake()
            return
        self._taker.refused(feed)
        self._pub.replication.wake()
        log.info("message_refused", feed=feed_id(self._pub.log.keys[feed]), sequence=sequence, reason=reason)
