"""All figures of all runs: as a table for people, as JSON for programs, and back."""

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from benchmarks.goals import GOALS, Goal
from benchmarks.peers import OURS, THEIRS
from pub import __version__

HEAD = ("times better", "goal", "reached")
ANSWERS = {True: "yes", False: "**no**", None: "?"}


@dataclass
class Row:
    """One figure of one step: every run's value, by peer."""

    figure: Figure
    values: dict[str, list[float]] = field(default_factory=dict)

    def cell(self, peer: str) -> str:
        """The median, and what it lies between."""
        values = self.values.get(peer)
        if not values:
            return "-"
        unit = f" {self.figure.unit}" if self.figure.unit else ""
        spread = f" ({_number(min(values))} - {_number(max(values))})" if len(values) > 1 else ""
        return f"{_number(median(values))}{unit}{spread}"

    @property
    def ratio(self) -> str:
        """How many times better ours is; below 1 it is worse."""
        ours, theirs = (median(self.values.get(peer) or [0]) for peer in (OURS, THEIRS))
        if not (ours > 0 and theirs > 0 and self.figure.is_compared):
            return ""
        return f"{ours / theirs if self.figure.more_is_better else theirs / ours:.2f}"


class Report:
    """Rows by step, in the order in which they were first measured."""

    def __init__(self, goals: list[Goal] | None = None) -> None:
        self.failures: list[str] = []
        self._goals = GOALS if goals is None else goals
        self._steps: dict[str, dict[str, Row]] = {}

    def add(self, step: str, peer: str, figures: list[Figure]) -> None:
        rows = self._steps.setdefault(step, {})
        for figure in figures:
            row = rows.setdefault(figure.name, Row(figure))
            row.values.setdefault(peer, []).append(figure.value)

    def load(self, steps: dict[str, Any]) -> None:
        """Take in what ``steps`` gave in another run."""
        for step, figures in steps.items():
            for name, told in figures.items():
                figure = Figure(name, 0.0, told["unit"], told["more_is_better"], told["is_compared"])
                self._steps.setdefault(step, {})[name] = Row(
                    figure, {peer: each["runs"] for peer, each in told["peers"].items()}
                )

    def median(self, step: str, figure: str, peer: str) -> float | None:
        """None: it was not measured."""
        row = self._steps.get(step, {}).get(figure)
        values = row and row.values.get(peer)
        return median(values) if values else None

    def table(self, peers: list[str]) -> str:
        """Markdown."""
        return "\n".join(self._lines(peers))

    def _lines(self, peers: list[str]) -> Iterator[str]:
        head = ["", *peers, *HEAD]
        yield _line(head)
        yield _line(["---", *("---:" for _ in peers), "---:", "---", "---"])
        for step, rows in self._steps.items():
            yield _line([f"**{step}**", *("" for _ in head[1:])])
            for name, row in rows.items():
                yield _line([name, *map(row.cell, peers), row.ratio, *self._judged(step, row)])

    def _judged(self, step: str, row: Row) -> list[str]:
        goals = [goal for goal in self._goals if (goal.step, goal.figure) == (step, row.figure.name)]
        reached = [ANSWERS[goal.reached(self.median)] for goal in goals]
        return [", ".join(goal.text(row.figure.unit) for goal in goals), ", ".join(reached)]

    def steps(self) -> dict[str, Any]:
        """For JSON: every figure with its unit, and for each peer the median, what it lies between, and all runs."""
        return {step: {name: _json(row) for name, row in rows.items()} for step, rows in self._steps.items()}

    def goals(self) -> list[dict[str, Any]]:
        """For JSON: every goal of a step that was measured, and whether it was reached (null: open)."""
        return [
            {"step": goal.step, "figure": goal.figure, "goal": goal.text(unit), "reached": goal.reached(self.median)}
            for goal in self._goals
            if goal.figure in self._steps.get(goal.step, {})
            for unit in [self._steps[goal.step][goal.figure].figure.unit]
        ]


def _json(row: Row) -> dict[str, Any]:
    peers = {
        peer: {"median": median(values), "min": min(values), "max": max(values), "runs": values}
        for peer, values in row.values.items()
    }
    figure = row.figure
    about = {"unit": figure.unit, "more_is_better": figure.more_is_better, "is_compared": figure.is_compared}
    return {**about, "peers": peers}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    """Three digits or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> dict[str, Any]:
    """What ran it."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / (1 << 30)),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "node": _output("node", "--version"),
        "load_before": os.getloadavg()[0],
        "pub": __version__,
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "ssb-server": "16.0.1",
    }


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"
