"""Pages that many ask for at once are read once, and are at any time what the log would give."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pub.rpc.pages import KEPT_BYTES, KEPT_MESSAGES, Pages
from pub.store.env import Store
from pub.store.log import Log
from tests.store.authors import Author, commit

ROOM = 1 << 16


class CountingLog(Log):
    """Knows how often it was read."""

    reads = 0

    def page(self, feed: int, after: int, max_bytes: int) -> list[bytes]:
        self.reads += 1
        return super().page(feed, after, max_bytes)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CountingLog]:
    with Store.open(tmp_path) as store:
        yield CountingLog(store)


def test_a_new_message_is_read_once_for_all(log: CountingLog) -> None:
    alice, pages = Author("alice"), Pages(log)
    for sequence in range(3):
        message = alice.write()
        commit(log, [message])
        assert [pages.page(0, sequence, ROOM) for _ in range(5)] == [[message.encoded]] * 5
    assert log.reads == 3


def test_who_is_behind_reads_the_log(log: CountingLog) -> None:
    pages = Pages(log)
    commit(log, Author("alice").write_many(KEPT_MESSAGES + 1))
    for _ in range(2):
        assert len(pages.page(0, 0, ROOM)) == KEPT_MESSAGES + 1
    assert log.reads == 2


def test_what_is_kept_is_bounded(log: CountingLog) -> None:
    authors = [Author(f"author {number}") for number in range(60)]
    pages = Pages(log)
    commit(log, [author.write("x" * 7800) for author in authors for _ in range(KEPT_MESSAGES)])
    for feed in range(len(authors)):
        pages.page(feed, 0, ROOM)
        assert pages.kept_bytes <= KEPT_BYTES
    assert log.reads == len(authors)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([0, 500, ROOM])), min_size=1, max_size=8
    )
)
def test_it_is_always_what_the_log_says(log: CountingLog, steps: list[tuple[int, int, int]]) -> None:
    pages, authors = Pages(log), [Author(f"author {len(log.keys) + number}") for number in range(3)]
    for number, written, room in steps:
        commit(log, authors[number].write_many(written))
        for feed, head in enumerate(log.heads):
            for after in range(head + 1):
                assert pages.page(feed, after, room) == log.page(feed, after, room)
