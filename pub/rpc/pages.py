"""Pages of the log that everybody asks for at the same moment: what the last commits have brought.

A new message of a feed that a thousand people want is a thousand pages of one message, all alike. The first is read
from the log; the others get the same list. Messages never change, so a page is as good as new for as long as it ends
where the feed does.
"""

from pub.store.log import Log

KEPT_MESSAGES = 4  # in a page: who is further behind is catching up, and asks for what hardly anybody else does now
KEPT_BYTES = 1 << 20  # of all pages: two thousand of an average message, more than one commit brings at a quiet time


class Pages:
    """``page`` as that of ``Log``."""

    __slots__ = ("_kept", "_log", "kept_bytes")

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: dict[tuple[int, int], tuple[list[bytes], int]] = {}  # feed, after → messages up to the head, bytes
        self.kept_bytes = 0
        """What was taken in since all was thrown out."""

    def page(self, feed: int, after: int, max_bytes: int) -> list[bytes]:
        """See ``Log.page``. The list is for reading only."""
        kept = self._kept.get((feed, after))
        if kept is not None and kept[1] <= max_bytes and after + len(kept[0]) == self._log.heads[feed]:
            return kept[0]
        page = self._log.page(feed, after, max_bytes)
        if 0 < len(page) <= KEPT_MESSAGES and after + len(page) == self._log.heads[feed]:
            self._keep(feed, after, page)
        return page

    def _keep(self, feed: int, after: int, page: list[bytes]) -> None:
        size = sum(map(len, page))
        self.kept_bytes += size
        if self.kept_bytes > KEPT_BYTES:  # all at once: what is asked for again is read again
            self._kept.clear()
            self.kept_bytes = size
        self._kept[feed, after] = page, size
