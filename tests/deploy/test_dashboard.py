"""The dashboard: made from its source, complete, readable, and nothing in it that Prometheus would not understand."""

import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.deploy.watching import DASHBOARD, GRAFANA, ROOT, filled_in, panels, queries, selectors, words

COUNTED = ("_total", "_bucket", "_sum", "_count")
UNITS = {"bool_yes_no", "none", "short", "string", "mps", "cps", "reqps", "s", "bytes", "Bps", "percentunit"}
OVERVIEW = ["Up", "Ready", "Peers", "Messages", "Stored share", "Lag", "Disk", "Version", "Checks"]
ROWS = ["Overview", "Peers", "Replication", "RPC", "Invites", "Store", "Saturation"]


def rows() -> dict[str, list[dict[str, Any]]]:
    """The panels below each row's title, by where they lie."""
    lines = sorted((each["gridPos"]["y"], each["title"]) for each in DASHBOARD["panels"] if each["type"] == "row")
    found: dict[str, list[dict[str, Any]]] = {title: [] for _line, title in lines}
    for panel in panels():
        found[[title for line, title in lines if line < panel["gridPos"]["y"]][-1]].append(panel)
    return found


def covered(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """The cells of Grafana's grid that a panel lies on."""
    where = panel["gridPos"]
    columns, lines = range(where["x"], where["x"] + where["w"]), range(where["y"], where["y"] + where["h"])
    return {(column, line) for column in columns for line in lines}


@pytest.mark.slow
def test_it_is_made_from_its_source() -> None:
    command = [sys.executable, str(GRAFANA / "generate.py"), "--stdout"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert made == (GRAFANA / "dashboards" / "ssb-pub.json").read_text(), "make dashboards"


def test_it_begins_with_what_matters_most() -> None:
    assert list(rows()) == ROWS
    assert [panel["title"] for panel in rows()["Overview"]] == OVERVIEW
    assert all(found for found in rows().values())


def test_no_panel_hides_another() -> None:
    assert all(not covered(one) & covered(other) for one, other in combinations(DASHBOARD["panels"], 2))
    assert max(column for panel in DASHBOARD["panels"] for column, _line in covered(panel)) == 23
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: f"{panel['title']}-{panel['id']}")
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    sentence = panel["description"]
    assert sentence[0].isupper()
    assert sentence[-1] in ".?"
    assert 15 < len(sentence) < 120
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(legends)) == len(legends), "two lines of one name"


@pytest.mark.parametrize("expression", queries())
def test_a_query_is_of_the_pub_that_was_chosen(expression: str) -> None:
    found = selectors(expression)
    assert found
    for selector in found:
        assert [*words(selector, "job"), *words(selector, "instance")] == ["ssb-pub", "pub:8018"]
    assert "$" not in filled_in(expression)


@pytest.mark.parametrize("expression", queries())
def test_counters_are_shown_as_rates(expression: str) -> None:
    """But for those where each single event matters: they are shown as they are."""
    for selector in selectors(expression):
        if not expression.startswith(("ssb_pub_forks_total", "ssb_pub_internal_errors_total")):
            assert selector.name.endswith(COUNTED) == selector.has_range


def test_it_can_be_turned_to_another_pub() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["job"]["query"] == "label_values(ssb_pub_build_info, job)"
    assert variables["instance"]["query"] == 'label_values(ssb_pub_build_info{job="$job"}, instance)'


def test_compose_puts_it_where_grafana_looks() -> None:
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "pub.yml").read_text())["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    scraping = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    [source] = sources
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
