"""One house for all odd peers: what one of them leaves behind, the next would feel."""

from collections.abc import Iterator

import pytest

from tests.odd.house import House, open_house


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("odd") / "pub") as house:
        yield house
