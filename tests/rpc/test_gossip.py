"""The volley of ``gossip.ping``."""

from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from pub.net.roles import Role
from pub.rpc import gossip
from tests.pubs import NOW, Ended, connect, open_pub

FOREVER = float("inf")  # this file's minutes pass at once


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ([{"timeout": 20_000}], 20),
        ([{"timeout": 20_000.5}], 20.001),
        ([{"timeout": 1}], gossip.SHORTEST_TIMEOUT),
        ([{"timeout": -1}], gossip.SHORTEST_TIMEOUT),
        ([{"timeout": 3_600_000}], gossip.LONGEST_TIMEOUT),
        ([{"timeout": 1e300}], gossip.LONGEST_TIMEOUT),
        ([{"timeout": 10**400}], gossip.DEFAULT_TIMEOUT),
        ([{"timeout": "20000"}], gossip.DEFAULT_TIMEOUT),
        ([{"timeout": True}], gossip.DEFAULT_TIMEOUT),
        ([{}], gossip.DEFAULT_TIMEOUT),
        ([None], gossip.DEFAULT_TIMEOUT),
        ([], gossip.DEFAULT_TIMEOUT),
    ],
)
async def test_pub_serves_after_the_timeout_the_caller_asked_for(
    tmp_path: Path, jump_clock: MockClock, asked: list[Any], seconds: float
) -> None:
    async with open_pub(tmp_path, patience=FOREVER) as pub, connect(pub) as alice:
        jump_clock.rate = 0
        ping = await alice.open("gossip.ping", *asked)
        await ping.send(NOW - 70)
        assert await ping.next() == NOW
        jump_clock.jump(seconds - 0.01)
        await wait_all_tasks_blocked()
        assert ping.arrived() == []
        jump_clock.jump(0.011)
        await wait_all_tasks_blocked()
        assert ping.arrived() == [NOW]


async def test_both_sides_serve_in_turn(tmp_path: Path, jump_clock: MockClock) -> None:
    async with open_pub(tmp_path, patience=FOREVER) as pub, connect(pub) as alice:
        jump_clock.rate = 0
        ping = await alice.open("gossip.ping", {"timeout": 10_000})
        for turn in range(3):
            await ping.send(pub.now)
            assert await ping.next() == pub.now  # her serve, volleyed back
            pub.now += 10_000
            jump_clock.jump(10.01)
            assert await ping.next() == pub.now, turn  # our serve
            await ping.send(pub.now + 3)  # which she volleys back
            await wait_all_tasks_blocked()
            assert ping.arrived() == []


async def test_pings_without_pause_are_all_answered_and_bring_one_serve(tmp_path: Path, jump_clock: MockClock) -> None:
    async with open_pub(tmp_path, patience=FOREVER) as pub, connect(pub) as alice:
        jump_clock.rate = 0
        ping = await alice.open("gossip.ping", {"timeout": 10_000})
        await ping.send(*range(1, 51))
        assert await ping.take(50) == [NOW] * 50
        jump_clock.jump(10.01)
        assert await ping.next() == NOW
        jump_clock.jump(300)
        await wait_all_tasks_blocked()
        assert ping.arrived() == []


async def test_an_ended_ping_is_not_served(tmp_path: Path, jump_clock: MockClock) -> None:
    async with open_pub(tmp_path, patience=FOREVER) as pub, connect(pub) as alice:
        jump_clock.rate = 0
        ping = await alice.open("gossip.ping", {"timeout": 10_000})
        await ping.send(1)
        assert await ping.next() == NOW
        await ping.end()
        with pytest.raises(Ended):
            await ping.next()
        jump_clock.jump(20)
        await wait_all_tasks_blocked()
        assert await alice.call("manifest")


async def test_pings_of_those_who_left_do_not_pile_up(
    tmp_path: Path, jump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip, "MAX_STALE", 10)
    async with open_pub(tmp_path, patience=FOREVER) as pub, connect(pub) as alice, connect(pub, Role.MEMBER) as mallory:
        jump_clock.rate = 0
        patient = await alice.open("gossip.ping", {"timeout": 10_000})
        await patient.send(1)
        await patient.next()
        for _ in range(100):
            ping = await mallory.open("gossip.ping", {"timeout": 300_000})
            await ping.send(1)
            await ping.next()
            await ping.end()
            await ping.rest()
        assert pub.rooms.volleys.pending <= 2 * 10 + 2
        jump_clock.jump(10.01)
        assert await patient.next() == NOW
        jump_clock.jump(300)
        await wait_all_tasks_blocked()
        assert pub.rooms.volleys.pending == 0
