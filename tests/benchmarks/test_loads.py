"""Every load program does its work against our pub, and none reports a figure for work that was not done."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.connection import Connection, LoadFailed
from benchmarks.dataset import DataSet, Feed, Shape, keys_of, load, write_feed
from benchmarks.figures import Figure, percentile
from benchmarks.members import upload, wait_stored
from benchmarks.peers import OURS, SINK, THEIRS, Peer, start
from benchmarks.plan import LOADS, Sizes, scenes
from benchmarks.report import Report
from benchmarks.serve import compare
from tests.service.processes import answer_of

TINY = Sizes(
    many=Shape(12, 5),
    one=Shape(1, 40),
    short=Shape(12, 1),
    followers=(3,),
    published=4,
    idle=(10,),
    idle_ebt=5,
    hold_seconds=0.1,
    visits=2,
)
ALICE = write_feed(keys_of("alice"), [{"type": "post", "text": f"{number}"} for number in range(3)])


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Peer]:
    with start(SINK, tmp_path / "sink") as peer:
        yield peer


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OURS, SINK])
def test_every_load_runs(kind: str, tmp_path: Path) -> None:
    report = Report()
    statuses: list[dict[str, int]] = []
    for number, scene in enumerate(scenes(TINY, folder=tmp_path)):
        with start(kind, tmp_path / str(number)) as peer:
            for step in scene:
                report.add(step.title, kind, step.run(peer))
            if kind == OURS:
                statuses.append(json.loads(answer_of(peer.folder, "status", "--json").stdout))
    steps = report.steps()
    assert set(map(len, steps.values())) == {3, 5, 6, 8}
    assert list(steps) == [
        *("ingest 12 x 5", "serve 12 x 5, EBT", "serve 12 x 5, history", "reconnect, 12 feeds"),
        *("ingest 1 x 40", "serve 1 x 40, EBT", "serve 1 x 40, history"),
        *("fan-out to 3", "idle, 10", "fill", "idle, 5 with EBT over 12 feeds"),
    ]
    assert all(figure[kind]["median"] >= 0 for step in steps.values() for figure in step.values())
    assert [status["internal_errors"] for status in statuses] == [0] * len(statuses)
    if kind == OURS:
        own = 1 + 1 + 1  # its profile, and whom it follows: the hub and who comes back
        assert statuses[0]["messages"] == own + 12 + 12 * 5


@pytest.mark.parametrize("load", LOADS)
def test_a_part_can_be_chosen_and_finds_its_pub_filled(load: str, tmp_path: Path) -> None:
    for scene in scenes(TINY, frozenset({load}), tmp_path):
        assert {step.load for step in scene if not step.fills} | {load} == {load}
        needs_data = load in ("serve", "reconnect") or "EBT" in scene[-1].title
        assert scene[0].fills == (needs_data or load == "ingest")


def spoiled(messages: list[bytes], how: str) -> list[bytes]:
    changed = list(messages)
    if how == "lost":
        del changed[7]
    elif how == "doubled":
        changed.insert(7, changed[7])
    elif how == "out of order":
        changed[3], changed[4] = changed[4], changed[3]
    else:
        changed[7] = changed[7].replace(b"sha256", b"sha257", 1)
    return changed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(Shape(4, 5), tmp_path_factory.mktemp("data"))


def test_what_came_as_it_was_sent_counts(data: DataSet) -> None:
    compare(list(data.round_robin()), data)
    compare([message for feed in reversed(data.feeds) for message in feed.messages], data)


@pytest.mark.parametrize("how", ["lost", "doubled", "out of order", "altered"])
def test_a_reader_who_is_given_something_else_has_no_figure(data: DataSet, how: str) -> None:
    whole = [message for feed in data.feeds for message in feed.messages]
    with pytest.raises(LoadFailed, match=r"did not arrive as it was sent"):
        compare(spoiled(whole, how), data)


def test_a_message_that_nobody_asked_for_is_noticed(data: DataSet) -> None:
    with pytest.raises(LoadFailed, match="nobody asked for"):
        compare([*data.round_robin(), *ALICE.messages], data)


def test_ingest_is_not_over_before_the_last_message_is_the_one_that_was_sent(sink: Peer) -> None:
    upload(sink, ALICE)[0].close()
    watcher = Connection(sink, keys_of("watcher"))
    wait_stored(watcher, [ALICE])
    with pytest.raises(LoadFailed, match="is not what was sent"):
        wait_stored(watcher, [Feed(ALICE.keys, [ALICE.messages[0]] * 3)])
    watcher.close()


def test_the_table_shows_medians_what_they_lie_between_and_who_is_better() -> None:
    report = Report()
    speed = Figure("messages/s", 0, "", more_is_better=True)
    delay = Figure("p50", 0, "ms")
    for ours, theirs in ((3000, 1000), (5000, 900), (4000, 1100)):
        report.add("ingest", OURS, [replace(speed, value=ours), replace(delay, value=2)])
        report.add("ingest", THEIRS, [replace(speed, value=theirs), replace(delay, value=1)])
    assert report.table([OURS, THEIRS]).splitlines()[2:] == [
        "| **ingest** |  |  |  |",
        "| messages/s | 4,000 (3,000 - 5,000) | 1,000 (900 - 1,100) | 4.00 |",
        "| p50 | 2.00 ms (2.00 - 2.00) | 1.00 ms (1.00 - 1.00) | 0.50 |",
    ]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.99) == 7
