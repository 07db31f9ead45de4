"""Pubs that dial each other, over TCP."""

import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.errors import ConfigError, RpcError
from pub.net import dialer, schedule
from pub.net.peer import CROSSING_SECONDS
from pub.protocol.addresses import Address, format_address
from pub.protocol.classic import create
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id
from pub.service.outgoing import is_private
from pub.store.peers import Source
from tests.service.neighbours import HOST, Neighbour, Town, until

MEMBER = KeyPair.generate(b"member".ljust(32))
NOBODY = KeyPair.generate(b"nobody".ljust(32)).public
NOON = 1_700_000_000_000.0


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    monkeypatch.setattr(schedule, "FIRST_DELAY", 50.0)  # ms: these tests wait in real time
    monkeypatch.setattr(dialer, "RESCAN_SECONDS", 0.02)
    return Town(tmp_path, monkeypatch)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


def record_of(pub: Neighbour, address: Address) -> tuple[Source, int]:
    record = pub.rooms.dialer.schedule.records[address]
    return record.source, record.failures


# --- configured -----------------------------------------------------------------------------------------------


async def test_a_configured_peer_is_dialled_and_both_replicate(town: Town) -> None:
    async with (
        town.open("island") as island,
        town.open("harbour", connections__peers=[format_address(island.address)]) as harbour,
    ):
        await island.follow(harbour)
        await harbour.follow(island)
        await island.post("from the island")
        await harbour.post("from the harbour")
        await until(lambda: bool(harbour.texts_of(island)) and bool(island.texts_of(harbour)))
        assert harbour.directions() == ["out"]
        assert island.directions() == ["in"]
        [peer] = (await harbour.ask("conn.peers"))["connected"]
        assert (peer["id"], peer["direction"]) == (island.id, "out")
        assert peer["address"] == format_address(island.address)
        assert (peer["receiving"], peer["sending"]) == (0, 0)
        assert harbour.rooms.metrics.value("dials_total", result="connected") == 1


@pytest.mark.slow
async def test_a_line_of_three_before_and_after_the_middle_restarts(town: Town) -> None:
    async with AsyncExitStack() as ends:
        middle = Address(HOST, town.port_of("middle"), b"")
        async with town.open("middle") as first:
            key = first.rooms.keys.public
        address = format_address(Address(HOST, middle.port, key))
        west = await ends.enter_async_context(town.open("west", connections__peers=address))
        east = await ends.enter_async_context(town.open("east", connections__peers=address))

        def has_crossed(text: str) -> bool:
            return any(text.encode() in message for message in east.texts_of(west))

        for life in ("before", "after"):
            async with town.open("middle") as pub:
                if life == "before":
                    for one, other in ((west, pub), (east, pub), (pub, west), (pub, east)):
                        await one.follow(other)
                await west.post(life)
                await until(partial(has_crossed, life))
                assert sorted(pub.directions()) == ["in", "in"]


async def test_a_peer_that_comes_up_late_is_reached(town: Town) -> None:
    async with town.open("island") as island:
        address = format_address(island.address)
    async with town.open("harbour", connections__peers=address) as harbour:
        await until(lambda: harbour.rooms.metrics.value("dials_total", result="unreachable") > 0)
        async with town.open("island") as island:
            await until(lambda: harbour.directions() == ["out"])


async def test_the_address_book_survives_a_restart(town: Town) -> None:
    address = Address(HOST, town.port_of("nobody"), NOBODY)
    async with town.open("harbour") as harbour:
        await harbour.connect(address)
        _source, before = record_of(harbour, address)
        assert before >= 1
        await until(lambda: not harbour.rooms.dialer.schedule.take_changes())
    async with town.open("harbour") as harbour:
        source, failures = record_of(harbour, address)
        assert source is Source.MANUAL
        assert failures >= 1


async def test_our_own_end_is_no_failure_of_the_other_side(town: Town) -> None:
    async with town.open("island") as island:
        async with town.open("harbour") as harbour:
            await harbour.connect(island.address)
            before = harbour.rooms.dialer.schedule.records[island.address]
        assert harbour.rooms.dialer.schedule.records[island.address] == before


