"""What every crash test gets. The environment sets how much: KILLS and MESSAGES; SEED repeats one run's random choices.

(The moments of the kills are as random as the machine is, so a seed repeats the plan and not the very same run.)
"""

import os
import random
from pathlib import Path

import pytest

from tests.crash.library import Library, write_library

HERE = Path(__file__).parent
KILLS = int(os.environ.get("KILLS", "20"))
MESSAGES = int(os.environ.get("MESSAGES", "40000"))


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def library() -> Library:
    """All that the crowd wrote; made once."""
    return write_library(MESSAGES)
