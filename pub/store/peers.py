"""The address book: the peers this pub dials, and how that went.

Layout of ``peers`` (big-endian): multiserver address, UTF-8 (the peer's key is in it) → source u8, first seen f64,
last success f64, failing since f64 (NaN: never), failures u32, next try f64.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass

from pub.protocol.addresses import Address, format_address, parse_address
from pub.store.env import Store, Txn

_RECORD = struct.Struct(">BdddId")


class Source(enum.IntEnum):
    """Who wants this peer to be dialled. The lower number goes first and outlives the higher."""

    CONFIG = 0
    """The settings, for as long as they name it."""
    MANUAL = 1
    """The operator, with ``ssb-pub connect``."""
    FOLLOWED = 2
    """A pub that this pub follows said where it is."""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """One address. Times are milliseconds since the epoch; None means never."""

    address: Address
    source: Source
    first_seen: float
    last_success: float | None = None
    """When a handshake last succeeded."""
    failing_since: float | None = None
    """When the first of the failures was that nothing has succeeded since."""
    failures: int = 0
    """Failures in a row; a connection that does not last is one, too."""
    next_try: float = 0.0


class Peers:
    """The address book of one store; every method works in the transaction it is given."""

    __slots__ = ("_database",)

    def __init__(self, store: Store) -> None:
        self._database = store.peers

    def put(self, txn: Txn, record: PeerRecord) -> None:
        """Write a new address, or what changed about an old one."""
        txn.put(_key(record.address), _pack(record), db=self._database)

    def remove(self, txn: Txn, address: Address) -> bool:
        """Forget an address; False when it was not known."""
        return txn.delete(_key(address), db=self._database)

    def records(self, txn: Txn) -> list[PeerRecord]:
        """All addresses."""
        return [_unpack(key, value) for key, value in txn.cursor(self._database)]


def _key(address: Address) -> bytes:
    return format_address(address).encode()


def _pack(record: PeerRecord) -> bytes:
    return _RECORD.pack(
        record.source,
        record.first_seen,
        math.nan if record.last_success is None else record.last_success,
        math.nan if record.failing_since is None else record.failing_since,
        record.failures,
        record.next_try,
    )


def _unpack(key: bytes, value: bytes) -> PeerRecord:
    source, first_seen, last_success, failing_since, failures, next_try = _RECORD.unpack(value)
    return PeerRecord(
        parse_address(key.decode()),
        Source(source),
        first_seen,
        None if math.isnan(last_success) else last_success,
        None if math.isnan(failing_since) else failing_since,
        failures,
        next_try,
    )
