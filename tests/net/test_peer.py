"""Whoever comes is served, turned away or dropped, and counted under the right word; the pub lives on."""

from typing import Any

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from pub.errors import HandshakeError, HeavyPeer, HungUp, IdlePeer, MuxrpcError, RpcError, SlowPeer, StoreError
from pub.metrics import Metrics
from pub.net.connection import Connection
from pub.net.methods import Method
from pub.net.peer import contained, serve_connection
from pub.net.roles import Peer, Role
from pub.protocol.muxrpc import MAX_REQUEST_BODY, ReplyReceived, RequestFailed
from tests.conftest import InternalErrors
from tests.net.doors import ALICE, BOB, HERE, Door, open_door
from tests.net.ends import Wire

OTHER_NETWORK = bytes(32)


def describe(caller: Connection, _args: list[Any]) -> list[str]:
    return [caller.peer.key.hex(), caller.peer.role.value, caller.peer.address]


def large(_caller: Connection, _args: list[Any]) -> str:
    return "x" * 100_000


def stumble(*_arguments: object) -> Any:
    raise KeyError("planted")


METHODS = {"describe": Method("sync", describe), "large": Method("sync", large), "stumble": Method("sync", stumble)}


async def ask(wire: Wire, name: str = "describe") -> bytes:
    await wire.open(name)
    event = await wire.next_event()
    assert isinstance(event, ReplyReceived)
    return event.body


async def leave(wire: Wire) -> None:
    await wire.stream.send_all(wire.session.goodbye())
    assert await wire.events_until_goodbye() == []
    await wire.stream.aclose()


