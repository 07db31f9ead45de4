"""EBT with one peer: what it has, what it wants, and what we have to tell it.

A session keeps the peer's clock and *marks*: this feed may need a note, this feed may need messages. Every mark is
judged anew, against the state of that moment, when the peer's sender drains it (`next_notes`, `next_slice`). So nothing
that waits can be out of date, a slow peer costs a set of feed numbers and never a message, and an idle session has no
marks. It costs its clock, and a bit for each feed in the sets of what was said.

The rules are those of the reference implementation (epidemic-broadcast-trees), as far as they matter to the peer:

* Begin with a note for every replicated feed, except where the last session showed that the peer does not replicate it
  (-1) or has exactly what we have. The called side speaks first; the first frame is sent even when it is empty.
* Answer the first mention of a feed with our note; of a feed we do not share (unknown, not replicated, its author
  blocks the peer, the peer sent us rubbish of it) with -1, once.
* Send messages only of feeds for which the peer's last note asked for them, in order, from where that note says. A peer
  that does not ask and is behind gets a note whenever we have more.
* A lower number than before is believed: the peer may have lost data.

What a peer has that comes back with nothing new is known in bulk: its saved clock is compared with that of a peer who
is level (`Replicator.level`), and the *opening*, our first clock, walks along those feeds alone on which the two
differ. On the others nothing need be said, but the peer has to hear of the next message: see `interest`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pub.protocol.arrivals import Arrivals, Expectation
from pub.protocol.clocks import ABSENT, Clock
from pub.protocol.ebt import encode_note
from pub.protocol.feedsets import FeedSet, UnknownFeeds
from pub.protocol.refs import feed_id

if TYPE_CHECKING:
    from pub.protocol.replicator import Replicator


class Slice(NamedTuple):
    """Messages to send: those of `feed` after sequence `after`."""

    feed: int
    after: int


class ReplicatorSession:
    """One peer, from `Replicator.open` to `close`. `peer_feed` is its own feed; set it when the feed gets a number."""

    __slots__ = (
        *("_arrivals", "_denied", "_dirty", "_has_begun", "_is_hidden", "_may_speak", "_opening", "_owes_frame"),
        *("_pending", "_refused", "_replicator", "_turn", "_unconfirmed", "_unknown"),
        *("asked", "benched", "bit", "clock", "cursor", "heard", "peer_feed", "slot", "told"),
    )

    def __init__(
        self,
        replicator: "Replicator",
        slot: int,
        speaks_first: bool,
        peer_feed: int | None,
        clock: Clock,
        is_hidden: Callable[[int], bool],
    ) -> None:
        self.slot = slot
        self.bit = 1 << slot
        self.peer_feed = peer_feed
        self.heard = 0.0  # when it last sent a message that we wanted
        self.asked = FeedSet()  # where we ever made it the sender
        self.benched: dict[int, float] = {}  # feed -> until when it is not asked
        self.cursor = 0  # how far this session has walked along replicator.followed
        self._replicator = replicator
        self.clock = clock
        self._is_hidden = is_hidden
        self._may_speak = speaks_first
        self._has_begun = False
        self._owes_frame = True
        self._opening = array("I")  # the feeds, in order, that our first clock still has to consider; last ones first
        self.told = FeedSet()  # our last word on these was a note
        self._denied = FeedSet()  # our last word on these was -1
        self._unconfirmed = FeedSet()  # we sent messages of these, and cannot know whether they arrived
        self._refused = FeedSet()  # what the peer sent of these was no continuation
        self._pending: set[int] = set()  # these may need a note
        self._dirty: set[int] = set()  # these may need messages
        self._turn: list[int] = []  # the dirty feeds still to be served in this round
        self._arrivals = Arrivals(self, replicator)
        self._unknown = UnknownFeeds()

    # --- what the peer says -------------------------------------------------------------------------------

    def receive_notes(self, notes: Mapping[str, object], now: float) -> None:
        """Take in a note object. What is no note of no feed is skipped."""
        self.heed_notes(self.sift_notes(notes.items()), now)

    def sift_notes(self, notes: Iterable[tuple[str, object]]) -> dict[int, int]:
        """The first half of `receive_notes`, for a part of a large note object: the notes of feeds that have a number
        here. Those of other feeds are remembered, what is no note of no feed is skipped.
        """
        known, missed = self._unknown.sift(notes, self._replicator.numbers)
        if missed:
            self._replicator.limit_hits["unknown_wants"] += missed
        return known

    def heed_notes(self, known: Mapping[int, int], now: float, *, is_whole: bool = True) -> None:
        """The second half of `receive_notes`. Of a large note object all parts but the last are not `is_whole`, since
        our first words depend on all of the peer's.
        """
        replicator = self._replicator
        replicator.senders.now = now
        if not self._has_begun:
            self.begin()
        self.clock.update(known)
        for feed in known if self._unconfirmed else ():
            self._unconfirmed.discard(feed)
        self._heed(known)
        if is_whole:
            self._may_speak = True
        if self.has_work:
            replicator.woken[self] = None

    def expects(self, feed: int, sequence: int, now: float) -> Expectation:
        """What a message that arrives from the peer is to us. One that is NEXT counts as submitted, until the head of
        its feed has reached it, or until `refused` or `withdrawn`. A gap, unless we made it, refuses the peer we asked.
        """
        return self._arrivals.expects(feed, sequence, now)

    def refused(self, feed: int) -> None:
        """What the peer sent of this feed is not valid: no more of this feed with this peer in this session."""
        self._refused.add(feed)
        self._part_with(feed)
        self.note_later(feed)

    def withdrawn(self, feed: int) -> None:
        """What was handed in could not be stored, through no fault of the peer: `Senders.resume` asks for it again."""
        if (last := self._arrivals.withdraw(feed)) is not None:
            self.clock.advance(feed, last)  # it has that much, even if it never said so
            self._replicator.senders.release(feed, self)
            self._replicator.senders.announced(feed, self)
            self.note_later(feed)

    def visibility_changed(self, feed: int) -> None:
        """The author of this feed has blocked or unblocked the peer (`is_hidden` answers for it)."""
        if self.shares(feed):
            self._heed({feed: self.clock.get(feed)})
        else:
            self._part_with(feed)
            if feed in self.told:
                self._pending.add(feed)
        self._replicator.woken[self] = None

    def close(self) -> None:
        """End the session."""
        self._replicator.closed(self)

    @property
    def has_learned(self) -> bool:
        """Whether `clock_to_save` differs from the clock that the session began with."""
        return self.clock.is_changed

    def clock_to_save(self) -> Clock:
        """What the next session with this peer may begin with: only what it told us it has."""
        return self.clock.to_save(self._unconfirmed, self._denied)

    # --- what we say --------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether draining may give something."""
        return self._may_speak and bool(
            self._owes_frame
            or self._pending
            or self._dirty
            or self._unknown.unanswered
            or self._opening
            or self.cursor < len(self._replicator.followed)
        )

    @property
    def owed(self) -> int:
        """How many feeds may have messages to be sent to the peer."""
        return len(self._dirty)

    def next_notes(self, limit: int) -> dict[str, int] | None:
        """At most `limit` notes to send, or None when there is nothing to say. The first frame may be empty."""
        if not self._may_speak:
            return None
        followed = self._replicator.followed
        notes: dict[str, int] = {}
        while (room := limit - len(notes)) > 0:
            if self._pending:
                notes |= self._words_on([self._pending.pop() for _ in range(min(room, len(self._pending)))])
            elif self._unknown.unanswered:
                notes[feed_id(self._unknown.answer())] = -1
            elif self._opening:
                self._consider(self._opening.pop(), is_opening=True)
            elif self.cursor < len(followed):
                self.cursor += 1
                self._consider(followed[self.cursor - 1], is_opening=False)
            else:
                break
        if not self._pending:
            self._pending.clear()  # gives its memory back, which `pop` does not
        if not self._opening:
            self._opening = array("I")  # likewise
        if not notes and not self._owes_frame:
            return None
        self._owes_frame = False
        return notes

    def next_slice(self) -> Slice | None:
        """Which messages to send next, a feed at a time in turn; None when there are none, or notes must go first."""
        if self._owes_frame:
            return None
        heads, clock, dirty = self._replicator.heads, self.clock, self._dirty
        while dirty:
            if not self._turn:
                self._turn = list(dirty)
            feed = self._turn.pop()
            note = clock.get(feed)
            if feed in dirty and not note & 1 and note >> 1 < heads[feed] and self.shares(feed):
                return Slice(feed, note >> 1)
            dirty.discard(feed)
        self._turn.clear()
        dirty.clear()  # gives its memory back
        return None

    def sent(self, feed: int, sequence: int) -> None:
        """Messages of a feed up to `sequence` are on their way. Say so when they are queued, before waiting for the
        peer to take them: a note that arrives while waiting is the newer word.
        """
        self.clock.advance(feed, sequence)
        self.clock.is_changed = True  # even if the peer has just asked for what it had before
        self._unconfirmed.add(feed)
        if sequence >= self._replicator.heads[feed]:
            self._dirty.discard(feed)

    # --- for the replicator -------------------------------------------------------------------------------

    def begin(self) -> None:
        """From now on the first clock can be said: it considers what we follow now, all else comes by `followed`."""
        replicator = self._replicator
        self._has_begun = True
        self._opening = replicator.level.unlike(self.clock)
        if self.peer_feed in replicator.replicated:
            self._consider_in_opening(self.peer_feed)
        self.cursor = len(replicator.followed)
        if len(self.clock):
            replicator.interest.restore(self)

    def interests(self) -> Iterator[int]:
        """The feeds that the peer replicates."""
        return (feed for feed, note in self.clock.items() if note >= 0)

    def is_restored(self, feed: int) -> bool:
        """Whether the peer shall hear of a feed because of the clock we began with. In the opening it will anyway."""
        if self.clock.get(feed) < 0 or not self.shares(feed):
            return False
        if self._owes_frame or self._opening:
            self._consider_in_opening(feed)
            return False
        return True

    def shares(self, feed: int) -> bool:
        """Whether we replicate this feed with this peer."""
        return feed in self._replicator.replicated and feed not in self._refused and not self._is_hidden(feed)

    def sequence(self, feed: int) -> int:
        """How far the peer has a feed; negative when it never said, or does not replicate it."""
        return self.clock.get(feed) >> 1

    def note_later(self, feed: int) -> None:
        """Our word on this feed has changed."""
        self._pending.add(feed)
        self._replicator.woken[self] = None

    def offer(self, feed: int, head: int) -> bool:
        """Our head of this feed is now `head`. False if the peer has nothing to do with the feed after all."""
        note = self.clock.get(feed)
        if note < 0:
            return False
        if note >> 1 < head:
            if not note & 1:
                self._dirty.add(feed)
            elif self.shares(feed):
                self._replicator.senders.release(feed, self)  # it is behind us, and gets the feed from elsewhere
                self._pending.add(feed)
            else:
                return False
            self._replicator.woken[self] = None
        return True

    def landed(self, feed: int, head: int) -> None:
        """Some of what the peer sent of a feed is appended (or somebody else's copy of it)."""
        self._arrivals.landed(feed, head)

    def rewind(self, cursor: int) -> None:
        """The list of followed feeds was written anew; what it holds from `cursor` on is to be announced."""
        self.cursor = cursor

    def forget_submitted(self, feed: int) -> None:
        """What this peer handed in of a feed does not count."""
        self._arrivals.withdraw(feed)

    # --- within -------------------------------------------------------------------------------------------

    def _consider_in_opening(self, feed: int) -> None:
        index = bisect_left(self._opening, feed)
        if index == len(self._opening) or self._opening[index] != feed:
            self._opening.insert(index, feed)

    def _shared(self, feeds: Iterable[int]) -> set[int]:
        """`shares` for many feeds at once: those that we do."""
        shared = self._replicator.replicated.intersection(feeds)
        if self._refused:
            shared = {feed for feed in shared if feed not in self._refused}
        return {feed for feed in shared if not self._is_hidden(feed)}

    def _heed(self, notes: Mapping[int, int]) -> None:
        """The peer's notes of feeds we know."""
        shared = self._shared(notes)
        self._replicator.interest.add((feed for feed in shared if notes[feed] >= 0), self)
        for (feed, note), is_new in zip(notes.items(), self.told.lacks(notes), strict=True):
            if feed in shared:
                self._heed_shared(feed, note, is_new)
            elif (note != -1 or is_new) and feed not in self._denied:
                self._pending.add(feed)

    def _heed_shared(self, feed: int, note: int, is_new: bool) -> None:
        replicator = self._replicator
        senders, head, sequence = replicator.senders, replicator.heads[feed], note >> 1
        if note >= 0 and sequence != head:
            self._even_out(feed, note, head)
        if sequence <= head and feed in senders.awaited:
            senders.caught_up(feed, self)
        if is_new:
            senders.volunteer(feed, self, sequence)
            self._pending.add(feed)
        elif note == -1:
            senders.release(feed, self)
        elif note & 1 and sequence < head:
            self._pending.add(feed)

    def _mind(self, feed: int, note: int, head: int) -> None:
        """The peer replicates this feed: remember to keep it up to date."""
        self._replicator.interest.add((feed,), self)
        self._even_out(feed, note, head)

    def _even_out(self, feed: int, note: int, head: int) -> None:
        """Ask for what the peer has more than we, or let it have what it wants."""
        if note >> 1 > head:
            self._replicator.senders.announced(feed, self)
        elif not note & 1 and note >> 1 < head:
            self._dirty.add(feed)

    def _consider(self, feed: int, is_opening: bool) -> None:
        """The walk along the followed feeds has come to this one: does the peer have to hear of it?"""
        if (is_opening and feed in self.told) or not self.shares(feed):
            return  # told already: the peer mentioned it before we came here
        replicator = self._replicator
        note, head = self._recall(feed), replicator.heads[feed]
        if note == -1:
            if is_opening:
                return
            self.clock.set(feed, 1)  # that answered an earlier word of ours: let it hear of the next message too
            self._mind(feed, 1, head)
        else:
            if note >= 0:
                self._mind(feed, note, head)
            is_level = is_opening and note >> 1 == head > 0
            if is_level and feed not in self._denied and feed != self.peer_feed:
                return
            replicator.senders.volunteer(feed, self, note >> 1)
        self._pending.add(feed)

    def _recall(self, feed: int) -> int:
        """The peer's last note, even if it came when the feed had no number."""
        note = self.clock.get(feed)
        if note == ABSENT and (note := self._unknown.take(self._replicator.keys[feed])) != ABSENT:
            self.clock.set(feed, note)
        return note

    def _words_on(self, feeds: list[int]) -> dict[str, int]:
        keys, shared = self._replicator.keys, self._shared(feeds)
        return {feed_id(keys[feed]): self._word_on(feed, feed in shared) for feed in feeds}

    def _word_on(self, feed: int, is_shared: bool) -> int:
        if is_shared:
            self.told.add(feed)
            self._denied.discard(feed)
            return encode_note(self._replicator.heads[feed], self._replicator.senders.by_feed.get(feed) is self)
        self.told.discard(feed)
        self._denied.add(feed)
        self.clock.is_changed = True  # a -1 of the peer's may not be saved now
        return -1

    def _part_with(self, feed: int) -> None:
        """Nothing of this feed to or from this peer any more."""
        replicator = self._replicator
        self._arrivals.forget(feed)
        self._dirty.discard(feed)
        replicator.interest.discard(feed, self)
        replicator.senders.release(feed, self)
