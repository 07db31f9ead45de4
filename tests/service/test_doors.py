"""Who gets in, where, and what becomes of those who don't."""

import socket
import stat
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from pub.errors import CannotListen, HandshakeError
from pub.net.control import call
from pub.net.limbo import Limbo
from pub.net.roles import Role
from pub.protocol.contacts import BLOCK
from pub.protocol.invites import parse_invite
from pub.rpc.context import Pub
from pub.service.doors import role_of
from tests.conftest import InternalErrors
from tests.service.people import dial, holder_of, open_pub, person, settings_of

ALICE = person("alice")
ANYWHERE = {"network.host": "", "address.host": "pub.example.org"}


async def is_closed_without_a_word(stream: trio.SocketStream) -> bool:
    async with stream:
        try:
            return await stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True


# --- TCP -----------------------------------------------------------------------------------------------------


async def test_a_wildcard_bind_listens_on_ipv4_and_ipv6_on_one_free_port(tmp_path: Path) -> None:
    async with open_pub(tmp_path, ANYWHERE) as pub:
        for host in ("127.0.0.1", "::1"):
            async with pub.visited_by(ALICE, host) as visitor:
                assert "whoami" not in await visitor.call("manifest")


async def test_a_pub_on_ipv6_alone(tmp_path: Path) -> None:
    async with open_pub(tmp_path, {"network.host": "::1"}) as pub:
        assert pub.started.invite is not None
        assert pub.started.invite.startswith(f"::1:{pub.port}:@")  # no brackets: the JavaScript clients refuse them
        address = parse_invite(pub.started.invite).address
        guest = holder_of(pub.started.invite)
        async with dial(address.host, address.port, address.key, guest) as visitor:
            answer = await visitor.call("invite", "use", args=[{"feed": ALICE.id}])
        assert answer["value"]["content"]["contact"] == ALICE.id
        async with pub.visited_by(ALICE, "::1") as visitor:
            assert await visitor.call("whoami") == {"id": pub.started.id}
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", pub.port)


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
async def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.RaisesGroup(CannotListen, flatten_subgroups=True) as refused:
            async with open_pub(tmp_path, {"network.host": host, "network.port": port}):
                pass
    [error] = leaves(refused.value)
    where = host or "any address"
    assert str(error) == f"cannot listen on {where} port {port}: Address already in use"


async def test_an_address_of_another_machine_is_a_sentence(tmp_path: Path) -> None:
    with pytest.RaisesGroup(CannotListen, flatten_subgroups=True) as refused:
        async with open_pub(tmp_path, {"network.host": "192.0.2.1"}):
            pass
    assert "cannot listen on 192.0.2.1 port 0" in str(leaves(refused.value)[0])


def leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [leaf for each in group.exceptions for leaf in (leaves(each) if hasattr(each, "exceptions") else [each])]


