"""One open stream of a connection, and the two things that whoever has a stream may be: who takes what comes, and who
gives what goes.
"""

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pub.errors import RpcError

if TYPE_CHECKING:
    from pub.net.connection import Connection


class Receiver(Protocol):
    """The consuming end of a stream."""

    async def receive(self, bodies: list[bytes]) -> None:
        """All data packets one read brought for this stream, in order. May wait; must not wait for a send."""
        ...

    def ended(self, error: RpcError | None) -> None:
        """The peer ended its side (or the connection did): nothing more will come."""
        ...


class Source(Protocol):
    """The producing end of a stream: asked only when the socket is free."""

    def next_page(self, budget: int) -> list[bytes]:
        """JSON bodies to send now, about ``budget`` bytes; empty: nothing until the stream is woken again.

        A source that knows that these are all there are may say so with ``RpcStream.rest``, and is not asked once more.
        """
        ...


class RpcStream:
    """One open source, sink or duplex stream, whichever side opened it."""

    __slots__ = ("connection", "is_ready", "number", "receiver", "source")

    def __init__(self, connection: "Connection", number: int) -> None:
        self.connection = connection
        self.number = number
        self.receiver: Receiver | None = None
        self.source: Source | None = None
        self.is_ready = False

    def wake(self) -> None:
        """The source has something to say."""
        if not self.is_ready:
            self.is_ready = True
            self.connection.stream_ready(self)

    def rest(self) -> None:
        """The source has said all it had to say, but for the page it is about to give."""
        self.is_ready = False

    def send(self, value: Any) -> None:
        """One packet through the outbox: for the few things that are not pulled from a source."""
        self.connection.queue(self.connection.session.data(self.number, msgspec.json.encode(value)))

    def end(self, error: RpcError | None = None) -> None:
        """End our side; what the source gave so far goes out first."""
        self.source = None
        self.connection.end_stream(self.number, error)
