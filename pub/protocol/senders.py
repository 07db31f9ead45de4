"""EBT: which peer we ask for which feed. One session per feed is its *sender*, the one we told to send it to us.

A sender keeps its feed while it owes us messages that it announced: the feed is *awaited*. Another peer that announces
more is remembered and takes over when the sender has nothing left, leaves, or is silent for too long. The author of a
feed is asked at once. (The reference lets whoever claims more interrupt a sender at work. Then one liar stops a feed.)

A sender that owes us messages and sends nothing goes on the *bench* for that feed: nobody asks it again for a while,
unless nobody else is left; then it stays sender, but anybody may take its place.

While we can store nothing, nobody is asked. Who announces more meanwhile is remembered, and asked when we can.

Who announced more than we have is a bitmap over session slots. A bit is a hint: the clock of the session decides, and a
bit whose session is gone, or has nothing more, is cleared when it is met.
"""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from pub.protocol.slots import Slots

if TYPE_CHECKING:
    from pub.protocol.replication import ReplicatorSession

STALL_SECONDS = 3.0  # the reference's patience with a peer that announced more and sends nothing at all
LINGER_SECONDS = 30.0  # a peer that sends other feeds meanwhile may be busy, but then another gets its chance
BENCH_SECONDS = 30.0  # long enough that a liar costs us little, short enough for a peer that only hung
TICK_SECONDS = 1.0  # how often the awaited feeds are looked through


