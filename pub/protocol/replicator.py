"""EBT: who sends which feed to whom. State is one clock per peer.

A `Replicator` knows the feeds we replicate and the sessions with our peers. The caller owns the log (`keys`, `numbers`
and `heads` are live views of it), hands in what peers say (`replication`), calls `appended` once per feed after each
commit, and lets the sessions in `woken` speak. The machine never calls out, except to ask `is_hidden`.

What to say first: a peer with whom we never spoke hears of every feed that we replicate, one that returns of those that
have changed. `level` is the clock of a peer who has exactly what we have; it moves with our heads, so that opening a
session only has to compare two clocks.

What to say of feeds that we follow later: they are appended to one list which every session walks with a cursor of its
own. So following a feed costs nothing per peer until that peer is ready to be written to. What a peer wanted of the
feed while we did not have it takes effect there, without the peer's help.

To whom a new message goes is the business of `interest`.
Whom we ask for a feed is the business of `senders`.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from pub.protocol.clocks import Clock
from pub.protocol.interest import Interest
from pub.protocol.replication import ReplicatorSession
from pub.protocol.senders import Senders
from pub.protocol.slots import Slots

MAX_REPETITIONS = 1000  # entries of feeds followed again, beyond which the list of followed feeds is written anew


def never(_feed: int) -> bool:
    """No author blocks this peer."""
    return False


def level_note(head: int) -> int:
    """What a saved clock holds of a feed if the peer has it as far as we. The reference speaks of feeds without a
    message in any case, so there 0, which no saved clock holds.
    """
    return head << 1 | 1 if head else 0


class Replicator:
    """The feeds we replicate and the peers we replicate them with.

    `keys` are the feed keys by feed number, `numbers` the reverse, `heads` our last sequences by feed number (0: none).
    `woken` collects the sessions that may have something to say; the caller empties it. `limit_hits` counts bounds hit.
    """

    __slots__ = (
        "_sessions",
        "_slots",
        "followed",
        "heads",
        "in_flight",
        "interest",
        "keys",
        "level",
        "limit_hits",
        "numbers",
        "replicated",
        "senders",
        "woken",
    )

    def __init__(self, keys: Sequence[bytes], numbers: Mapping[bytes, int], heads: Sequence[int]) -> None:
        self.keys = keys
        self.numbers = numbers
        self.heads = heads
        self.woken: dict[ReplicatorSession, None] = {}  # a set that keeps its order, which any replay must find again
        self.limit_hits: Counter[str] = Counter()
        self.replicated: set[int] = set()
        self.followed = array("I")  # in the order of replicate(); a feed that was stopped and resumed is there twice
        self.level = Clock()
        self.in_flight: dict[int, int] = {}  # feed -> slots of the sessions whose messages are being appended
        self._sessions: dict[ReplicatorSession, None] = {}  # likewise
        self._slots = Slots()
        self.senders = Senders(heads, self._slots)
        self.interest = Interest(self._slots)

    def replicate(self, feed: int, ask: bool = True) -> None:
        """Announce a feed, pass it on and ask for it. Without `ask` it is asked for only where a peer shows more of it
        than we have: meant for our own feed, of which others have more only after we lost some.
        """
        if ask:
            self.senders.unasked.discard(feed)
        else:
            self.senders.unasked.add(feed)
        if feed in self.replicated:
            return
        self.replicated.add(feed)
        self.level.set(feed, level_note(self.heads[feed]))
        self.followed.append(feed)
        if len(self.followed) > 2 * len(self.replicated) + MAX_REPETITIONS:
            self._rewrite_followed()
        if len(self.woken) < len(self._sessions):
            self.woken |= self._sessions

    def begin(self, feeds: Iterable[int]) -> None:
        """Replicate all that a pub follows when it starts: `replicate` of each, before there is a session."""
        new = array("I", [feed for feed in feeds if feed not in self.replicated])
        self.replicated.update(new)
        self.level.update({feed: level_note(self.heads[feed]) for feed in new})
        self.followed += new

    def stop_replicating(self, feed: int) -> None:
        """Neither pass on nor take this feed any more. A peer is told when it mentions the feed again or sends it."""
        self.replicated.discard(feed)
        self.level.discard(feed)
        self.senders.forget(feed)
        for _, session in self._slots.each(self.in_flight.pop(feed, 0)):
            if session is not None:
                session.forget_submitted(feed)

    def is_replicated(self, feed: int) -> bool:
        """Whether `replicate` was called for this feed."""
        return feed in self.replicated

    def open(
        self,
        *,
        speaks_first: bool,
        peer_feed: int | None,
        saved: Clock | None = None,
        is_hidden: Callable[[int], bool] = never,
    ) -> ReplicatorSession:
        """Begin with a peer. The side that was called speaks first. `peer_feed` is the peer's own feed, if it has a
        number; `saved` the clock that the last session with it ended with (given away: the session changes it);
        `is_hidden` tells whether the author of a feed blocks this peer.
        """
        slot = self._slots.take()
        session = ReplicatorSession(self, slot, speaks_first, peer_feed, saved or Clock(), is_hidden)
        self._slots.fill(slot, session)
        self._sessions[session] = self.woken[session] = None
        if speaks_first:
            session.begin()
        return session

    def appended(self, feed: int) -> None:
        """Our head of this feed has grown."""
        head = self.heads[feed]
        for _, session in self._slots.each(self.in_flight.pop(feed, 0)):
            if session is not None:
                session.landed(feed, head)
        if feed not in self.replicated:
            return
        self.level.set(feed, level_note(head))
        self.senders.moved(feed, head)
        self.interest.appended(feed, head)

    def next_timeout(self) -> float | None:
        """When `timeout` wants to be called, or None."""
        return self.senders.next_timeout()

    def timeout(self, now: float) -> None:
        """Turn away from peers that announced more of a feed and do not send it."""
        self.senders.timeout(now)

    def closed(self, session: ReplicatorSession) -> None:
        """Part of `ReplicatorSession.close`."""
        self._slots.leave(session.slot)
        self.interest.leave(session)
        self._sessions.pop(session, None)
        self.woken.pop(session, None)
        self.senders.leave(session)

    def _rewrite_followed(self) -> None:
        """Forget repetitions. A session in the middle of the list begins again: saying a thing twice does no harm."""
        end = len(self.followed)
        self.followed = array("I", sorted(self.replicated))
        for session in self._sessions:
            session.rewind(len(self.followed) if session.cursor == end else 0)
