"""From the disk to the socket."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dataset import DataSet
from benchmarks.stages.conftest import Measure
from pub.net.connection import SEND_BUFFER
from pub.protocol.boxstream import Boxer
from pub.protocol.classic import examine
from pub.protocol.packets import encode_page
from pub.store.env import Store
from pub.store.log import Appender, Changes, Log

KEY, NONCE = bytes(32), bytes(24)


@pytest.fixture
def log(folder: Callable[[], Path], messages: list[bytes]) -> Iterator[Log]:
    with Store.open(folder()) as store:
        log = Log(store)

        def job(txn: Any) -> Changes:
            appender = Appender(log, txn)
            for message in messages:
                appender.append(examine(message), 1.0)
            return appender.finish()

        log.apply(store.write(job))
        yield log


def test_read(measure: Measure, data: DataSet, log: Log) -> None:
    """Read pages of the log."""

    def read() -> None:
        assert sum(len(log.page(feed, 0, SEND_BUFFER)) for feed in range(len(data.feeds))) == data.count

    measure("serve", read)


def test_encode(measure: Measure, data: DataSet) -> None:
    """Make packets."""
    measure("serve", lambda: [encode_page(1, feed.messages) for feed in data.feeds])


def test_box(measure: Measure, messages: list[bytes]) -> None:
    """Box."""
    page = encode_page(1, messages)
    buffers = [page[start : start + SEND_BUFFER] for start in range(0, len(page), SEND_BUFFER)]

    def box() -> None:
        boxer = Boxer(KEY, NONCE)
        for buffer in buffers:
            boxer.box(buffer)

    measure("serve", box)
