"""What one message costs, stage by stage: the micro-benchmarks of ``stages``, run and made into a table.

The sum stands beside what a message costs end to end, in the same run. The difference is what no stage has: the
kernel's sockets, the event loop, and what the stages make each other wait for.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS, ROOT

WAYS = {"ingest": "ingest 1,000 x 100", "serve": "serve 1,000 x 100, EBT"}  # and where it is measured as a whole
MICROSECONDS = 1e6

Stages = list[dict[str, Any]]  # way, title, of (a stage that it is part of, or ""), microseconds per message


def run_stages() -> Stages:
    """Raises RuntimeError if one of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "stages.json"
        options = ["-q", "-p", "no:cacheprovider", "--benchmark-timer=time.process_time", f"--benchmark-json={result}"]
        command = [sys.executable, "-m", "pytest", "benchmarks/stages", *options]
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False, env=os.environ)
        if done.returncode:
            raise RuntimeError("a stage failed")
        return [_stage(each) for each in json.loads(result.read_text())["benchmarks"]]


def _stage(measured: dict[str, Any]) -> dict[str, Any]:
    about = measured["extra_info"]
    cost = measured["stats"]["median"] / about["messages"] * MICROSECONDS
    return {"way": about["way"], "title": about["title"], "of": about["of"], "microseconds": cost}


def cost_table(stages: Stages, steps: dict[str, Any]) -> str:
    """Markdown."""
    return "\n".join(_lines(stages, steps))


def _lines(stages: Stages, steps: dict[str, Any]) -> Iterator[str]:
    yield "| stage | µs of CPU per message |"
    yield "| --- | ---: |"
    for way, whole in WAYS.items():
        mine = [stage for stage in stages if stage["way"] == way]
        total = sum(stage["microseconds"] for stage in mine if not stage["of"])
        yield f"| **{way}** | |"
        for stage in mine:
            if not stage["of"]:
                yield _line(stage["title"], stage["microseconds"])
                for part in mine:
                    if part["of"] == stage["title"]:
                        yield _line(f"… of which: {part['title'].lower()}", part["microseconds"])
        yield _line("sum of the stages", total)
        rate = steps.get(whole, {}).get("messages per CPU second", {}).get("peers", {}).get(OURS)
        if rate:
            cost = MICROSECONDS / rate["median"]
            yield _line(f"end to end ({whole})", cost)
            yield _line("what no stage has", cost - total)


def _line(title: str, cost: float) -> str:
    return f"| {title} | {cost:.2f} |"
