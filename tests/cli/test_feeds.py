"""The list of feeds and of forks, from the running pub and from the folder of one that is down."""

import json
from pathlib import Path
from typing import Any

import pytest

from pub.protocol.classic import create
from pub.protocol.keys import KeyPair, render_secret
from pub.store.env import Store, Txn
from pub.store.log import Appender, Log
from tests.cli.conftest import KEYS, CommandLine
from tests.cli.scripted import running_pub

ALICE = KeyPair.generate(bytes(31) + b"\x01")
BOB = KeyPair.generate(bytes(31) + b"\x02")
NOON = 1_790_000_000_000.0
HALF = "half a \ud83d pair"  # what a browser cut an emoji in two may publish

ORDINARY: dict[str, Any] = {"id": BOB.id, "sequence": 12, "state": "ordinary", "forked": None}
FORKED: dict[str, Any] = {
    "id": ALICE.id,
    "sequence": 7,
    "state": "forked",
    "forked": {
        "sequence": 5,
        "found": NOON,
        "ours": {"key": "%ours.sha256", "value": {"content": "one life"}},
        "theirs": {"key": "%theirs.sha256", "value": {"content": HALF}},
    },
}


def pages(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One feed in each page, as a pub with very many would answer."""
    if asked.get("after") == ALICE.id:
        return [] if asked["forked"] else [ORDINARY]
    return [] if asked.get("after") == BOB.id else [FORKED]


def test_every_page_is_asked_for(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("feeds",): pages}) as calls:
        assert ssb_pub.json("feeds") == [FORKED, ORDINARY]
    asked = [args[0] for _name, args in calls]
    assert asked == [{"forked": False} | after for after in ({}, {"after": ALICE.id}, {"after": BOB.id})]


def test_feeds_in_words(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("feeds",): pages}):
        text = ssb_pub("feeds").stdout
    for fact in (ALICE.id, "7", "forked", BOB.id, "12", "ordinary"):
        assert fact in text


def test_forks_in_words(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("feeds",): pages}):
        text = ssb_pub("feeds", "--forked").stdout
    for fact in (ALICE.id, "7", "5", "2026-09-21", "%ours.sha256", "%theirs.sha256"):
        assert fact in text
    assert BOB.id not in text


def test_empty_lists_are_a_sentence(ssb_pub: CommandLine, data: Path) -> None:
    with running_pub(data / "socket", {("feeds",): lambda _asked: []}):
        assert ssb_pub("feeds").stdout == "Nothing is stored yet.\n"
        assert ssb_pub("feeds", "--forked").stdout == "No feed is forked.\n"


@pytest.fixture
def stored(data: Path) -> None:
    """A pub that is down and has a message of Bob's and both lives of Alice."""
    (data / "secret").write_text(render_secret(KEYS))
    messages = [
        create(author, None, {"type": "post", "text": text}, NOON)
        for author, text in ((BOB, "hello"), (ALICE, "one life"), (ALICE, HALF))
    ]
    with Store.open(data) as store:
        log = Log(store)

        def job(txn: Txn) -> None:
            appender = Appender(log, txn)
            for message in messages:
                appender.append(message, NOON)
            appender.finish()

        store.write(job)


def test_forks_are_read_from_the_store(ssb_pub: CommandLine, stored: None) -> None:
    [found] = ssb_pub.json("feeds", "--forked")
    assert (found["id"], found["sequence"], found["state"]) == (ALICE.id, 1, "forked")
    assert (found["forked"]["sequence"], found["forked"]["found"]) == (1, NOON)
    assert found["forked"]["ours"]["value"]["content"]["text"] == "one life"
    assert found["forked"]["theirs"]["value"]["content"]["text"] == HALF
    assert [feed["id"] for feed in ssb_pub.json("feeds")] == [BOB.id, ALICE.id]
    assert found["forked"]["theirs"]["key"] in ssb_pub("feeds", "--forked").stdout


def test_status_counts_forks(ssb_pub: CommandLine, stored: None) -> None:
    answer = ssb_pub.json("status")
    assert (answer["feeds"], answer["forked"]) == (2, 1)
    assert "2, 1 of them forked" in ssb_pub("status").stdout


def test_a_pub_that_never_ran_has_no_feeds(ssb_pub: CommandLine, data: Path) -> None:
    (data / "secret").write_text(render_secret(KEYS))
    assert ssb_pub.json("feeds") == []
    assert ssb_pub("feeds", "--forked").stdout == "No feed is forked.\n"


def test_half_a_pair_is_escaped_and_still_json(ssb_pub: CommandLine, stored: None) -> None:
    line = ssb_pub("feeds", "--forked", "--json").stdout
    assert "half a \\ud83d pair" in line
    assert json.loads(line)[0]["forked"]["theirs"]["value"]["content"]["text"] == HALF
