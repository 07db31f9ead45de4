"""The gate readers of the store pass, and growth of the map closes.

Growing moves the map, which would pull it from under every open read transaction. So each read passes this
gate; growth closes it, waits until the last reader has left, moves the map and opens it again. While it is
closed a new reader waits, except in a thread that is reading already: nested reads never wait for themselves.
The lock is held for a few instructions only, and by growth while it moves the map.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Who is reading: thread id → how many reads it has open, and since when. Closed while the map moves."""

    __slots__ = ("_changed", "_closed", "_lock", "_reading", "_since")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._reading: dict[int, int] = {}
        self._since: dict[int, float] = {}
        self._closed = False

    def enter(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            depth = self._reading.get(thread, 0)
            while self._closed and not depth:
                self._changed.wait()
            self._reading[thread] = depth + 1
            if not depth:
                self._since[thread] = time.monotonic()

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            depth = self._reading.pop(thread)
            if depth > 1:
                self._reading[thread] = depth - 1
                return
            del self._since[thread]
            if self._closed:
                self._changed.notify_all()

    def oldest(self) -> float:
        """Seconds that the oldest read has been open; 0: nobody reads."""
        with self._lock:
            return max(time.monotonic() - min(self._since.values()), 0.0) if self._since else 0.0

    def is_reading(self) -> bool:
        """Has the calling thread a read open?"""
        return threading.get_ident() in self._reading

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody reads inside this block; whoever wants to waits until it ends."""
        with self._lock:
            self._closed = True
            try:
                while self._reading:
                    self._changed.wait()
                yield
            finally:
                self._closed = False
                self._changed.notify_all()
