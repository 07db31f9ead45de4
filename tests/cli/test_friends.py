"""follow, unfollow, block and unblock: what the operator types becomes a decision of the pub."""

import json
from pathlib import Path
from typing import Any

import pytest

from pub.protocol.refs import feed_id
from tests.cli.conftest import CommandLine
from tests.cli.scripted import running_pub

ALICE = feed_id(bytes(31) + b"\x02")
SAID = {"key": "%AAAA.sha256", "value": {}}


@pytest.mark.parametrize(
    ("command", "method", "options"),
    [
        (["follow", ALICE], ("friends", "follow"), {"state": True}),
        (["unfollow", ALICE], ("friends", "follow"), {"state": False}),
        (["block", ALICE, "--reason", "spam"], ("friends", "block"), {"state": True, "reason": "spam"}),
        (["block", ALICE], ("friends", "block"), {"state": True, "reason": ""}),
        (["unblock", ALICE], ("friends", "block"), {"state": False}),
    ],
)
def test_a_decision(
    ssb_pub: CommandLine, data: Path, command: list[str], method: tuple[str, ...], options: dict[str, Any]
) -> None:
    heard: list[Any] = []

    def decide(*args: Any) -> Any:
        heard.append(list(args))
        return SAID

    with running_pub(data / "socket", {method: decide}):
        result = ssb_pub(*command)
        as_json = ssb_pub(*command, "--json")
    assert heard == [[ALICE, options]] * 2
    assert result.exit_code == 0
    assert ALICE in result.output
    assert json.loads(as_json.output) == {"id": ALICE, "message": SAID["key"]}


def test_a_decision_needs_the_running_pub(ssb_pub: CommandLine) -> None:
    result = ssb_pub("block", ALICE)
    assert result.exit_code == 69
    assert "not running" in result.output
