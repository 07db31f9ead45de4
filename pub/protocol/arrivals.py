"""EBT: the messages that one peer sends us, which of them are next, and how far they are in.

What is NEXT counts as submitted until the head of its feed has reached it. Between the two the peer goes on sending, so
what is expected of it lies behind what it submitted, not behind our head.
"""

from enum import Enum
from typing import TYPE_CHECKING

from pub.protocol.feedsets import FeedSet

if TYPE_CHECKING:
    from pub.protocol.replication import ReplicatorSession
    from pub.protocol.replicator import Replicator


class Expectation(Enum):
    """What an arriving message is to us."""

    NEXT = "next"  # hand it in; it counts as submitted from now on
    DUPLICATE = "duplicate"
    GAP = "gap"
    NOT_WANTED = "not wanted"


class Arrivals:
    """The messages of one session's peer."""

    __slots__ = ("_dropped", "_replicator", "_session", "_submitted")

    def __init__(self, session: "ReplicatorSession", replicator: "Replicator") -> None:
        self._session = session
        self._replicator = replicator
        self._submitted: dict[int, int] = {}  # feed -> last sequence handed in and not yet appended
        self._dropped = FeedSet()  # we dropped messages of these: what still comes may be a gap of our making

    def expects(self, feed: int, sequence: int, now: float) -> Expectation:
        """What this message is to us. A gap, unless we made it, refuses the peer we asked."""
        session, replicator = self._session, self._replicator
        head, submitted = replicator.heads[feed], self._submitted.get(feed, 0)
        last = max(head, submitted)
        if not submitted and not (feed in session.told and session.shares(feed)):
            self._drop(feed)
            return Expectation.NOT_WANTED
        if sequence == last + 1:
            if not submitted:
                self._begin(feed, head, now)
            self._submitted[feed] = sequence
            session.heard = now
            return Expectation.NEXT
        if sequence <= last:
            self._repeated(feed, sequence, head)
            return Expectation.DUPLICATE
        if feed in self._dropped:
            return Expectation.NOT_WANTED
        if replicator.senders.by_feed.get(feed) is session:
            session.refused(feed)
        return Expectation.GAP

    def withdraw(self, feed: int) -> int | None:
        """What was handed in of a feed does not count, and what follows it can't be stored. How far it went."""
        if (last := self.forget(feed)) is not None:
            self._dropped.add(feed)
        return last

    def forget(self, feed: int) -> int | None:
        """Nothing of this feed counts as submitted any more. How far it went, if something did."""
        last = self._submitted.pop(feed, None)
        if not self._submitted:
            self._submitted.clear()  # gives its memory back, which `pop` does not
        return last

    def landed(self, feed: int, head: int) -> None:
        """Some of what the peer sent of a feed is appended (or somebody else's copy of it)."""
        last = self._submitted.get(feed)
        if last is None:
            return
        self._session.clock.advance(feed, min(last, head))
        if last <= head:
            self.forget(feed)
        else:
            self._wait_for(feed)

    def _begin(self, feed: int, head: int, now: float) -> None:
        """The first of some messages that follow one another."""
        session, senders = self._session, self._replicator.senders
        self._wait_for(feed)
        senders.now = now
        self._dropped.discard(feed)
        if session.benched.pop(feed, None) is not None and session.sequence(feed) > head:
            senders.announced(feed, session)  # it sends after all

    def _wait_for(self, feed: int) -> None:
        in_flight = self._replicator.in_flight
        in_flight[feed] = in_flight.get(feed, 0) | self._session.bit

    def _drop(self, feed: int) -> None:
        """A message of a feed we do not want: say so, if the peer may think that we do."""
        self._dropped.add(feed)
        if feed in self._session.told:
            self._session.note_later(feed)

    def _repeated(self, feed: int, sequence: int, head: int) -> None:
        """The peer sent what we have. While it owes us more this is an overlap; else it need not send us this feed."""
        session, senders = self._session, self._replicator.senders
        session.clock.advance(feed, min(sequence, head))
        if sequence <= head and senders.by_feed.get(feed) is session and feed not in senders.awaited:
            senders.release(feed, session)
            session.note_later(feed)
