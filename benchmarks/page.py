"""Puts results into README.md: machine, table, cost table and profile, each between two markers.

    python -m benchmarks.page RESULT.json …     # of several, a later one's figures count where both have them

Nothing between the markers is written by hand.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.costs import cost_table
from benchmarks.peers import OURS, THEIRS
from benchmarks.profiling import profile_table
from benchmarks.report import Report

PAGE = Path(__file__).parent / "README.md"


def merged(results: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"machine": results[-1]["machine"], "steps": {}}
    for result in results:
        whole["steps"] |= result["steps"]
        whole |= {name: result[name] for name in ("stages", "profile") if result.get(name)}
    return whole


def parts(result: dict[str, Any]) -> dict[str, str]:
    """The text of each part that this result has something for."""
    report = Report()
    report.load(result["steps"])
    return {
        "machine": _machine(result["machine"]),
        "table": report.table([OURS, THEIRS]),
        **({"costs": cost_table(result["stages"], result["steps"])} if "stages" in result else {}),
        **({"profile": profile_table(result["profile"])} if "profile" in result else {}),
    }


def _machine(told: dict[str, Any]) -> str:
    return (
        f"{told['cpu']}, {told['cores']} cores, {told['memory_gib']} GiB; Linux {told['kernel']}, "
        f"Python {told['python']}, Node {told['node']}; commit {told['commit']}, {told['time'][:10]}; "
        f"load before the run {told['load_before']:.1f}."
    )


def rewritten(page: str, texts: dict[str, str]) -> str:
    """The page with these parts. Raises ValueError if it has no place for one."""
    for name, text in texts.items():
        place = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        page, count = place.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{count} places for {name}")
    return page


def main() -> None:
    results = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    PAGE.write_text(rewritten(PAGE.read_text(), parts(merged(results))))


if __name__ == "__main__":
    main()
