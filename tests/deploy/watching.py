"""What deploy/ holds for Prometheus and Grafana, taken apart for the tests."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
GRAFANA = ROOT / "deploy" / "grafana"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "ssb-pub.json").read_text())
GROUPS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
SECTIONS = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
VARIABLES = {"$__rate_interval": "5m", "$job": "ssb-pub", "$instance": "pub:8018"}


def tool(name: str) -> str:
    """The path of a program of Prometheus; a skip where it is not installed, which under CI is a failure."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: Debian has it in prometheus and prometheus-alertmanager")
    return path


def run(name: str, *arguments: str) -> str:
    """What a tool says; it must be content."""
    finished = subprocess.run([tool(name), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def panels() -> list[dict[str, Any]]:
    """Those of the dashboard in their order, rows left out."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Every expression of the dashboard, as Grafana has it."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def filled_in(expression: str, **values: str) -> str:
    """An expression with its variables replaced, as Grafana would do it; values without their dollar sign."""
    for name, value in (VARIABLES | {f"${name}": value for name, value in values.items()}).items():
        expression = expression.replace(name, value)
    return expression


@dataclass(frozen=True)
class Selector:
    """One place where an expression names a metric."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator (=, !=, =~ or !~) and value."""
    has_range: bool


def selectors(expression: str) -> list[Selector]:
    """Every metric that a PromQL expression names. Fails when it can't be parsed."""
    found: list[Selector] = []
    ranges = 0

    def visit(node: promql_parser.Expr) -> None:
        nonlocal ranges
        if isinstance(node, promql_parser.MatrixSelector):  # what it selects is visited next
            ranges += 1
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(_selector(node, has_range=ranges > 0))
            ranges = 0

    promql_parser.walk(promql_parser.parse(filled_in(expression)), visit)
    return found


OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def _selector(node: promql_parser.VectorSelector, *, has_range: bool) -> Selector:
    matchers = ((each.name, OPERATORS[str(each.op).rpartition(".")[2]], each.value) for each in node.matchers.matchers)
    assert node.name
    return Selector(node.name, tuple(matchers), has_range)


def words(selector: Selector, label: str) -> Iterator[str]:
    """The values of a label that a selector names."""
    for name, operator, value in selector.matchers:
        if name == label:
            yield from value.split("|") if operator in ("=~", "!~") else [value]
