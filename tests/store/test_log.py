from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pub.protocol.classic import Chain, Head
from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW, Contact
from pub.store import log as log_module
from pub.store.env import Store, Txn
from pub.store.log import STRIDE, Appender, Changes, Log
from pub.store.records import Record
from tests.store.authors import RECEIVED, Author, commit

EVERYTHING = 1 << 30  # bytes; no limit for a page


@pytest.fixture
def log(store: Store) -> Log:
    return Log(store)


def head(log: Log, feed: int) -> Head | None:
    return log.store.write(lambda txn: Appender(log, txn).head(feed))


def edges_of(log: Log) -> list[tuple[int, int, int]]:
    return [edge for part in log.edges() for edge in zip(*part, strict=True)]


def test_an_empty_log(log: Log) -> None:
    assert (log.keys, log.numbers, list(log.heads), log.message_count) == ([], {}, [], 0)
    assert edges_of(log) == []


def test_messages_are_served_after_their_batch_was_applied(log: Log) -> None:
    alice = Author("alice")
    messages = alice.write_many(3)
    committed: list[Changes] = []

    def job(txn: Txn) -> None:
        appender = Appender(log, txn)
        assert {appender.append(message, RECEIVED) for message in messages} == {Chain.NEXT}
        committed.append(appender.finish())

    log.store.write(job)
    assert alice.key not in log.numbers
    assert committed == [Changes([alice.key], {0: 3}, {0: 3}, [(0, 1), (0, 2), (0, 3)])]
    log.apply(committed[0])
    assert log.numbers == {alice.key: 0}
    assert log.page(0, 0, EVERYTHING) == [message.encoded for message in messages]
    assert log.page(0, 2, EVERYTHING) == [messages[2].encoded]
    assert log.page(0, 3, EVERYTHING) == []
    assert log.page(0, 99, EVERYTHING) == []


def test_a_log_is_the_same_after_reopening(tmp_path: Path) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    with Store.open(tmp_path) as store:
        before = Log(store)
        commit(before, [alice.write(contact=Contact(carol.key, FOLLOW)), bob.write(), *alice.write_many(70)])
    with Store.open(tmp_path) as store:
        after = Log(store)
        assert after.keys == before.keys == [alice.key, carol.key, bob.key]
        assert after.numbers == before.numbers
        assert after.heads == before.heads
        assert list(after.heads) == [71, 0, 1]
        assert after.message_count == before.message_count == 72
        assert after.page(0, 0, EVERYTHING) == [message.encoded for message in alice.messages]
        assert edges_of(after) == [(0, 1, FOLLOW)]
        assert head(after, 0) == alice.head
        assert head(after, 1) is None
        assert commit(after, [alice.write(), carol.write()]) == [Chain.NEXT, Chain.NEXT]
        assert after.records(1, 0, 1) == [Record(1, carol.messages[0].id, RECEIVED, carol.messages[0].encoded)]


def test_what_does_not_continue_its_feed_is_named_and_not_written(log: Log) -> None:
    alice, stranger = Author("alice"), Author("stranger")
    first, second, third = alice.write_many(3)
    late = stranger.write_many(2)[1]
    assert commit(log, [first, first, third, second, first, late]) == [
        Chain.NEXT,
        Chain.DUPLICATE,
        Chain.GAP,
        Chain.NEXT,
        Chain.DUPLICATE,
        Chain.GAP,
    ]
    assert log.page(0, 0, EVERYTHING) == [first.encoded, second.encoded]
    assert stranger.key not in log.numbers
    assert log.message_count == 2


def test_a_fork_and_a_first_message_that_cannot_be_one(log: Log) -> None:
    alice, twin, nobody = Author("alice"), Author("alice"), Author("nobody")
    first = alice.write("one life")
    twin.write("another life")
    assert commit(log, [first]) == [Chain.NEXT]
    assert commit(log, [twin.write(), nobody.write(timestamp=None)]) == [Chain.FORK, Chain.INVALID_FIRST]
    assert log.numbers == {alice.key: 0}
    assert commit(log, [alice.write()]) == [Chain.NEXT]


def test_a_timestamp_that_is_no_number_stays_none(log: Log) -> None:
    alice = Author("alice")
    commit(log, [alice.write(), alice.write(timestamp=None)])
    assert head(log, 0) == Head(2, alice.messages[1].id, None)
    commit(log, [alice.write(timestamp=-0.5)])
    assert head(log, 0) == Head(3, alice.messages[2].id, -0.5)


