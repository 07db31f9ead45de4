"""Limbo: connections that are over for us and not closed yet.

Who sends noise instead of a handshake, or breaks the protocol behind it, would be back as soon as its connection is
closed. So that is done late, and meanwhile nothing of it is read. It stands in nobody's way: it counts neither as a
handshake of its address nor as a connection, and an honest client whose line was damaged has been told goodbye.
"""

import trio

MAX_HELD = 256  # at once, of all peers: each takes a file descriptor and what its kernel buffer holds


class Limbo:
    """Who is in it waits in a task of its own, which then closes the connection."""

    __slots__ = ("_held", "_seconds")

    def __init__(self, seconds: float) -> None:
        """``seconds``: how long each is held."""
        self._seconds = seconds
        self._held: dict[trio.CancelScope, None] = {}  # the oldest first

    @property
    def count(self) -> int:
        """How many are in it."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Is the oldest let go for the next one?"""
        return self.count >= MAX_HELD

    async def hold(self) -> None:
        """Returns when the caller shall close its connection."""
        if self.is_full:
            self._let_go(next(iter(self._held)))
        with trio.move_on_after(self._seconds) as scope:
            self._held[scope] = None
            try:
                await trio.sleep_forever()
            finally:
                self._held.pop(scope, None)

    def close(self) -> None:
        """The pub stops: nobody is held any more."""
        self._seconds = 0
        for scope in list(self._held):
            self._let_go(scope)

    def _let_go(self, scope: trio.CancelScope) -> None:
        del self._held[scope]
        scope.cancel()
