"""The engine and the images; both are made once for all tests."""

from pathlib import Path

import pytest

from tests.deploy.engine import ROOT, Engine, missing


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Skips where containers can't run; under CI a skip is a failure."""
    if (why := missing()) is not None:
        pytest.skip(f"no containers: {why}")
    return Engine(ROOT / ".containers")


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    return engine.build_pub()


@pytest.fixture
def volume_name(tmp_path: Path) -> str:
    """A name that no other test uses."""
    return f"{tmp_path.parent.name}-{tmp_path.name}".replace("_", "-").lower()
