"""The alerts: Prometheus takes them, each fires and stays quiet when it should, and each has its runbook section.

That they fire is shown by promtool, with the cases in deploy/prometheus/tests. What is asserted here of those cases is
that none is missing, and that a quiet one is not quiet for want of data.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pub.config.settings import SETTINGS
from tests.deploy.watching import ALERTMANAGER, PROMETHEUS, ROOT, RULES, RUNBOOK, SECTIONS, run, selectors
from tests.test_docs import COMMANDS

CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
CASE = re.compile(r'count\(ALERTS\{alertname="(\w+)",severity="(\w+)",alertstate="firing"\}\)')
FILES = {"data.mdb", "docker-compose.yml", "prometheus.yml"}
JOB = "ssb-pub"
ASKED_FOR = {  # what must not go unnoticed
    *("PubDown", "PubNotReady", "PubCrashLooping", "PubCommitErrors", "PubDiskFills", "PubStoreNearlyFull"),
    *("PubNoPeers", "PubNothingStored", "PubHandshakeFailures", "PubInvalidMessages", "PubEventLoopLag"),
    *("PubSlowCommits", "PubLongReader", "PubFileDescriptors", "PubInviteAbuse"),
}


def key(rule: dict[str, Any]) -> tuple[str, str]:
    return rule["alert"], rule["labels"]["severity"]


@cache
def cases(*, fires: bool) -> dict[tuple[str, str], list[set[str]]]:
    """By alert and severity, of each case the metrics that it has data of."""
    found: dict[tuple[str, str], list[set[str]]] = {}
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            given = {series["series"].partition("{")[0] for series in test["input_series"]}
            for expected in test["promql_expr_test"]:
                match = CASE.fullmatch(expected["expr"])
                assert match, expected["expr"]
                if bool(expected["exp_samples"]) == fires:
                    found.setdefault((match[1], match[2]), []).append(given)
    return found


# --- what Prometheus says ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_prometheus_takes_configuration_and_rules() -> None:
    said = run("promtool", "check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS / "prometheus.yml"))
    assert f"{len(RULES)} rules found" in said
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(PROMETHEUS / "alerts.yml"))
    assert "1 receivers" in run("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.slow
def test_alertmanager_takes_each_way_of_the_sample(tmp_path: Path) -> None:
    """The lines that an operator would uncomment."""
    text = ALERTMANAGER.read_text()
    _, found, ways = text.partition("  - name: operator\n")
    uncommented = tmp_path / "alertmanager.yml"
    uncommented.write_text(text.removesuffix(ways) + re.sub("^    # ", "    ", ways, flags=re.MULTILINE))
    assert found
    assert "email_configs" in yaml.safe_load(uncommented.read_text())["receivers"][0]
    run("amtool", "check-config", str(uncommented))


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_quiet(path: Path) -> None:
    run("promtool", "test", "rules", str(path))


@pytest.mark.slow
def test_a_case_that_is_wrong_fails(tmp_path: Path) -> None:
    """promtool does look: here all that is quiet is said to fire."""
    text = (PROMETHEUS / "tests" / "saturation.yml").read_text().replace("../alerts.yml", f"{PROMETHEUS}/alerts.yml")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace("exp_samples: []", 'exp_samples: [{labels: "{}", value: 1}]'))
    with pytest.raises(AssertionError, match="got: nil"):
        run("promtool", "test", "rules", str(wrong))


# --- none is missing -----------------------------------------------------------------------------------------


def test_all_that_matters_has_an_alert_and_most_come_in_pairs() -> None:
    keys = [key(rule) for rule in RULES]
    assert len(set(keys)) == len(keys)
    assert {name for name, _severity in keys} >= ASKED_FOR
    assert {severity for _name, severity in keys} == {"warning", "critical"}
    assert {name for name, severity in keys if severity == "warning"} == {name for name, _severity in keys}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(key(rule)))
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not(rule: dict[str, Any]) -> None:
    assert cases(fires=True).get(key(rule))
    quiet = cases(fires=False).get(key(rule), [])
    assert any(given >= {selector.name for selector in selectors(rule["expr"])} for given in quiet)


def test_each_case_is_of_an_alert() -> None:
    assert cases(fires=True).keys() | cases(fires=False).keys() == {key(rule) for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(key(rule)))
def test_an_alert_says_what_is_the_matter_and_where_to_read_on(rule: dict[str, Any]) -> None:
    told = rule["annotations"]
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert "{{ $labels.instance }}" in told["summary"]
    assert told["summary"].endswith(".")
    assert told["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"


def test_what_other_programs_show_as_well_is_asked_of_the_pub_alone() -> None:
    """The right side of a comparison is matched by the labels of the left one."""
    first = [selectors(rule["expr"])[0] for rule in RULES]
    assert [
        each for each in first if not each.name.startswith("ssb_pub_") and ("job", "=", JOB) not in each.matchers
    ] == []
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert JOB in [job["job_name"] for job in jobs]


# --- the runbook ---------------------------------------------------------------------------------------------


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    assert list(dict.fromkeys(rule["alert"] for rule in RULES)) == SECTIONS


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_what_members_notice_how_to_look_and_what_to_do(name: str) -> None:
    text = RUNBOOK.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    parts = [text.find(word) for word in ("**Members", "**Look:**", "**Do")]
    assert -1 < parts[0] < parts[1] < parts[2]


def test_the_commands_of_the_runbook_exist() -> None:
    typed = re.findall(r"ssb-pub((?: [a-z]+)+)", RUNBOOK.read_text())
    known = [command.removeprefix("ssb-pub") for command in COMMANDS]
    assert typed
    assert [each for each in typed if not any(f"{each} ".startswith(f"{command} ") for command in known)] == []


def test_settings_events_and_words_of_the_runbook_exist() -> None:
    """Whatever is written `like_this` or `like.this_one`."""
    named = set(re.findall(r"`([a-z]+(?:[._][a-z]+)+)`", RUNBOOK.read_text()))
    documents = [(ROOT / "docs" / name).read_text() for name in ("METRICS.md", "LOGS.md")]
    assert {name for name in named if not any(name in text for text in documents)} <= SETTINGS.keys() | FILES


def test_links_of_the_runbook_lead_somewhere() -> None:
    text, readme = RUNBOOK.read_text(), (ROOT / "deploy" / "README.md").read_text()
    assert set(re.findall(r"\]\(#([a-z]+)\)", text)) <= {name.lower() for name in SECTIONS}
    headings = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", readme, re.MULTILINE)}
    assert set(re.findall(r"\]\(README\.md#([a-z-]+)\)", text)) <= headings
    files = re.findall(r"\]\(([\w./]+)(?:#[a-z-]+)?\)", text)
    assert files
    assert [name for name in files if not (RUNBOOK.parent / name).exists()] == []
