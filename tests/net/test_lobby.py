"""How many may be in at once, and who goes when they are too many or cost too much."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from pub.errors import HungUp
from pub.net.roles import Role
from pub.protocol.packets import encode_packet
from tests.net.doors import ALICE, BOB, CAROL, open_door
from tests.net.test_peer import METHODS, ask, is_closed, leave


async def test_only_so_many_of_one_address_may_shake_hands_at_once() -> None:
    async with open_door(METHODS, max_unauthenticated_per_address=2) as door:
        waiting = [await door.connect() for _ in range(2)]
        await wait_for(lambda: door.lobby.unauthenticated.total() == 2)
        async with await door.connect() as third:
            assert await is_closed(third)
        await door.wait_left(1)
        assert door.counted("handshakes") == {"crowded": 1}
        assert door.metrics.limits_hit() == {"unauthenticated_per_address": 1}
        for stream in waiting:
            await stream.aclose()
        await door.wait_left(3)
        await leave(await door.enter())


async def test_when_too_many_shake_hands_the_oldest_gives_way() -> None:
    async with open_door(METHODS, max_unauthenticated=2) as door:
        waiting = []
        for count in (1, 2):
            waiting.append(await door.connect())
            await wait_for(lambda count=count: door.lobby.unauthenticated.total() == count)  # type: ignore[misc]
        alice = await door.enter()
        assert await is_closed(waiting[0])
        assert door.counted("handshakes") == {"accepted": 1, "crowded": 1}
        assert door.metrics.limits_hit() == {"unauthenticated": 1}
        assert door.lobby.unauthenticated.total() == 1
        for stream in waiting:
            await stream.aclose()
        await leave(alice)
        await door.wait_left(3)


async def test_the_crowd_gives_way_and_not_whoever_came_first() -> None:
    async with open_door(max_unauthenticated=3) as door:
        scopes = {name: trio.CancelScope() for name in ("first", "second", "third", "fourth")}
        for name, address in zip(scopes, ("192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"), strict=True):
            door.lobby.begin(scopes[name], address)
        assert [name for name, scope in scopes.items() if scope.cancel_called] == ["second"]
        for scope in scopes.values():
            door.lobby.end(scope)


async def wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await trio.testing.wait_all_tasks_blocked()


async def test_the_bound_of_one_address_is_not_that_of_another() -> None:
    async with open_door(max_unauthenticated_per_address=2) as door:
        door.lobby.unauthenticated["192.0.2.1"] = 2
        assert door.lobby.refusal("192.0.2.1") == "unauthenticated_per_address"
        assert door.lobby.refusal("192.0.2.2") is None
        del door.lobby.unauthenticated["192.0.2.1"]


async def test_only_so_many_may_be_connected() -> None:
    async with open_door(METHODS, max_connections=1) as door:
        alice = await door.enter()
        await ask(alice)
        async with await door.connect() as stream:
            assert await is_closed(stream)
        assert door.counted("handshakes") == {"accepted": 1, "crowded": 1}
        assert door.metrics.limits_hit() == {"connections": 1}
        await leave(alice)
        await door.wait_left(2)
        await leave(await door.enter(BOB))


async def test_who_shakes_hands_takes_a_place_already() -> None:
    async with open_door(METHODS, max_connections=1) as door:
        waiting = await door.connect()
        await wait_for(lambda: door.lobby.unauthenticated.total() == 1)
        async with await door.connect() as second:
            assert await is_closed(second)
        assert door.metrics.limits_hit() == {"connections": 1}
        await waiting.aclose()
        await door.wait_left(2)


async def test_only_so_many_connections_of_one_person() -> None:
    async with open_door(METHODS, max_connections_per_identity=1) as door:
        alice = await door.enter()
        await ask(alice)
        async with await door.dial() as second:
            with pytest.raises((HungUp, trio.BrokenResourceError)):
                await second.receive_some()
        await door.wait_left(1)
        assert door.metrics.limits_hit() == {"connections_per_identity": 1}
        bob = await door.enter(BOB)
        await ask(bob)
        await leave(alice)
        await leave(bob)


@pytest.mark.parametrize("role", [Role.GUEST, Role.CONTROL])
async def test_a_code_and_the_operator_may_come_many_times(role: Role) -> None:
    async with open_door(METHODS, role_of=lambda _key: role, max_connections_per_identity=1) as door:
        wires = [await door.enter() for _ in range(3)]
        for wire in wires:
            await ask(wire)
        assert len(door.lobby.connections) == 3
        for wire in wires:
            await leave(wire)


async def test_who_is_held_back_is_not_idle() -> None:
    async with open_door(METHODS, idle_seconds=60) as door:
        alice = await door.enter()
        await ask(alice)
        [connection] = door.lobby.connections
        now = trio.current_time() + 100
        connection.is_held_back = True
        assert door.lobby.drop_idle(now) == []
        connection.is_held_back = False
        assert door.lobby.drop_idle(now) == [connection]
        await alice.stream.aclose()


def half_sent(size: int) -> bytes:
    """All but the last byte of a packet."""
    return encode_packet(1, bytes(size))[:-1]


async def test_when_too_much_is_held_for_all_the_heaviest_stranger_goes() -> None:
    people = {ALICE.public: Role.MEMBER, BOB.public: Role.STRANGER, CAROL.public: Role.STRANGER}
    async with open_door(METHODS, role_of=people.get) as door:
        door.lobby.max_held_bytes = 2_000_000
        alice, bob, carol = [await door.enter(keys) for keys in (ALICE, BOB, CAROL)]
        await alice.stream.send_all(half_sent(1_000_000))
        await bob.stream.send_all(half_sent(300_000))
        await wait_for(lambda: door.lobby.held_bytes > 1_000_000)
        assert not any(each.held_bytes for each in door.lobby.connections if each.peer.key == CAROL.public)
        await carol.stream.send_all(half_sent(1_000_000))
        await door.wait_left(1)
        assert {each.peer.key for each in door.lobby.connections} == {ALICE.public, BOB.public}
        assert door.counted("disconnects") == {"heavy": 1}
        assert door.metrics.limits_hit() == {"held_bytes": 1}
        for wire in (alice, bob, carol):
            await wire.stream.aclose()
        await door.wait_left(3)
        assert door.lobby.held_bytes == 0


async def test_a_stranger_who_costs_nothing_does_not_go_for_a_heavy_member() -> None:
    people = {ALICE.public: Role.MEMBER, BOB.public: Role.STRANGER}
    async with open_door(METHODS, role_of=people.get) as door:
        door.lobby.max_held_bytes = 500_000
        alice, bob = await door.enter(ALICE), await door.enter(BOB)
        await ask(bob)
        await alice.stream.send_all(half_sent(1_000_000))
        await door.wait_left(1)
        assert {each.peer.key for each in door.lobby.connections} == {BOB.public}
        await leave(bob)
        await alice.stream.aclose()


async def test_unread_answers_count_as_held() -> None:
    async with open_door(METHODS, outbound_bytes_per_peer=1 << 30) as door:
        alice = await door.enter()
        for _ in range(100):
            await alice.open("large")
        await wait_for(lambda: door.lobby.held_bytes > 500_000)
        await alice.stream.aclose()
        await door.wait_left(1)
        assert door.lobby.held_bytes == 0
