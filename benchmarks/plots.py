"""How the costs grow: the load "sweep" of a run, drawn. ``make plots`` writes plots/*.svg.

    python -m benchmarks.plots [RESULT.json …]          # without one: the newest

One picture for each kind of size; in it one small plot for each figure, the size on a logarithmic axis. Every plot
begins at zero, so that what grows looks like it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot, rcParams

from benchmarks.sweep import Curves, curves

RESULTS, PLOTS = Path(__file__).parent / "results", Path(__file__).parent / "plots"
WIDTH, HEIGHT = 2.6, 2.1  # inches, of one plot


def draw(axis: str, figures: Curves, path: Path) -> None:
    """One SVG, the same bytes for the same figures."""
    pyplot.switch_backend("svg")
    rcParams.update({"svg.hashsalt": axis, "svg.fonttype": "none", "font.size": 8, "axes.titlesize": 8})
    picture, plots = pyplot.subplots(1, len(figures), figsize=(WIDTH * len(figures), HEIGHT), squeeze=False)
    for plot, (name, points) in zip(plots[0], figures.items(), strict=True):
        sizes, values = zip(*sorted(points), strict=True)
        plot.plot(sizes, values, "o-", color="#22577a", markersize=3, linewidth=1.2)
        plot.set_xscale("log")
        plot.set_ylim(0, max(values) * 1.2 or 1)
        plot.set_title(name)
        plot.set_xlabel(axis)
        plot.grid(alpha=0.3)
        plot.spines[["top", "right"]].set_visible(False)
    picture.tight_layout()
    path.parent.mkdir(exist_ok=True)
    picture.savefig(path, metadata={"Date": None})
    pyplot.close(picture)


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(RESULTS.glob("*.json"))[-1:]
    steps: dict[str, Any] = {}
    for path in paths:
        steps |= json.loads(path.read_text())["steps"]
    found = curves(steps)
    if not found:
        sys.exit("no sweep in these results: make bench ONLY=sweep PEERS=ours")
    for axis, figures in found.items():
        draw(axis, figures, PLOTS / f"{axis.replace(' ', '-')}.svg")


if __name__ == "__main__":
    main()
