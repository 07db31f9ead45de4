"""A pub and the people who call it, for tests of replication: the log is numbers, the wire is method calls."""

from array import array
from collections.abc import Iterable

from pub.protocol.arrivals import Expectation
from pub.protocol.clocks import Clock
from pub.protocol.ebt import encode_note
from pub.protocol.refs import feed_id
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator

CAROL, DAVE, ERIN = range(3)  # three feeds that the pub knows
ASK, TELL = True, False


class Pub:
    """A replicator over a log that is only numbers, and the people connected to it."""

    def __init__(self, *heads: int) -> None:
        self.keys = [bytes([feed]) * 32 for feed in range(len(heads))]
        self.numbers = {key: feed for feed, key in enumerate(self.keys)}
        self.heads = array("I", heads)
        self.replicator = Replicator(self.keys, self.numbers, self.heads)

    def meet(self, *feeds: int, saved: Clock | None = None, peer_feed: int | None = None) -> ReplicatorSession:
        """Somebody calls, hears the first frame, and says what it has of these feeds, wanting nothing."""
        session = self.replicator.open(speaks_first=True, peer_feed=peer_feed, saved=saved)
        session.next_notes(1000)
        self.hear(session, {feed: (sequence, TELL) for feed, sequence in enumerate(feeds)})
        self.notes(session)
        return session

    def hear(self, session: ReplicatorSession, notes: dict[int, tuple[int, bool]], now: float = 0.0) -> None:
        frame = {feed_id(bytes([feed]) * 32): encode_note(*note) for feed, note in notes.items()}
        session.receive_notes(frame, now)

    def notes(self, session: ReplicatorSession) -> dict[int, int] | None:
        notes = session.next_notes(1000)
        return None if notes is None else {self.number(text): note for text, note in notes.items()}

    def number(self, text: str) -> int:
        return next(feed for feed in range(256) if feed_id(bytes([feed]) * 32) == text)

    def part(self, session: ReplicatorSession) -> Clock:
        """The session ends; what the next one with this peer begins with."""
        session.close()
        return Clock.unpack(session.clock_to_save().pack())

    def append(self, feed: int, sequence: int) -> None:
        self.heads[feed] = sequence
        self.replicator.appended(feed)

    def take(self, session: ReplicatorSession, feed: int, sequences: Iterable[int], now: float = 0.0) -> None:
        for sequence in sequences:
            assert session.expects(feed, sequence, now) is Expectation.NEXT
        self.append(feed, self.heads[feed] + len(list(sequences)))
