"""Invite codes: how many uses each has, and what became of it.

A code is known by its guest key, the public key that whoever redeems it dials with; the secret seed is not kept.
Layout of ``invites`` (big-endian): guest key (32) → uses u32, used u32, created f64, expires f64, revoked f64
(NaN: never), note UTF-8. Records of used up, expired and revoked codes stay, so that each gets its own answer.

``use`` counts inside the caller's write transaction. There is one writer, so of two guests who race for the last
use one comes second, and a use is on disk if and only if all else that the redemption writes is.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass, replace
from operator import attrgetter

from pub.store.env import Store, Txn

_FIXED = struct.Struct(">IIddd")


class InviteState(enum.StrEnum):
    """What a guest who comes with the code meets."""

    OPEN = "open"
    SPENT = "spent"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class InviteRecord:
    """One code. Times are milliseconds since the epoch; None means never."""

    guest: bytes
    uses: int
    used: int
    created: float
    expires: float | None
    revoked: float | None
    note: str


class Invites:
    """The codes of one store; every method works in the transaction it is given."""

    __slots__ = ("_database",)

    def __init__(self, store: Store) -> None:
        self._database = store.invites

    def put(self, txn: Txn, record: InviteRecord) -> None:
        """Write a new code, or a changed one over its old record."""
        txn.put(record.guest, _pack(record), db=self._database)

    def get(self, txn: Txn, guest: bytes) -> InviteRecord | None:
        """The code with this guest key."""
        value = txn.get(guest, db=self._database)
        return None if value is None else _unpack(guest, value)

    def use(self, txn: Txn, guest: bytes, now: float) -> InviteState | None:
        """Take one use, if the code is open: the result says what it was before, None that there is no such code."""
        record = self.get(txn, guest)
        if record is None:
            return None
        found = state(record, now)
        if found is InviteState.OPEN:
            self.put(txn, replace(record, used=record.used + 1))
        return found

    def revoke(self, txn: Txn, guest: bytes, now: float) -> InviteRecord | None:
        """Take the code back, for good; the first time counts. None when there is no such code."""
        record = self.get(txn, guest)
        if record is not None and record.revoked is None:
            record = replace(record, revoked=now)
            self.put(txn, record)
        return record

    def records(self, txn: Txn) -> list[InviteRecord]:
        """All codes, the oldest first."""
        return sorted((_unpack(guest, value) for guest, value in txn.cursor(self._database)), key=attrgetter("created"))


def state(record: InviteRecord, now: float) -> InviteState:
    """What the code is at ``now``; if several things ended it, what someone decided comes first."""
    if record.revoked is not None:
        return InviteState.REVOKED
    if record.used >= record.uses:
        return InviteState.SPENT
    if record.expires is not None and now >= record.expires:
        return InviteState.EXPIRED
    return InviteState.OPEN


def _pack(record: InviteRecord) -> bytes:
    expires = math.nan if record.expires is None else record.expires
    revoked = math.nan if record.revoked is None else record.revoked
    return _FIXED.pack(record.uses, record.used, record.created, expires, revoked) + record.note.encode()


def _unpack(guest: bytes, value: bytes) -> InviteRecord:
    uses, used, created, expires, revoked = _FIXED.unpack_from(value)
    note = value[_FIXED.size :].decode()
    return InviteRecord(guest, uses, used, created, _time(expires), _time(revoked), note)


def _time(value: float) -> float | None:
    return None if math.isnan(value) else value
