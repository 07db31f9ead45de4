"""The address book's rules: who is dialled next, how long we wait, what is forgotten."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pub.net.schedule import (
    DAY,
    FIRST_DELAY,
    FORGOTTEN_AFTER,
    LONGEST_DELAY,
    MAX_ADDRESSES,
    MAX_ADDRESSES_PER_PEER,
    SECOND,
    UNREACHED_FORGOTTEN_AFTER,
    Schedule,
)
from pub.protocol.addresses import Address
from pub.store.peers import PeerRecord, Source

NOON = 1_790_000_000_000.0
HOUR = 3600 * SECOND
CONFIG, MANUAL, FOLLOWED = Source.CONFIG, Source.MANUAL, Source.FOLLOWED


def at(name: str, port: int = 8008) -> Address:
    """The address of the pub with this name."""
    return Address(f"{name}.example", port, name.encode().ljust(32, b"\0"))


HARBOUR, ISLAND, LIGHTHOUSE = at("harbour"), at("island"), at("lighthouse")


def anyone(_record: PeerRecord) -> bool:
    return True


def due(schedule: Schedule, now: float, busy: set[bytes] | None = None) -> list[Address]:
    return schedule.choose(now, busy or set(), anyone)


def fail(schedule: Schedule, address: Address, now: float, times: int) -> float:
    """Fail at each moment it is due, with no luck at all; when it is due next."""
    for _ in range(times):
        schedule.failed(address, now, 1.0)
        now = schedule.records[address].next_try
    return now


# --- when -----------------------------------------------------------------------------------------------------


def test_a_new_address_is_due_at_once() -> None:
    schedule = Schedule()
    assert schedule.add(HARBOUR, MANUAL, NOON)
    assert due(schedule, NOON) == [HARBOUR]


def test_the_wait_doubles_with_each_failure() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, MANUAL, NOON)
    waits = []
    now = NOON
    for _ in range(4):
        schedule.failed(HARBOUR, now, 1.0)
        waits.append(schedule.records[HARBOUR].next_try - now)
        now += waits[-1]
    assert waits == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert due(schedule, now - 1) == []
    assert due(schedule, now) == [HARBOUR]


@pytest.mark.parametrize("source", Source)
def test_the_wait_has_an_end(source: Source) -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, source, NOON)
    last = fail(schedule, HARBOUR, NOON, 40)
    schedule.failed(HARBOUR, last, 1.0)
    assert schedule.records[HARBOUR].next_try - last == LONGEST_DELAY[source]


def test_peers_that_failed_together_do_not_come_back_together() -> None:
    schedule = Schedule()
    for number, address in enumerate((HARBOUR, ISLAND, LIGHTHOUSE)):
        schedule.add(address, MANUAL, NOON)
        schedule.failed(address, NOON, number / 2)
    assert sorted(record.next_try - NOON for record in schedule.records.values()) == [
        FIRST_DELAY * share for share in (0.5, 0.75, 1)
    ]


def test_a_connection_that_lasted_makes_good_for_all_failures() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, CONFIG, NOON)
    fail(schedule, HARBOUR, NOON, 9)
    schedule.succeeded(HARBOUR, NOON + HOUR)
    schedule.ended(HARBOUR, NOON + 2 * HOUR, 1.0, seconds=3600)
    record = schedule.records[HARBOUR]
    assert (record.failures, record.failing_since, record.last_success) == (0, None, NOON + HOUR)
    assert record.next_try == NOON + 2 * HOUR + FIRST_DELAY


def test_who_takes_us_and_drops_us_is_dialled_ever_less() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, CONFIG, NOON)
    now, waits = NOON, []
    for _ in range(3):
        schedule.succeeded(HARBOUR, now)
        schedule.ended(HARBOUR, now, 1.0, seconds=0.1)
        waits.append(schedule.records[HARBOUR].next_try - now)
        now += waits[-1]
    assert waits == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]


def test_a_clock_that_jumps_back_strands_nobody() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, CONFIG, NOON)
    schedule.failed(HARBOUR, NOON, 1.0)
    assert due(schedule, NOON) == []
    assert due(schedule, NOON - 365 * DAY) == [HARBOUR]
    assert due(schedule, NOON - 60 * SECOND) == [HARBOUR], "it waits five seconds, not those and a minute"


# --- who ------------------------------------------------------------------------------------------------------


def test_the_operators_choice_goes_first_and_the_hopeless_last() -> None:
    schedule = Schedule()
    schedule.add(at("found"), FOLLOWED, NOON)
    schedule.add(at("hopeless"), MANUAL, NOON)
    schedule.add(at("typed"), MANUAL, NOON)
    schedule.configure([at("configured")], NOON)
    later = fail(schedule, at("hopeless"), NOON, 3)
    assert due(schedule, later) == [at("configured"), at("typed"), at("hopeless"), at("found")]


def test_a_peer_is_dialled_at_one_address_and_not_while_it_is_connected() -> None:
    schedule = Schedule()
    schedule.add(at("harbour", 1), MANUAL, NOON)
    schedule.add(at("harbour", 2), MANUAL, NOON)
    schedule.add(ISLAND, MANUAL, NOON)
    assert due(schedule, NOON) == [at("harbour", 1), ISLAND]
    assert due(schedule, NOON, {HARBOUR.key}) == [ISLAND]
    schedule.failed(at("harbour", 1), NOON, 1.0)
    assert due(schedule, NOON) == [ISLAND, at("harbour", 2)] or due(schedule, NOON) == [at("harbour", 2), ISLAND]


def test_who_may_not_be_dialled_is_not() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, FOLLOWED, NOON)
    schedule.add(ISLAND, MANUAL, NOON)
    assert schedule.choose(NOON, set(), lambda record: record.source is not FOLLOWED) == [ISLAND]


# --- what is in the book --------------------------------------------------------------------------------------


def test_what_the_settings_name_is_kept_and_what_they_no_longer_name_is_not() -> None:
    schedule = Schedule()
    schedule.add(LIGHTHOUSE, MANUAL, NOON)
    schedule.configure([HARBOUR, ISLAND], NOON)
    schedule.configure([ISLAND], NOON)
    assert set(schedule.records) == {ISLAND, LIGHTHOUSE}
    assert schedule.take_changes()[HARBOUR] is None


def test_the_better_source_counts() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, FOLLOWED, NOON)
    later = fail(schedule, HARBOUR, NOON, 5)
    schedule.add(HARBOUR, MANUAL, NOON + 1)
    assert schedule.records[HARBOUR].source is MANUAL
    assert due(schedule, NOON + 1) == [HARBOUR]
    schedule.add(HARBOUR, FOLLOWED, later)
    assert schedule.records[HARBOUR].source is MANUAL


@pytest.mark.parametrize("source", [MANUAL, FOLLOWED])
def test_the_defunct_are_forgotten(source: Source) -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, source, NOON)
    schedule.succeeded(HARBOUR, NOON)
    schedule.failed(HARBOUR, NOON + HOUR, 0.5)
    assert schedule.forget_defunct(NOON + FORGOTTEN_AFTER) == []
    assert schedule.forget_defunct(NOON + HOUR + FORGOTTEN_AFTER + 1) == [HARBOUR]
    assert schedule.records == {}


def test_who_was_never_reached_is_forgotten_sooner() -> None:
    schedule = Schedule()
    schedule.add(HARBOUR, MANUAL, NOON)
    schedule.failed(HARBOUR, NOON, 0.5)
    assert schedule.forget_defunct(NOON + UNREACHED_FORGOTTEN_AFTER + 1) == [HARBOUR]


def test_what_the_settings_name_is_never_forgotten() -> None:
    schedule = Schedule()
    schedule.configure([HARBOUR], NOON)
    schedule.failed(HARBOUR, NOON, 0.5)
    assert schedule.forget_defunct(NOON + 1000 * DAY) == []


def test_who_was_not_even_tried_is_not_forgotten() -> None:
    """The pub was off for a year, or the peer dialled us all the time."""
    schedule = Schedule()
    schedule.add(HARBOUR, MANUAL, NOON)
    schedule.succeeded(HARBOUR, NOON)
    assert schedule.forget_defunct(NOON + 365 * DAY) == []


def test_limit_addresses_of_one_peer() -> None:
    schedule = Schedule()
    addresses = [at("harbour", port) for port in range(1, MAX_ADDRESSES_PER_PEER + 2)]
    for number, address in enumerate(addresses[:-1]):
        schedule.add(address, FOLLOWED, NOON + number)
    schedule.failed(addresses[1], NOON, 0.5)
    schedule.add(addresses[-1], FOLLOWED, NOON + 10)
    assert set(schedule.records) == {*addresses} - {addresses[1]}, "the newest word displaces the worst"


def test_limit_known_addresses() -> None:
    schedule = Schedule()
    for number in range(MAX_ADDRESSES):
        assert schedule.add(at(f"pub{number}"), FOLLOWED, NOON)
    assert not schedule.add(HARBOUR, FOLLOWED, NOON)
    assert schedule.limit_hits == 1
    assert schedule.add(HARBOUR, MANUAL, NOON), "the operator is always right"
    schedule.failed(at("pub7"), NOON, 0.5)
    assert schedule.add(ISLAND, FOLLOWED, NOON), "what fails makes room"
    assert at("pub7") not in schedule.records


def test_who_is_followed_no_more_is_not_remembered_for_that() -> None:
    schedule = Schedule()
    schedule.add(at("harbour", 1), FOLLOWED, NOON)
    schedule.add(at("harbour", 2), MANUAL, NOON)
    schedule.remove_found(HARBOUR.key)
    assert list(schedule.records) == [at("harbour", 2)]


# --- anything in any order ------------------------------------------------------------------------------------

names = st.sampled_from(["harbour", "island", "lighthouse"])
addresses = st.builds(at, names, st.integers(1, 5))
luck = st.floats(0, 1)


class AnyBook(RuleBasedStateMachine):
    """Whatever happens, the changes handed out rebuild the book, and all waits have their bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule()
        self.disk: dict[Address, PeerRecord] = {}
        self.now = NOON

    @rule(seconds=st.floats(0, 1e7))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds * SECOND

    @rule(address=addresses, source=st.sampled_from([MANUAL, FOLLOWED]))
    def add(self, address: Address, source: Source) -> None:
        self.schedule.add(address, source, self.now)

    @rule(named=st.lists(addresses, max_size=3))
    def configure(self, named: list[Address]) -> None:
        self.schedule.configure(named, self.now)
        assert {*named} == {each.address for each in self.schedule.records.values() if each.source is CONFIG}

    @rule(address=addresses, luck=luck, act=st.sampled_from(["failed", "succeeded", "ended", "remove", "unfollow"]))
    def happens(self, address: Address, luck: float, act: str) -> None:
        acts: dict[str, Callable[[], object]] = {
            "failed": lambda: self.schedule.failed(address, self.now, luck),
            "succeeded": lambda: self.schedule.succeeded(address, self.now),
            "ended": lambda: self.schedule.ended(address, self.now, luck, seconds=luck * 120),
            "remove": lambda: self.schedule.remove(address),
            "unfollow": lambda: self.schedule.remove_found(address.key),
        }
        acts[act]()

    @rule()
    def forget(self) -> None:
        self.schedule.forget_defunct(self.now)

    @rule()
    def save(self) -> None:
        for address, record in self.schedule.take_changes().items():
            if record is None:
                self.disk.pop(address, None)
            else:
                self.disk[address] = record
        assert self.disk == self.schedule.records

    @invariant()
    def waits_are_bounded(self) -> None:
        for record in self.schedule.records.values():
            assert record.next_try - self.now <= LONGEST_DELAY[record.source]
        found = [record.address.key for record in self.schedule.records.values() if record.source is FOLLOWED]
        assert all(found.count(key) <= MAX_ADDRESSES_PER_PEER for key in found)

    @invariant()
    def one_address_for_a_peer(self) -> None:
        chosen = [address.key for address in self.schedule.choose(self.now, {ISLAND.key}, anyone)]
        assert len(set(chosen)) == len(chosen)
        assert ISLAND.key not in chosen


TestAnyBook = AnyBook.TestCase
TestAnyBook.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@given(st.integers(1, 10**6), luck, st.sampled_from(Source))
@settings(max_examples=50)
def test_every_delay_lies_within_its_bounds(failures: int, luck: float, source: Source) -> None:
    schedule = Schedule([PeerRecord(HARBOUR, source, NOON, failures=failures - 1)])
    schedule.failed(HARBOUR, NOON, luck)
    assert FIRST_DELAY / 2 <= schedule.records[HARBOUR].next_try - NOON <= LONGEST_DELAY[source]
