"""What every command line test gets: a data folder, a runner, and an environment without settings."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pub.cli import main
from pub.config import Settings
from pub.protocol.keys import KeyPair

KEYS = KeyPair.generate(bytes(31) + b"\x07")


@dataclass
class CommandLine:
    """Runs `ssb-pub --data FOLDER …`."""

    data: Path

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--data", str(self.data), *arguments])

    def json(self, *arguments: str) -> Any:
        """The one line a successful command answers with under --json."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("PUB_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pub"
    folder.mkdir()
    return folder


@pytest.fixture
def ssb_pub(data: Path) -> CommandLine:
    return CommandLine(data)


@dataclass(frozen=True)
class Started:
    """What the service tells the command line once it is ready."""

    id: str
    address: str | None
    invite: str | None
    notes: list[str]


class FakeService(ModuleType):
    """Stands in for the pub itself: makes the key file and announces what the test wants."""

    def __init__(self) -> None:
        super().__init__("pub.service")
        self.started = Started(KEYS.id, None, None, [])
        self.settings: Settings | None = None
        self.exit_code = 0

    def prepare(self, settings: Settings) -> KeyPair:
        settings.data.mkdir(exist_ok=True)
        settings.secret.touch()
        return KEYS

    def main(self, settings: Settings, announce: Callable[[Started], None]) -> int:
        self.settings = settings
        announce(self.started)
        return self.exit_code


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    fake = FakeService()
    monkeypatch.setitem(sys.modules, "pub.service", fake)
    return fake
