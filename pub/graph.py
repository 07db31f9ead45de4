"""The follow graph: contact messages in, hops and blocks out.

Every author has edges to others: 1 follows, -1 blocks, -2 unfollowed. The last edge set between two wins. *Hops* from a
start measure how far a feed is: 0 is the start, 1 whom it follows, 2 whom they follow. A negative number says that the
nearest word about a feed is a block or an unfollow: -1 is the start's own block. Feeds from 0 up to the maximum are
replicated.

Feeds are known by their numbers, which are dense. The edges of one author are a sorted array of 32-bit integers: 4
million edges take 25 MB, where dicts would take 300. `set_edge` and the questions about one edge take the time of a
binary search; a stored graph comes in by `add_edges`, at a fifth of that.

`Graph.hops` walks everything within reach. `Hops` keeps its answer up to date from then on. For every feed it counts
how many authors within reach say each *word* about it: a word is the hops that one edge alone would give. Words have
ranks, the nearest first, of two just as near the kind one: 0, 1, -1, 2, -2, …; the hops of a feed are the word of the
lowest rank that anybody says. An edge that changes moves one count. A feed whose hops change moves the counts of all
whom it has edges to, and those are looked at next, nearest first: a word is farther than its author, so what is settled
at one distance depends on nothing farther out, and no feed is settled twice at the same distance. The work is that of
the edges of the feeds whose hops change, however popular the feeds at their other ends are.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from pub.protocol.contacts import BLOCK, FOLLOW, UNFOLLOW

# an edge in 32 bits: the number of its target, then its value as two's complement in two bits; 2 ** 30 feeds do
_VALUES = (0, FOLLOW, UNFOLLOW, BLOCK)
_RANKS = (0, 2, 5, 3)  # of the word that each value is from a distance of 0; one farther out is two ranks more


class Graph:
    """Who follows and blocks whom, as each author said last."""

    __slots__ = ("_blocks", "_edges", "_followed_up")

    def __init__(self) -> None:
        self._edges: dict[int, array[int]] = {}
        self._blocks: dict[int, int] = {}  # how many block a feed: of nearly all nobody does
        self._followed_up: list[Hops] = []

    def set_edge(self, author: int, target: int, value: int) -> None:
        """`value` is one of FOLLOW, BLOCK and UNFOLLOW of `pub.protocol.contacts`."""
        edges = self._edges.get(author)
        if edges is None:
            edges = self._edges[author] = array("I")
        edge = target << 2 | value & 3
        position = bisect_left(edges, target << 2)
        before = 0
        if position < len(edges) and edges[position] >> 2 == target:
            before, edges[position] = edges[position], edge
        else:
            edges.insert(position, edge)
        if before != edge:
            self._count_blocks(target, (_VALUES[edge & 3] == BLOCK) - (_VALUES[before & 3] == BLOCK))
            self._changed(author, before, edge)

    def add_edges(self, authors: Sequence[int], targets: Iterable[int], values: Iterable[int]) -> None:
        """Fill a graph that nobody follows up yet: many edges, one of each list, in the order of author and target.
        They come behind all that was added before.
        """
        edges = array("I", [target << 2 | value & 3 for target, value in zip(targets, values, strict=True)])
        for target, count in Counter(edge >> 2 for edge in edges if edge & 3 == BLOCK & 3).items():
            self._count_blocks(target, count)
        end = 0
        for author, count in Counter(authors).items():
            start, end = end, end + count
            if author in self._edges:
                self._edges[author] += edges[start:end]
            else:
                self._edges[author] = edges[start:end]

    def _changed(self, author: int, before: int, edge: int) -> None:
        """`before` is 0 if nothing was said about the target until now."""
        for hops in self._followed_up:
            hops._edge_changed(author, before, edge)

    def _count_blocks(self, target: int, by: int) -> None:
        if by and (count := self._blocks.pop(target, 0) + by):
            self._blocks[target] = count

    def _edges_of(self, author: int) -> Sequence[int]:
        return self._edges.get(author, ())

    def edge(self, author: int, target: int) -> int | None:
        """What `author` said last about `target`; None if nothing was said."""
        edges = self._edges_of(author)
        position = bisect_left(edges, target << 2)
        if position < len(edges) and edges[position] >> 2 == target:
            return _VALUES[edges[position] & 3]
        return None

    def is_following(self, author: int, target: int) -> bool:
        """Whether `author` follows `target`."""
        return self.edge(author, target) == FOLLOW

    def is_blocking(self, author: int, target: int) -> bool:
        """Whether `author` blocks `target`."""
        return target in self._blocks and self.edge(author, target) == BLOCK

    def blocked_by(self, author: int) -> set[int]:
        """Everyone whom `author` blocks."""
        return {target for target, value in _said(self._edges_of(author)) if value == BLOCK}

    def hops(self, start: int, maximum: int) -> dict[int, int]:
        """The hops of every feed within `maximum` of `start`, and of those that feeds nearer than that refuse.

        Of two words about a feed the nearer one counts, of two just as near the follow. Follows all weigh the same, so
        going outwards distance by distance settles whatever a follow reaches: nothing found later is nearer.
        """
        hops = {start: 0}
        nearest = [start]
        for distance in range(maximum):
            reached = []
            for target, value in _said(set().union(*map(self._edges_of, nearest))):
                known = hops.get(target)
                if value > 0:
                    if known is None or known < -distance:
                        hops[target] = distance + 1
                        reached.append(target)
                elif known is None or known < value - distance:
                    hops[target] = value - distance
            nearest = reached
        return hops


def _said(edges: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(target, value) of each."""
    return ((edge >> 2, _VALUES[edge & 3]) for edge in edges)


