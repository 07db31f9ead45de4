"""The simulated network keeps its promises: bytes are bounded, late and in order, and some ends are silent."""

import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.sim.network import HostNetwork, Network
from tests.sim.wire import End

CAPACITY = 100  # bytes
LATENCY = 0.5
PORT = 8008


class Line:
    """Alice has dialled Bob."""

    def __init__(self) -> None:
        self.network = Network(random.Random(1), lambda _where, _data: None, CAPACITY)
        self.network.calm.latency, self.network.calm.jitter = LATENCY, 0.0
        self.alices = HostNetwork(self.network, "alice")
        self.bobs = HostNetwork(self.network, "bob")
        self.alice: End
        self.bob: End


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    it = Line()
    [listener], _port = await it.bobs.listen(None, PORT, math.inf)
    it.alice, it.bob = await it.alices.connect("bob", PORT), await listener.accept()
    yield it


async def read(end: End, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await end.receive_some()
    return data


async def test_bytes_arrive_late_and_in_order(autojump_clock: MockClock) -> None:
    async with line() as it:
        began = trio.current_time()
        for number in range(10):
            await it.alice.send_all(b"%d" % number)
        assert await read(it.bob, 10) == b"0123456789"
        assert trio.current_time() == began + LATENCY


async def test_a_write_beyond_the_bound_waits_for_the_reader(autojump_clock: MockClock) -> None:
    async with line() as it:
        with trio.move_on_after(3600) as hour:
            await it.alice.send_all(bytes(CAPACITY + 1))
        assert hour.cancelled_caught
        assert len(await read(it.bob, CAPACITY)) == CAPACITY
        await it.alice.send_all(b"more")
        assert await it.bob.receive_some() == b"more"


async def test_a_slow_reader_takes_sips(autojump_clock: MockClock) -> None:
    async with line() as it:
        it.bob.slowness = 10.0
        await it.alice.send_all(b"some")
        began = trio.current_time()
        assert await it.bob.receive_some() == b"some"
        assert trio.current_time() == began + 10


async def test_who_closes_says_so_behind_what_was_sent(autojump_clock: MockClock) -> None:
    async with line() as it:
        await it.alice.send_all(b"bye")
        await it.alice.aclose()
        assert await read(it.bob, 3) == b"bye"
        assert await it.bob.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await it.bob.send_all(b"are you there?")
        with pytest.raises(trio.ClosedResourceError):
            await it.alice.receive_some()


async def test_a_partition_holds_everything_back_until_it_ends(autojump_clock: MockClock) -> None:
    async with line() as it:
        await it.alice.send_all(b"before")
        it.network.part("alice", "bob")
        with trio.move_on_after(100) as wait:
            await it.bob.receive_some()
        assert wait.cancelled_caught
        with trio.move_on_after(100) as wait:
            await it.alices.connect("bob", PORT)
        assert wait.cancelled_caught
        it.network.join("alice", "bob")
        assert await it.bob.receive_some() == b"before"


async def test_a_half_open_connection_is_silent_unless_it_is_kept_alive(autojump_clock: MockClock) -> None:
    async with line() as it:
        it.alices.keep_alive(it.alice, 30)
        it.alice._wire.darken()
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await it.alice.receive_some()
        assert trio.current_time() == began + 60
        with trio.move_on_after(1e6) as wait:
            await it.bob.receive_some()
        assert wait.cancelled_caught
        assert it.bob.keepalive == math.inf


async def test_who_is_killed_hangs_up_and_who_loses_power_does_not(autojump_clock: MockClock) -> None:
    async with line() as it:
        it.alices.kill()
        with pytest.raises(trio.BrokenResourceError):
            await it.bob.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await it.alice.send_all(b"from beyond")
    async with line() as it:
        it.alices.lose_power()
        with trio.move_on_after(1e6) as wait:
            await it.bob.receive_some()
        assert wait.cancelled_caught
        it.network.power_on("alice")  # it knows of nothing, and says so
        with pytest.raises(trio.BrokenResourceError):
            await it.bob.receive_some()


async def test_nobody_listens(autojump_clock: MockClock) -> None:
    async with line() as it:
        with pytest.raises(ConnectionRefusedError):
            await it.alices.connect("bob", PORT + 1)
        it.bobs.lose_power()
        with trio.move_on_after(1e6) as wait:
            await it.alices.connect("bob", PORT)
        assert wait.cancelled_caught


async def test_two_who_send_at_once_are_a_bug(autojump_clock: MockClock) -> None:
    async with line() as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.alice.send_all, bytes(2 * CAPACITY))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await it.alice.send_all(b"me too")
        nursery.cancel_scope.cancel()
