"""Peers that do not read, receivers that wait, and sides that are both full: over real sockets with little room."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from pub.errors import SlowPeer
from pub.net.connection import FAREWELL_SECONDS, MAX_WRITE, SEND_BUFFER, TURN
from pub.net.methods import Method
from pub.net.rpcstream import RpcStream
from pub.protocol.calls import VAIN_PACKETS, encode_request
from pub.protocol.muxrpc import DataReceived, Kind, ReplyReceived
from pub.protocol.packets import encode_packet
from tests.net.ends import (
    BODY,
    METHODS,
    PATIENCE,
    Collector,
    Pages,
    Waiting,
    Wire,
    connected,
    make,
    narrow_pair,
    served,
)


async def test_a_peer_that_asks_and_never_reads_is_dropped() -> None:
    ends = narrow_pair()
    pub = make(ends[1], METHODS, max_outbound=1 << 20)
    wire = Wire(ends[0])
    with trio.fail_after(PATIENCE):
        async with wire.stream, trio.open_nursery() as nursery:
            nursery.start_soon(ask_for_ever, wire)
            with pytest.raises(SlowPeer, match="bytes of answers wait for this peer to read"):
                await pub.run()
            nursery.cancel_scope.cancel()


async def ask_for_ever(wire: Wire) -> None:
    with suppress(trio.BrokenResourceError):
        while True:
            await wire.open("large")


async def test_a_huge_source_costs_a_slow_reader_one_page() -> None:
    sources: list[Pages] = []

    def huge(stream: RpcStream, _args: list[Any]) -> None:
        sources.append(Pages(stream, itertools.repeat(BODY)))

    async with served({"huge": Method("source", huge)}, narrow_pair(), max_outbound=SEND_BUFFER) as (wire, _pub):
        await wire.open("huge", kind=Kind.SOURCE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert SEND_BUFFER <= sources[0].pulled <= SEND_BUFFER + len(BODY)
        for _ in range(200):
            assert isinstance(await wire.next_event(), DataReceived)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sources[0].pulled <= 200 * len(BODY) + 2 * SEND_BUFFER
        await wire.stream.send_all(wire.session.goodbye())
        while await wire.stream.receive_some():
            pass


async def test_ready_streams_take_turns() -> None:
    async def first_numbers(wire: Wire, wanted: int) -> set[int]:
        numbers: set[int] = set()
        while len(numbers) < wanted:
            event = await wire.next_event()
            assert isinstance(event, DataReceived)
            numbers.add(event.number)
        return numbers

    def endless(stream: RpcStream, _args: list[Any]) -> None:
        Pages(stream, itertools.repeat(BODY))

    async with served({"endless": Method("source", endless)}, narrow_pair()) as (wire, _pub):
        opened = {await wire.open("endless", kind=Kind.SOURCE) for _ in range(5)}
        assert await first_numbers(wire, 5) == opened
        await wire.stream.send_all(wire.session.goodbye())
        while await wire.stream.receive_some():
            pass


async def test_while_a_receiver_waits_the_peer_is_held_back() -> None:
    receiver = Waiting()

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = receiver

    async with connected({"take": Method("duplex", take)}, narrow_pair()) as (peer, _pub):
        stream = peer.open_stream(("take",), [], Kind.DUPLEX)
        source = Pages(stream, itertools.repeat(BODY, 1000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert source.pulled <= 3 * SEND_BUFFER, "what one read brought, what the kernel holds, and one page"
        receiver.may_go_on.set()
        await receiver.over.wait()
    assert receiver.bodies == [BODY] * 1000


async def test_two_sides_full_in_both_directions_do_not_wait_for_each_other() -> None:
    heard = Collector()

    def flood(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = heard
        Pages(stream, itertools.repeat(BODY, 1000))

    methods = METHODS | {"flood": Method("duplex", flood)}
    async with connected(methods, narrow_pair()) as (peer, _pub):
        stream = peer.open_stream(("flood",), [], Kind.DUPLEX)
        stream.receiver = told = Collector()
        Pages(stream, itertools.repeat(BODY, 1000))
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(peer.call, ("whoami",), [])
        await told.over.wait()
        await heard.over.wait()
    assert min(len(told.bodies), len(heard.bodies)) > 0
    assert heard.bodies == [BODY] * 1000 or told.bodies == [BODY] * 1000, "an end closes the other direction as well"


async def test_between_the_turns_of_a_flood_others_have_theirs() -> None:
    """Thousands of calls come in one read; they are not all answered before another task runs."""
    calls: list[int] = []
    seen: list[int] = []

    def note(_caller: object, _args: list[Any]) -> None:
        calls.append(1)

    async with served(METHODS | {"note": Method("sync", note)}) as (wire, _pub):
        requests = [wire.session.open(("note",), [], Kind.ASYNC)[1] for _ in range(10 * TURN)]
        await wire.stream.send_all(b"".join(requests))
        while len(calls) < len(requests):
            await trio.lowlevel.checkpoint()
            seen.append(len(calls))
        assert max(after - before for before, after in itertools.pairwise([0, *seen])) <= 2 * TURN
        await wire.stream.send_all(wire.session.goodbye())


@pytest.mark.parametrize("garbage", ["unknown methods", "no requests", "data for nobody", "ends of nothing"])
async def test_turns_of_what_is_refused_are_short(garbage: str) -> None:
    """Others have their turn after a few packets; what is refused is not all looked at first."""
    async with served(METHODS) as (wire, pub):
        await wire.stream.send_all(b"".join(pieces(garbage, 10 * TURN)))
        while not pub.session.unread:
            await trio.lowlevel.checkpoint()
        unread = [pub.session.unread]
        while unread[-1]:
            await trio.lowlevel.checkpoint()
            unread.append(pub.session.unread)
        sizes = [before - after for before, after in itertools.pairwise(unread)]
        assert 0 < max(sizes) <= 2 * (TURN // VAIN_PACKETS + 1) * len(next(pieces(garbage, 1)))
        await wire.stream.send_all(wire.session.goodbye())


def pieces(garbage: str, count: int) -> Iterator[bytes]:
    for number in range(1, count + 1):
        if garbage == "unknown methods":
            yield encode_request(10_000 + number, ["nonsense"], [], Kind.ASYNC)
        elif garbage == "no requests":
            yield encode_packet(10_000 + number, b'"hello"')
        elif garbage == "data for nobody":
            yield encode_packet(-10_000 - number, b'"hello"', stream=True)
        else:
            yield encode_packet(10_000 + number, b"true", stream=True, end=True)


async def test_who_says_goodbye_and_reads_nothing_has_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The peer leaves a full line behind it: after its farewell the place is free."""
    ours, theirs = trio.testing.memory_stream_pair()
    pub = make(trio.StapledStream(Stuck(), theirs.receive_stream), METHODS)
    wire = Wire(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pub.run)
        await wire.open("large")
        await wire.stream.send_all(wire.session.goodbye())
    assert FAREWELL_SECONDS <= autojump_clock.current_time() < FAREWELL_SECONDS + 5


class Stuck(trio.abc.SendStream):
    """A line that takes nothing."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_full_outbox_leaves_in_parts() -> None:
    """What is being written is in memory twice and counted by nobody: so it is never much."""
    written: list[int] = []
    ours, theirs = trio.testing.memory_stream_pair()
    pub = make(trio.StapledStream(Scale(theirs.send_stream, written), theirs.receive_stream), METHODS)
    wire = Wire(ours)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pub.run)
            await wire.stream.send_all(b"".join(wire.session.open(("large",), [], Kind.ASYNC)[1] for _ in range(8)))
            for _ in range(8):
                assert isinstance(await wire.next_event(), ReplyReceived)
            await wire.stream.send_all(wire.session.goodbye())
    assert sum(written) > 800_000
    assert max(written) <= MAX_WRITE


class Scale(trio.abc.SendStream):
    """Notes how much is written at once."""

    def __init__(self, stream: trio.abc.SendStream, written: list[int]) -> None:
        self._stream = stream
        self._written = written

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._written.append(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