@pytest.mark.parametrize(("host", "said"), [("harbour", "can't be dialled"), ("10.0.0.300", "can't be dialled")])
async def test_settings_that_cannot_be_dialled_stop_the_start(town: Town, host: str, said: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=said), flatten_subgroups=True, allow_unwrapped=True):
        async with town.open("island", connections__peers=f"net:{host}:8008~shs:{feed_id(NOBODY)[1:45]}"):
            raise AssertionError("started")


# --- limits ---------------------------------------------------------------------------------------------------


async def test_limit_max_outgoing(town: Town) -> None:
    async with (
        town.open("island") as island,
        town.open("lighthouse") as lighthouse,
        town.open(
            "harbour",
            connections__peers=[format_address(island.address), format_address(lighthouse.address)],
            connections__max_outgoing=1,
        ) as harbour,
    ):
        await until(lambda: harbour.directions() == ["out"])
        assert harbour.rooms.metrics.limits_hit() == {"max_outgoing": 1}
        states = [known["state"] for known in (await harbour.ask("conn.peers"))["known"]]
        assert sorted(states) == ["connected", "held back by max_outgoing"]


async def test_no_outgoing_connections_at_all(town: Town) -> None:
    async with (
        town.open("island") as island,
        town.open("harbour", connections__peers=[format_address(island.address)], connections__max_outgoing=0) as pub,
    ):
        await until(lambda: pub.rooms.dialer.is_held_back)
        assert pub.rooms.metrics.value("dials_total", result="connected") == 0


async def test_the_pub_stops_at_once_while_it_dials(town: Town, silent_port: int) -> None:
    address = f"net:{HOST}:{silent_port}~shs:{feed_id(NOBODY)[1:45]}"
    with trio.fail_after(3):
        async with town.open("harbour", connections__peers=address) as harbour:
            await until(lambda: harbour.rooms.dialer.is_dialling(NOBODY))


# --- by hand --------------------------------------------------------------------------------------------------


async def test_the_operator_connects_and_forgets(town: Town) -> None:
    async with town.open("island") as island, town.open("harbour") as harbour:
        address = format_address(island.address)
        answer = await harbour.connect(island.address)
        assert answer == {"id": island.id, "address": address, "connected": True, "reason": None}
        assert await harbour.connect(island.address) == answer, "again: it is connected"
        [known] = (await harbour.ask("conn.peers"))["known"]
        assert (known["source"], known["state"], known["failures"]) == ("manual", "connected", 0)
        await harbour.ask("conn.forget", address)
        await until(lambda: not harbour.directions() and not island.directions())
        assert await harbour.ask("conn.peers") == {"connected": [], "known": []}
        assert island.rooms.metrics.value("disconnects_total", reason="goodbye") >= 1


async def test_the_operator_hears_why_not(town: Town, silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = trio.socket.getaddrinfo

    async def look_up_here(host: str, *args: Any, **options: Any) -> Any:
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await look_up(host, *args, **options)

    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up_here)
    async with (
        town.open("island", limits__handshake_seconds=0.05) as island,  # so long it holds who is not let in
        town.open("harbour", limits__handshake_seconds=0.2) as harbour,
    ):
        for address, said in (
            (Address(HOST, town.port_of("nobody"), NOBODY), "can't be reached: Connection refused"),
            (
                Address("nowhere.invalid", 8008, NOBODY),
                "port 8008 of nowhere.invalid can't be reached: Name or service not known",
            ),
            (Address(HOST, silent_port, NOBODY), "did not shake hands within 0.2 seconds"),
            (Address(HOST, island.address.port, NOBODY), "broke off the handshake"),
        ):
            answer = await harbour.connect(address)
            assert not answer["connected"]
            assert said in answer["reason"]
            assert record_of(harbour, address)[0] is Source.MANUAL, "it goes on trying"
        for result in ("unreachable", "timeout", "handshake"):
            assert harbour.rooms.metrics.value("dials_total", result=result) >= 1


async def test_a_name_lookup_that_hangs_ends(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "CONNECT_SECONDS", 0.05)

    async def hang(_host: str, _port: int) -> trio.SocketStream:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", hang)
    async with town.open("harbour") as harbour:
        answer = await harbour.connect(Address("pub.example", 8008, NOBODY))
        assert "did not answer within 0.05 seconds" in answer["reason"]


