"""connect, forget and peers."""

from pathlib import Path
from typing import Any

import pytest

from pub.errors import RpcError
from pub.protocol.addresses import Address, format_address
from pub.protocol.keys import render_secret
from pub.protocol.refs import feed_id
from pub.store.env import Store
from pub.store.peers import PeerRecord, Peers, Source
from tests.cli.conftest import KEYS, CommandLine
from tests.cli.scripted import running_pub

NOON = 1_790_000_000_000.0
HARBOUR = Address("harbour.example", 8008, bytes(31) + b"\x01")
ADDRESS = format_address(HARBOUR)
ID = feed_id(HARBOUR.key)
ALICE = feed_id(bytes(31) + b"\x02")

KNOWN: dict[str, Any] = {
    "id": ID,
    "address": ADDRESS,
    "source": "config",
    "state": "waiting",
    "first_seen": NOON,
    "last_success": None,
    "failures": 3,
    "next_try": NOON + 60_000,
}
CONNECTED: dict[str, Any] = {
    "id": ALICE,
    "address": "192.0.2.7",
    "direction": "in",
    "role": "member",
    "seconds": 3723.5,
    "receiving": 2,
    "sending": 17,
}


def answer(reason: str | None) -> dict[str, Any]:
    return {"id": ID, "address": ADDRESS, "connected": reason is None, "reason": reason}


def test_connect(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("conn", "connect"): lambda _address: answer(None)}) as calls:
        result = ssb_pub("connect", f" {ADDRESS}\n")
        assert ssb_pub.json("connect", ADDRESS) == answer(None)
    assert (result.exit_code, result.stdout) == (0, f"Connected to {ID}.\n")
    assert calls[0] == (("conn", "connect"), [ADDRESS])


def test_connect_says_why_not_and_how_to_end_the_trying(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("conn", "connect"): lambda _address: answer("nobody there")}):
        result = ssb_pub("connect", ADDRESS)
        in_json = ssb_pub("connect", ADDRESS, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Not connected to {ID}: nobody there." in result.stderr
    assert f"ssb-pub forget {ADDRESS}" in result.stderr
    assert in_json.exit_code == 1
    assert '"reason": "nobody there"' in in_json.stdout


def test_connect_refuses_with_a_sentence(ssb_pub: CommandLine, data: Path) -> None:
    def refuse(_address: str) -> None:
        raise RpcError("that is this pub itself")

    with running_pub(data / "socket", {("conn", "connect"): refuse}):
        result = ssb_pub("connect", ADDRESS)
    assert (result.exit_code, result.stderr) == (1, "Error: the pub refuses: that is this pub itself\n")


def test_forget(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("conn", "forget"): lambda address: {"id": ID, "address": address}}):
        assert ssb_pub("forget", ADDRESS).stdout == f"Forgot {ADDRESS}.\n"
        assert ssb_pub.json("forget", ADDRESS) == {"id": ID, "address": ADDRESS}


def test_peers_in_words(ssb_pub: CommandLine, data: Path) -> None:
    both = {"connected": [CONNECTED], "known": [KNOWN]}
    with running_pub(data / "socket", {("conn", "peers"): lambda: both}):
        text = ssb_pub("peers").stdout
        assert ssb_pub.json("peers") == both
    for fact in (ALICE, "192.0.2.7", "in", "member", "1 h 2 min", "2", "17"):
        assert fact in text
    for fact in (ADDRESS, "config", "waiting", "3", "never", "2026-09-21 14:14 UTC"):
        assert fact in text


def test_the_next_try_of_who_is_connected_is_nobodys_business(ssb_pub: CommandLine, data: Path) -> None:
    known = {"connected": [], "known": [{**KNOWN, "state": "connected", "last_success": NOON}]}
    with running_pub(data / "socket", {("conn", "peers"): lambda: known}):
        text = ssb_pub("peers").stdout
    assert "14:14" not in text
    assert "14:13" in text


def test_nobody_is_connected(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("conn", "peers"): lambda: {"connected": [], "known": []}}):
        assert ssb_pub("peers").stdout == "Nobody is connected.\n"


def test_the_address_book_is_read_while_the_pub_is_down(ssb_pub: CommandLine, data: Path) -> None:
    (data / "secret").write_text(render_secret(KEYS))
    record = PeerRecord(HARBOUR, Source.CONFIG, NOON, None, NOON, 3, NOON + 60_000)
    with Store.open(data) as store:
        store.write(lambda txn: Peers(store).put(txn, record))
    assert ssb_pub.json("peers") == {"connected": [], "known": [{**KNOWN, "state": None}]}
    assert ADDRESS in ssb_pub("peers").stdout


@pytest.mark.parametrize("command", ["connect", "forget"])
def test_changes_need_the_running_pub(ssb_pub: CommandLine, data: Path, command: str) -> None:
    (data / "secret").write_text(render_secret(KEYS))
    result = ssb_pub(command, ADDRESS)
    assert result.exit_code == 69
    assert "the pub is not running" in result.stderr
