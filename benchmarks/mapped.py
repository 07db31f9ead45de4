"""Data sets that are larger than memory should bear: the same file as ``dataset.load`` reads, mapped.

Feed 0 is the hub, the others are numbered from 1 as they lie in the file. Of two million messages this process keeps
where each begins (8 bytes), and the system as much of the file as it likes.
"""

import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.dataset import FOLDER, Shape, keys_of, make
from pub.protocol.keys import KeyPair

PAGE = 1 << 16  # bytes read at once


class Mapped:
    """See the file's text. ``ids`` are those of the feeds by number, ``raw_bytes`` the size of all messages."""

    def __init__(self, shape: Shape, folder: Path = FOLDER) -> None:
        self.shape = shape
        with make(shape, folder).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._offsets = array("Q", [0])  # of each line, and the end
            for line in file:
                self._offsets.append(self._offsets[-1] + len(line))
        self.raw_bytes = self._offsets[-1] - self.count
        self.ids = [self.hub.id, *(keys_of(shape, number).id for number in range(shape.feeds))]

    @property
    def count(self) -> int:
        """All messages, the hub's included."""
        return len(self._offsets) - 1

    @property
    def hub(self) -> KeyPair:
        return keys_of(self.shape, "hub")

    def length(self, feed: int) -> int:
        """How many messages a feed has."""
        return self.shape.messages if feed else self.shape.feeds

    def page(self, feed: int, after: int, max_bytes: int) -> list[bytes]:
        """Messages after sequence ``after``: as many as ``max_bytes`` hold, but at least one unless it was the last."""
        first = after + (self.shape.feeds + (feed - 1) * self.shape.messages if feed else 0)
        end = first + self.length(feed) - after
        if first == end:
            return []
        last = first + 1
        while last < end and self._offsets[last + 1] - self._offsets[first] <= max_bytes:
            last += 1
        return self._lines[self._offsets[first] : self._offsets[last]].splitlines()

    def messages(self, feed: int) -> Iterator[bytes]:
        """All of a feed."""
        after = 0
        while page := self.page(feed, after, PAGE):
            yield from page
            after += len(page)

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
