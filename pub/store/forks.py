"""Forks: proofs that the author of a feed has signed two messages for one place in it.

It happens to whoever uses a key in two places (a restored backup, two machines). We keep the branch that came first:
it is served, and goes on growing; of the other we keep nothing but the first message we met, as a proof that anyone
can check, next to the message of ours that it contradicts. Either both have the same sequence, or theirs is the one
after ours and names another message as its previous.

Layout of ``forks`` (big-endian): feed u32 → sequence of our message u32, its id (32), id of the refused message (32),
found f64, JSON text of the refused message. There is one record for each forked feed and no more, whatever else its
author signs; a message is at most 24 KiB of UTF-8, so a fork costs the disk no more than one ordinary message does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pub.store.env import Store, Txn

_FEED = struct.Struct(">I")
_FIXED = struct.Struct(">I32s32sd")


@dataclass(frozen=True, slots=True)
class Fork:
    """Our message ``ours`` at ``sequence``, and the refused one that contradicts it: ids, and the latter's JSON.

    ``sequence`` is the first at which the branches are known to differ; ``found`` in milliseconds since the epoch.
    """

    sequence: int
    ours: bytes
    theirs: bytes
    found: float
    encoded: bytes


class Forks:
    """The proofs of one store; every method works in the transaction it is given."""

    __slots__ = ("_database",)

    def __init__(self, store: Store) -> None:
        self._database = store.forks

    def put(self, txn: Txn, feed: int, fork: Fork) -> None:
        """Keep the proof, unless there is one already: the first stays."""
        value = _FIXED.pack(fork.sequence, fork.ours, fork.theirs, fork.found) + fork.encoded
        txn.put(_FEED.pack(feed), value, overwrite=False, db=self._database)

    def get(self, txn: Txn, feed: int) -> Fork | None:
        """The proof that this feed is forked; None while nobody has shown one."""
        value = txn.get(_FEED.pack(feed), db=self._database)
        if value is None:
            return None
        sequence, ours, theirs, found = _FIXED.unpack_from(value)
        return Fork(sequence, ours, theirs, found, value[_FIXED.size :])
