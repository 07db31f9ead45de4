"""What is refused costs its sender time: how much garbage a pub looks at, however much there is."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pub.metrics import Metrics
from pub.net.connection import Connection
from pub.net.penance import ABREAST, CREDIT_SECONDS, PACKET_SECONDS, Penance
from pub.protocol.calls import COSTLY_BYTES, VAIN_PACKETS, encode_request
from pub.protocol.muxrpc import BODY_LIMIT, GoodbyeReceived, Kind, ReplyReceived
from pub.protocol.packets import encode_packet
from tests.net.ends import METHODS, Wire, make

REFUSAL_SECONDS = VAIN_PACKETS * PACKET_SECONDS
FORGIVEN = round(CREDIT_SECONDS / REFUSAL_SECONDS)  # refusals
FLOOD_SECONDS = 10.0
FLOOD_BYTES = 1 << 16  # what one read takes

GARBAGE: dict[str, tuple[bytes, float]] = {  # and what one piece of it costs
    "unknown methods": (encode_request(1, ["nonsense"], [], Kind.ASYNC), REFUSAL_SECONDS),
    "no requests": (encode_packet(1, b'"hello"'), REFUSAL_SECONDS),
    "data for nobody": (encode_packet(-1, b'"hello"', stream=True), PACKET_SECONDS),
    "ends of nothing": (encode_packet(1, b"true", stream=True, end=True), PACKET_SECONDS),
    "large requests": (
        encode_request(1, ["nonsense"], ["x" * 100 * COSTLY_BYTES], Kind.ASYNC),
        REFUSAL_SECONDS + 100 * PACKET_SECONDS,
    ),
    "large data for nobody": (
        encode_packet(-1, bytes(BODY_LIMIT), stream=True),
        PACKET_SECONDS * (1 + BODY_LIMIT / COSTLY_BYTES),
    ),
}


@asynccontextmanager
async def meeting(
    penance: Penance | None = None, metrics: Metrics | None = None
) -> AsyncIterator[tuple[Wire, Connection]]:
    """A peer of bare packets, who hangs up at the end."""
    left, right = trio.testing.memory_stream_pair()
    pub = make(right, METHODS, penance=penance, metrics=metrics)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pub.run)
        yield Wire(left), pub
        nursery.cancel_scope.cancel()


async def flood(wire: Wire, pub: Connection, piece: bytes) -> int:
    """Send it for so long, always more than is read; how many pieces were looked at."""
    handed, many = 0, max(1, FLOOD_BYTES // len(piece))
    with trio.move_on_after(FLOOD_SECONDS):
        while True:
            await wire.stream.send_all(many * piece)
            handed += many
            await trio.testing.wait_all_tasks_blocked()  # now it is read
            while pub.is_held_back or pub.session.unread >= len(piece):  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(REFUSAL_SECONDS)
    return handed - pub.session.unread // len(piece)


@pytest.mark.parametrize("name", GARBAGE)
async def test_so_much_garbage_a_second(autojump_clock: trio.testing.MockClock, name: str) -> None:
    piece, seconds = GARBAGE[name]
    async with meeting() as (wire, pub):
        count = await flood(wire, pub, piece)
    assert count * seconds <= FLOOD_SECONDS + 2 * CREDIT_SECONDS + VAIN_PACKETS * seconds
    assert count * seconds >= FLOOD_SECONDS / 2, "it is looked at all the same"


async def ask(wire: Wire) -> None:
    """One answered call."""
    await wire.open("whoami")
    await wire.next_event()


async def test_a_few_dozen_mistakes_cost_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """And again a moment later."""
    metrics = Metrics()
    async with meeting(metrics=metrics) as (wire, _pub):
        for _ in range(3):
            began = trio.current_time()
            for _ in range(5 * 12):
                await wire.open("nonsense")
                await wire.next_event()
            await ask(wire)
            assert trio.current_time() == began
            await trio.sleep(2 * CREDIT_SECONDS)
    assert metrics.limits_hit() == {}


async def test_who_has_used_up_the_credit_waits_until_it_is_paid(autojump_clock: trio.testing.MockClock) -> None:
    metrics = Metrics()
    async with meeting(metrics=metrics) as (wire, pub):
        await wire.stream.send_all((FORGIVEN + 1) * encode_packet(10_000, b"{}"))
        await wire.open("whoami")
        await trio.testing.wait_all_tasks_blocked()
        assert pub.is_held_back, "and for that it is not idle"
        assert isinstance(await wire.next_event(), ReplyReceived)
        assert trio.current_time() == pytest.approx((FORGIVEN + 1) * REFUSAL_SECONDS, abs=4 * REFUSAL_SECONDS)
    assert metrics.limits_hit() == {"refused_packets": 1}


async def test_calls_that_are_answered_cost_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with meeting() as (wire, _pub):
        for _ in range(10 * FORGIVEN):
            await ask(wire)
    assert trio.current_time() == 0


async def test_a_goodbye_behind_garbage_waits_for_nothing_more(autojump_clock: trio.testing.MockClock) -> None:
    async with meeting() as (wire, _pub):
        await wire.stream.send_all(4 * encode_packet(1, b"{}") + wire.session.goodbye())
        while not isinstance(await wire.next_event(), GoodbyeReceived):
            pass
    assert trio.current_time() == 0


async def test_who_is_dropped_while_doing_penance_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    penance = Penance()
    async with meeting(penance) as (wire, pub):
        await wire.stream.send_all(2 * FORGIVEN * encode_packet(1, b"{}"))
        await trio.testing.wait_all_tasks_blocked()
        assert penance.count == 1
        pub.close()
        await trio.testing.wait_all_tasks_blocked()
        assert penance.count == 0
    assert trio.current_time() == 0


@pytest.mark.parametrize("peers", [1, ABREAST, 5 * ABREAST])
async def test_many_share_what_a_few_have(autojump_clock: trio.testing.MockClock, peers: int) -> None:
    penance, counts = Penance(), list[int]()

    async def one() -> None:
        async with meeting(penance) as (wire, pub):
            counts.append(await flood(wire, pub, encode_packet(1, b"{}")))

    async with trio.open_nursery() as nursery:
        for _ in range(peers):
            nursery.start_soon(one)
    most = min(peers, ABREAST) * FLOOD_SECONDS / REFUSAL_SECONDS
    assert most / 2 <= sum(counts) <= 1.2 * most + 2 * peers * FORGIVEN, "each has its credit once"
    assert all(count >= FORGIVEN for count in counts)
    assert max(itertools.accumulate(counts, max)) <= 2 * min(counts), "and all of them the same"
