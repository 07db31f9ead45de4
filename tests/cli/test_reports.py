"""The version, and how times and durations are written."""

import tomllib
from pathlib import Path

import pytest

import pub
from pub.cli.output import moment, span
from tests.cli.conftest import CommandLine

ROOT = Path(__file__).parents[2]


def test_version(ssb_pub: CommandLine) -> None:
    assert ssb_pub("version").stdout == pub.__version__ + "\n"
    assert ssb_pub.json("version") == {"version": pub.__version__}


def test_the_package_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", pub.__version__) == pub.__version__


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_times_are_written_in_utc() -> None:
    assert moment(None) == "never"
    assert moment(0.0) == "1970-01-01 00:00 UTC"