def test_a_failed_batch_leaves_the_mirror_and_the_disk_as_they_were(log: Log) -> None:
    alice, bob = Author("alice"), Author("bob")
    commit(log, [alice.write()])
    lost = [alice.write(), bob.write()]

    def job(txn: Txn) -> None:
        appender = Appender(log, txn)
        for message in lost:
            appender.append(message, RECEIVED)
        appender.finish()
        raise ValueError("the follow-back could not be made")

    with pytest.raises(ValueError, match="follow-back"):
        log.store.write(job)
    assert (log.keys, list(log.heads), log.message_count) == ([alice.key], [1], 1)
    assert log.page(0, 0, EVERYTHING) == [alice.messages[0].encoded]
    assert commit(log, lost) == [Chain.NEXT, Chain.NEXT]
    assert log.numbers == {alice.key: 0, bob.key: 1}


def test_a_batch_after_one_that_was_not_applied_is_refused(log: Log) -> None:
    alice = Author("alice")

    def job(txn: Txn) -> Changes:
        appender = Appender(log, txn)
        appender.append(alice.write(), RECEIVED)
        return appender.finish()

    changes = log.store.write(job)
    with pytest.raises(RuntimeError, match="committed but not applied"):
        log.store.write(job)
    log.apply(changes)
    assert log.page(0, 0, EVERYTHING) == [alice.messages[0].encoded]


def test_interning_alone_makes_an_empty_feed(log: Log) -> None:
    alice, bob = Author("alice"), Author("bob")

    def job(txn: Txn) -> Changes:
        appender = Appender(log, txn)
        assert [appender.intern(key) for key in (bob.key, alice.key, bob.key)] == [0, 1, 0]
        assert appender.head(0) is None
        with pytest.raises(LookupError, match="no feed number 2"):
            appender.head(2)
        return appender.finish()

    log.apply(log.store.write(job))
    assert log.keys == Log(log.store).keys == [bob.key, alice.key]
    assert log.page(0, 0, EVERYTHING) == []
    assert log.records(0, 0, EVERYTHING) == []


def test_the_last_contact_message_about_somebody_counts(log: Log) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    about = [(bob, FOLLOW), (carol, BLOCK), (bob, BLOCK), (bob, UNFOLLOW)]
    commit(log, [alice.write(contact=Contact(who.key, value)) for who, value in about])
    assert edges_of(log) == [(0, 1, UNFOLLOW), (0, 2, BLOCK)]
    commit(log, [carol.write(contact=Contact(alice.key, FOLLOW)), alice.write(contact=Contact(carol.key, FOLLOW))])
    assert edges_of(log) == [(0, 1, UNFOLLOW), (0, 2, FOLLOW), (2, 0, FOLLOW)]


def test_the_writer_asks_for_one_edge(log: Log) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    commit(log, [alice.write(contact=Contact(bob.key, FOLLOW))])

    def job(txn: Txn) -> None:
        appender = Appender(log, txn)
        assert appender.edge(alice.key, bob.key) == FOLLOW
        assert appender.edge(bob.key, alice.key) is None
        assert appender.edge(alice.key, carol.key) is None
        appender.append(alice.write(contact=Contact(carol.key, BLOCK)), RECEIVED)
        appender.append(alice.write(contact=Contact(bob.key, UNFOLLOW)), RECEIVED)
        assert appender.edge(alice.key, carol.key) == BLOCK
        assert appender.edge(alice.key, bob.key) == UNFOLLOW

    log.store.write(job)


def test_edges_come_in_slices_without_holding_a_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "EDGES_SLICE", 3)
    alice = Author("alice")
    commit(log, [alice.write(contact=Contact(bytes([n]) * 32, FOLLOW)) for n in range(9)])
    found = []
    for part in log.edges():
        log.store.write(lambda _: None)  # is refused while this thread reads
        found.append(list(zip(*part, strict=True)))
    assert found == [[(0, n, FOLLOW) for n in (first, first + 1, first + 2)] for first in (1, 4, 7)]


def test_a_page_holds_whole_messages_up_to_its_size(log: Log) -> None:
    alice = Author("alice")
    commit(log, [alice.write("x" * size) for size in (10, 10, 1000, 10)])
    encoded = [message.encoded for message in alice.messages]
    two = len(encoded[0]) + len(encoded[1])
    assert log.page(0, 0, two) == encoded[:2]
    assert log.page(0, 0, two - 1) == encoded[:1]
    assert log.page(0, 0, two + 999) == encoded[:2]
    assert log.page(0, 2, 1) == encoded[2:3]  # larger than the page, but the next one
    assert [record.encoded for record in log.records(0, 0, two)] == encoded[:2]
    assert [record.encoded for record in log.records(0, 2, 1)] == encoded[2:3]


