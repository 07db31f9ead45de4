from collections.abc import Iterator
from pathlib import Path

import pytest

from pub.store.env import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as store:
        yield store