async def test_two_who_ask_for_one_peer_share_one_dial(town: Town, silent_port: int) -> None:
    async with town.open("harbour", limits__handshake_seconds=0.2) as harbour:
        address = Address(HOST, silent_port, NOBODY)
        answers: list[bool] = []

        async def ask() -> None:
            answers.append((await harbour.connect(address))["connected"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert answers == [False, False]
        assert harbour.rooms.metrics.value("dials_total", result="timeout") == 1


async def test_two_addresses_of_one_peer_give_one_connection(town: Town) -> None:
    async with town.open("island") as island, town.open("harbour") as harbour:
        async with trio.open_nursery() as nursery:
            for host in (HOST, "localhost"):
                nursery.start_soon(harbour.connect, replace(island.address, host=host))
        await until(lambda: harbour.directions() == ["out"] and island.directions() == ["in"])


async def test_what_connect_refuses(town: Town) -> None:
    async with town.open("harbour", connections__peers=f"net:{HOST}:1~shs:{feed_id(NOBODY)[1:45]}") as harbour:
        await harbour.ask("friends.block", MEMBER.id)
        for address, said in (
            ("somewhere", "not an address this pub can dial"),
            (7, "not an address this pub can dial"),
            (f"ws://pub.example:80~shs:{feed_id(NOBODY)[1:45]}", "not an address this pub can dial"),
            (format_address(harbour.address), "that is this pub itself"),
            (format_address(Address("pub.example", 8008, MEMBER.public)), "this pub blocks that peer"),
        ):
            with pytest.raises(RpcError, match=said):
                await harbour.ask("conn.connect", address)
        with pytest.raises(RpcError, match=r"stands in connections\.peers"):
            await harbour.ask("conn.forget", format_address(Address(HOST, 1, NOBODY)))
        with pytest.raises(RpcError, match="does not know"):
            await harbour.ask("conn.forget", format_address(Address(HOST, 2, NOBODY)))


async def test_a_blocked_peer_is_not_dialled(town: Town) -> None:
    async with town.open("island") as island:
        blocked = island.address
    async with town.open("harbour") as harbour:
        await harbour.ask("friends.block", feed_id(blocked.key))
    async with town.open("harbour", connections__peers=format_address(blocked)) as harbour:
        [known] = (await harbour.ask("conn.peers"))["known"]
        assert (known["state"], known["failures"]) == ("blocked", 0)


# --- one connection for a pair --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_smaller_first", [True, False])
async def test_of_two_dials_that_crossed_one_stays(town: Town, is_smaller_first: bool) -> None:
    async with town.open("island") as one, town.open("harbour") as two:
        smaller, larger = sorted((one, two), key=lambda pub: pub.rooms.keys.public)
        await smaller.follow(larger)
        await larger.follow(smaller)
        first, second = (smaller, larger) if is_smaller_first else (larger, smaller)
        await first.connect(second.address)
        second.rooms.dialer.schedule.add(first.address, Source.MANUAL, NOON)
        await second.rooms.dialer._reach(first.address)  # as if it had set out before the other had arrived
        await until(lambda: smaller.directions() == ["out"] and larger.directions() == ["in"])
        await smaller.post("over the one that stayed")
        await larger.post("and back")
        await until(lambda: bool(larger.texts_of(smaller)) and bool(smaller.texts_of(larger)))
        assert record_of(second, first.address) == (Source.MANUAL, 0), "to lose is no failure"


async def test_two_who_are_configured_with_each_other_share_one_connection(town: Town) -> None:
    async with town.open("island") as island, town.open("harbour") as harbour:
        await island.follow(harbour)
        await harbour.follow(island)
        addresses = {"island": format_address(harbour.address), "harbour": format_address(island.address)}
    async with (
        town.open("island", connections__peers=addresses["island"]) as island,
        town.open("harbour", connections__peers=addresses["harbour"]) as harbour,
    ):
        await island.post("from the island")
        await harbour.post("from the harbour")
        await until(lambda: bool(harbour.texts_of(island)) and bool(island.texts_of(harbour)))
        await until(lambda: sorted(island.directions() + harbour.directions()) == ["in", "out"])


async def test_a_new_call_replaces_a_line_that_has_died_unnoticed(town: Town) -> None:
    async with town.open("island") as one, town.open("harbour") as two:
        smaller, larger = sorted((one, two), key=lambda pub: pub.rooms.keys.public)
        await smaller.connect(larger.address)
        [old] = [each for each in smaller.rooms.lobby.connections if each.peer.key]
        for pub in (smaller, larger):
            for connection in pub.rooms.lobby.connections:
                connection.opened -= CROSSING_SECONDS + 1
        await larger.rooms.dialer._reach(smaller.address)
        await until(lambda: smaller.directions() == ["in"] and larger.directions() == ["out"])
        assert old not in smaller.rooms.lobby.connections


# --- found ----------------------------------------------------------------------------------------------------


async def announce(pub: Neighbour, address: Address) -> None:
    where = {"host": address.host, "port": address.port, "key": feed_id(address.key)}
    await pub.rooms.ingest.publish({"type": "pub", "address": where})


async def take_in_member(pub: Neighbour, *addresses: Address) -> None:
    """The member's feed, in which it announces these."""
    head = None
    messages = []
    for number, address in enumerate(addresses):
        where = {"host": address.host, "port": address.port, "key": feed_id(address.key)}
        messages.append(create(MEMBER, head, {"type": "pub", "address": where}, NOON + number))
        head = messages[-1].head

    await pub.rooms.ingest.write(lambda appender: [appender.append(message, NOON) for message in messages])


async def test_a_followed_pub_says_itself_where_it_is(town: Town) -> None:
    """Harbour hears of the lighthouse through the island, and dials it."""
    async with town.open("island") as island, town.open("lighthouse") as lighthouse, town.open("harbour") as harbour:
        await island.follow(lighthouse)
        await harbour.follow(lighthouse)
        await harbour.follow(island)
        await announce(lighthouse, lighthouse.address)
        await lighthouse.connect(island.address)
        await harbour.connect(island.address)
        await until(lambda: sorted(harbour.directions()) == ["out", "out"])
        assert record_of(harbour, lighthouse.address) == (Source.FOLLOWED, 0)
        await harbour.ask("friends.follow", lighthouse.id, {"state": False})
        assert lighthouse.address not in harbour.rooms.dialer.schedule.records


async def test_what_was_said_before_the_follow_counts_too(town: Town) -> None:
    address = Address(HOST, town.port_of("nobody"), MEMBER.public)
    async with town.open("harbour") as harbour:
        await take_in_member(harbour, address)
        assert address not in harbour.rooms.dialer.schedule.records
        await harbour.ask("friends.follow", MEMBER.id)
        await until(lambda: address in harbour.rooms.dialer.schedule.records)


async def test_our_own_announcement_of_a_followed_pub_counts(town: Town) -> None:
    address = Address(HOST, town.port_of("nobody"), MEMBER.public)
    async with town.open("harbour") as harbour:
        await announce(harbour, harbour.address)
        await announce(harbour, address)
        assert list(harbour.rooms.dialer.schedule.records) == [address]
        [known] = (await harbour.ask("conn.peers"))["known"]
        assert known["state"] == "not followed"
        await harbour.ask("friends.follow", MEMBER.id)
        await until(lambda: harbour.rooms.metrics.value("dials_total", result="unreachable") > 0)


async def test_nobody_has_third_parties_dialled(town: Town) -> None:
    async with town.open("island") as island, town.open("harbour") as harbour:
        await harbour.ask("friends.follow", MEMBER.id)
        await take_in_member(harbour, island.address, Address("pub.example", 8008, NOBODY))
        assert harbour.rooms.dialer.schedule.records == {}


async def test_a_member_cannot_point_a_public_pub_into_its_own_network(town: Town) -> None:
    async with town.open("harbour", address__host="pub.example") as harbour:
        await harbour.ask("friends.follow", MEMBER.id)
        outside = Address("elsewhere.example", 8008, MEMBER.public)
        inside = [Address(host, 8008, MEMBER.public) for host in ("10.0.0.1", "127.0.0.1", "localhost", "fd00::1")]
        await take_in_member(harbour, *inside, outside)
        assert list(harbour.rooms.dialer.schedule.records) == [outside]


@pytest.mark.parametrize("host", ["10.1.2.3", "127.0.0.1", "localhost", "169.254.1.1", "::1", "fe80::1", "100.64.0.1"])
def test_private_hosts(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize("host", ["pub.example", "1.1.1.1", "2606:4700::1"])
def test_public_hosts(host: str) -> None:
    assert not is_private(host)