class Senders:
    """The sender of every feed: `by_feed`, and `awaited` for those that owe us messages; to be read, not changed.

    `now` is the latest time that anyone told us. `unasked` are the feeds that we ask for only where a peer shows more
    of them than we have.
    """

    __slots__ = (
        "_ahead",
        "_benches",
        "_check_at",
        "_heads",
        "_is_held",
        "_slots",
        "awaited",
        "by_feed",
        "now",
        "unasked",
    )

    def __init__(self, heads: Sequence[int], slots: Slots) -> None:
        self.now = 0.0
        self.unasked: set[int] = set()
        self._heads = heads
        self._slots = slots
        self.by_feed: dict[int, ReplicatorSession] = {}  # the sender of each feed
        self.awaited: dict[int, float] = {}  # feed -> when its sender was asked, or last sent some of what it owes us
        self._ahead: dict[int, int] = {}  # feed -> slots of the sessions that announced more than we had
        self._benches: dict[ReplicatorSession, None] = {}  # sessions that sit on the bench for some feed
        self._check_at: float | None = None
        self._is_held = False

    def hold(self) -> None:
        """Ask nobody for anything until `resume`. Who is asked already learns it when what it sends is `withdrawn`."""
        self._is_held = True

    def resume(self) -> None:
        """Ask for what was announced and not taken meanwhile."""
        self._is_held = False
        for feed in [feed for feed in self._ahead if feed not in self.awaited]:
            self._settle(feed, None)

    def volunteer(self, feed: int, session: "ReplicatorSession", sequence: int) -> None:
        """We write to this session, which has a feed up to `sequence`, about it anyway: ask it if nobody is asked, or
        if the feed is its own.
        """
        sender = self.by_feed.get(feed)
        if feed not in self.unasked and sender is not session and (sender is None or feed == session.peer_feed):
            self._ask(feed, session, sequence)

    def announced(self, feed: int, session: "ReplicatorSession") -> None:
        """This session has more of a feed than we do."""
        self._ahead[feed] = self._ahead.get(feed, 0) | session.bit
        if feed in session.benched:
            return
        sender = self.by_feed.get(feed)
        if sender is session:
            self.awaited.setdefault(feed, self.now)
            self._look_in(STALL_SECONDS)
        elif feed not in self.awaited or feed == session.peer_feed:
            self._ask(feed, session, session.sequence(feed))

    def caught_up(self, feed: int, session: "ReplicatorSession") -> None:
        """This session says that it has no more of a feed than we do."""
        if feed in self.awaited and self.by_feed[feed] is session:
            del self.awaited[feed]
            self._settle(feed, session)

    def moved(self, feed: int, head: int) -> None:
        """Our head has grown: is the sender done, and has somebody else more?"""
        sender = self.by_feed.get(feed)
        if sender is not None and feed in self.awaited:
            if sender.sequence(feed) > head:
                self.awaited[feed] = self.now
                return
            del self.awaited[feed]
        if feed in self._ahead:
            self._settle(feed, sender)
        if feed in self.unasked and feed not in self.awaited:
            self.dismiss(feed)

    def release(self, feed: int, session: "ReplicatorSession") -> None:
        """This session shall not be the sender of a feed (any more)."""
        if self.by_feed.get(feed) is session:
            del self.by_feed[feed]
            self.awaited.pop(feed, None)
            if feed in self._ahead:
                self._settle(feed, session)

    def bench(self, feed: int, session: "ReplicatorSession") -> None:
        """Do not ask this session for a feed for a while."""
        session.benched[feed] = self.now + BENCH_SECONDS
        self._benches[session] = None
        self._look_in(TICK_SECONDS)

    def dismiss(self, feed: int) -> None:
        """Ask nobody for a feed; its sender hears of it when a note to it is due."""
        sender = self.by_feed.pop(feed, None)
        self.awaited.pop(feed, None)
        if sender is not None:
            sender.note_later(feed)

    def forget(self, feed: int) -> None:
        """The feed is no longer replicated."""
        self.unasked.discard(feed)
        self.by_feed.pop(feed, None)
        self.awaited.pop(feed, None)
        self._ahead.pop(feed, None)

    def leave(self, session: "ReplicatorSession") -> None:
        """The session is closed (its slot is empty already)."""
        self._benches.pop(session, None)
        for feed in session.asked:
            self.release(feed, session)

    def next_timeout(self) -> float | None:
        """When `timeout` wants to be called, or None."""
        return self._check_at

    def timeout(self, now: float) -> None:
        """Take feeds away from senders that are silent about them, and let others leave the bench."""
        self.now = now
        if self._check_at is None or now < self._check_at:
            return
        for feed, since in list(self.awaited.items()):
            sender = self.by_feed[feed]
            if now >= min(max(since, sender.heard) + STALL_SECONDS, since + LINGER_SECONDS):
                del self.awaited[feed]
                self.bench(feed, sender)
                self._settle(feed, sender)
        for session in list(self._benches):
            for feed in [feed for feed, until in session.benched.items() if until <= now]:
                del session.benched[feed]
                if session.sequence(feed) > self._heads[feed] and session.shares(feed):
                    self.announced(feed, session)
            if not session.benched:
                self._benches.pop(session, None)
        self._check_at = now + TICK_SECONDS if self.awaited or self._benches else None

    def _look_in(self, seconds: float) -> None:
        if self._check_at is None:
            self._check_at = self.now + seconds

    def _ask(self, feed: int, session: "ReplicatorSession", sequence: int) -> None:
        """Make this session, which has a feed up to `sequence`, its sender; the old one is told to stop."""
        if self._is_held:
            return
        old = self.by_feed.get(feed)
        if old is not None:
            old.note_later(feed)
        self.by_feed[feed] = session
        session.asked.add(feed)
        session.note_later(feed)
        if sequence > self._heads[feed]:
            self.awaited[feed] = self.now
            self._look_in(STALL_SECONDS)
        elif feed in self.awaited:
            del self.awaited[feed]

    def _settle(self, feed: int, last: "ReplicatorSession | None") -> None:
        """The sender owes us nothing: ask the next session behind `last` (round robin) that has more, if any."""
        ahead = self._ahead.pop(feed, 0)
        above = ahead & (-2 << last.slot) if last is not None else 0
        stale = 0
        for bit, session in chain(self._slots.each(above), self._slots.each(ahead ^ above)):
            if session is None or session.sequence(feed) <= self._heads[feed] or not session.shares(feed):
                stale |= bit
            elif session is not last and feed not in session.benched:
                self._ask(feed, session, session.sequence(feed))
                break
        if ahead != stale:
            self._ahead[feed] = ahead ^ stale
