"""Clocks that EBT sessions end with, so that the next session with the same peer need not repeat them.

Layout of ``clocks``: peer key (32) → the packed clock of ``pub.protocol.clocks``, in this store's feed numbers.
"""

from __future__ import annotations

from pub.store.env import Store, Txn


class Clocks:
    """The saved clocks of one store; every method works in the transaction it is given."""

    __slots__ = ("_database",)

    def __init__(self, store: Store) -> None:
        self._database = store.clocks

    def get(self, txn: Txn, peer: bytes) -> bytes | None:
        """The packed clock of the last session with this peer."""
        return txn.get(peer, db=self._database)

    def put(self, txn: Txn, peer: bytes, clock: bytes) -> None:
        """Remember the packed clock of a session that has ended."""
        txn.put(peer, clock, db=self._database)
