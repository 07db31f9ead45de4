"""One connection of the simulated network: two directions, each bounded in bytes, as the windows of TCP are.

What is sent lies in *segments*: each arrives after the latency of its moment, in order, while the link lets it through.
Bytes under way and bytes that arrived and were not read count together against ``capacity``, so who writes to a slow
reader waits. An end (of the stream, or a reset) travels as the bytes do.

A wire can be *dark*: nothing passes any more, no byte, no end, and nobody is told. A kernel that keeps the connection
alive (``keep_alive``) gives it up after a while; a partition of the network does the same to it while it lasts.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

MAX_READ = 65536  # bytes that one read gives
SIP = 200  # the same, of who reads slowly
RESET = None  # a segment that ends the connection at once


@dataclass(slots=True)
class Segment:
    """``data`` b"" is the end of the stream."""

    arrival: float
    data: bytes | None


@dataclass(slots=True)
class Weather:
    """How bytes travel between two hosts now."""

    latency: float = 0.01
    jitter: float = 0.01
    parted_since: float | None = None
    """Nothing passes, for the time being."""


class Wire:
    """A connection between two hosts; ``ends`` are its streams, the caller's first."""

    def __init__(
        self,
        names: tuple[str, str],
        weather: Weather,
        capacity: int,
        rng: random.Random,
        arrived: Callable[[str, bytes], None],
    ) -> None:
        self.weather = weather
        self.capacity = capacity
        self.rng = rng
        self.arrived = arrived
        self.dark_since: float | None = None
        caller, callee = names
        near, far = End(self, f"{caller}>{callee}", callee), End(self, f"{callee}>{caller}", caller)
        near.other, far.other = far, near
        self.ends = near, far

    @property
    def stopped_since(self) -> float | None:
        """Since when nothing passes, if so."""
        return self.weather.parted_since if self.dark_since is None else self.dark_since

    @property
    def is_over(self) -> bool:
        """Are both ends closed or broken?"""
        return all(end.is_closed or end.is_broken for end in self.ends)

    def darken(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self.dark_since = trio.current_time()
        self.changed()

    def reset(self) -> None:
        """Something between the two breaks the connection, for both at once."""
        for end in self.ends:
            end.break_off()

    def changed(self) -> None:
        """Whoever waits shall look again."""
        for end in self.ends:
            end.wake()


class End(trio.abc.Stream):
    """One end of a wire."""

    other: "End"

    def __init__(self, wire: Wire, name: str, peer: str) -> None:
        self.name = name
        self.peer = peer
        """The address of the other end."""
        self.is_closed = False
        self.is_broken = False
        self.keepalive = math.inf
        self.slowness = 0.0
        """Seconds that its owner takes for each small piece it reads."""
        self.unread = 0
        """Bytes on their way to this end, and those that wait to be read here."""
        self._wire = wire
        self._segments: deque[Segment] = deque()
        self._bell = trio.lowlevel.ParkingLot()
        self._is_sending = False
        self._is_receiving = False

    def wake(self) -> None:
        self._bell.unpark_all()

    def break_off(self) -> None:
        """The connection is lost for this end; what has not been read is lost with it."""
        self.is_broken = True
        self._segments.clear()
        self._wire.changed()

    def die(self) -> None:
        """The machine of this end has lost its power: it does nothing more, and the other end hears nothing of that."""
        self._wire.darken()
        self.break_off()

    def be_killed(self) -> None:
        """This end is no more, as its kernel says to the other: the process was killed, or the kernel gave up."""
        self.send_segment(RESET)
        self.break_off()

    # --- trio.abc.Stream ----------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("two tasks send on one connection")
        self._is_sending = True
        rest = bytes(data)
        try:
            await trio.lowlevel.checkpoint()
            self._check()
            while rest:
                await self._wait_for_room()
                count = min(len(rest), self._wire.capacity - self.other.unread)
                self.send_segment(rest[:count])
                rest = rest[count:]
        finally:
            self._is_sending = False

    def write_now(self, data: bytes | bytearray) -> int:
        """See ``pub.net.sockets.Eager``."""
        if self._is_sending:
            raise trio.BusyResourceError("two tasks send on one connection")
        self._check()
        count = min(len(data), max(self._wire.capacity - self.other.unread, 0))
        if count:
            self.send_segment(bytes(data[:count]))
        return count

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        await self._wait_for_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._is_receiving:
            raise trio.BusyResourceError("two tasks receive from one connection")
        self._is_receiving = True
        try:
            await trio.sleep(self.slowness)
            most = min(max_bytes or MAX_READ, SIP if self.slowness else MAX_READ)
            while (data := self._take(most)) is None:
                await self._wait(self._segments[0].arrival if self._segments else math.inf)
            return data
        finally:
            self._is_receiving = False

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            if not self.is_broken:
                self.send_segment(b"")
            self._wire.changed()
        await trio.lowlevel.checkpoint()

    # --- within -------------------------------------------------------------------------------------------

    def send_segment(self, data: bytes | None) -> None:
        """Send it off, however full the wire is."""
        weather, segments = self._wire.weather, self.other._segments
        arrival = trio.current_time() + weather.latency + self._wire.rng.random() * weather.jitter
        if segments:
            arrival = max(arrival, segments[-1].arrival)
        segments.append(Segment(arrival, data))
        self.other.unread += len(data or b"")
        self.other.wake()

    def _take(self, max_bytes: int) -> bytes | None:
        """What has arrived; ``None``: nothing yet."""
        self._check()
        segments = self._segments
        if not segments or not self._has_arrived(segments[0]):
            return None
        if segments[0].data == b"":
            return b""
        data = self._gather(max_bytes)
        self.unread -= len(data)
        self.other.wake()
        self._wire.arrived(self.name, data)
        return data

    def _gather(self, max_bytes: int) -> bytes:
        """One piece or several, as it happens: a stream has no packets."""
        gathered = b""
        while self._segments and len(gathered) < max_bytes and self._has_arrived(self._segments[0]):
            segment = self._segments[0]
            if not segment.data or (gathered and self._wire.rng.random() < 0.2):
                break
            room = max_bytes - len(gathered)
            gathered += segment.data[:room]
            segment.data = segment.data[room:]
            if not segment.data:
                self._segments.popleft()
        return gathered

    def _has_arrived(self, segment: Segment) -> bool:
        return segment.arrival <= trio.current_time() and self._wire.stopped_since is None

    def _check(self) -> None:
        """Raises what a socket raises that is closed or broken, as far as its kernel can know."""
        if self.is_closed:
            raise trio.ClosedResourceError("this end was closed")
        if not self.is_broken and self._is_given_up():
            self.be_killed()
        if not self.is_broken and any(each.data is RESET and self._has_arrived(each) for each in self._segments):
            self.break_off()
        if self.is_broken:
            raise trio.BrokenResourceError("the connection is broken")

    def _is_given_up(self) -> bool:
        since = self._wire.stopped_since
        return since is not None and trio.current_time() >= since + 2 * self.keepalive

    async def _wait_for_room(self) -> None:
        while True:
            self._check()
            if self.other.is_closed and any(each.data == b"" and self._has_arrived(each) for each in self._segments):
                self.break_off()  # nobody reads any more, and we have heard of that
                continue
            if self.other.unread < self._wire.capacity:
                return
            await self._wait(self._segments[-1].arrival if self._segments else math.inf)

    async def _wait(self, arrival: float) -> None:
        """Until something has changed, or is due: at ``arrival``, or when the kernel gives up."""
        since = self._wire.stopped_since
        until = arrival if since is None else since + 2 * self.keepalive
        with trio.move_on_at(until if until > trio.current_time() else math.inf):
            await self._bell.park()
