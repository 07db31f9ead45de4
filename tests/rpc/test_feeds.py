"""The list of feeds, page by page, and the proofs that stand in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pub.errors import RpcError
from pub.net.roles import Peer, Role
from pub.protocol.contacts import FOLLOW, Contact
from pub.protocol.refs import feed_id, message_id
from pub.rpc import feeds, lists
from pub.rpc.permissions import is_allowed
from pub.store.env import Store
from pub.store.log import Log
from tests.store.authors import RECEIVED, Author, commit


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Store.open(tmp_path) as store:
        yield Log(store)


def ask(log: Log, **asked: Any) -> list[dict[str, Any]]:
    with log.store.read() as txn:
        return [json.loads(bytes(feed)) for feed in feeds.feeds_page(log, txn, asked)]


def fork(log: Log, name: str, common: int = 2) -> tuple[Author, Author]:
    """Somebody who wrote one message of their feed twice."""
    author, twin = Author(name), Author(name)
    for each, text in ((author, "one life"), (twin, "another life")):
        each.write_many(common)
        each.write(text)
    commit(log, [*author.messages, *twin.messages])
    return author, twin


def test_feeds_in_the_order_they_were_heard_of(log: Log) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    commit(log, [*bob.write_many(3), alice.write(contact=Contact(carol.key, FOLLOW))])
    ordinary = {"state": "ordinary", "forked": None}
    assert ask(log) == [
        {"id": feed_id(bob.key), "sequence": 3, **ordinary},
        {"id": feed_id(alice.key), "sequence": 1, **ordinary},
    ], "Carol was only named: nothing of hers is stored"
    assert ask(log, forked=True) == []


def test_a_forked_feed_shows_both_proofs(log: Log) -> None:
    commit(log, [Author("bob").write()])
    alice, twin = fork(log, "alice", common=2)
    commit(log, [alice.write()])
    [found] = ask(log, forked=True)
    ours, theirs = alice.messages[2], twin.messages[2]
    assert found == {
        "id": feed_id(alice.key),
        "sequence": 4,
        "state": "forked",
        "forked": {
            "sequence": 3,
            "found": RECEIVED,
            "ours": {"key": message_id(ours.id), "value": json.loads(ours.encoded)},
            "theirs": {"key": message_id(theirs.id), "value": json.loads(theirs.encoded)},
        },
    }
    assert [feed["state"] for feed in ask(log)] == ["ordinary", "forked"]


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("page_bytes", [1, 500, 1300])
def test_pages_follow_one_another(log: Log, monkeypatch: pytest.MonkeyPatch, forked: bool, page_bytes: int) -> None:
    monkeypatch.setattr(lists, "PAGE_BYTES", page_bytes)
    names = [f"author {number}" for number in range(7)]
    for name in names:
        fork(log, name, common=1)
        commit(log, [Author(f"friend of {name}").write()])
    found, asked = [], {"forked": forked}
    while page := ask(log, **asked):
        found += [feed["id"] for feed in page]
        asked["after"] = found[-1]
    everybody = [feed_id(key) for key in log.keys]
    assert found == ([feed_id(Author(name).key) for name in names] if forked else everybody)


@pytest.mark.parametrize("after", ["", 7, "@alice", feed_id(bytes(32))])
def test_a_page_after_nobody_is_refused(log: Log, after: object) -> None:
    with pytest.raises(RpcError, match="not the id of a stored feed"):
        ask(log, after=after)


@pytest.mark.parametrize("role", [Role.STRANGER, Role.MEMBER, Role.GUEST])
def test_only_the_operator_may_ask(role: Role) -> None:
    [name] = feeds.METHODS
    assert not is_allowed(Peer(bytes(32), role, "192.0.2.1"), name)
