"""What a store holds in the end, read by ``pub.store`` and held against what should be there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pub.protocol.classic import Chain, Head, chain, examine
from pub.protocol.refs import feed_id
from pub.store.env import Store, Txn
from pub.store.invites import Invites
from pub.store.log import STRIDE, Log
from pub.store.members import Members

EVERYTHING = 1 << 40  # bytes


@dataclass
class Ledger:
    """The whole store, in memory."""

    feeds: dict[str, list[bytes]]
    """JSON texts by feed id; feeds without a message are left out."""
    used: dict[str, int] = field(default_factory=dict)
    """How many uses of each code are counted, by the id of its guest key."""
    members: dict[str, str] = field(default_factory=dict)
    """The guest id of the code by which each feed joined."""

    def followed_by(self, own: str) -> Counter[str]:
        """How often the pub said that it follows each feed."""
        contents = (msgspec.json.decode(text)["content"] for text in self.feeds.get(own, []))
        return Counter(each["contact"] for each in contents if each["type"] == "contact")


def read_ledger(folder: Path) -> Ledger:
    """That of a pub which is down. See ``ledger_of``."""
    with Store.open(folder, readonly=True) as store:
        return ledger_of(store)


def ledger_of(store: Store) -> Ledger:
    """Raises AssertionError for a duplicate, or an index that says something else than the log."""
    log = Log(store)
    feeds = {feed_id(key): log.page(number, 0, EVERYTHING) for number, key in enumerate(log.keys)}
    with store.read() as txn:
        _check_counts(store, txn, list(map(len, feeds.values())))
        used = {feed_id(each.guest): each.used for each in Invites(store).records(txn)}
        members = {feed_id(log.keys[feed]): feed_id(each.guest or b"") for feed, each in Members(store).entries(txn)}
    for number, key in enumerate(log.keys):
        assert len(feeds[feed_id(key)]) == log.heads[number]
    return Ledger({feed: texts for feed, texts in feeds.items() if texts}, used, members)


def _check_counts(store: Store, txn: Txn, lengths: list[int]) -> None:
    """Every message is in its feed, once, and in the index if it is its turn."""
    count = sum(lengths)
    assert txn.stat(store.messages)["entries"] == count
    assert txn.stat(store.sequences)["entries"] == sum(length // STRIDE for length in lengths)
    last = txn.cursor(store.messages)
    assert not count or (last.last() and int.from_bytes(last.key(), "big") == count), "a receive number is missing"


def check_chain(texts: Iterable[bytes]) -> None:
    """Signatures, hashes and sequence of one whole feed."""
    head: Head | None = None
    for text in texts:
        message = examine(text)
        assert chain(head, message) is Chain.NEXT
        head = message.head
