"""What holds for every test.

* Under ``CI=true`` a skip is a failure: a tool that is missing there must be installed by ``.ci/run``.
* Everything under tests/interop is marked ``interop`` and ``slow``.
* No test may leave ``internal_errors`` above what it said it would plant.
* No test is about time: Hypothesis gets no deadline, so that a busy machine fails nothing.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pub.metrics import Metrics

INTEROP = Path(__file__).parent / "interop"
IS_CI = os.environ.get("CI") == "true"

settings.register_profile("pub", deadline=None)
settings.load_profile("pub")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEROP in item.path.parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI, where nothing may be missing: {item.nodeid}: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IS_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped under CI, where nothing may be missing: {collector.nodeid}: {report.longrepr}"
    return report


class InternalErrors:
    """Bugs counted by every pub that lived in this process during one test."""

    def __init__(self) -> None:
        self.expected = 0  # a test that plants a bug raises this
        self.seen: list[Metrics] = []

    @property
    def count(self) -> int:
        return sum(metrics.value("internal_errors_total") for metrics in self.seen)


@pytest.fixture(autouse=True)
def internal_errors() -> Iterator[InternalErrors]:
    errors = InternalErrors()
    make = Metrics.__init__

    def make_and_remember(self: Metrics) -> None:
        make(self)
        errors.seen.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Metrics, "__init__", make_and_remember)
        yield errors
    assert errors.count == errors.expected, f"internal_errors is {errors.count}, not {errors.expected}"
