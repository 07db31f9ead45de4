"""The data sets to measure with: real messages, and the same ones whether they are loaded or mapped."""

from pathlib import Path

from benchmarks.dataset import DataSet, Shape, load
from benchmarks.mapped import Mapped
from pub.protocol.classic import Chain, Head, chain, examine

SHAPE = Shape(feeds=5, messages=40)


def feeds_of(data: DataSet) -> list[list[bytes]]:
    return [feed.messages for feed in (data.hub, *data.feeds)]


def test_every_message_is_valid_normal_and_the_next_of_its_feed(tmp_path: Path) -> None:
    for messages in feeds_of(load(SHAPE, tmp_path)):
        head: Head | None = None
        for raw in messages:
            message = examine(raw)
            assert message.encoded == raw
            assert chain(head, message) is Chain.NEXT
            head = message.head


def test_mapped_is_loaded(tmp_path: Path) -> None:
    loaded = load(SHAPE, tmp_path)
    with Mapped(SHAPE, tmp_path) as data:
        assert data.ids == [feed.id for feed in (loaded.hub, *loaded.feeds)]
        assert data.count == 5 + 5 * 40
        assert data.raw_bytes == loaded.raw_bytes
        assert [data.page(feed, 0, 1 << 20) for feed in range(6)] == feeds_of(loaded)


def test_pages_hold_whole_messages_and_end_with_their_feed(tmp_path: Path) -> None:
    with Mapped(SHAPE, tmp_path) as data:
        whole = data.page(2, 0, 1 << 20)
        assert data.page(2, 7, 1) == whole[7:8]
        assert data.page(2, 7, len(whole[7]) + len(whole[8]) + 2) == whole[7:9]
        assert data.page(2, 39, 1 << 20) == whole[39:]
        assert data.page(2, 40, 1 << 20) == []
        assert data.page(0, 5, 1 << 20) == []
