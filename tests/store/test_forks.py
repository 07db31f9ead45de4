"""Two disks, one key: which branch the log keeps, and what it keeps of the other."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.protocol.classic import Chain, Message
from pub.store.env import Store, Txn
from pub.store.forks import Fork, Forks
from pub.store.log import STRIDE, Appender, Changes, Log
from tests.store.authors import RECEIVED, Author, commit

EVERYTHING = 1 << 30  # bytes; no limit for a page
LATER = RECEIVED + 60_000


@pytest.fixture
def log(store: Store) -> Log:
    return Log(store)


def two_disks(common: int, after: int) -> tuple[list[Message], list[Message]]:
    """The whole feed of Alice as each of her disks has it: ``common`` messages, then ``after`` different ones."""
    branches = []
    for disk in ("phone", "laptop"):
        alice = Author("alice")
        alice.write_many(common)
        for number in range(after):
            alice.write(f"{number} from the {disk}")
        branches.append(alice.messages)
    return branches[0], branches[1]


def proof(log: Log, feed: int = 0) -> Fork | None:
    with log.store.read() as txn:
        return Forks(log.store).get(txn, feed)


def encoded(messages: list[Message]) -> list[bytes]:
    return [message.encoded for message in messages]


def test_a_message_on_top_of_another_one_proves_a_fork(log: Log) -> None:
    phone, laptop = two_disks(2, 2)
    commit(log, phone[:3])
    assert commit(log, [laptop[3]], LATER) == [Chain.FORK]
    assert proof(log) == Fork(3, phone[2].id, laptop[3].id, LATER, laptop[3].encoded)
    assert log.forked == {0}


def test_another_message_of_a_sequence_we_have_proves_a_fork(log: Log) -> None:
    phone, laptop = two_disks(1, 3)
    commit(log, phone)
    assert commit(log, [laptop[1]], LATER) == [Chain.FORK]
    assert proof(log) == Fork(2, phone[1].id, laptop[1].id, LATER, laptop[1].encoded)


def test_both_branches_arrive_in_one_batch(log: Log) -> None:
    phone, laptop = two_disks(1, 3)
    assert commit(log, [*phone[:3], laptop[1], phone[3]]) == [Chain.NEXT] * 3 + [Chain.FORK, Chain.NEXT]
    assert proof(log) == Fork(2, phone[1].id, laptop[1].id, RECEIVED, laptop[1].encoded)
    assert log.page(0, 0, EVERYTHING) == encoded(phone)
    assert Log(log.store).forked == {0}


def test_a_feed_whose_first_messages_differ_is_forked(log: Log) -> None:
    phone, laptop = two_disks(0, 1)
    assert commit(log, [phone[0], laptop[0]]) == [Chain.NEXT, Chain.FORK]
    assert proof(log) == Fork(1, phone[0].id, laptop[0].id, RECEIVED, laptop[0].encoded)


def test_the_first_branch_grows_on_and_stays_marked(tmp_path: Path) -> None:
    phone, laptop = two_disks(2, 3)
    with Store.open(tmp_path) as store:
        log = Log(store)
        commit(log, [*phone[:3], Author("bob").write()])
        commit(log, [laptop[2]])
        assert commit(log, phone[3:4]) == [Chain.NEXT]
    with Store.open(tmp_path) as store:
        log = Log(store)
        assert log.forked == {0}
        assert commit(log, phone[4:]) == [Chain.NEXT]
        assert Log(store).forked == {0}
        assert log.page(0, 0, EVERYTHING) == encoded(phone)
        assert log.message_count == 6


def test_only_the_first_proof_is_kept(log: Log) -> None:
    phone, laptop = two_disks(1, 4)
    commit(log, phone[:3])
    commit(log, [laptop[2]])
    first = proof(log)
    assert commit(log, [laptop[1], laptop[3]], LATER) == [Chain.FORK, Chain.FORK]
    assert proof(log) == first
    assert commit(log, [laptop[4]]) == [Chain.GAP]


def test_what_we_have_already_is_no_fork(log: Log) -> None:
    phone, _ = two_disks(3, 0)
    commit(log, phone[:2])
    assert commit(log, [phone[0], phone[1], phone[2], phone[2]]) == [
        Chain.DUPLICATE,
        Chain.DUPLICATE,
        Chain.NEXT,
        Chain.DUPLICATE,
    ]
    assert log.forked == set()
    assert proof(log) is None


@pytest.mark.parametrize("sequence", [0, -1, -(2**31)])
def test_a_place_that_no_feed_has_proves_nothing(log: Log, sequence: int) -> None:
    phone, _ = two_disks(1, 0)
    odd = Message(bytes(32), phone[0].author, sequence, None, 1.0, b"{}", None)
    assert commit(log, [*phone, odd]) == [Chain.NEXT, Chain.DUPLICATE]
    assert log.forked == set()


def test_a_batch_that_is_undone_leaves_no_proof(log: Log) -> None:
    phone, laptop = two_disks(1, 1)
    commit(log, phone)

    def job(txn: Txn) -> None:
        appender = Appender(log, txn)
        assert appender.append(laptop[1], RECEIVED) is Chain.FORK
        assert appender.is_forked(0)
        appender.finish()
        raise ValueError("something else went wrong")

    with pytest.raises(ValueError, match="something else"):
        log.store.write(job)
    assert log.forked == set()
    assert proof(log) is None
    assert commit(log, [laptop[1]]) == [Chain.FORK]


def test_the_changes_name_a_fork_once(log: Log) -> None:
    phone, laptop = two_disks(1, 3)
    commit(log, phone)
    for found in (1, 0):

        def job(txn: Txn) -> Changes:
            appender = Appender(log, txn)
            for message in laptop[1:]:
                appender.append(message, RECEIVED)
            return appender.finish()

        changes = log.store.write(job)
        log.apply(changes)
        assert len(changes.forked) == found
        assert changes.appended == []


class Watched:
    """A transaction that counts the lookups made through it."""

    def __init__(self, txn: Txn) -> None:
        self._txn = txn
        self.lookups = 0

    def get(self, *arguments: Any, **options: Any) -> Any:
        self.lookups += 1
        return self._txn.get(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)


def test_what_continues_its_feed_is_not_looked_up(log: Log) -> None:
    phone, _ = two_disks(10, 0)
    commit(log, phone[:5])

    def job(txn: Txn) -> None:
        watched: Any = Watched(txn)
        appender = Appender(log, watched)
        for message in phone[5:10]:
            appender.append(message, RECEIVED)
        assert watched.lookups == 1, "the head, once for the whole batch"
        for known in phone[:10]:
            watched.lookups = 0
            appender.append(known, RECEIVED)
            assert watched.lookups <= 1 + STRIDE
        assert watched.lookups <= 1, "this one is of the same batch"

    log.store.write(job)


places = st.lists(st.tuples(st.sampled_from((0, 1)), st.integers(0, 6)), max_size=25)


@settings(max_examples=20, deadline=None)
@given(common=st.integers(0, 4), batches=st.lists(places, max_size=4))
def test_the_log_is_always_the_beginning_of_one_branch(
    tmp_path_factory: pytest.TempPathFactory, common: int, batches: list[list[tuple[int, int]]]
) -> None:
    branches = two_disks(common, 7 - common)
    kept: list[Message] = []
    is_forked = False
    with Store.open(tmp_path_factory.mktemp("log")) as store:
        log = Log(store)
        for batch in batches:
            messages = [branches[which][at] for which, at in batch]
            for message, verdict in zip(messages, commit(log, messages), strict=True):
                if verdict is Chain.NEXT:
                    kept.append(message)
                assert (verdict is Chain.FORK) is contradicts(kept, message)
                is_forked |= verdict is Chain.FORK
        assert kept in (branches[0][: len(kept)], branches[1][: len(kept)])
        for mirror in (log, Log(store)):
            assert mirror.forked == ({0} if is_forked else set())
            assert (mirror.page(0, 0, EVERYTHING) if kept else []) == encoded(kept)
        if is_forked:
            assert_proves(proof(log), kept, branches)


def contradicts(kept: list[Message], message: Message) -> bool:
    if message.sequence <= len(kept):
        return message != kept[message.sequence - 1]
    return message.sequence == len(kept) + 1 and bool(kept) and message.previous != kept[-1].id


def assert_proves(fork: Fork | None, kept: list[Message], branches: tuple[list[Message], list[Message]]) -> None:
    assert fork is not None
    assert fork.ours == kept[fork.sequence - 1].id
    [theirs] = {message for branch in branches for message in branch if message.id == fork.theirs}
    assert fork.encoded == theirs.encoded
    if theirs.sequence == fork.sequence:
        assert theirs.id != fork.ours
    else:
        assert theirs.sequence == fork.sequence + 1
        assert theirs.previous != fork.ours
