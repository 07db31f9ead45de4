"""Those who are there while something is measured notice what they were not given, and so does who brings millions."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import large
from benchmarks.connection import LoadFailed
from benchmarks.crowds import PEOPLE
from benchmarks.dataset import DataSet, Feed, Shape, load
from benchmarks.ingest import prepare
from benchmarks.mapped import Mapped
from benchmarks.members import read_back
from benchmarks.others import others
from benchmarks.peers import OURS, SINK, Peer, start

SHAPE = Shape(3, 4)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return load(SHAPE, tmp_path)


@pytest.fixture
def sink(tmp_path: Path, data: DataSet) -> Iterator[Peer]:
    """It holds the data set."""
    with start(SINK, tmp_path / "sink") as peer:
        delivery = prepare(peer, data)
        delivery.run()
        delivery.close()
        yield peer


def with_another(data: DataSet, change: str) -> DataSet:
    """The data set as somebody sees it of whom the pub holds something else."""
    feed = data.feeds[1]
    messages = [each.replace(b"sha256", b"sha257", 1) if change == "altered" else each for each in feed.messages]
    if change == "doubled":
        messages[2] = messages[1]
    elif change == "out of order":
        messages[2], messages[1] = messages[1], messages[2]
    return replace(data, feeds=[data.feeds[0], Feed(feed.keys, messages), data.feeds[2]])


@pytest.mark.slow
@pytest.mark.parametrize("who", ["pull", "read"])
@pytest.mark.parametrize("change", ["altered", "doubled", "out of order"])
def test_a_crowd_fails_unless_it_gets_what_was_sent(who: str, change: str, sink: Peer, data: DataSet) -> None:
    stopped = threading.Event()
    work = PEOPLE[who](sink, with_another(data, change))
    threading.Timer(0.3, stopped.set).start()
    with pytest.raises(LoadFailed, match="did not arrive as it was sent"):
        work(stopped)


@pytest.mark.slow
def test_a_crowd_in_its_process_says_what_went_wrong(sink: Peer, tmp_path: Path) -> None:
    with others(sink, "read", SHAPE, tmp_path) as crowd:
        crowd.go()
        assert crowd.stop()["feeds"] >= 1
    lost = tmp_path / "lost"
    lost.mkdir()
    lines = (tmp_path / "3x4-600.ndjson").read_bytes().splitlines(keepends=True)
    (lost / "3x4-600.ndjson").write_bytes(b"".join(lines).replace(b".sha256", b".sha257"))
    with others(sink, "read", SHAPE, lost) as crowd:
        crowd.go()
        with pytest.raises(LoadFailed, match="did not arrive"):
            crowd.stop()


@pytest.mark.slow
def test_what_is_read_back_is_the_message_itself(sink: Peer, data: DataSet) -> None:
    feed = data.feeds[2]
    read_back(sink, feed.id, feed.messages[-1])
    with pytest.raises(LoadFailed, match="is not what was sent"):
        read_back(sink, feed.id, feed.messages[-1].replace(b"sha256", b"sha257", 1))


@pytest.mark.slow
def test_a_large_pull_is_compared_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(large, "PATIENCE_SECONDS", 1.0)
    altered = tmp_path / "altered"
    altered.mkdir()
    with start(OURS, tmp_path / "pub") as pub, Mapped(SHAPE, tmp_path) as data:
        large.fill(pub, data)
        large.pull(pub, data)
        text = (tmp_path / "3x4-600.ndjson").read_bytes()
        (altered / "3x4-600.ndjson").write_bytes(text.replace(b'"hash":"sha256"', b'"hash":"sha257"', 5))
        with Mapped(SHAPE, altered) as other, pytest.raises(LoadFailed, match="is not what was sent"):
            large.pull(pub, other)
        with Mapped(Shape(3, 5), tmp_path) as more, pytest.raises(LoadFailed, match="0 messages came of 18"):
            large.pull(pub, more)
