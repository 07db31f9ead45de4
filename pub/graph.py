"""The follow graph: contact messages in, hops and blocks out.

Every author has edges to others: 1 follows, -1 blocks, -2 unfollowed. The last edge set between two wins. *Hops* from a
start measure how far a feed is: 0 is the start, 1 whom it follows, 2 whom they follow. A negative number says that the
nearest word about a feed is a block or an unfollow: -1 is the start's own block. Feeds from 0 up to the maximum are
replicated.

Nodes are feed numbers in the pub; anything hashable will do. `set_edge` and the questions about one edge take constant
time whatever the size of the graph; `hops` walks everything within reach.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

from pub.protocol.contacts import BLOCK, FOLLOW

Node = TypeVar("Node", bound=Hashable)


class Graph(Generic[Node]):
    """Who follows and blocks whom, as each author said last."""

    __slots__ = ("_edges",)

    def __init__(self) -> None:
        self._edges: dict[Node, dict[Node, int]] = {}

    def set_edge(self, author: Node, target: Node, value: int) -> None:
        """`value` is one of FOLLOW, BLOCK and UNFOLLOW of `pub.protocol.contacts`."""
        edges = self._edges.get(author)
        if edges is None:
            edges = self._edges[author] = {}
        edges[target] = value

    def edge(self, author: Node, target: Node) -> int | None:
        """What `author` said last about `target`; None if nothing was said."""
        edges = self._edges.get(author)
        return None if edges is None else edges.get(target)

    def is_following(self, author: Node, target: Node) -> bool:
        """Whether `author` follows `target`."""
        return self.edge(author, target) == FOLLOW

    def is_blocking(self, author: Node, target: Node) -> bool:
        """Whether `author` blocks `target`."""
        return self.edge(author, target) == BLOCK

    def blocked_by(self, author: Node) -> set[Node]:
        """Everyone whom `author` blocks."""
        return {target for target, value in self._edges.get(author, {}).items() if value == BLOCK}

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
                for target, value in self._edges.get(author, {}).items():
                    known = hops.get(target)
                    if value > 0:
                        if known is None or known < -distance:
                            hops[target] = distance + 1
                            reached.append(target)
                    elif known is None or known < value - distance:
                        hops[target] = value - distance
            nearest = reached
        return hops

    def replicated(self, start: Node, maximum: int) -> set[Node]:
        """The feeds that a peer at `start` replicates: itself and all it reaches by follows within `maximum`."""
        return {node for node, distance in self.hops(start, maximum).items() if distance >= 0}
