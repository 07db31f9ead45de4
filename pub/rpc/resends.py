"""How soon a stored message is sent on: from its commit to its first sending, to a peer that had all before it.

Only such a peer was waiting, so feeds that no connected peer replicates are not timed. One that catches up, or comes
back after a while, says nothing about the pub's pace. Of the messages of a feed that wait at once the first is timed.
"""

from collections.abc import Callable

import trio

from pub.metrics import Metrics
from pub.store.log import Changes

MAX_FRESH = 4096  # feeds of which a message was stored and not sent yet; beyond that, when all is new, none is timed
FRESH_SECONDS = 60.0  # what took longer waited for a peer to come back


class Resends:
    """Times of commit by feed, until the message is sent."""

    __slots__ = ("_fresh", "_metrics")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._fresh: dict[int, tuple[int, float]] = {}  # feed → (sequence, when it was committed)

    def committed(self, changes: Changes, is_wanted: Callable[[int], bool]) -> None:
        """These messages are on disk now; ``is_wanted`` says of a feed if a connected peer replicates it."""
        fresh, now = self._fresh, trio.current_time()
        if len(fresh) + len(changes.heads) > MAX_FRESH:
            fresh.clear()
        if len(changes.heads) > MAX_FRESH:
            return
        for feed, sequence in dict(reversed(changes.appended)).items():  # of each feed the first message
            if not is_wanted(feed):
                continue
            known = fresh.get(feed)
            if known is None or now - known[1] > FRESH_SECONDS:
                fresh[feed] = sequence, now

    def sent(self, feed: int, after: int, count: int) -> None:
        """The ``count`` messages of ``feed`` that follow the sequence ``after`` are on their way."""
        known = self._fresh.get(feed)
        if known is None or after + count < known[0]:
            return
        del self._fresh[feed]
        seconds = trio.current_time() - known[1]
        if after == known[0] - 1 and seconds <= FRESH_SECONDS:
            self._metrics.resend_seconds.observe(seconds)
