"""What must hold in every world, held against what every disk and every person has seen.

Each commit of each pub is read back from its store and judged at once: every message continues its feed, equals what
its author wrote, and is counted once; each use of an invite is a member and a follow. What a pub shows to anybody (a
message, a note, an answer) is looked up in what its disk had by then. A store that is opened again must hold exactly
what was committed to it. What is broken raises ``Broken``, which ends the world.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from pub.protocol.refs import feed_id, feed_key, message_id
from pub.store.env import Store
from pub.store.invites import Invites
from pub.store.log import Log
from pub.store.members import Members
from pub.store.records import id_of, place_of, unpack
from tests.sim.trace import Trace


class Broken(Exception):
    """Something that must always hold does not."""


def demand(holds: bool, text: str, *values: object) -> None:
    """``text`` says what must hold."""
    if not holds:
        raise Broken(f"{text}: {', '.join(map(str, values))}" if values else text)


@dataclass
class Copy:
    """What one pub's disk holds, by the keys of feeds."""

    owner: bytes
    feeds: dict[bytes, list[bytes]] = field(default_factory=dict)
    heads: dict[bytes, str] = field(default_factory=dict)
    """The id of the last message, as the next one must name it."""
    said: float = 0.0
    """The timestamp of the pub's own last message."""
    received: int = 0
    """Messages in the order of receipt that were read back so far."""

    def length(self, key: bytes) -> int:
        return len(self.feeds.get(key, ()))


class Ledger:
    """``written`` is what the honest have written, by their keys."""

    def __init__(self, trace: Trace) -> None:
        self.written: dict[bytes, list[bytes]] = {}
        self.copies: dict[bytes, Copy] = {}
        self.joined: dict[bytes, set[bytes]] = {}
        """By pub, the feeds that were told that they are followed now."""
        self._trace = trace

    def add_pub(self, key: bytes) -> None:
        self.written[key] = []
        self.copies[key] = Copy(key)
        self.joined[key] = set()

    def write(self, key: bytes, raw: bytes) -> None:
        """An honest person has written the next message of its feed."""
        self.written.setdefault(key, []).append(raw)

    # --- what is on disk ----------------------------------------------------------------------------------

    def committed(self, owner: bytes, store: Store) -> None:
        """A transaction of this pub is on disk: read it back."""
        copy = self.copies[owner]
        with store.read() as txn:
            cursor = txn.cursor(store.messages)
            fresh = cursor.set_range((copy.received + 1).to_bytes(8, "big"))
            for number, raw in cursor if fresh else ():
                copy.received += 1
                demand(int.from_bytes(number, "big") == copy.received, "receive numbers have no holes", number)
                author = txn.get(raw[:4], b"", db=store.feeds)
                sequence, before = place_of(raw)
                [(_, text)] = unpack(author, [raw], txn.get(before.to_bytes(8, "big"), db=store.messages))
                self._append(copy, author, sequence, id_of(raw), text)
        self._check_invites(copy, store)

    def reopened(self, owner: bytes, store: Store) -> None:
        """A store after a death or a stop: it has everything that was committed, and nothing else."""
        copy = self.copies[owner]
        self.committed(owner, store)
        log = Log(store)
        for feed, key in enumerate(log.keys):
            ours = copy.feeds.get(key, [])
            demand(log.page(feed, 0, 1 << 30) == ours, "what was committed is on disk again", feed_id(key))
        demand(log.message_count == copy.received, "no message is on disk twice", log.message_count, copy.received)
        for member in self.joined[owner]:
            demand(self._is_member(store, log, member), "whoever was told to be in is in", feed_id(member))

    def _append(self, copy: Copy, author: bytes, sequence: int, digest: bytes, raw: bytes) -> None:
        feed = copy.feeds.setdefault(author, [])
        message = json.loads(raw)
        previous = copy.heads.get(author)
        demand(sequence == message["sequence"] == len(feed) + 1, "sequences rise by one", feed_id(author), sequence)
        demand(message["previous"] == previous, "each message names the one before", feed_id(author), sequence)
        demand(message["author"] == feed_id(author), "a message is in its author's feed", feed_id(author), sequence)
        if author == copy.owner:
            demand(message["timestamp"] > copy.said, "timestamps of a pub's own feed rise", sequence)
            copy.said = message["timestamp"]
        if author in self.written:
            self._compare(copy, author, sequence, raw)
        feed.append(raw)
        copy.heads[author] = message_id(digest)

    def _compare(self, copy: Copy, author: bytes, sequence: int, raw: bytes) -> None:
        """With what the author wrote. A pub writes by committing."""
        written = self.written[author]
        if author == copy.owner and sequence == len(written) + 1:
            written.append(raw)
        demand(sequence <= len(written), "nobody has what was never written", feed_id(author), sequence)
        demand(written[sequence - 1] == raw, "a feed is the same everywhere", feed_id(author), sequence)

    # --- invites ------------------------------------------------------------------------------------------

    def _check_invites(self, copy: Copy, store: Store) -> None:
        with store.read() as txn:
            codes = {record.guest: record for record in Invites(store).records(txn)}
            guests = [member.guest for _, member in Members(store).entries(txn) if member.guest]
        for guest, record in codes.items():
            demand(record.used <= record.uses, "no code is used more often than it allows", record.used, record.uses)
            count = guests.count(guest)
            demand(record.used == count, "each use of a code is a member", record.used, count)
        follows = sum(1 for raw in copy.feeds.get(copy.owner, ()) if b'"following":true,"pub":true' in raw)
        used = sum(record.used for record in codes.values())
        demand(follows == used, "each use of a code is one follow", follows, used)

    def _is_member(self, store: Store, log: Log, key: bytes) -> bool:
        with store.read() as txn:
            return Members(store).is_member(txn, log.numbers[key])

    # --- what was shown -----------------------------------------------------------------------------------

    def shown_message(self, pub: bytes, raw: bytes) -> tuple[bytes, int]:
        """A pub has sent this message to somebody: (author, sequence)."""
        message: dict[str, Any] = json.loads(raw)
        author, sequence = feed_key(message["author"]), message["sequence"]
        have = self.copies[pub].feeds.get(author, [])
        demand(sequence <= len(have), "what is shown is on disk", feed_id(author), sequence, len(have))
        demand(have[sequence - 1] == raw, "what is shown is what is on disk", feed_id(author), sequence)
        return author, sequence

    def shown_note(self, pub: bytes, author: bytes, sequence: int) -> None:
        """A pub says that it has this feed so far."""
        have = self.copies[pub].length(author)
        demand(sequence <= have, "a note tells of what is on disk", feed_id(author), sequence, have)

    def shown_membership(self, pub: bytes, feed: bytes) -> None:
        """A pub has answered that it follows this feed."""
        self.joined[pub].add(feed)
        said = f'"contact":"{feed_id(feed)}","following":true'.encode()
        is_on_disk = any(said in raw for raw in self.copies[pub].feeds[pub])
        demand(is_on_disk, "an answer comes after the commit", feed_id(feed))
