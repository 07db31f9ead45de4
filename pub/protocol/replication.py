"""EBT with one peer: what it has, what it wants, and what we have to tell it.

A session keeps the peer's clock and *marks*: this feed may need a note, this feed may need messages. Every mark is
judged anew, against the state of that moment, when the peer's sender drains it (`next_notes`, `next_slice`). So nothing
that waits can be out of date, a slow peer costs a set of feed numbers and never a message, and an idle session has no
marks.

The rules are those of the reference implementation (epidemic-broadcast-trees), as far as they matter to the peer:

* Begin with a note for every replicated feed, except where the last session showed that the peer does not replicate it
  (-1) or has exactly what we have. The called side speaks first; the first frame is sent even when it is empty.
* Answer the first mention of a feed with our note; of a feed we do not share (unknown, not replicated, its author
  blocks the peer, the peer sent us rubbish of it) with -1, once.
* Send messages only of feeds for which the peer's last note asked for them, in order, from where that note says. A peer
  that does not ask and is behind gets a note whenever we have more.
* A lower number than before is believed: the peer may have lost data.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pub.errors import InvalidReference
from pub.protocol.clocks import ABSENT, Clock, FeedSet, UnknownFeeds
from pub.protocol.ebt import MAX_NOTE, encode_note
from pub.protocol.refs import feed_id, feed_key

if TYPE_CHECKING:
    from pub.protocol.replicator import Replicator


class Expectation(Enum):
    """What an arriving message is to us."""

    NEXT = "next"  # hand it in; it counts as submitted from now on
    DUPLICATE = "duplicate"
    GAP = "gap"
    NOT_WANTED = "not wanted"


class Slice(NamedTuple):
    """Messages to send: those of `feed` after sequence `after`."""

    feed: int
    after: int


class ReplicatorSession:
    """One peer, from `Replicator.open` to `close`. `peer_feed` is its own feed; set it when the feed gets a number."""

    __slots__ = (
        *("_clock", "_denied", "_dirty", "_dropped", "_is_hidden", "_may_speak", "_opening", "_owes_frame"),
        *("_pending", "_refused", "_replicator", "_submitted", "_told", "_turn", "_unconfirmed", "_unknown"),
        *("benched", "bit", "cursor", "heard", "peer_feed", "slot"),
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
        self.benched: dict[int, float] = {}  # feed -> until when it is not asked
        self.cursor = 0  # how far this session has walked along replicator.followed
        self._replicator = replicator
        self._clock = clock
        self._is_hidden = is_hidden
        self._may_speak = speaks_first
        self._owes_frame = True
        self._opening = len(replicator.followed)  # up to here the walk is our first clock, behind it new follows
        self._told = FeedSet()  # our last word on these was a note
        self._denied = FeedSet()  # our last word on these was -1
        self._unconfirmed = FeedSet()  # we sent messages of these, and cannot know whether they arrived
        self._refused: set[int] = set()  # what the peer sent of these was no continuation
        self._pending: set[int] = set()  # these may need a note
        self._dirty: set[int] = set()  # these may need messages
        self._turn: list[int] = []  # the dirty feeds still to be served in this round
        self._dropped = FeedSet()  # we dropped messages of these: what still comes may be a gap of our making
        self._submitted: dict[int, int] = {}  # feed -> last sequence handed in and not yet appended
        self._unknown = UnknownFeeds()

    # --- what the peer says -------------------------------------------------------------------------------

    def receive_notes(self, notes: Mapping[str, object], now: float) -> None:
        """Take in a note object. What is no note of no feed is skipped."""
        self.heed_notes(self.sift_notes(notes.items()), now)

    def sift_notes(self, notes: Iterable[tuple[str, object]]) -> dict[int, int]:
        """The first half of `receive_notes`, for a part of a large note object: the notes of feeds that have a number
        here. Those of other feeds are remembered, what is no note of no feed is skipped.
        """
        number_of = self._replicator.numbers.get
        known: dict[int, int] = {}
        for text, note in notes:
            if type(note) is not int or not -1 <= note <= MAX_NOTE:
                continue
            try:
                key = feed_key(text)
            except InvalidReference:
                continue
            feed = number_of(key)
            if feed is not None:
                known[feed] = note
            elif not self._unknown.remember(key, note):
                self._replicator.limit_hits["unknown_wants"] += 1
        return known

    def heed_notes(self, known: Mapping[int, int], now: float) -> None:
        """The second half of `receive_notes`: all at once, since our first words depend on all of the peer's."""
        replicator = self._replicator
        replicator.senders.now = now
        if not self._may_speak:
            self._may_speak = True
            self._opening = len(replicator.followed)
        self._clock.update(known)
        for feed, note in known.items():
            self._unconfirmed.discard(feed)
            self._heed(feed, note)
        if self.has_work:
            replicator.woken[self] = None

    def expects(self, feed: int, sequence: int, now: float) -> Expectation:
        """What a message that arrives from the peer is to us. One that is NEXT counts as submitted, until the head of
        its feed has reached it, or until `refused` or `withdrawn`. A gap, unless we made it, refuses the peer we asked.
        """
        replicator = self._replicator
        head, submitted = replicator.heads[feed], self._submitted.get(feed, 0)
        last = max(head, submitted)
        if not submitted and not (feed in self._told and self.shares(feed)):
            self._drop(feed)
            return Expectation.NOT_WANTED
        if sequence == last + 1:
            if not submitted:
                replicator.in_flight[feed] = replicator.in_flight.get(feed, 0) | self.bit
                replicator.senders.now = now
                self._dropped.discard(feed)
                if self.benched.pop(feed, None) is not None and self.sequence(feed) > head:
                    replicator.senders.announced(feed, self)  # it sends after all
            self._submitted[feed] = sequence
            self.heard = now
            return Expectation.NEXT
        if sequence <= last:
            self._repeated(feed, sequence, head)
            return Expectation.DUPLICATE
        if feed in self._dropped:
            return Expectation.NOT_WANTED
        if replicator.senders.by_feed.get(feed) is self:
            self.refused(feed)
        return Expectation.GAP

    def refused(self, feed: int) -> None:
        """What the peer sent of this feed is not valid: no more of this feed with this peer in this session."""
        self._refused.add(feed)
        self._part_with(feed)
        self.note_later(feed)

    def withdrawn(self, feed: int) -> None:
        """What was handed in could not be stored, through no fault of the peer: `Senders.resume` asks for it again."""
        if (last := self._submitted.get(feed)) is not None:
            self.forget_submitted(feed)
            self._clock.advance(feed, last)  # it has that much, even if it never said so
            self._replicator.senders.release(feed, self)
            self._replicator.senders.announced(feed, self)
            self.note_later(feed)

    def visibility_changed(self, feed: int) -> None:
        """The author of this feed has blocked or unblocked the peer (`is_hidden` answers for it)."""
        if self.shares(feed):
            self._heed(feed, self._clock.get(feed))
        else:
            self._part_with(feed)
            if feed in self._told:
                self._pending.add(feed)
        self._replicator.woken[self] = None

    def close(self) -> Clock:
        """End the session. Returns what to save for the next one with this peer: only what it told us it has."""
        self._replicator.closed(self)
        return self._clock.to_save(self._unconfirmed, self._denied)

    # --- what we say --------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether draining may give something."""
        return self._may_speak and bool(
            self._owes_frame
            or self._pending
            or self._dirty
            or self._unknown.unanswered
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
        followed, keys = self._replicator.followed, self._replicator.keys
        notes: dict[str, int] = {}
        while len(notes) < limit:
            if self._pending:
                feed = self._pending.pop()
                notes[feed_id(keys[feed])] = self._word_on(feed)
            elif self._unknown.unanswered:
                notes[feed_id(self._unknown.unanswered.popitem()[0])] = -1
            elif self.cursor < len(followed):
                self.cursor += 1
                self._consider(followed[self.cursor - 1], self.cursor <= self._opening)
            else:
                break
        if not notes and not self._owes_frame:
            return None
        self._owes_frame = False
        return notes

    def next_slice(self) -> Slice | None:
        """Which messages to send next, a feed at a time in turn; None when there are none, or notes must go first."""
        if self._owes_frame:
            return None
        heads, clock, dirty = self._replicator.heads, self._clock, self._dirty
        while dirty:
            if not self._turn:
                self._turn = list(dirty)
            feed = self._turn.pop()
            note = clock.get(feed)
            if feed in dirty and not note & 1 and note >> 1 < heads[feed] and self.shares(feed):
                return Slice(feed, note >> 1)
            dirty.discard(feed)
        self._turn.clear()
        return None

    def sent(self, feed: int, sequence: int) -> None:
        """Messages of a feed up to `sequence` are on their way. Say so when they are queued, before waiting for the
        peer to take them: a note that arrives while waiting is the newer word.
        """
        self._clock.advance(feed, sequence)
        self._unconfirmed.add(feed)
        if sequence >= self._replicator.heads[feed]:
            self._dirty.discard(feed)

    # --- for the replicator -------------------------------------------------------------------------------

    def shares(self, feed: int) -> bool:
        """Whether we replicate this feed with this peer."""
        return feed in self._replicator.replicated and feed not in self._refused and not self._is_hidden(feed)

    def sequence(self, feed: int) -> int:
        """How far the peer has a feed; negative when it never said, or does not replicate it."""
        return self._clock.get(feed) >> 1

    def note_later(self, feed: int) -> None:
        """Our word on this feed has changed."""
        self._pending.add(feed)
        self._replicator.woken[self] = None

    def offer(self, feed: int, head: int) -> bool:
        """Our head of this feed is now `head`. False if the peer has nothing to do with the feed after all."""
        note = self._clock.get(feed)
        if note < 0:
            return False
        if note >> 1 < head:
            if note & 1:
                self._replicator.senders.release(feed, self)  # it is behind us, and gets the feed from elsewhere
                self._pending.add(feed)
            else:
                self._dirty.add(feed)
            self._replicator.woken[self] = None
        return True

    def landed(self, feed: int, head: int) -> None:
        """Some of what the peer sent of a feed is appended (or somebody else's copy of it)."""
        last = self._submitted.get(feed)
        if last is None:
            return
        self._clock.advance(feed, min(last, head))
        if last <= head:
            del self._submitted[feed]
        else:
            self._replicator.in_flight[feed] = self._replicator.in_flight.get(feed, 0) | self.bit

    def rewind(self, cursor: int) -> None:
        """The list of followed feeds was written anew; what it holds from `cursor` on is to be announced."""
        self.cursor = cursor
        self._opening = 0

    def forget_submitted(self, feed: int) -> None:
        """What this peer handed in of a feed does not count."""
        if self._submitted.pop(feed, None) is not None:
            self._dropped.add(feed)

    # --- within -------------------------------------------------------------------------------------------

    def _heed(self, feed: int, note: int) -> None:
        """The peer's note of a feed we know."""
        if not self.shares(feed):
            if feed not in self._denied and (note != -1 or feed not in self._told):
                self._pending.add(feed)
            return
        replicator = self._replicator
        senders, head, sequence = replicator.senders, replicator.heads[feed], note >> 1
        if note >= 0:
            self._mind(feed, note, head)
        if sequence <= head and feed in senders.awaited:
            senders.caught_up(feed, self)
        if feed not in self._told:
            senders.volunteer(feed, self)
            self._pending.add(feed)
        elif note == -1:
            senders.release(feed, self)
        elif note & 1 and sequence < head:
            self._pending.add(feed)

    def _mind(self, feed: int, note: int, head: int) -> None:
        """The peer replicates this feed: remember to keep it up to date, and ask for what it has more than we."""
        replicator = self._replicator
        interested = replicator.interested
        interested[feed] = interested.get(feed, 0) | self.bit
        if note >> 1 > head:
            replicator.senders.announced(feed, self)
        elif not note & 1 and note >> 1 < head:
            self._dirty.add(feed)

    def _consider(self, feed: int, is_opening: bool) -> None:
        """The walk along the followed feeds has come to this one: does the peer have to hear of it?"""
        if (is_opening and feed in self._told) or not self.shares(feed):
            return  # told already: the peer mentioned it before we came here
        replicator = self._replicator
        note, head = self._recall(feed), replicator.heads[feed]
        if note == -1:
            if is_opening:
                return
            self._clock.set(feed, 1)  # that answered an earlier word of ours: let it hear of the next message too
            self._mind(feed, 1, head)
        else:
            if note >= 0:
                self._mind(feed, note, head)
            is_level = is_opening and note >> 1 == head > 0
            if is_level and feed not in self._denied and feed != self.peer_feed:
                return
            replicator.senders.volunteer(feed, self)
        self._pending.add(feed)

    def _recall(self, feed: int) -> int:
        """The peer's last note, even if it came when the feed had no number."""
        note = self._clock.get(feed)
        if note == ABSENT and (note := self._unknown.take(self._replicator.keys[feed])) != ABSENT:
            self._clock.set(feed, note)
        return note

    def _word_on(self, feed: int) -> int:
        if self.shares(feed):
            self._told.add(feed)
            self._denied.discard(feed)
            return encode_note(self._replicator.heads[feed], self._replicator.senders.by_feed.get(feed) is self)
        self._told.discard(feed)
        self._denied.add(feed)
        return -1

    def _drop(self, feed: int) -> None:
        """A message of a feed we do not want: say so, if the peer may think that we do."""
        self._dropped.add(feed)
        if feed in self._told:
            self.note_later(feed)

    def _repeated(self, feed: int, sequence: int, head: int) -> None:
        """The peer sent what we have. While it owes us more this is an overlap; else it need not send us this feed."""
        self._clock.advance(feed, min(sequence, head))
        senders = self._replicator.senders
        if sequence <= head and senders.by_feed.get(feed) is self and feed not in senders.awaited:
            senders.release(feed, self)
            self.note_later(feed)

    def _part_with(self, feed: int) -> None:
        """Nothing of this feed to or from this peer any more."""
        replicator = self._replicator
        self._submitted.pop(feed, None)
        self._dirty.discard(feed)
        replicator.interested[feed] = replicator.interested.get(feed, 0) & ~self.bit
        replicator.senders.release(feed, self)
