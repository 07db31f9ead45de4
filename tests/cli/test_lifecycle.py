"""init and run: from nothing to a pub, with the service itself replaced."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pub.cli import main
from pub.errors import OperatorError
from tests.cli.conftest import KEYS, CommandLine, FakeService


def test_init_says_who_the_pub_is_and_leaves_a_second_time_alone(ssb_pub: CommandLine, service: FakeService) -> None:
    first = ssb_pub("init")
    assert first.exit_code == 0
    assert "Made" in first.stdout
    assert KEYS.id in first.stdout
    second = ssb_pub("init")
    assert second.exit_code == 0
    assert "already" in second.stdout
    assert KEYS.id in second.stdout


def test_init_in_json(ssb_pub: CommandLine, service: FakeService, data: Path) -> None:
    assert ssb_pub.json("init") == {"id": KEYS.id, "data": str(data), "created": True}
    assert ssb_pub.json("init")["created"] is False


def test_run_passes_its_flags_on(ssb_pub: CommandLine, service: FakeService) -> None:
    result = ssb_pub(
        *("run", "--host", "127.0.0.1", "--port", "9000", "--address-host", "pub.example"),
        *("--name", "Harbour", "--description", "by the sea", "--log-format", "json"),
    )
    assert result.exit_code == 0, result.output
    settings = service.settings
    assert settings is not None
    assert (settings.network.host, settings.network.port) == ("127.0.0.1", 9000)
    assert settings.public_host == "pub.example"
    assert (settings.name, settings.description, settings.log.format) == ("Harbour", "by the sea", "json")


def test_run_takes_the_data_folder_after_its_name_too(service: FakeService, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["run", "--data", str(tmp_path / "elsewhere")])
    assert left.value.code == 0
    assert service.settings is not None
    assert service.settings.data == tmp_path / "elsewhere"


def test_run_announces_the_pub_in_words(ssb_pub: CommandLine, service: FakeService) -> None:
    note = "This address is local only."
    service.started = replace(service.started, address="net:127.0.0.1:8008~shs:x", invite="the-code", notes=[note])
    lines = ssb_pub("run").stdout.splitlines()
    assert KEYS.id in lines[0]
    assert "net:127.0.0.1:8008~shs:x" in lines[1]
    assert lines[2].endswith("the-code")
    assert lines[3] == note


def test_run_does_not_speak_of_what_there_is_not(ssb_pub: CommandLine, service: FakeService) -> None:
    assert ssb_pub("run").stdout.splitlines() == [f"This pub is {KEYS.id}"]


def test_run_announces_the_pub_in_one_line_of_json(ssb_pub: CommandLine, service: FakeService) -> None:
    service.started = replace(service.started, invite="the-code")
    assert ssb_pub.json("run") == {"id": KEYS.id, "address": None, "invite": "the-code", "notes": []}


def test_run_ends_with_the_code_of_the_service(ssb_pub: CommandLine, service: FakeService) -> None:
    service.exit_code = 3
    assert ssb_pub("run").exit_code == 3


def test_a_wrong_setting_is_one_sentence_and_its_exit_code(ssb_pub: CommandLine, service: FakeService) -> None:
    result = ssb_pub("run", "--port", "99999")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "network.port" in result.stderr
    assert "99999" in result.stderr
    assert service.settings is None


def test_a_bug_keeps_its_traceback(ssb_pub: CommandLine, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(_settings: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(service, "prepare", buggy)
    assert isinstance(ssb_pub("init").exception, KeyError)


def test_an_error_cannot_steer_the_terminal(
    ssb_pub: CommandLine, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_settings: object) -> None:
        raise OperatorError("no \x1b[2J room")

    monkeypatch.setattr(service, "prepare", refuse)
    result = ssb_pub("init")
    assert result.exit_code == 1
    assert "\x1b[2J" not in result.stderr


def test_settings_of_the_environment_and_the_file_count(
    ssb_pub: CommandLine, service: FakeService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "config.yaml").write_text(json.dumps({"name": "from the file", "network": {"port": 9001}}))
    monkeypatch.setenv("PUB_NETWORK_PORT", "9002")
    assert ssb_pub("run", "--host", "::1").exit_code == 0
    assert service.settings is not None
    assert service.settings.name == "from the file"
    assert (service.settings.network.host, service.settings.network.port) == ("::1", 9002)