def test_records_say_what_was_kept_of_each_message(log: Log) -> None:
    alice = Author("alice")
    first, second = alice.write_many(2)
    commit(log, [first], received=1.25)
    commit(log, [second], received=2.5)
    records = [Record(1, first.id, 1.25, first.encoded), Record(2, second.id, 2.5, second.encoded)]
    assert log.records(0, 0, EVERYTHING) == records
    assert log.records(0, 1, EVERYTHING) == records[1:]


def test_pages_of_feeds_that_arrived_together_and_apart(log: Log) -> None:
    authors = [Author("alice"), Author("bob")]
    for turn in (1, 1, 2, STRIDE - 1, STRIDE, STRIDE + 1, 10 * STRIDE):
        for author in authors:
            commit(log, author.write_many(turn))
    for feed, author in enumerate(authors):
        encoded = [message.encoded for message in author.messages]
        for after in range(len(encoded)):
            assert log.page(feed, after, EVERYTHING) == encoded[after:]
            assert log.page(feed, after, 2000) == encoded[after : after + len(log.page(feed, after, 2000))]


def test_who_reads_while_a_batch_is_applied_sees_the_feed_as_it_was(log: Log) -> None:
    """In another thread: the head still the old one, its receive number that of the new one."""
    alice, bob = Author("alice"), Author("bob")
    commit(log, [*alice.write_many(40), bob.write(), *alice.write_many(20), bob.write(), *alice.write_many(3)])
    encoded = [message.encoded for message in alice.messages]
    for head in (62, 61, 59, 45, 33):
        log.heads[0] = head
        for after in range(head):
            assert log.page(0, after, EVERYTHING) == encoded[after:head]


def test_a_batch_that_makes_the_map_grow_is_written_once(tmp_path: Path) -> None:
    with Store.open(tmp_path, initial_map=256 << 10) as store:
        log = Log(store)
        alice = Author("alice")
        commit(log, [alice.write("x" * 8000) for _ in range(100)])
        assert store.map_size > 256 << 10
        assert log.message_count == 100
        assert log.page(0, 0, EVERYTHING) == [message.encoded for message in alice.messages]
        assert Log(store).message_count == 100


Turn = tuple[int, int, int]  # who writes, how many messages, about whom

turns = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 5)), max_size=12)
sizes = st.integers(1, 300)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(turns, max_size=5), after=st.integers(0, 12), max_bytes=sizes)
def test_any_interleaving_is_kept_as_a_dict_would_keep_it(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Turn]], after: int, max_bytes: int
) -> None:
    people = [Author(name) for name in ("alice", "bob", "carol", "dave", "erin", "frank")]
    edges: dict[tuple[bytes, bytes], int] = {}
    with Store.open(tmp_path_factory.mktemp("log")) as store:
        log = Log(store)
        for batch in batches:
            messages = []
            for who, count, whom in batch:
                about = Contact(people[whom].key, (FOLLOW, BLOCK, UNFOLLOW)[count % 3])
                edges[people[who].key, about.target] = about.value
                messages += [*people[who].write_many(count), people[who].write(contact=about)]
            assert commit(log, messages) == [Chain.NEXT] * len(messages)
        for mirror in (log, Log(store)):
            assert_equal(mirror, people, edges)
            for author in people:
                assert_pages(mirror, author, after, max_bytes)


def assert_equal(log: Log, people: list[Author], edges: dict[tuple[bytes, bytes], int]) -> None:
    assert log.message_count == sum(len(author.messages) for author in people)
    assert {(log.keys[author], log.keys[target]): value for author, target, value in edges_of(log)} == edges
    assert {key: log.heads[feed] for key, feed in log.numbers.items() if log.heads[feed]} == {
        author.key: len(author.messages) for author in people if author.messages
    }


def assert_pages(log: Log, author: Author, after: int, max_bytes: int) -> None:
    feed = log.numbers.get(author.key)
    if feed is None:
        return
    expected: list[Record] = []
    for message in author.messages[after:]:
        if expected and sum(len(record.encoded) for record in expected) + len(message.encoded) > max_bytes:
            break
        expected.append(Record(message.sequence, message.id, RECEIVED, message.encoded))
    assert log.records(feed, after, max_bytes) == expected
    assert log.page(feed, after, max_bytes) == [record.encoded for record in expected]


@pytest.mark.slow
def test_many_feeds_load_at_once(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        log = Log(store)
        commit(log, [Author(f"author {n}").write() for n in range(20_000)])
        assert Log(store).numbers == log.numbers
