"""Members: the feeds that joined the pub, by a code or by the operator's hand.

Layout of ``members`` (big-endian): feed u32 → joined f64, guest key (32; zeros: no code), note UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pub.store.env import Store, Txn

_FEED = struct.Struct(">I")
_FIXED = struct.Struct(">d32s")
_NO_GUEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Member:
    """``joined`` in milliseconds since the epoch; ``guest`` is the key of the code redeemed, None without one."""

    joined: float
    guest: bytes | None
    note: str


class Members:
    """The members of one store; every method works in the transaction it is given."""

    __slots__ = ("_database",)

    def __init__(self, store: Store) -> None:
        self._database = store.members

    def add(self, txn: Txn, feed: int, member: Member) -> None:
        """Make the feed a member; who is one already gets the new record."""
        value = _FIXED.pack(member.joined, member.guest or _NO_GUEST) + member.note.encode()
        txn.put(_FEED.pack(feed), value, db=self._database)

    def get(self, txn: Txn, feed: int) -> Member | None:
        """The record of a member; None when the feed is none."""
        value = txn.get(_FEED.pack(feed), db=self._database)
        return None if value is None else _unpack(value)

    def is_member(self, txn: Txn, feed: int) -> bool:
        return txn.get(_FEED.pack(feed), db=self._database) is not None

    def remove(self, txn: Txn, feed: int) -> bool:
        """End a membership; False when there was none."""
        return txn.delete(_FEED.pack(feed), db=self._database)

    def count(self, txn: Txn) -> int:
        return txn.stat(self._database)["entries"]

    def entries(self, txn: Txn, first: int = 0) -> Iterator[tuple[int, Member]]:
        """Every (feed, member) in the order of feed numbers, from ``first`` on; to be read inside the transaction."""
        cursor = txn.cursor(self._database)
        if cursor.set_range(_FEED.pack(first)):
            for key, value in cursor:
                yield int.from_bytes(key, "big"), _unpack(value)


def _unpack(value: bytes) -> Member:
    joined, guest = _FIXED.unpack_from(value)
    return Member(joined, None if guest == _NO_GUEST else guest, value[_FIXED.size :].decode())
