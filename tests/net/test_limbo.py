"""Connections that came to nothing close late, and stand in nobody's way meanwhile."""

from typing import Any

import pytest
import trio
import trio.testing

from pub.errors import HandshakeError
from pub.net.limbo import MAX_HELD, Limbo
from pub.net.roles import Role
from tests.net.doors import ALICE, BOB, HERE, open_door
from tests.net.ends import PATIENCE, Wire
from tests.net.test_lobby import wait_for
from tests.net.test_peer import METHODS, ask, is_closed, leave

HELD = 5.0
NOISE = b"\xff" * 500
LONG = 100 * PATIENCE  # longer than any test


# --- the room itself --------------------------------------------------------------------------------------


async def hold(limbo: Limbo, out: list[tuple[int, float]], number: int) -> None:
    await limbo.hold()
    out.append((number, trio.current_time()))


async def test_each_is_held_for_its_time(autojump_clock: trio.testing.MockClock) -> None:
    limbo, out = Limbo(HELD), list[tuple[int, float]]()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(hold, limbo, out, number)
            await trio.sleep(1)
        assert limbo.count == 3
    assert out == [(0, HELD), (1, HELD + 1), (2, HELD + 2)]
    assert limbo.count == 0


async def test_when_too_many_are_held_the_oldest_go_first(autojump_clock: trio.testing.MockClock) -> None:
    limbo, out = Limbo(HELD), list[tuple[int, float]]()
    async with trio.open_nursery() as nursery:
        for number in range(MAX_HELD + 2):
            assert limbo.is_full is (number >= MAX_HELD)
            nursery.start_soon(hold, limbo, out, number)
            await trio.testing.wait_all_tasks_blocked()
            assert limbo.count <= MAX_HELD
        assert out == [(0, 0.0), (1, 0.0)]
    assert {moment for _number, moment in out[2:]} == {HELD}


async def test_when_the_pub_stops_all_are_let_go(autojump_clock: trio.testing.MockClock) -> None:
    limbo, out = Limbo(HELD), list[tuple[int, float]]()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(hold, limbo, out, number)
        await trio.testing.wait_all_tasks_blocked()
        limbo.close()
        await hold(limbo, out, 3)
    assert [moment for _number, moment in out] == [0.0] * 4


# --- who gets into it -------------------------------------------------------------------------------------


async def is_open(stream: trio.abc.ReceiveStream) -> bool:
    """Nothing has been said, and nobody has hung up."""
    with trio.move_on_after(0.05) as patience:
        await stream.receive_some()
    return patience.cancelled_caught


async def test_who_sends_noise_for_a_handshake_is_held_and_not_read() -> None:
    async with open_door(METHODS, held_seconds=LONG) as door, await door.connect() as stream:
        await stream.send_all(NOISE)
        await wait_for(lambda: door.lobby.limbo.count == 1)
        assert await is_open(stream)
        assert door.counted("handshakes") == {"failed": 1}
        with trio.move_on_after(0.2):
            while True:
                await stream.send_all(bytes(1 << 20))
        assert door.lobby.limbo.count == 1, "it sends until the line is full"
        door.lobby.limbo.close()
        await door.wait_left(1)
        assert await is_closed(stream)


@pytest.mark.parametrize("limits", [{"max_unauthenticated_per_address": 1}, {"max_unauthenticated": 1}])
async def test_the_held_cost_nobody_a_place(limits: dict[str, Any]) -> None:
    """Alice is behind the same address as those who failed, and the address may shake hands once at a time."""
    async with open_door(METHODS, held_seconds=LONG, max_connections=2, **limits) as door:
        streams = []
        for count in range(1, 6):
            streams.append(await door.connect())
            await streams[-1].send_all(NOISE)
            await wait_for(lambda count=count: door.lobby.limbo.count == count)  # type: ignore[misc]
        alice = await door.enter()
        assert HERE.encode() in await ask(alice)
        await leave(alice)
        assert door.metrics.limits_hit() == {}
        assert [await is_open(stream) for stream in streams] == [True] * 5
        for stream in streams:
            await stream.aclose()


async def test_the_bound_of_the_held_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pub.net.limbo.MAX_HELD", 2)
    async with open_door(METHODS, held_seconds=LONG) as door:
        streams = []
        for count in (1, 2, 2):
            streams.append(await door.connect())
            await streams[-1].send_all(NOISE)
            await wait_for(lambda count=count: door.lobby.limbo.count == count)  # type: ignore[misc]
        assert await is_closed(streams[0])
        await door.wait_left(1)
        assert door.metrics.limits_hit() == {"held_connections": 1}
        for stream in streams:
            await stream.aclose()


async def test_who_hangs_up_in_a_handshake_is_not_held() -> None:
    async with open_door(METHODS, held_seconds=LONG) as door:
        async with await door.connect() as stream:
            await stream.send_all(b"half a hello")
        await door.wait_left(1)
        assert door.counted("handshakes") == {"failed": 1}


async def test_who_is_blocked_is_held_like_anybody_who_fails() -> None:
    async with open_door(role_of=lambda key: None if key == BOB.public else Role.MEMBER, held_seconds=LONG) as door:
        with trio.move_on_after(0.1) as patience:
            await door.dial(BOB)
        assert patience.cancelled_caught
        assert door.lobby.limbo.count == 1


@pytest.mark.parametrize("what", ["packets", "boxes"])
async def test_an_honest_client_on_a_damaged_line_is_told_and_let_in_at_once(what: str) -> None:
    """Its old connection is held, and counts for nothing; it hears a goodbye instead of a hang-up."""
    async with open_door(METHODS, held_seconds=LONG, max_connections_per_identity=1, max_connections=1) as door:
        alice = await door.enter()
        await ask(alice)
        secret: Any = alice.stream
        await (secret.transport if what == "boxes" else secret).send_all(b"\x03" * 100)
        assert await secret.receive_some() == b"", "a goodbye"
        again = await door.enter()
        await ask(again)
        assert door.lobby.limbo.count == 1
        assert door.counted("disconnects") == {"protocol": 1}
        assert [each.peer.key for each in door.lobby.connections] == [ALICE.public]
        await leave(again)
        await alice.stream.aclose()


async def test_who_hangs_up_or_says_goodbye_or_is_put_out_is_not_held() -> None:
    async with open_door(METHODS, held_seconds=LONG, outbound_bytes_per_peer=50_000) as door:
        await leave(await door.enter())
        await (await door.dial()).transport.aclose()
        slow = await door.enter()
        await slow.open("large")
        await door.wait_left(3)
        assert door.counted("disconnects") == {"goodbye": 1, "hangup": 1, "slow": 1}
        await trio.aclose_forcefully(slow.stream)


async def test_no_handshake_raises_only_what_is_held() -> None:
    """What comes out of the room for failed handshakes is nobody's bug."""
    async with open_door(METHODS) as door:
        with pytest.raises(HandshakeError):
            await door.dial(network_key=bytes(32))
        alice: Wire = await door.enter()
        await leave(alice)
        assert door.metrics.value("internal_errors_total") == 0
