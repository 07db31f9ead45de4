"""Contact messages as edges of the follow graph."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW, Contact, parse_contact
from pub.protocol.refs import feed_id

BOB = bytes(range(32))


def contact(**fields: Any) -> Contact | None:
    return parse_contact({"type": "contact", "contact": feed_id(BOB), **fields})


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"following": True}, FOLLOW),
        ({"following": True, "blocking": False}, FOLLOW),
        ({"following": True, "blocking": True}, BLOCK),
        ({"blocking": True}, BLOCK),
        ({"flagged": True}, BLOCK),
        ({"flagged": {"reason": "spam"}}, BLOCK),
        ({"following": False}, UNFOLLOW),
        ({"blocking": False}, UNFOLLOW),
        ({}, UNFOLLOW),
    ],
)
def test_alice_speaks_about_bob(fields: dict[str, Any], value: int) -> None:
    assert contact(**fields) == Contact(BOB, value)


@pytest.mark.parametrize("word", ["true", 1, 1.0, {}, []])
def test_following_counts_only_when_it_is_true_itself(word: object) -> None:
    assert contact(following=word) == Contact(BOB, UNFOLLOW)


@pytest.mark.parametrize("word", [{}, [], "false", 1, -1])
def test_blocking_counts_when_javascript_finds_it_true(word: object) -> None:
    assert contact(blocking=word) == Contact(BOB, BLOCK)


@pytest.mark.parametrize("word", [None, False, 0, ""])
def test_blocking_does_not_count_when_javascript_finds_it_false(word: object) -> None:
    assert contact(blocking=word, following=True) == Contact(BOB, FOLLOW)


@pytest.mark.parametrize(
    "target", [None, 5, [], {}, "bob", feed_id(BOB) + " ", feed_id(BOB).replace("ed25519", "sha256")]
)
def test_a_contact_that_is_no_feed_sets_no_edge(target: object) -> None:
    assert contact(contact=target, following=True) is None


def test_a_post_sets_no_edge() -> None:
    assert contact(type="post", following=True) is None
    assert parse_contact({}) is None


words: st.SearchStrategy[object] = st.sampled_from(
    [None, True, False, 0, 1.5, float("nan"), "", "true", feed_id(BOB), "\ud800", [], [{}], {}]
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["contact", "following", "blocking", "flagged"]), words))
def test_any_content_is_an_edge_or_none(fields: dict[str, Any]) -> None:
    edge = contact(**fields)
    assert edge is None or edge.value in (FOLLOW, BLOCK, UNFOLLOW)
