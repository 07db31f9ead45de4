"""Commands while no pub runs: what only reads works, what changes says what it needs."""

import json
from pathlib import Path

import pytest

from pub.protocol.classic import create
from pub.protocol.keys import KeyPair, render_secret
from pub.protocol.refs import feed_id
from pub.store.env import Store, Txn
from pub.store.invites import InviteRecord, Invites
from pub.store.log import Appender, Log
from pub.store.members import Member, Members
from tests.cli.conftest import KEYS, CommandLine

ALICE = KeyPair.generate(bytes(31) + b"\x01")
GUEST = bytes(31) + b"\x02"
NOON = 1_790_000_000_000.0


def fill(data: Path) -> None:
    """A pub that Alice joined, with one message of hers."""
    message = create(ALICE, None, {"type": "post", "text": "hello"}, NOON)
    with Store.open(data) as store:
        log = Log(store)

        def job(txn: Txn) -> None:
            appender = Appender(log, txn)
            appender.append(message, NOON)
            Members(store).add(txn, appender.intern(ALICE.public), Member(NOON, GUEST, "choir"))
            Invites(store).put(txn, InviteRecord(GUEST, 1, 1, NOON, None, None, "choir"))
            Invites(store).put(txn, InviteRecord(bytes(32), 1, 0, NOON + 1, NOON + 2, None, ""))
            appender.finish()

        store.write(job)


@pytest.fixture
def pub(data: Path) -> None:
    (data / "secret").write_text(render_secret(KEYS))


@pytest.fixture
def stored(pub: None, data: Path) -> None:
    fill(data)


def test_whoami_reads_the_secret_file(ssb_pub: CommandLine, pub: None) -> None:
    assert ssb_pub("whoami").stdout == KEYS.id + "\n"


def test_status_says_that_the_pub_is_not_running(
    ssb_pub: CommandLine, stored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUB_ADDRESS_HOST", "pub.example")
    answer = ssb_pub.json("status")
    assert (answer["ready"], answer["running"]) == (False, False)
    assert (answer["id"], answer["feeds"], answer["messages"], answer["members"]) == (KEYS.id, 1, 1, 1)
    assert answer["address"] == f"net:pub.example:8008~shs:{KEYS.id[1:45]}"
    assert (answer["peers"], answer["internal_errors"], answer["uptime"]) == (0, 0, None)
    assert "not running" in ssb_pub("status").stdout


def test_members_and_codes_are_read_from_the_store(ssb_pub: CommandLine, stored: None) -> None:
    member = {"id": ALICE.id, "joined": NOON, "invite": feed_id(GUEST), "note": "choir"}
    assert ssb_pub.json("members") == [member]
    newest, oldest = ssb_pub.json("invite", "list")
    assert (newest["id"], newest["state"]) == (feed_id(bytes(32)), "expired")
    assert (oldest["id"], oldest["state"], oldest["used"]) == (feed_id(GUEST), "spent", 1)


def test_a_pub_that_never_ran_has_nothing_to_show(ssb_pub: CommandLine, pub: None, data: Path) -> None:
    assert ssb_pub.json("members") == []
    assert ssb_pub.json("invite", "list") == []
    assert ssb_pub.json("status")["messages"] == 0
    assert [file.name for file in data.iterdir()] == ["secret"]


@pytest.mark.parametrize("command", ["whoami", "status", "members"])
def test_where_there_is_no_pub_a_sentence_says_so(ssb_pub: CommandLine, data: Path, command: str) -> None:
    result = ssb_pub(command)
    assert result.exit_code == 1
    assert result.stderr == f"Error: there is no pub in {data}: make one with `ssb-pub init`\n"


def test_a_pub_that_is_down_is_not_healthy(ssb_pub: CommandLine, stored: None) -> None:
    result = ssb_pub("health")
    assert result.exit_code == 1
    assert result.stdout.startswith("running: the pub is not running")


def test_nor_is_one_whose_settings_are_wrong(ssb_pub: CommandLine, data: Path) -> None:
    (data / "config.yaml").write_text("nonsense: 1")
    result = ssb_pub("health", "--json")
    assert result.exit_code == 1
    assert not json.loads(result.stdout)["ready"]


def test_a_secret_file_that_is_none_is_not_shown(ssb_pub: CommandLine, data: Path) -> None:
    (data / "secret").write_text("hunter2")
    result = ssb_pub("whoami")
    assert result.exit_code == 1
    assert "is not a secret file" in result.stderr
    assert "hunter2" not in result.output


def test_a_pub_that_is_just_starting_is_named(ssb_pub: CommandLine, stored: None, data: Path) -> None:
    with Store.open(data):
        result = ssb_pub("status")
    assert result.exit_code == 74
    assert "in use by process" in result.stderr


@pytest.mark.parametrize("arguments", [["create"], ["revoke", ALICE.id]])
def test_changes_need_the_running_pub(ssb_pub: CommandLine, stored: None, arguments: list[str]) -> None:
    result = ssb_pub("invite", *arguments)
    assert result.exit_code == 69
    assert "the pub is not running" in result.stderr
    assert "ssb-pub run" in result.stderr
