"""Whom to dial next. State is the address book: for each address how often it failed and when it is tried again.

An address that fails is tried again after a delay that doubles each time, up to ten minutes for those the operator
chose and a day for those that were found, shortened by chance so that peers which failed together do not come back
together. A connection that does not last counts as a failure, else a peer that takes us and drops us would be dialled
without end. What failed for weeks, whatever was tried, is forgotten, unless the settings name it.

Everything here is pure. ``now`` is the wall clock in milliseconds, because it is kept over restarts; if that clock is
set back, an address that lies further ahead than its delay is due. ``luck`` is a random number from 0 to 1. What has
changed is fetched with ``take_changes`` and written by whoever owns the store.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import replace

from pub.protocol.addresses import Address
from pub.store.peers import PeerRecord, Source

SECOND = 1000.0
DAY = 86_400 * SECOND

FIRST_DELAY = 5 * SECOND  # a restart takes a peer about this long
LONGEST_DELAY = {  # those whom the operator named are missed when they are away; what was found may be gone for good
    Source.CONFIG: 600 * SECOND,
    Source.MANUAL: 600 * SECOND,
    Source.FOLLOWED: DAY,
}
MAX_DOUBLINGS = 20  # enough for the longest delay, and no overflow after that
LASTING_SECONDS = 60.0  # a connection that was of use; a shorter one counts as a failure
FORGOTTEN_AFTER = 30 * DAY  # machines come back from a holiday, hardly later
UNREACHED_FORGOTTEN_AFTER = 7 * DAY  # nobody has ever been there: most likely a mistake

MAX_ADDRESSES = 1000  # found addresses beyond this push out the worst; a page of memory for each ten
MAX_ADDRESSES_PER_PEER = 3  # found ones: a pub that moves keeps its old address for a while, nobody has a hundred


class Schedule:
    """The address book and its rules; see the file's text. ``limit_hits`` counts addresses there was no room for."""

    def __init__(self, records: Iterable[PeerRecord] = ()) -> None:
        self.records = {record.address: record for record in records}
        self.limit_hits = 0
        self._changed: dict[Address, None] = {}

    def take_changes(self) -> dict[Address, PeerRecord | None]:
        """What changed since the last time, by address; None: forgotten."""
        changes = {address: self.records.get(address) for address in self._changed}
        self._changed.clear()
        return changes

    # --- what is in the book ------------------------------------------------------------------------------

    def configure(self, addresses: Iterable[Address], now: float) -> None:
        """Take over the settings: what they name is in the book, what they do not name any more is not."""
        named = dict.fromkeys(addresses)
        for record in list(self.records.values()):
            if record.source is Source.CONFIG and record.address not in named:
                self.remove(record.address)
        for address in named:
            self.add(address, Source.CONFIG, now)

    def add(self, address: Address, source: Source, now: float) -> bool:
        """Put an address into the book; False when there is no room. One that is known keeps its better source."""
        known = self.records.get(address)
        if known is not None:
            if source < known.source:
                self._put(replace(known, source=source, next_try=min(known.next_try, now)))
            return True
        if source is Source.FOLLOWED and not self._make_room(address.key):
            self.limit_hits += 1
            return False
        self._put(PeerRecord(address, source, first_seen=now, next_try=now))
        return True

    def remove(self, address: Address) -> bool:
        """Forget an address; False when it was not known."""
        self._changed[address] = None
        return self.records.pop(address, None) is not None

    def remove_found(self, key: bytes) -> None:
        """Forget the addresses that were found for this peer: it is followed no more."""
        for record in self._found(key):
            self.remove(record.address)

    def forget_defunct(self, now: float) -> list[Address]:
        """Forget what has failed for too long, and return it."""
        defunct = [record.address for record in self.records.values() if _is_defunct(record, now)]
        for address in defunct:
            self.remove(address)
        return defunct

    # --- whom to dial -------------------------------------------------------------------------------------

    def choose(self, now: float, busy: Container[bytes], may_dial: Callable[[PeerRecord], bool]) -> list[Address]:
        """All addresses to dial now, the best first, at most one for a peer and none for the keys in ``busy``."""
        due = [record for record in self.records.values() if _is_due(record, now)]
        due.sort(key=lambda record: (record.source, record.failures, record.next_try))
        chosen: dict[bytes, Address] = {}
        for record in due:
            key = record.address.key
            if key not in busy and key not in chosen and may_dial(record):
                chosen[key] = record.address
        return list(chosen.values())

    def succeeded(self, address: Address, now: float) -> None:
        """The handshake worked."""
        if (record := self.records.get(address)) is not None:
            self._put(replace(record, last_success=now, failing_since=None))

    def failed(self, address: Address, now: float, luck: float) -> None:
        """Nobody there, or not the peer it should be, or it does not want us."""
        if (record := self.records.get(address)) is not None:
            failures = record.failures + 1
            since = now if record.failing_since is None else record.failing_since
            next_try = now + _delay(record.source, failures, luck)
            self._put(replace(record, failures=failures, failing_since=since, next_try=next_try))

    def ended(self, address: Address, now: float, luck: float, *, seconds: float) -> None:
        """A connection that we dialled is over, after so many ``seconds``."""
        record = self.records.get(address)
        if record is None:
            return
        failures = 0 if seconds >= LASTING_SECONDS else record.failures + 1
        self._put(replace(record, failures=failures, next_try=now + _delay(record.source, failures or 1, luck)))

    # --- within -------------------------------------------------------------------------------------------

    def _put(self, record: PeerRecord) -> None:
        self.records[record.address] = record
        self._changed[record.address] = None

    def _found(self, key: bytes | None = None) -> list[PeerRecord]:
        return [
            record
            for record in self.records.values()
            if record.source is Source.FOLLOWED and key in (None, record.address.key)
        ]

    def _make_room(self, key: bytes) -> bool:
        """Room for one more found address of this peer: its worst gives way, or the worst of all that fail."""
        if len(siblings := self._found(key)) >= MAX_ADDRESSES_PER_PEER:
            self.remove(_worst(siblings).address)
        elif len(self.records) >= MAX_ADDRESSES:
            found = self._found()
            if not found or not _worst(found).failures:
                return False
            self.remove(_worst(found).address)
        return True


def _worst(records: list[PeerRecord]) -> PeerRecord:
    return max(records, key=lambda record: (record.failures, -record.first_seen))


def _delay(source: Source, failures: int, luck: float) -> float:
    doublings = min(failures - 1, MAX_DOUBLINGS)
    return float(min(LONGEST_DELAY[source], FIRST_DELAY * 2**doublings) * (0.5 + luck / 2))


def _is_due(record: PeerRecord, now: float) -> bool:
    wait = record.next_try - now
    return wait <= 0 or wait > _delay(record.source, record.failures or 1, luck=1.0)


def _is_defunct(record: PeerRecord, now: float) -> bool:
    if record.source is Source.CONFIG or record.failing_since is None:
        return False
    patience = UNREACHED_FORGOTTEN_AFTER if record.last_success is None else FORGOTTEN_AFTER
    return now - record.failing_since > patience
