"""Every load program does its work against our pub, and none reports a figure for work that was not done."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import busy, idle, large, members, meter, reconnect
from benchmarks.connection import Connection, LoadFailed
from benchmarks.dataset import DataSet, Feed, Shape, keys_of, load, write_feed
from benchmarks.figures import Figure, percentile
from benchmarks.goals import GOALS, Goal
from benchmarks.hostile import ATTACKS
from benchmarks.members import upload, wait_stored
from benchmarks.peers import OURS, SINK, THEIRS, Peer, start
from benchmarks.plan import EVERY_LOAD, Sizes, scenes
from benchmarks.report import Report
from benchmarks.serve import compare
from tests.service.processes import answer_of

TINY = Sizes(
    many=Shape(12, 5),
    one=Shape(1, 40),
    short=Shape(12, 1),
    far=Shape(30, 1),
    followers=(3,),
    published=4,
    idle=(10,),
    idle_ebt=5,
    state=5,
    hold_seconds=0.1,
    visits=2,
    meanwhile=Shape(12, 3000, label=" meanwhile"),
    brought=Shape(12, 4),
    large=Shape(20, 6),
    sweep_stored=(40, 100),
    sweep_writers=4,
    sweep_feeds=(5,),
    sweep_peers=(4,),
)
STEPS = [
    *("ingest 12 x 5", "serve 12 x 5, EBT", "serve 12 x 5, history", "reconnect, 12 feeds"),
    *("ingest 1 x 40", "serve 1 x 40, EBT", "serve 1 x 40, history"),
    *("fan-out to 3", "idle, 10", "fill 12 x 1", "idle, 5 with EBT over 12 feeds"),
    *("fill 30 x 1", "reconnect, 30 feeds", "state, 30 feeds"),
    *("fill 12 x 5", "busy, ingest alone", "busy, ingest while 5 pull everything"),
    "busy, fan-out to 3 alone",
]
OURS_ONLY = [
    *("busy, fan-out to 3 meanwhile", *(f"hostile, {who}" for who in ATTACKS)),
    "large, 12 x 5 into an empty store",
    *("large, fill 20 x 6", "large, somebody new pulls everything", "large, a member with 20 feeds comes back"),
    *("large, 12 x 5 on top of 140", "large, 20 people become members", "large, the operator asks"),
    *("large, start with 212 messages", "sweep, messages stored: 40", "sweep, messages stored: 100"),
    *("sweep, feeds: 5", "sweep, peers: 4"),
]
ALICE = write_feed(keys_of("alice"), [{"type": "post", "text": f"{number}"} for number in range(3)])


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Peer]:
    with start(SINK, tmp_path / "sink") as peer:
        yield peer


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pub puts off is of no interest here."""
    waits = {meter: "REST_SECONDS", members: "QUIET_SECONDS", idle: "SETTLE_SECONDS", reconnect: "BETWEEN_SECONDS"}
    waits |= {busy: "UNDER_WAY_SECONDS", large: "SETTLING_SECONDS"}
    for module, name in waits.items():
        monkeypatch.setattr(module, name, getattr(module, name) / 10)
    monkeypatch.setattr(large, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(large, "STARTS", 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OURS, SINK])
def test_every_load_runs(kind: str, tmp_path: Path, no_waiting: None) -> None:
    report = Report()
    statuses: list[dict[str, int]] = []
    for number, scene in enumerate(scenes(TINY, folder=tmp_path)):
        steps = [step for step in scene if kind in step.peers]
        if all(step.fills for step in steps):
            continue
        with start(kind, tmp_path / str(number)) as peer:
            for step in steps:
                report.add(step.title, kind, step.run(peer))
            if kind == OURS and not peer.is_over:
                statuses.append(json.loads(answer_of(peer.folder, "status", "--json").stdout))
    figures = report.steps()
    assert list(figures) == (STEPS + OURS_ONLY if kind == OURS else STEPS)
    assert all(figure["peers"][kind]["median"] >= 0 for name, figure in figures_of(figures))
    assert [status["internal_errors"] for status in statuses] == [0] * len(statuses)
    if kind == OURS:
        own = 1 + 1 + 1  # its profile, and whom it follows: the hub and who comes back
        assert statuses[0]["messages"] == own + 12 + 12 * 5
        missing = {(loads()[goal.step], goal.figure) for goal in GOALS} - {
            (step.load, name) for scene in scenes(TINY) for step in scene for name in figures[step.title]
        }
        assert not missing, "goals for figures that nobody measures"


def figures_of(steps: dict[str, Any]) -> list[tuple[str, Any]]:
    """All but the differences, which may be below zero where nearly nothing happens."""
    each = [(name, figure) for figures in steps.values() for name, figure in figures.items()]
    return [(name, figure) for name, figure in each if name not in ("memory per connection", "bytes per feed and peer")]


def loads() -> dict[str, str]:
    """Which load each step of the full size belongs to."""
    return {step.title: step.load for scene in scenes(Sizes()) for step in scene}


def test_every_goal_is_of_a_step_that_there_is() -> None:
    titles = loads()
    assert {goal.step for goal in GOALS} <= titles.keys()
    assert {goal.of for goal in GOALS} - {None, THEIRS} <= titles.keys()


@pytest.mark.parametrize("load", EVERY_LOAD)
def test_a_part_can_be_chosen_and_finds_its_pub_filled(load: str, tmp_path: Path) -> None:
    for scene in scenes(TINY, frozenset({load}), tmp_path):
        assert {step.load for step in scene if not step.fills} | {load} == {load}
        needs_data = load in ("serve", "reconnect", "state", "busy", "hostile") or "EBT" in scene[-1].title
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
    goals = [
        Goal("ingest", "messages/s", 3500, at_least=True),
        Goal("ingest", "messages/s", 4, at_least=True, of=THEIRS),
        Goal("ingest", "p50", 1.5),
        Goal("ingest", "p50", 1.1, of="quiet"),
    ]
    report = Report(goals)
    speed = Figure("messages/s", 0, "", more_is_better=True)
    delay = Figure("p50", 0, "ms")
    for ours, theirs in ((3000, 1000), (5000, 900), (4000, 1100)):
        report.add("ingest", OURS, [replace(speed, value=ours), replace(delay, value=2)])
        report.add("ingest", THEIRS, [replace(speed, value=theirs), replace(delay, value=1)])
    assert report.table([OURS, THEIRS]).splitlines()[2:] == [
        "| **ingest** |  |  |  |  |  |",
        "| messages/s | 4,000 (3,000 - 5,000) | 1,000 (900 - 1,100) | 4.00 | ≥ 3,500, ≥ 4 x theirs | yes, yes |",
        "| p50 | 2.00 ms (2.00 - 2.00) | 1.00 ms (1.00 - 1.00) | 0.50 | ≤ 1.5 ms, ≤ 110 % of quiet | **no**, ? |",
    ]
    again = Report(goals)
    again.load(json.loads(json.dumps(report.steps())))
    assert again.table([OURS, THEIRS]) == report.table([OURS, THEIRS])
    assert [goal["reached"] for goal in report.goals()] == [True, True, False, None]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.99) == 7
