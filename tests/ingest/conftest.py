from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.people import Desk, MakeDesk


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[MakeDesk]:
    """Makes the desk of one test; its store is closed at the end."""
    desks: list[Desk] = []

    def make(*arguments: Any, **options: Any) -> Desk:
        desks.append(Desk(tmp_path, *arguments, **options))
        return desks[0]

    yield make
    for desk in desks:
        desk.store.close()
