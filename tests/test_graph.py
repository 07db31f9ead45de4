"""The follow graph: the reference implementation's hops, and a few people."""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.graph import Graph, Hops
from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW, parse_contact
from pub.protocol.refs import feed_id
from tests.vectors import load

CASES = load("hops")["cases"]


T = TypeVar("T")


def key(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


class People:
    """The numbers of people, and back: `people.alice`."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getitem__(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    __getattr__ = __getitem__

    def named(self, by_number: dict[int, T]) -> dict[str, T]:
        return {self.names[number]: value for number, value in by_number.items()}

    def names_of(self, numbers: Iterable[int]) -> set[str]:
        return {self.names[number] for number in numbers}


def graph_of_messages(case: dict[str, Any], people: People) -> Graph:
    graph = Graph()
    for said in case["contacts"]:
        contact = parse_contact({**said, "type": "contact", "contact": feed_id(key(said["to"]))})
        assert contact
        assert contact.target == key(said["to"])
        graph.set_edge(people[said["from"]], people[said["to"]], contact.value)
    return graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['note']}-{case['max']}")
def test_agrees_with_the_reference(case: dict[str, Any]) -> None:
    people = People()
    graph, start = graph_of_messages(case, people), people[case["start"]]
    assert people.named(graph.hops(start, case["max"])) == case["hops"]
    hops = Hops(graph, start, case["max"])
    assert hops.hops == graph.hops(start, case["max"])
    assert people.names_of(filter(hops.is_replicated, hops.hops)) == set(case["replicate"])
    assert people.names_of(graph.blocked_by(start)) == set(case["blocked_by_start"])
    for author, edges in case["graph"].items():
        assert {target: graph.edge(people[author], people[target]) for target in edges} == edges


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['note']}-{case['max']}")
def test_turned_around_it_tells_who_would_replicate_us(case: dict[str, Any]) -> None:
    people, graph = People(), Graph()
    for author, edges in case["graph"].items():
        for target, value in edges.items():
            graph.set_edge(people[target], people[author], value)
    assert people.named(graph.hops(people[case["start"]], case["max"])) == case["reverse_hops"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['note']}-{case['max']}")
def test_said_one_by_one_it_comes_to_the_same(case: dict[str, Any]) -> None:
    people, graph = People(), Graph()
    start = people[case["start"]]
    hops = Hops(graph, start, case["max"])
    replicated = {start}
    for author, edges in case["graph"].items():
        for target, value in edges.items():
            graph.set_edge(people[author], people[target], value)
            replicated ^= hops.update()
            assert hops.hops == graph.hops(start, case["max"])
    assert people.named(hops.hops) == case["hops"]
    assert people.names_of(replicated) == set(case["replicate"])


def test_alice_changes_her_mind_about_bob() -> None:
    alice, bob, nobody = range(3)
    graph = Graph()
    assert graph.edge(alice, bob) is None
    graph.set_edge(alice, bob, FOLLOW)
    assert graph.is_following(alice, bob)
    assert not graph.is_following(bob, alice)
    graph.set_edge(alice, bob, BLOCK)
    assert not graph.is_following(alice, bob)
    assert graph.is_blocking(alice, bob)
    assert graph.blocked_by(alice) == {bob}
    graph.set_edge(alice, bob, UNFOLLOW)
    assert not graph.is_blocking(alice, bob)
    assert graph.blocked_by(alice) == graph.blocked_by(nobody) == set()


def test_a_member_leaves_and_takes_her_friends_along() -> None:
    pub, alice, bob, carol, dave = range(5)
    graph = Graph()
    hops = Hops(graph, pub, 2)
    for author, target in [(pub, alice), (alice, bob), (bob, alice), (alice, carol), (bob, dave)]:
        graph.set_edge(author, target, FOLLOW)
    assert hops.update() == {alice, bob, carol}
    assert hops.hops == {pub: 0, alice: 1, bob: 2, carol: 2}
    graph.set_edge(pub, carol, FOLLOW)
    assert hops.update() == set()
    assert hops.hops[carol] == 1
    graph.set_edge(pub, alice, BLOCK)
    assert not graph.is_following(pub, alice)
    assert hops.update() == {alice, bob}
    assert hops.hops == {pub: 0, alice: -1, carol: 1}
    assert [name for name in (pub, alice, bob, carol, dave) if hops.is_replicated(name)] == [pub, carol]
    assert hops.update() == set()


def test_who_goes_and_comes_back_meanwhile_has_not_turned() -> None:
    pub, alice, bob, carol, dave = range(5)
    graph = Graph()
    hops = Hops(graph, pub, 3)
    for author, target in [(pub, alice), (alice, bob), (pub, carol), (carol, dave), (dave, bob)]:
        graph.set_edge(author, target, FOLLOW)
    hops.update()
    graph.set_edge(pub, alice, UNFOLLOW)
    assert hops.update() == {alice}
    assert hops.hops[bob] == 3
    graph.set_edge(pub, carol, BLOCK)
    graph.set_edge(pub, carol, FOLLOW)
    assert hops.update() == set()


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
    graph = Graph()
    for (author, target), value in edges.items():
        graph.set_edge(author, target, value)
    assert graph.hops(0, maximum) == slow_hops(edges, 0, maximum)


values = st.sampled_from([FOLLOW, FOLLOW, FOLLOW, BLOCK, UNFOLLOW])
edges_in_order = st.lists(st.tuples(nodes, nodes, values), max_size=30)


@settings(max_examples=60, deadline=None)
@given(edges_in_order)
def test_the_last_word_counts_about_everyone(said: list[tuple[int, int, int]]) -> None:
    graph = Graph()
    last: dict[tuple[int, int], int] = {}
    for author, target, value in said:
        graph.set_edge(author, target, value)
        last[author, target] = value
    for node in range(7):
        assert {target: graph.edge(node, target) for target in range(7)} == {t: last.get((node, t)) for t in range(7)}
        assert graph.blocked_by(node) == {t for (a, t), value in last.items() if a == node and value == BLOCK}


@settings(max_examples=100, deadline=None)
@given(edges_in_order, st.lists(st.lists(st.tuples(nodes, nodes, values), max_size=3), max_size=20), st.integers(0, 4))
def test_hops_kept_up_to_date_are_those_of_the_whole_graph(
    before: list[tuple[int, int, int]], commits: list[list[tuple[int, int, int]]], maximum: int
) -> None:
    graph = Graph()
    set_edges(graph, before)
    kept = {start: Hops(graph, start, maximum) for start in (0, 1)}
    replicated = {start: replicated_of(graph, start, maximum) for start in kept}
    for said in commits:
        set_edges(graph, said)
        for start, hops in kept.items():
            turned = hops.update()
            assert hops.hops == graph.hops(start, maximum)
            now = replicated_of(graph, start, maximum)
            assert turned == replicated[start] ^ now
            replicated[start] = now


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.tuples(nodes, nodes), values, max_size=30), st.integers(1, 9), st.integers(0, 4))
def test_a_stored_graph_comes_in_by_slices(edges: dict[tuple[int, int], int], size: int, maximum: int) -> None:
    said = [(author, target, edges[author, target]) for author, target in sorted(edges)]
    one_by_one, at_once = Graph(), Graph()
    set_edges(one_by_one, said)
    for start in range(0, len(said), size):
        at_once.add_edges(*zip(*said[start : start + size], strict=True))
    for author in range(7):
        assert [at_once.edge(author, target) for target in range(7)] == [
            one_by_one.edge(author, target) for target in range(7)
        ]
    assert Hops(at_once, 0, maximum).hops == Hops(one_by_one, 0, maximum).hops


def set_edges(graph: Graph, said: Iterable[tuple[int, int, int]]) -> None:
    for author, target, value in said:
        graph.set_edge(author, target, value)


def replicated_of(graph: Graph, start: int, maximum: int) -> set[int]:
    return {node for node, distance in graph.hops(start, maximum).items() if distance >= 0}


PUB, STAR = 0, 1
FRIENDS = 5


def town(members: int) -> tuple[Graph, Hops]:
    """Each member follows the star and those who joined next, and the last ones some who have not joined."""
    graph = Graph()
    for member in range(2, members + 2):
        set_edges(graph, [(PUB, member, FOLLOW), (member, STAR, FOLLOW)])
        set_edges(graph, ((member, member + friend, FOLLOW) for friend in range(1, FRIENDS)))
    return graph, Hops(graph, PUB, 2)


def steps(act: Callable[[], object]) -> int:
    """How many lines of Python ran: what does not depend on how busy the machine is."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    traced = sys.gettrace()
    gc.disable()  # a collection would run finalizers of what other tests left, and they would be counted
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(traced)
        gc.enable()
    return count


@pytest.mark.parametrize(
    ("author", "target", "value"),
    [
        pytest.param(PUB, 100_000, FOLLOW, id="a newcomer redeems an invite"),
        pytest.param(20, 100_000, FOLLOW, id="a member follows a newcomer"),
        pytest.param(20, STAR, BLOCK, id="a member blocks whom all follow"),
        pytest.param(PUB, STAR, FOLLOW, id="the pub follows whom all follow"),
        pytest.param(PUB, 20, BLOCK, id="the pub blocks a member"),
        pytest.param(100_001, STAR, BLOCK, id="a stranger blocks whom all follow"),
    ],
)
def test_one_edge_costs_the_same_in_a_village_and_in_a_city(author: int, target: int, value: int) -> None:
    costs = []
    for members in (40, 4000):
        graph, hops = town(members)

        def say(graph: Graph = graph, hops: Hops = hops) -> None:
            graph.set_edge(author, target, value)
            hops.update()

        costs.append(steps(say))
        assert hops.hops == graph.hops(PUB, 2)
    assert costs[0] == costs[1]
    assert 5 < costs[0] < 400


def test_a_clique_that_lost_its_only_friend_does_not_climb_step_by_step() -> None:
    graph = Graph()
    clique = range(1, 11)
    set_edges(graph, ((author, target, FOLLOW) for author in clique for target in clique))
    graph.set_edge(PUB, 1, FOLLOW)
    hops = Hops(graph, PUB, 20)
    assert hops.hops == {PUB: 0, 1: 1} | dict.fromkeys(range(2, 11), 2)
    graph.set_edge(PUB, 1, BLOCK)
    assert steps(hops.update) < 500 * len(clique)
    assert hops.hops == {PUB: 0, 1: -1}


def test_an_edge_takes_a_few_bytes() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        graph = Graph()
        for author in range(200):
            for target in range(50):
                graph.set_edge(author, target * 4 % 197, FOLLOW)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / (200 * 50) < 12
