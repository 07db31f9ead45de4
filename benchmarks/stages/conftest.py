"""What the stages work on, and how one is measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.dataset import DataSet, Shape, load

SHAPE = Shape(50, 20)
ROUNDS = 30
READ_BYTES = 1 << 16  # as net.stream reads


class Measure(Protocol):
    """``measure("ingest", stage)``, or with ``prepare``, whose result the stage gets, new in each round.

    ``of`` is the stage that this one is a part of, and with which it is not counted again.
    """

    def __call__(
        self, way: str, stage: Callable[..., Any], prepare: Callable[[], Any] | None = None, of: str = ""
    ) -> None: ...


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(SHAPE, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def messages(data: DataSet) -> list[bytes]:
    """One of each feed in turn."""
    return list(data.round_robin())


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Another empty one with each call."""
    numbers = iter(range(1 << 16))

    def make() -> Path:
        path = tmp_path / str(next(numbers))
        path.mkdir()
        return path

    return make


@pytest.fixture
def measure(benchmark: Any, data: DataSet, request: pytest.FixtureRequest) -> Measure:
    def run(way: str, stage: Callable[..., Any], prepare: Callable[[], Any] | None = None, of: str = "") -> None:
        title = (request.function.__doc__ or "").rstrip(".")
        benchmark.extra_info.update(way=way, title=title, of=of, messages=data.count)
        if prepare is None:
            benchmark.pedantic(stage, rounds=ROUNDS, warmup_rounds=2)
        else:
            benchmark.pedantic(stage, setup=lambda: ((prepare(),), {}), rounds=ROUNDS, warmup_rounds=2)

    return run
