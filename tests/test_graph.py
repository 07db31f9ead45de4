"""The follow graph: the reference implementation's hops, and a few people."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.graph import Graph
from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW, parse_contact
from pub.protocol.refs import feed_id
from tests.vectors import load

CASES = load("hops")["cases"]


def key(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def graph_of_messages(case: dict[str, Any]) -> Graph[bytes]:
    graph = Graph[bytes]()
    for said in case["contacts"]:
        contact = parse_contact({**said, "type": "contact", "contact": feed_id(key(said["to"]))})
        assert contact
        graph.set_edge(key(said["from"]), contact.target, contact.value)
    return graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['note']}-{case['max']}")
def test_agrees_with_the_reference(case: dict[str, Any]) -> None:
    graph, start = graph_of_messages(case), key(case["start"])
    assert graph.hops(start, case["max"]) == {key(name): hops for name, hops in case["hops"].items()}
    assert graph.replicated(start, case["max"]) == set(map(key, case["replicate"]))
    assert graph.blocked_by(start) == set(map(key, case["blocked_by_start"]))
    for author, edges in case["graph"].items():
        assert {target: graph.edge(key(author), key(target)) for target in edges} == edges


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['note']}-{case['max']}")
def test_turned_around_it_tells_who_would_replicate_us(case: dict[str, Any]) -> None:
    graph = Graph[str]()
    for author, edges in case["graph"].items():
        for target, value in edges.items():
            graph.set_edge(target, author, value)
    assert graph.hops(case["start"], case["max"]) == case["reverse_hops"]


def test_alice_changes_her_mind_about_bob() -> None:
    graph = Graph[str]()
    assert graph.edge("alice", "bob") is None
    graph.set_edge("alice", "bob", FOLLOW)
    assert graph.is_following("alice", "bob")
    assert not graph.is_following("bob", "alice")
    graph.set_edge("alice", "bob", BLOCK)
    assert not graph.is_following("alice", "bob")
    assert graph.is_blocking("alice", "bob")
    assert graph.blocked_by("alice") == {"bob"}
    graph.set_edge("alice", "bob", UNFOLLOW)
    assert not graph.is_blocking("alice", "bob")
    assert graph.blocked_by("alice") == graph.blocked_by("nobody") == set()


def slow_hops(edges: dict[tuple[int, int], int], start: int, maximum: int) -> dict[int, int]:
    """The rule as it is written, applied to its own outcome until that stays the same."""
    hops: dict[int, int] = {}
    while True:
        words = {start: [0]}
        for (author, target), value in edges.items():
            distance = hops.get(author, -1)
            if 0 <= distance < maximum:
                words.setdefault(target, []).append(distance + value if value > 0 else value - distance)
        nearest = {node: min(said, key=lambda word: (abs(word), word < 0)) for node, said in words.items()}
        if nearest == hops:
            return hops
        hops = nearest


nodes = st.integers(0, 6)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.tuples(nodes, nodes), st.sampled_from([FOLLOW, FOLLOW, BLOCK, UNFOLLOW]), max_size=20),
    st.integers(0, 4),
)
def test_hops_settle_as_the_written_rule_does(edges: dict[tuple[int, int], int], maximum: int) -> None:
    graph = Graph[int]()
    for (author, target), value in edges.items():
        graph.set_edge(author, target, value)
    assert graph.hops(0, maximum) == slow_hops(edges, 0, maximum)
