"""What is made of a run: the cost table, the profile, the page, the curves. And every stage still runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.costs import WAYS, cost_table
from benchmarks.figures import Figure
from benchmarks.page import PAGE, merged, parts, rewritten
from benchmarks.peers import OURS
from benchmarks.plan import Sizes, scenes
from benchmarks.profiling import profile_table, shares
from benchmarks.report import Report, machine
from benchmarks.sweep import curves

ROOT = Path(__file__).parents[2]
STAGES = [
    {"way": "ingest", "title": "Examine", "of": "", "microseconds": 60.0},
    {"way": "ingest", "title": "Verify the signature", "of": "Examine", "microseconds": 45.0},
    {"way": "ingest", "title": "Commit", "of": "", "microseconds": 4.0},
    {"way": "serve", "title": "Box", "of": "", "microseconds": 1.0},
]
STACKS = """\
pub;main (pub/service/life.py:40);unrolled_run (trio/_core/_run.py:9);a (pub/net/stream.py:7) 3
pub;main (pub/service/life.py:40);unrolled_run (trio/_core/_run.py:9);poll (trio/_epoll.py:1) 2
worker;examine (pub/protocol/classic.py:9);open (site-packages/nacl/b.py:3) 5
"""


def test_parts_of_a_stage_are_not_counted_again_and_the_whole_stands_beside() -> None:
    report = Report([])
    report.add(WAYS["ingest"], OURS, [Figure("messages per CPU second", 10_000, "")])
    lines = cost_table(STAGES, report.steps()).splitlines()
    assert "| … of which: verify the signature | 45.00 |" in lines
    assert lines[lines.index("| sum of the stages | 64.00 |") + 1 :][:2] == [
        "| end to end (ingest 1,000 x 100) | 100.00 |",
        "| what no stage has | 36.00 |",
    ]
    assert lines[-1] == "| sum of the stages | 1.00 |", "serving was not measured"


def test_the_whole_of_every_way_is_a_step() -> None:
    assert set(WAYS.values()) <= {step.title for scene in scenes(Sizes()) for step in scene}


def test_samples_count_for_the_innermost_function_of_the_pub() -> None:
    profile = {"ingest": shares(STACKS)}
    assert profile["ingest"]["rooms"] == {"pub/protocol": 0.5, "pub/net": 0.3, "event loop": 0.2}
    assert "| `pub/protocol/classic.py: examine` | 50.0% |" in profile_table(profile).splitlines()


def test_the_page_has_a_place_for_everything_and_what_is_around_stays() -> None:
    report = Report()
    report.add(WAYS["ingest"], OURS, [Figure("messages per CPU second", 12_345, "")])
    result = {"machine": machine(), "steps": report.steps(), "stages": STAGES, "profile": {"ingest": shares(STACKS)}}
    page = PAGE.read_text()
    again = rewritten(page, parts(merged([{"machine": {}, "steps": {}}, json.loads(json.dumps(result))])))
    assert "| messages per CPU second | 12,345 |" in again
    assert page.partition("<!--")[0] == again.partition("<!--")[0]
    assert rewritten(again, parts(merged([result]))) == again
    with pytest.raises(ValueError, match="0 places"):
        rewritten("no markers", parts(result))


def test_curves_are_what_the_sweep_measured() -> None:
    report = Report()
    for count, cost in ((1000, 80.0), (10_000, 90.0)):
        report.add(f"sweep, messages stored: {count:,}", OURS, [Figure("ingest, CPU per message", cost, "µs")])
    report.add("ingest 1,000 x 100", OURS, [Figure("messages/s", 1, "")])
    assert curves(report.steps()) == {
        "messages stored": {"ingest, CPU per message (µs)": [(1000, 80.0), (10_000, 90.0)]}
    }
    axes = {step.title for scene in scenes(Sizes(), frozenset({"sweep"})) for step in scene}
    assert len(axes) == sum(map(len, (Sizes.sweep_stored, Sizes.sweep_feeds, Sizes.sweep_peers)))


@pytest.mark.slow
def test_every_stage_runs() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--benchmark-disable",
        "benchmarks/stages",
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=60)
