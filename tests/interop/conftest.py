"""A pub and the people who meet at it."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import FAMILIES, HERE, Client, open_client
from tests.interop.pubs import Pub, open_pub

Opener = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="session", autouse=True)
def installed_clients() -> None:
    """Skip when the clients are not there; under CI a skip is a failure."""
    if shutil.which("node") is None:
        pytest.skip("no node: the JavaScript clients cannot run")
    for family in FAMILIES:
        if not (HERE / family / "node_modules").is_dir():
            pytest.skip(f"tests/interop/{family} is not installed: run `make test` once")


@pytest.fixture
async def pub(tmp_path: Path) -> AsyncIterator[Pub]:
    async with open_pub(tmp_path / "pub") as running:
        yield running


@pytest.fixture
def client(tmp_path: Path) -> Opener:
    """``async with client("db2", "alice") as alice``; the same name again is the same person coming back.

    The keyword arguments are those of ``open_client``.
    """

    def open_named(kind: str, name: str, **options: Any) -> AbstractAsyncContextManager[Client]:
        return open_client(kind, tmp_path / f"{name}-{kind}", **options)

    return open_named