class Hops:
    """What `graph.hops(start, maximum)` gives, kept up to date while the graph grows.

    Made for the life of the graph, which tells it of each edge. `hops` is to be read only.
    """

    __slots__ = ("_counts", "_due", "_graph", "_maximum", "_ranks", "_unknown", "hops")

    def __init__(self, graph: Graph, start: int, maximum: int) -> None:
        self.hops = graph.hops(start, maximum)
        self._graph = graph
        self._maximum = maximum
        self._unknown = -(maximum + 2)  # stands for the hops of a feed that nobody within reach speaks of
        self._ranks = 2 * (maximum + 2)
        self._counts = array("I")  # by feed, then by rank: how many say this word
        self._due: list[set[int]] = [set() for _ in range(maximum + 2)]  # by distance: whose hops may have changed
        self._make_room(max(self.hops))
        self._counts[start * self._ranks] = 1  # nothing is nearer than 0: no edge changes the hops of the start
        self._count_all()
        graph._followed_up.append(self)

    def is_replicated(self, feed: int) -> bool:
        """Whether a peer at the start replicates this feed."""
        return self.hops.get(feed, -1) >= 0

    def update(self) -> set[int]:
        """Follow up all edges set since the last call: the feeds that came to be replicated by that or ceased to be."""
        turned: set[int] = set()
        for distance, due in enumerate(self._due):
            while due:
                feed = due.pop()
                before, after = self.hops.get(feed, self._unknown), self._nearest_word(feed)
                if abs(after) > distance:
                    if abs(before) > distance:
                        continue  # its words have changed again: it is due farther out, or not at all
                    after = self._unknown  # what is said farther out may change before we get there
                if before != after:
                    self._settle(feed, before, after)
                    self._review(feed)
                    if (before >= 0) != (after >= 0):
                        turned ^= {feed}
        return turned

    def _count_all(self) -> None:
        """What everybody within reach says, in one go: most feeds are spoken of by many in the same words."""
        counts, ranks = self._counts, self._ranks
        authors: list[list[int]] = [[] for _ in range(self._maximum)]  # by distance
        for feed, distance in self.hops.items():
            if 0 <= distance < self._maximum:
                authors[distance].append(feed)
        for distance, speakers in enumerate(authors):
            said = Counter(chain.from_iterable(map(self._graph._edges_of, speakers)))
            for edge, count in said.items():
                counts[(edge >> 2) * ranks + 2 * distance + _RANKS[edge & 3]] = count

    def _settle(self, feed: int, before: int, after: int) -> None:
        self._count_words(feed, before, -1)
        if after == self._unknown:
            del self.hops[feed]
        else:
            self.hops[feed] = after
        self._count_words(feed, after, 1)

    def _count_words(self, author: int, distance: int, by: int) -> None:
        """All that `author` says counts (1) or counts no more (-1). Whom it says it about is due if that is news."""
        edges = self._graph._edges_of(author)
        if not edges or not 0 <= distance < self._maximum:
            return
        self._make_room(edges[-1] >> 2)
        counts, ranks = self._counts, self._ranks
        first_or_last = 0 if by > 0 else 1
        for edge in edges:
            index = (edge >> 2) * ranks + 2 * distance + _RANKS[edge & 3]
            count = counts[index]
            counts[index] = count + by
            if count == first_or_last:
                self._review(edge >> 2)

    def _edge_changed(self, author: int, before: int, edge: int) -> None:
        distance = self.hops.get(author, self._unknown)
        if not 0 <= distance < self._maximum:
            return
        self._make_room(edge >> 2)
        first = (edge >> 2) * self._ranks + 2 * distance
        if before:
            self._counts[first + _RANKS[before & 3]] -= 1
        self._counts[first + _RANKS[edge & 3]] += 1
        self._review(edge >> 2)

    def _review(self, feed: int) -> None:
        before, after = self.hops.get(feed, self._unknown), self._nearest_word(feed)
        if before != after:
            self._due[min(abs(before), abs(after))].add(feed)

    def _nearest_word(self, feed: int) -> int:
        first = feed * self._ranks
        for rank, count in enumerate(self._counts[first : first + self._ranks]):
            if count:
                return -(rank >> 1) if rank & 1 else rank >> 1
        return self._unknown

    def _make_room(self, feed: int) -> None:
        missing = (feed + 1) * self._ranks - len(self._counts)
        if missing > 0:
            self._counts.frombytes(bytes(missing * self._counts.itemsize))
