"""Commands that a running pub answers."""

import time
from pathlib import Path
from typing import Any

import pytest

from pub.errors import RpcError
from pub.protocol.refs import feed_id
from tests.cli.conftest import KEYS, CommandLine
from tests.cli.scripted import running_pub

ALICE = feed_id(bytes(31) + b"\x01")
GUEST = feed_id(bytes(31) + b"\x02")
CODE = f"pub.example:8008:{KEYS.id}~seed"
NOON = 1_790_000_000_000.0

STATUS: dict[str, Any] = {
    "id": KEYS.id,
    "name": "Harbour",
    "address": None,
    "ready": True,
    "version": "9.9.9",
    "uptime": 3723.5,
    "peers": 2,
    "feeds": 10,
    "forked": 1,
    "messages": 1234,
    "members": 3,
    "internal_errors": 0,
    "storing": None,
    "publishing": None,
    "limit_hits": {"open_requests": 4},
}
INVITE = {
    "id": GUEST,
    "uses": 5,
    "used": 2,
    "state": "open",
    "created": NOON,
    "expires": None,
    "revoked": None,
    "note": "for the choir",
}


def test_whoami(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("whoami",): lambda: {"id": KEYS.id}}):
        assert ssb_pub("whoami").stdout == KEYS.id + "\n"
        assert ssb_pub.json("whoami") == {"id": KEYS.id}


def test_status_in_json_is_what_the_pub_says(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("status",): lambda: STATUS}):
        assert ssb_pub.json("status") == {"running": True, **STATUS}


def test_status_in_words(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("status",): lambda: STATUS}):
        text = ssb_pub("status").stdout
    for fact in (KEYS.id, "Harbour", "ready, up 1 h 2 min", "9.9.9", "1234", "open_requests 4", "set address.host"):
        assert fact in text
    assert "10, 1 of them forked" in text


@pytest.mark.parametrize("what", ["publishing", "storing"])
def test_status_says_what_is_stopped(ssb_pub: CommandLine, data: Path, what: str) -> None:
    stopped = {**STATUS, what: "for a reason"}
    with running_pub(data / "socket", {("status",): lambda: stopped}):
        assert f"; {what} stopped: for a reason" in ssb_pub("status").stdout


def test_health_of_a_pub_that_is_well(ssb_pub: CommandLine, data: Path) -> None:
    well = {"ready": True, "checks": [{"name": "disk", "passed": True, "reason": None}]}
    with running_pub(data / "socket", {("health",): lambda: well}):
        result = ssb_pub("health")
        assert (result.exit_code, result.stdout) == (0, "ready\n")
        assert ssb_pub.json("health") == well


def test_health_of_a_pub_that_is_not(ssb_pub: CommandLine, data: Path) -> None:
    checks = [{"name": "store", "passed": True, "reason": None}, {"name": "disk", "passed": False, "reason": "full"}]
    with running_pub(data / "socket", {("health",): lambda: {"ready": False, "checks": checks}}):
        result = ssb_pub("health")
        assert (result.exit_code, result.stdout) == (1, "disk: full\n")
        assert ssb_pub("health", "--json").exit_code == 1


def test_create_prints_the_code_alone_on_stdout(ssb_pub: CommandLine, data: Path) -> None:
    made = {"code": CODE, "id": GUEST, "uses": 1, "expires": None, "note": None}
    with running_pub(data / "socket", {("invite", "create"): lambda _request: made}) as calls:
        result = ssb_pub("invite", "create")
    assert result.stdout == CODE + "\n"
    assert "one person" in result.stderr
    assert calls == [(("invite", "create"), [{"uses": 1, "expires": None, "note": None, "details": True}])]


def test_create_passes_its_options_on(ssb_pub: CommandLine, data: Path) -> None:
    made = {"code": CODE, "id": GUEST, "uses": 20, "expires": NOON, "note": "choir"}
    with running_pub(data / "socket", {("invite", "create"): lambda _request: made}) as calls:
        answer = ssb_pub.json("invite", "create", "--uses", "20", "--expires", "30d", "--note", "choir")
    assert answer == made
    (request,) = calls[0][1]
    assert (request["uses"], request["note"]) == (20, "choir")
    assert request["expires"] == pytest.approx((time.time() + 30 * 86400) * 1000, abs=60_000)


@pytest.mark.parametrize("wrong", ["soon", "0d", "-3d", "5 parsecs"])
def test_create_refuses_what_is_no_duration(ssb_pub: CommandLine, wrong: str) -> None:
    result = ssb_pub("invite", "create", f"--expires={wrong}")
    assert result.exit_code == 2
    assert "30d" in result.stderr


def test_list_shows_every_code(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("invite", "list"): lambda: [INVITE]}):
        text = ssb_pub("invite", "list").stdout
        assert ssb_pub.json("invite", "list") == [INVITE]
    for fact in (GUEST, "open", "2 of 5", "2026-09-21", "never", "for the choir"):
        assert fact in text


def test_a_note_cannot_steer_the_terminal(ssb_pub: CommandLine, data: Path) -> None:
    evil = {**INVITE, "note": "\x1b[31m[bold]red\nlines"}
    with running_pub(data / "socket", {("invite", "list"): lambda: [evil]}):
        text = ssb_pub("invite", "list").stdout
    assert "\x1b" not in text
    assert "[31m[bold]red lines" in text


@pytest.mark.parametrize("typed", [CODE, f' "{CODE}" ', GUEST])
def test_revoke_takes_an_id_or_a_code(ssb_pub: CommandLine, data: Path, typed: str) -> None:
    with running_pub(data / "socket", {("invite", "revoke"): lambda _code: {"id": GUEST}}) as calls:
        result = ssb_pub("invite", "revoke", typed)
    assert result.stdout == f"Revoked {GUEST}.\n"
    assert calls[0][1] == [typed.strip(' "')]


def test_members(ssb_pub: CommandLine, data: Path) -> None:
    member = {"id": ALICE, "joined": NOON, "invite": GUEST, "note": None}
    with running_pub(data / "socket", {("members",): lambda asked: [] if asked else [member]}):
        text = ssb_pub("members").stdout
        assert ssb_pub.json("members") == [member]
    assert ALICE in text
    assert GUEST in text


def test_empty_lists_are_a_sentence(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("members",): lambda _asked: [], ("invite", "list"): list}):
        assert ssb_pub("members").stdout == "Nobody has joined yet.\n"
        assert ssb_pub("invite", "list").stdout == "No invite code has been made yet.\n"


def test_a_refusal_is_one_sentence(ssb_pub: CommandLine, data: Path) -> None:
    def refuse(_code: str) -> None:
        raise RpcError("there is no such invite")

    with running_pub(data / "socket", {("invite", "revoke"): refuse}):
        result = ssb_pub("invite", "revoke", GUEST)
    assert result.exit_code == 1
    assert result.stderr == "Error: the pub refuses: there is no such invite\n"


@pytest.mark.parametrize("arguments", [["--json", "version"], ["version", "--json"]])
def test_options_stand_before_or_after_the_command(ssb_pub: CommandLine, arguments: list[str]) -> None:
    assert ssb_pub(*arguments).stdout.startswith('{"version": ')


def test_the_folder_named_last_counts(ssb_pub: CommandLine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with running_pub(other / "socket", {("invite", "list"): list}):
        assert ssb_pub.json("invite", "--data", str(other), "list") == []
        assert ssb_pub.json("invite", "list", "--data", str(other)) == []
