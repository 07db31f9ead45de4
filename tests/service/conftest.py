"""What every test of the process gets."""

from typing import Any

import pytest

from pub.config import Settings
from pub.rpc.context import Pub
from pub.service import doors


@pytest.fixture
def pubs(monkeypatch: pytest.MonkeyPatch) -> list[Pub]:
    """The rooms behind the doors of the pubs that the test opens."""
    seen: list[Pub] = []
    make = doors.host_of

    def make_and_remember(pub: Pub, settings: Settings) -> Any:
        seen.append(pub)
        return make(pub, settings)

    monkeypatch.setattr("pub.service.life.host_of", make_and_remember)
    return seen
