"""More of them than there are places: half a handshake each, from one address and from many, and a member comes in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from pub.config import Limits
from tests.odd.house import House
from tests.odd.lines import enter, is_closed_without_a_word, knock, somebody
from tests.odd.members import ALICE

pytestmark = pytest.mark.slow

LIMITS = Limits()
IN_ALL = LIMITS.max_unauthenticated
PER_ADDRESS = LIMITS.max_unauthenticated_per_address


@asynccontextmanager
async def waiting(house: House, count: int, host: str) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections from this address that say nothing."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await knock(house, host)) for _ in range(count)]


async def test_hundreds_from_one_address(house: House) -> None:
    """It has its share; the others are closed, and other addresses do not feel it."""
    async with house.watched():
        refused = await house.limit_hits("unauthenticated_per_address")
        async with waiting(house, 300, "127.0.0.9") as streams:
            assert await is_closed_without_a_word(streams[-1])
            async with enter(house, ALICE) as alice:
                assert await alice.is_served()
            assert await house.limit_hits("unauthenticated_per_address") - refused == 300 - PER_ADDRESS


async def test_hundreds_from_many_addresses(house: House) -> None:
    """All places are taken, again and again: the oldest of the crowd gives way to whoever comes next."""
    async with house.watched(), AsyncExitStack() as stack:
        pushed = await house.limit_hits("unauthenticated")
        for number in range(IN_ALL // PER_ADDRESS):
            await stack.enter_async_context(waiting(house, PER_ADDRESS, f"127.0.1.{number}"))
        for number in range(5):
            await stack.enter_async_context(waiting(house, PER_ADDRESS, f"127.0.2.{number}"))
            async with enter(house, ALICE, host="127.0.0.77") as alice:
                assert await alice.is_served()
        assert await house.limit_hits("unauthenticated") - pushed >= 5 * PER_ADDRESS


async def test_half_a_handshake_is_over_when_its_time_is(house: House) -> None:
    async with house.watched(), waiting(house, PER_ADDRESS, "127.0.0.9") as streams:
        timeouts = await house.limit_hits("handshake_seconds")
        for stream in streams:
            assert await is_closed_without_a_word(stream)
        assert await house.limit_hits("handshake_seconds") - timeouts == PER_ADDRESS


async def test_one_identity_many_times(house: House) -> None:
    """Its fifth connection is closed behind the handshake; its others and everybody else's go on."""
    keys = somebody()
    async with house.watched(), AsyncExitStack() as stack:
        most = LIMITS.max_connections_per_identity
        lines = [await stack.enter_async_context(enter(house, keys)) for _ in range(most)]
        for line in lines:
            assert await line.is_served()
        for _ in range(100):
            async with enter(house, keys) as line:
                assert await line.rest() == []
        assert await lines[0].is_served()


async def test_hundreds_of_strangers(house: House) -> None:
    """Who have come in and say nothing: what each costs is bounded, and they are gone when they go."""
    strangers = 300
    async with house.watched(memory=strangers * STRANGER_BYTES), AsyncExitStack() as stack:
        for _ in range(strangers):
            await stack.enter_async_context(enter(house))
        async with enter(house, ALICE) as alice:
            assert await alice.is_served()


STRANGER_BYTES = 64 << 10  # of memory for one who says nothing