async def is_closed(stream: trio.abc.ReceiveStream) -> bool:
    """The other side has hung up without a word."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


# --- the handshake ----------------------------------------------------------------------------------------


async def test_a_member_is_served_and_leaves() -> None:
    async with open_door(METHODS) as door:
        alice = await door.enter()
        assert await ask(alice) == f'["{ALICE.public.hex()}","member","{HERE}"]'.encode()
        assert door.metrics.value("connections") == 1
        assert [connection.peer.key for connection in door.lobby.connections] == [ALICE.public]
        await leave(alice)
        await door.wait_left(1)
        assert door.counted("handshakes") == {"accepted": 1}
        assert door.counted("disconnects") == {"goodbye": 1}
        assert door.metrics.limits_hit() == {}


async def test_the_door_says_who_is_a_stranger() -> None:
    async with open_door(METHODS, role_of=lambda key: Role.MEMBER if key == ALICE.public else Role.STRANGER) as door:
        bob = await door.enter(BOB)
        assert b'"stranger"' in await ask(bob)
        await leave(bob)


async def test_another_network_is_told_nothing() -> None:
    async with open_door() as door:
        with pytest.raises(HandshakeError):
            await door.dial(network_key=OTHER_NETWORK)
        await door.wait_left(1)
        assert door.counted("handshakes") == {"failed": 1}
        assert door.counted("disconnects") == {}


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n".ljust(64), bytes(64), b"\xff" * 500])
async def test_garbage_is_no_handshake(data: bytes) -> None:
    async with open_door() as door:
        stream = await door.connect()
        await stream.send_all(data)
        assert await is_closed(stream)
        await stream.aclose()
        await door.wait_left(1)
        assert door.counted("handshakes") == {"failed": 1}


async def test_who_hangs_up_in_the_middle_has_failed() -> None:
    async with open_door() as door:
        for data in (b"", b"half a hello"):
            async with await door.connect() as stream:
                await stream.send_all(data)
        await door.wait_left(2)
        assert door.counted("handshakes") == {"failed": 2}


async def test_who_is_blocked_sees_what_another_network_sees() -> None:
    async with open_door(role_of=lambda key: None if key == BOB.public else Role.MEMBER) as door:
        with pytest.raises(HandshakeError):
            await door.dial(BOB)
        await door.wait_left(1)
        assert door.counted("handshakes") == {"blocked": 1}
        await (await door.dial(ALICE)).aclose()
        await door.wait_left(2)
        assert door.counted("handshakes") == {"blocked": 1, "accepted": 1}


async def test_who_says_nothing_has_only_so_much_time() -> None:
    async with open_door(handshake_seconds=0.02) as door:
        async with await door.connect() as stream:
            assert await is_closed(stream)
        await door.wait_left(1)
        assert door.counted("handshakes") == {"timeout": 1}
        assert door.metrics.limits_hit() == {"handshake_seconds": 1}


# --- how it ends ------------------------------------------------------------------------------------------


async def test_a_cut_line_is_a_hangup() -> None:
    async with open_door(METHODS) as door:
        alice = await door.dial()
        await alice.transport.aclose()
        await door.wait_left(1)
        assert door.counted("disconnects") == {"hangup": 1}


async def test_broken_muxrpc_is_a_fault_of_the_protocol() -> None:
    async with open_door(METHODS) as door:
        alice = await door.enter()
        await alice.stream.send_all(b"\x03" * 9)
        await door.wait_left(1)
        assert door.counted("disconnects") == {"protocol": 1}
        await alice.stream.aclose()


async def test_a_peer_that_does_not_read_is_slow() -> None:
    async with open_door(METHODS, outbound_bytes_per_peer=50_000) as door:
        alice = await door.enter()
        await alice.open("large")
        await door.wait_left(1)
        assert door.counted("disconnects") == {"slow": 1}
        assert door.metrics.limits_hit() == {"outbound_bytes": 1}
        await trio.aclose_forcefully(alice.stream)


async def test_the_operator_may_ask_for_more_than_a_peer() -> None:
    async with open_door(METHODS, role_of=lambda _key: Role.CONTROL, outbound_bytes_per_peer=50_000) as door:
        operator = await door.enter()
        assert len(await ask(operator, "large")) == 100_002
        await leave(operator)


async def test_who_says_nothing_for_too_long_is_idle() -> None:
    async with open_door(METHODS, idle_seconds=60) as door:
        alice, bob = await door.enter(ALICE), await door.enter(BOB)
        for wire in (alice, bob):
            await ask(wire)
        now = trio.current_time()
        for connection in door.lobby.connections:
            connection.last_received = now - (61 if connection.peer.key == ALICE.public else 59)
        (dropped,) = door.lobby.drop_idle(now)
        assert dropped.peer.key == ALICE.public
        await door.wait_left(1)
        assert door.counted("disconnects") == {"idle": 1}
        await leave(bob)
        await alice.stream.aclose()


async def test_bounds_hit_inside_a_connection_are_counted_by_name() -> None:
    async with open_door(METHODS) as door:
        alice = await door.enter()
        await alice.open("describe", "x" * MAX_REQUEST_BODY)
        assert isinstance(await alice.next_event(), RequestFailed)
        await leave(alice)
        await door.wait_left(1)
        assert door.metrics.limits_hit() == {"request_body": 1}


async def test_when_the_pub_stops_nobody_is_left_behind() -> None:
    async with open_door(METHODS) as door:
        alice, bob = await door.enter(), await door.connect()
        await ask(alice)
    assert await is_closed(bob)
    assert door.counted("disconnects") == {}
    await alice.stream.aclose()
    await bob.aclose()


# --- bugs of ours -----------------------------------------------------------------------------------------


async def test_a_bug_in_a_handler_costs_that_peer_only(
    internal_errors: InternalErrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    internal_errors.expected = 1
    monkeypatch.setattr("pub.net.peer.log", structlog.get_logger())  # the other one may be bound to an earlier test's
    with capture_logs() as lines:
        await let_alice_find_a_bug()
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert (line["event"], line["address"]) == ("internal_error", HERE)
    assert pytest.RaisesGroup(KeyError, flatten_subgroups=True).matches(line["exc_info"]), "for the traceback"


async def let_alice_find_a_bug() -> None:
    async with open_door(METHODS) as door:
        alice, bob = await door.enter(ALICE), await door.enter(BOB)
        await ask(bob)
        await alice.open("stumble")
        await door.wait_left(1)
        assert door.metrics.value("internal_errors_total") == 1
        assert door.counted("disconnects") == {"bug": 1}
        await ask(bob)
        again = await door.enter(ALICE)
        await ask(again)
        await leave(again)
        await leave(bob)
        await alice.stream.aclose()


@pytest.mark.parametrize("place", ["role_of", "greet"])
async def test_a_bug_at_the_door_leaves_nobody_in_the_lobby(internal_errors: InternalErrors, place: str) -> None:
    internal_errors.expected = 1
    with capture_logs():
        await meet_a_bug_at(place)


async def meet_a_bug_at(place: str) -> None:
    async with open_door(METHODS, **{place: stumble}) as door:  # type: ignore[arg-type]
        with pytest.raises((HandshakeError, HungUp, trio.BrokenResourceError)):
            async with await door.dial() as alice:
                await alice.receive_some()
        await door.wait_left(1)
        assert door.counted("disconnects") == {"bug": 1}
        assert not door.lobby.unauthenticated


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SlowPeer("x"), "slow"),
        (HeavyPeer("x"), "heavy"),
        (IdlePeer("x"), "idle"),
        (HungUp("x"), "hangup"),
        (MuxrpcError("x"), "protocol"),
        (OSError("x"), "hangup"),
        (trio.BrokenResourceError("x"), "hangup"),
        (ExceptionGroup("", [trio.BrokenResourceError("x"), SlowPeer("x")]), "slow"),
        (ExceptionGroup("", [HungUp("x"), ExceptionGroup("", [MuxrpcError("x")])]), "hangup"),
    ],
)
def test_the_faults_of_a_peer_end_at_the_edge(error: Exception, reason: str) -> None:
    metrics = Metrics()
    with contained(metrics, HERE):
        raise error
    assert metrics.value("disconnects_total", reason=reason) == 1
    assert metrics.value("internal_errors_total") == 0


@pytest.mark.parametrize("error", [StoreError("x"), ExceptionGroup("", [HungUp("y"), StoreError("x")])])
def test_a_store_that_cannot_be_read_is_no_peers_doing(error: Exception) -> None:
    metrics = Metrics()
    with pytest.raises(StoreError, match="x"), contained(metrics, HERE):
        raise error
    assert metrics.value("internal_errors_total") == 0


@pytest.mark.parametrize(
    "error",
    [
        KeyError("planted"),
        RpcError("nobody asked"),
        ExceptionGroup("", [MuxrpcError("x"), ExceptionGroup("", [KeyError("planted")])]),
    ],
)
def test_anything_else_is_a_bug_even_beside_a_fault(error: Exception, internal_errors: InternalErrors) -> None:
    internal_errors.expected = 1
    metrics = Metrics()
    with capture_logs(), contained(metrics, HERE):
        raise error
    assert metrics.value("disconnects_total", reason="bug") == 1


def test_what_ends_the_process_passes_the_edge(internal_errors: InternalErrors) -> None:
    internal_errors.expected = 1
    metrics = Metrics()
    with pytest.RaisesGroup(KeyboardInterrupt), capture_logs(), contained(metrics, HERE):
        raise BaseExceptionGroup("", [KeyboardInterrupt(), KeyError("planted")])
    with pytest.raises(KeyboardInterrupt), contained(metrics, HERE):
        raise KeyboardInterrupt
    assert metrics.value("disconnects_total", reason="bug") == 1


# --- the control socket -----------------------------------------------------------------------------------


async def serve_control(door: Door, stream: trio.abc.Stream) -> None:
    await serve_connection(door.host, stream, Peer(b"", Role.CONTROL, "control socket"))


async def test_the_control_socket_needs_no_handshake() -> None:
    async with open_door(METHODS, max_connections_per_identity=1) as door, trio.open_nursery() as nursery:
        wires = []
        for _ in range(3):
            left, right = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_control, door, right)
            wires.append(Wire(left))
        for wire in wires:
            assert await ask(wire) == b'["","control","control socket"]'
        for wire in wires:
            await leave(wire)
    assert door.counted("disconnects") == {"goodbye": 3}
