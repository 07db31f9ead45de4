"""The simulated network: hosts by name, who listens where, and the weather between any two of them.

Every machine has a ``Host``; ``Host.network()`` is what ``pub.net.sockets.Network`` asks for, for one life of the
machine: when it is killed or loses its power, all its ends are dead, and nothing more gets out.
"""

import errno
import math
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio
from trio.abc import Listener

from tests.sim.wire import RESET, End, Weather, Wire

Place = tuple[str, int | str]  # host and port, or host and path


class Network:
    """All hosts and all wires."""

    def __init__(self, rng: random.Random, arrived: Callable[[str, bytes], None], capacity: int) -> None:
        self.listening: dict[Place, SimListener] = {}
        self.wires: list[Wire] = []
        self.off: set[str] = set()
        """Hosts without power: who dials them hears nothing."""
        self.calm = Weather()
        self._weather: dict[frozenset[str], Weather] = {}
        self._rng = rng
        self._arrived = arrived
        self._capacity = capacity
        self._healed = trio.lowlevel.ParkingLot()

    def weather(self, one: str, other: str) -> Weather:
        """Between two hosts."""
        pair = frozenset((one, other))
        if pair not in self._weather:
            self._weather[pair] = Weather(self.calm.latency, self.calm.jitter)
        return self._weather[pair]

    def open_wires(self, *hosts: str) -> list[Wire]:
        """Those that are not over, with all of these hosts at an end."""
        self.wires = [wire for wire in self.wires if not wire.is_over]
        return [wire for wire in self.wires if set(hosts) <= {end.peer for end in wire.ends}]

    def part(self, one: str, other: str) -> None:
        """Nothing passes between the two until they are ``join``ed."""
        self.weather(one, other).parted_since = trio.current_time()
        for wire in self.open_wires(one, other):
            wire.changed()

    def join(self, one: str, other: str) -> None:
        """End a partition: what was under way arrives now."""
        self.weather(one, other).parted_since = None
        for wire in self.open_wires(one, other):
            wire.changed()
        self._healed.unpark_all()

    def clear_up(self) -> None:
        """Fair weather everywhere: what was under way arrives now."""
        for weather in self._weather.values():
            weather.latency, weather.jitter, weather.parted_since = self.calm.latency, self.calm.jitter, None
        for wire in self.open_wires():
            wire.changed()
        self._healed.unpark_all()

    async def connect(self, caller: str, callee: str, port: int | str) -> End:
        """A new wire; OSError if nobody listens there. Hangs while nothing passes."""
        weather = self.weather(caller, callee)
        await trio.sleep(2 * weather.latency)
        while weather.parted_since is not None or callee in self.off:
            await self._healed.park()
        listener = self.listening.get((callee, port))
        if listener is None:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        wire = Wire((caller, callee), weather, self._capacity, self._rng, self._arrived)
        self.wires.append(wire)
        listener.knock(wire.ends[1])
        return wire.ends[0]

    def connect_inside(self, host: str, path: Path) -> End:
        """To a unix socket of this host."""
        listener = self.listening.get((host, str(path)))
        if listener is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        wire = Wire((host, host), Weather(0, 0), 1 << 20, self._rng, self._arrived)
        self.wires.append(wire)
        listener.knock(wire.ends[1])
        return wire.ends[0]

    def power_on(self, host: str) -> None:
        """The kernel of a machine that is back knows none of its old connections, and says so when it hears of one."""
        self.off.discard(host)
        for wire in self.open_wires(host):
            for end in wire.ends:
                if end.peer == host and not end.is_broken:
                    wire.dark_since = None
                    end.other.send_segment(RESET)
        self._healed.unpark_all()


class SimListener(Listener[End]):
    """A listening socket of one life of a host; those it lets in are ``accepted``."""

    def __init__(self, network: Network, place: Place, accepted: list[End]) -> None:
        if place in network.listening:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        network.listening[place] = self
        self._network = network
        self._place = place
        self._accepted = accepted
        self._backlog: deque[End] = deque()
        self._bell = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self.keepalive = math.inf
        """Of each connection that is let in."""

    def knock(self, end: End) -> None:
        self._backlog.append(end)
        self._bell.unpark_all()

    async def accept(self) -> End:
        await trio.lowlevel.checkpoint()
        while not self._backlog:
            if self._is_closed:
                raise trio.ClosedResourceError("this listener was closed")
            await self._bell.park()
        end = self._backlog.popleft()
        end.keepalive = self.keepalive
        self._accepted.append(end)
        return end

    def shut(self) -> None:
        """Those who knocked and were not let in are hung up on."""
        if not self._is_closed:
            self._is_closed = True
            del self._network.listening[self._place]
            while self._backlog:
                self._backlog.popleft().be_killed()
            self._bell.unpark_all()

    async def aclose(self) -> None:
        self.shut()
        await trio.lowlevel.checkpoint()


class HostNetwork:
    """The network as one life of one host has it (``pub.net.sockets.Network``)."""

    def __init__(self, network: Network, host: str) -> None:
        self.host = host
        self._network = network
        self._listeners: list[SimListener] = []
        self._ends: list[End] = []

    @property
    def open_ends(self) -> list[End]:
        """The connections this life of the host still holds."""
        return [end for end in self._ends if not (end.is_closed or end.is_broken)]

    def kill(self) -> None:
        """The process is gone, and its kernel hangs up for it."""
        self._end_listening()
        for end in self.open_ends:
            end.be_killed()

    def lose_power(self) -> None:
        """The machine is gone, and nobody hears of it."""
        self._network.off.add(self.host)
        for end in self.open_ends:
            end.die()
        self._end_listening()

    def _end_listening(self) -> None:
        for listener in self._listeners:
            listener.shut()

    # --- pub.net.sockets.Network --------------------------------------------------------------------------

    async def listen(self, host: str | None, port: int, quiet_seconds: float) -> tuple[list[Listener[End]], int]:
        await trio.lowlevel.checkpoint()
        listener = self._listen(port)
        listener.keepalive = quiet_seconds
        return [listener], port

    async def listen_at(self, path: Path) -> Listener[End]:
        await trio.lowlevel.checkpoint()
        return self._listen(str(path))

    async def connect(self, host: str, port: int) -> End:
        end = await self._network.connect(self.host, host, port)
        self._ends.append(end)
        return end

    def keep_alive(self, transport: End, seconds: float) -> None:
        transport.keepalive = seconds

    def address_of(self, transport: End) -> str:
        return transport.peer

    def _listen(self, port: int | str) -> SimListener:
        listener = SimListener(self._network, (self.host, port), self._ends)
        self._listeners.append(listener)
        return listener
