"""The follow graph: contact messages in, hops and blocks out.

Every author has edges to others: 1 follows, -1 blocks, -2 unfollowed. The last edge set between two wins. *Hops* from a
start measure how far a feed is: 0 is the start, 1 whom it follows, 2 whom they follow. A negative number says that the
nearest word about a feed is a block or an unfollow: -1 is the start's own block. Feeds from 0 up to the maximum are
replicated.

Nodes are feed numbers in the pub; anything hashable will do. Inside they get dense numbers of their own, and the edges
of one author are a sorted array of 32-bit integers: 4 million edges take 25 MB, where dicts would take 300. `set_edge`
and the questions about one edge take the time of a binary search.

`Graph.hops` walks everything within reach. `Hops` keeps its answer up to date instead. For every feed it counts how
many authors within reach say each *word* about it: a word is the hops that one edge alone would give. Words have ranks,
the nearest first, of two just as near the kind one: 0, 1, -1, 2, -2, …; the hops of a feed are the word of the lowest
rank that anybody says. An edge that changes moves one count. A feed whose hops change moves the counts of all whom it
has edges to, and those are looked at next, nearest first: a word is farther than its author, so what is settled at one
distance depends on nothing farther out, and no feed is settled twice at the same distance. The work is that of the
edges of the feeds whose hops change, however popular the feeds at their other ends are.
"""

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW

Node = TypeVar("Node", bound=Hashable)

# an edge in 32 bits: the number of its target, then its value as two's complement in two bits; 2 ** 30 nodes do
_VALUES = (0, FOLLOW, UNFOLLOW, BLOCK)
_RANKS = (0, 2, 5, 3)  # of the word that each value is from a distance of 0; one farther out is two ranks more


class Graph(Generic[Node]):
    """Who follows and blocks whom, as each author said last."""

    __slots__ = ("_blocks", "_edges", "_followed_up", "_nodes", "_numbers")

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self._edges: dict[int, array[int]] = {}
        self._blocks: dict[Node, int] = {}  # how many block a feed: of nearly all nobody does
        self._followed_up: list[Hops[Node]] = []

    def set_edge(self, author: Node, target: Node, value: int) -> None:
        """`value` is one of FOLLOW, BLOCK and UNFOLLOW of `pub.protocol.contacts`."""
        source, number = self._number(author), self._number(target)
        edges = self._edges.get(source)
        if edges is None:
            edges = self._edges[source] = array("I")
        edge = number << 2 | value & 3
        position = bisect_left(edges, number << 2)
        before = 0
        if position < len(edges) and edges[position] >> 2 == number:
            before, edges[position] = edges[position], edge
        else:
            edges.insert(position, edge)
        if before != edge:
            self._count_blocks(target, (_VALUES[edge & 3] == BLOCK) - (_VALUES[before & 3] == BLOCK))
            self._changed(source, before, edge)

    def _changed(self, source: int, before: int, edge: int) -> None:
        """`before` is 0 if nothing was said about the target until now."""
        for hops in self._followed_up:
            hops._edge_changed(source, before, edge)

    def _count_blocks(self, target: Node, by: int) -> None:
        if by and (count := self._blocks.pop(target, 0) + by):
            self._blocks[target] = count

    def _number(self, node: Node) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
        return number

    def _edges_of(self, author: Node) -> Sequence[int]:
        return self._edges.get(self._numbers.get(author, -1), ())

    def _said_by(self, author: Node) -> Iterator[tuple[Node, int]]:
        return ((self._nodes[edge >> 2], _VALUES[edge & 3]) for edge in self._edges_of(author))

    def edge(self, author: Node, target: Node) -> int | None:
        """What `author` said last about `target`; None if nothing was said."""
        edges, number = self._edges_of(author), self._numbers.get(target, -1)
        position = bisect_left(edges, number << 2)
        if position < len(edges) and edges[position] >> 2 == number:
            return _VALUES[edges[position] & 3]
        return None

    def is_following(self, author: Node, target: Node) -> bool:
        """Whether `author` follows `target`."""
        return self.edge(author, target) == FOLLOW

    def is_blocking(self, author: Node, target: Node) -> bool:
        """Whether `author` blocks `target`."""
        return target in self._blocks and self.edge(author, target) == BLOCK

    def blocked_by(self, author: Node) -> set[Node]:
        """Everyone whom `author` blocks."""
        return {target for target, value in self._said_by(author) if value == BLOCK}

    def hops(self, start: Node, maximum: int) -> dict[Node, int]:
        """The hops of every feed within `maximum` of `start`, and of those that feeds nearer than that refuse.

        Of two words about a feed the nearer one counts, of two just as near the follow. Follows all weigh the same, so
        going outwards distance by distance settles whatever a follow reaches: nothing found later is nearer.
        """
        hops = {start: 0}
        nearest = [start]
        for distance in range(maximum):
            reached = []
            for author in nearest:
                for target, value in self._said_by(author):
                    known = hops.get(target)
                    if value > 0:
                        if known is None or known < -distance:
                            hops[target] = distance + 1
                            reached.append(target)
                    elif known is None or known < value - distance:
                        hops[target] = value - distance
            nearest = reached
        return hops


