"""``gossip.ping``: the volley that keeps a connection alive and shows both clocks.

The caller's first packet is a serve: we volley it back, and after the timeout it asked for we serve, which it volleys
back. If nobody served again, the other side's inactivity timer would close the link. All pending serves of all peers
share one timer.
"""

import heapq
from itertools import count
from typing import Any

import trio

from pub.errors import RpcError
from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.net.rpcstream import RpcStream
from pub.protocol.muxrpc import Kind
from pub.rpc.arguments import number, options
from pub.rpc.context import Pub

NAME = ("gossip", "ping")
DEFAULT_TIMEOUT = 300.0  # seconds between volleys; what JavaScript peers use
SHORTEST_TIMEOUT = 5.0  # a caller may not make us ping faster than this
LONGEST_TIMEOUT = 300.0  # nor so slowly that an idle link dies of its 600 s inactivity timer
MAX_STALE = 1000  # serves kept for peers who have gone, before they are thrown out together: 200 KB


class Volleys:
    """The serves that are due, over all peers: one heap, driven by ``run``."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Volley]] = []
        self._order = count()
        self._stale = 0
        self._bell = trio.Event()

    @property
    def pending(self) -> int:
        """How many serves are remembered, those of ended streams included."""
        return len(self._due)

    def schedule(self, volley: "Volley", at: float) -> None:
        """Let ``volley`` serve at ``at`` (trio's clock, seconds)."""
        heapq.heappush(self._due, (at, next(self._order), volley))
        self._bell.set()

    def call_off(self) -> None:
        """A scheduled volley has ended: it stays in the heap until its time, unless there are many such."""
        self._stale += 1
        if self._stale > MAX_STALE and self._stale * 2 > len(self._due):
            self._due = [each for each in self._due if each[2].is_open]
            heapq.heapify(self._due)
            self._stale = 0

    async def run(self) -> None:
        """Serve whatever is due, for ever."""
        while True:
            while self._due and self._due[0][0] <= trio.current_time():
                volley = heapq.heappop(self._due)[2]
                self._stale -= not volley.is_open
                volley.serve()
            self._bell = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
                await self._bell.wait()


class Volley:
    """Our end of one ping stream."""

    def __init__(self, pub: Pub, stream: RpcStream, timeout: float, *, is_caller: bool = False) -> None:
        self._pub = pub
        self._stream: RpcStream | None = stream
        self._timeout = timeout
        self._is_caller = is_caller
        self._has_served = False
        self._is_scheduled = False

    async def receive(self, bodies: list[bytes]) -> None:
        """A timestamp of the peer: the answer to our serve, or a serve of its own."""
        for _ in bodies:
            if self._has_served:
                self._has_served = False
                if self._is_caller:  # some of those we call only ever echo
                    self._schedule()
            else:
                self._send_time()
                self._schedule()

    def ended(self, _error: RpcError | None) -> None:
        """The peer is done with pings."""
        self._stream = None
        if self._is_scheduled:
            self._pub.volleys.call_off()

    @property
    def is_open(self) -> bool:
        """Is there anybody to serve to?"""
        return self._stream is not None

    def serve(self) -> None:
        """It is our turn to ask."""
        self._is_scheduled = False
        self._has_served = True
        self._send_time()

    def _schedule(self) -> None:
        if not self._is_scheduled:  # a peer that pings without pause gets its answers, and one serve
            self._is_scheduled = True
            self._pub.volleys.schedule(self, trio.current_time() + self._timeout)

    def _send_time(self) -> None:
        if self._stream is not None:
            self._stream.send(int(self._pub.wall_clock()))


def ping(pub: Pub, stream: RpcStream, args: list[Any]) -> None:
    """duplex ``[{timeout: ms}]``: numbers both ways, milliseconds since the epoch."""
    asked = number(options(args).get("timeout"))
    seconds = DEFAULT_TIMEOUT if asked is None else asked / 1000
    stream.receiver = Volley(pub, stream, min(max(seconds, SHORTEST_TIMEOUT), LONGEST_TIMEOUT))


def call(pub: Pub, connection: Connection) -> None:
    """Start a volley with a peer that we dialled."""
    stream = connection.open_stream(NAME, [{"timeout": int(DEFAULT_TIMEOUT * 1000)}], Kind.DUPLEX)
    stream.receiver = volley = Volley(pub, stream, DEFAULT_TIMEOUT, is_caller=True)
    volley.serve()


METHODS: Methods = {NAME: Method("duplex", ping)}