async def test_a_handshake_that_does_not_come_ends_at_its_deadline(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_pub(tmp_path, {"limits.handshake_seconds": 0.05}) as pub:
        stream = await trio.open_tcp_stream("127.0.0.1", pub.port)
        started = trio.current_time()
        assert await is_closed_without_a_word(stream)
        assert 0.04 < trio.current_time() - started < 2
        assert (await pub.ask("status"))["limit_hits"] == {"handshake_seconds": 1}
        assert pubs[0].metrics.value("handshakes_total", result="timeout") == 1


async def test_who_is_held_for_a_failed_handshake_does_not_hold_up_the_end(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_pub(tmp_path, {"limits.grace_seconds": 600, "limits.handshake_seconds": 600}) as running:
        [pub] = pubs
        stranger = await trio.open_tcp_stream("127.0.0.1", running.port)
        await stranger.send_all(b"no handshake".ljust(64))
        while not pub.lobby.limbo.count:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert await is_closed_without_a_word(stranger)


async def test_one_address_may_not_fill_the_hall(tmp_path: Path) -> None:
    async with open_pub(tmp_path, {"limits.max_unauthenticated_per_address": 2}) as pub:
        waiting = [await trio.open_tcp_stream("127.0.0.1", pub.port) for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await is_closed_without_a_word(await trio.open_tcp_stream("127.0.0.1", pub.port))
        for stream in waiting:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with pub.visited_by(ALICE) as visitor:
            await visitor.call("manifest")
        assert (await pub.ask("status"))["limit_hits"] == {"unauthenticated_per_address": 1}


async def test_a_peer_that_is_gone_before_we_look_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_stream: object, *_option: object) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    async with open_pub(tmp_path) as pub:
        with monkeypatch.context() as patch:
            patch.setattr(trio.SocketStream, "setsockopt", gone)
            with socket.create_connection(("127.0.0.1", pub.port)) as stream:
                assert await trio.to_thread.run_sync(stream.recv, 1) == b""
        async with pub.visited_by(ALICE) as visitor:
            await visitor.call("manifest")


# --- roles ---------------------------------------------------------------------------------------------------


async def test_who_is_who(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_pub(tmp_path) as running:
        [pub] = pubs
        assert running.started.invite is not None
        guest = holder_of(running.started.invite)
        async with running.visited_by(guest) as visitor:
            await visitor.call("invite", "use", args=[{"feed": ALICE.id}])
            assert await visitor.refusal("whoami") == "method:whoami is not in list of allowed methods"
        assert role_of(pub, pub.keys.public) is Role.CONTROL
        assert role_of(pub, ALICE.public) is Role.MEMBER
        assert role_of(pub, guest.public) is Role.GUEST  # also when the code is spent: they are told why
        assert role_of(pub, person("anybody").public) is Role.STRANGER


async def test_who_is_blocked_sees_a_closed_socket(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_pub(tmp_path) as running:
        [pub] = pubs
        pub.lobby.limbo = Limbo(0)  # it is closed after a while only, which this need not wait for
        await pub.ingest.publish({"type": "contact", "contact": ALICE.id, "blocking": True})
        assert pub.graph.edge(pub.own, pub.log.numbers[ALICE.public]) == BLOCK
        assert role_of(pub, ALICE.public) is None
        with pytest.raises(HandshakeError):
            async with running.visited_by(ALICE):
                pass
        assert pub.metrics.value("handshakes_total", result="blocked") == 1


async def test_a_client_with_the_pubs_own_key_may_do_everything(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_pub(tmp_path) as running, running.visited_by(pubs[0].keys) as operator:
        assert (await operator.call("status"))["ready"] is True
        assert await operator.refusal("no", "such") == "no async:no,such"


# --- the control socket --------------------------------------------------------------------------------------


async def test_the_control_socket_is_the_operators_alone_and_goes_with_the_pub(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with open_pub(tmp_path) as pub:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await pub.ask("whoami") == {"id": pub.started.id}
    assert not path.exists()


async def test_the_socket_of_a_pub_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "socket"))
    stale.close()
    async with open_pub(tmp_path) as pub:
        assert await pub.ask("whoami") == {"id": pub.started.id}


async def test_a_data_folder_too_deep_for_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    async with open_pub(deep) as pub:
        assert await call(settings_of(deep).socket, ("whoami",), []) == {"id": pub.started.id}


async def test_a_bug_of_ours_costs_one_connection_and_is_counted(
    tmp_path: Path, pubs: list[Pub], internal_errors: InternalErrors
) -> None:
    internal_errors.expected = 1
    async with open_pub(tmp_path) as running:
        plant_key_error(pubs[0])
        async with running.visited_by(ALICE) as victim, running.visited_by(person("bob")) as bystander:
            with structlog.testing.capture_logs() as lines:
                assert await victim.refusal("manifest") == "unexpected end of parent stream"
                await victim.gone.wait()
            [line] = [line for line in lines if line["log_level"] == "error"]
            assert (line["event"], line["address"]) == ("internal_error", "127.0.0.1")
            assert "planted" in "".join(traceback.format_exception(line["exc_info"]))
            await bystander.refusal("whoami")
            status = await running.ask("status")
            assert (status["internal_errors"], status["ready"]) == (1, True)


def plant_key_error(pub: Pub) -> None:
    def buggy(_connection: object, _args: object) -> None:
        raise KeyError("planted")

    pub.methods["manifest",] = replace(pub.methods["manifest",], handler=buggy)