class Hops(Generic[Node]):
    """What `graph.hops(start, maximum)` gives, kept up to date while the graph grows.

    Made for the life of the graph, which tells it of each edge. `hops` is to be read only.
    """

    __slots__ = ("_counts", "_due", "_graph", "_maximum", "_ranks", "_unknown", "hops")

    def __init__(self, graph: Graph[Node], start: Node, maximum: int) -> None:
        self.hops: dict[Node, int] = {}
        self._graph = graph
        self._maximum = maximum
        self._unknown = -(maximum + 2)  # stands for the hops of a feed that nobody within reach speaks of
        self._ranks = 2 * (maximum + 2)
        self._counts = array("I")  # by feed, then by rank: how many say this word
        self._due: list[set[int]] = [set() for _ in range(maximum + 2)]  # by distance: whose hops may have changed
        number = graph._number(start)
        self._make_room()
        self._counts[number * self._ranks] = 1  # nothing is nearer than 0: no edge changes the hops of the start
        self._review(number)
        self.update()
        graph._followed_up.append(self)

    def is_replicated(self, node: Node) -> bool:
        """Whether a peer at the start replicates the feed `node`."""
        return self.hops.get(node, -1) >= 0

    def update(self) -> set[Node]:
        """Follow up all edges set since the last call: the feeds that came to be replicated by that or ceased to be."""
        turned: set[Node] = set()
        for distance, due in enumerate(self._due):
            while due:
                number = due.pop()
                node = self._graph._nodes[number]
                before, after = self.hops.get(node, self._unknown), self._nearest_word(number)
                if abs(after) > distance:
                    if abs(before) > distance:
                        continue  # its words have changed again: it is due farther out, or not at all
                    after = self._unknown  # what is said farther out may change before we get there
                if before != after:
                    self._settle(number, before, after)
                    self._review(number)
                    if (before >= 0) != (after >= 0):
                        turned ^= {node}
        return turned

    def _settle(self, number: int, before: int, after: int) -> None:
        self._count_words(number, before, -1)
        if after == self._unknown:
            del self.hops[self._graph._nodes[number]]
        else:
            self.hops[self._graph._nodes[number]] = after
        self._count_words(number, after, 1)

    def _count_words(self, source: int, distance: int, by: int) -> None:
        """All that `source` says counts (1) or counts no more (-1). Whom it says it about is due if that is news."""
        if not 0 <= distance < self._maximum:
            return
        self._make_room()
        counts, ranks = self._counts, self._ranks
        first_or_last = 0 if by > 0 else 1
        for edge in self._graph._edges.get(source, ()):
            index = (edge >> 2) * ranks + 2 * distance + _RANKS[edge & 3]
            count = counts[index]
            counts[index] = count + by
            if count == first_or_last:
                self._review(edge >> 2)

    def _edge_changed(self, source: int, before: int, edge: int) -> None:
        distance = self.hops.get(self._graph._nodes[source], self._unknown)
        if not 0 <= distance < self._maximum:
            return
        self._make_room()
        first = (edge >> 2) * self._ranks + 2 * distance
        if before:
            self._counts[first + _RANKS[before & 3]] -= 1
        self._counts[first + _RANKS[edge & 3]] += 1
        self._review(edge >> 2)

    def _review(self, number: int) -> None:
        before, after = self.hops.get(self._graph._nodes[number], self._unknown), self._nearest_word(number)
        if before != after:
            self._due[min(abs(before), abs(after))].add(number)

    def _nearest_word(self, number: int) -> int:
        first = number * self._ranks
        for rank, count in enumerate(self._counts[first : first + self._ranks]):
            if count:
                return -(rank >> 1) if rank & 1 else rank >> 1
        return self._unknown

    def _make_room(self) -> None:
        missing = len(self._graph._nodes) * self._ranks - len(self._counts)
        if missing > 0:
            self._counts.frombytes(bytes(missing * self._counts.itemsize))
