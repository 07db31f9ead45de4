"""How codes are made, listed and taken back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.addresses import Address
from pub.protocol.invites import format_invite, guest_keys, parse_invite
from pub.rpc.invite import MAX_NOTE, MAX_USES
from tests.pubs import NOW, RunningPub, connect, guest_of, open_pub
from tests.rpc.redeeming import ALICE, BOB, member_ids, redeem, refused


@asynccontextmanager
async def at_the_desk(folder: Path) -> AsyncIterator[tuple[RunningPub, Callable[..., Any]]]:
    """The pub and its operator's ``invite.create``."""
    async with open_pub(folder) as pub, connect(pub, Role.CONTROL) as operator:
        yield pub, lambda *args: operator.call("invite.create", *args)


async def test_codes_are_read_by_every_client(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        asked: list[list[Any]] = [[], [1], [{}], [{"uses": 1}]]
        for args in asked:
            code = await create(*args)
            host, port, rest = code.split(":")
            assert (host, port) == ("pub.example", "8008")
            assert rest.startswith(f"{pub.id}~")
            invite = parse_invite(code)
            assert invite.address == pub.rooms.address
        with pub.rooms.store.read() as txn:
            assert [record.uses for record in pub.rooms.invites.records(txn)] == [1, 1, 1, 1]


async def test_all_about_a_code(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        asked = {"uses": 3, "note": "choir", "expires": NOW + 5000, "details": True}
        made = await create(asked)
        assert made == {
            "code": made["code"],
            "id": guest_of(made["code"]).id,
            "uses": 3,
            "expires": NOW + 5000,
            "note": "choir",
        }
        await redeem(pub, made["code"])
        assert pub.contents()[0]["note"] == "choir"


@pytest.mark.parametrize(
    ("host", "multiserver"),
    [
        ("pub.example.org", "net:pub.example.org:8008"),
        ("2001:db8::1", "net:2001:db8::1:8008"),
        ("192.0.2.7", "net:192.0.2.7:8008"),
        ("127.0.0.1", "net:127.0.0.1:8008"),
    ],
)
async def test_codes_on_every_kind_of_host(tmp_path: Path, host: str, multiserver: str) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        pub.rooms.address = Address(host, 8008, pub.rooms.keys.public)
        named, configured = await create({"external": host}), await create(1)
        for code in (named, configured):
            assert code.startswith(f"{host}:8008:{pub.id}~")  # IPv6 without brackets: the JavaScript clients' form
            invite = parse_invite(code)
            assert (invite.address.host, invite.address.port) == (host, 8008)
            assert str(invite.address) == f"{multiserver}~shs:{pub.id[1:45]}"
            assert await refused(pub, code, {}) == "feed to follow is missing"


USES = f"uses must be a whole number from 1 to {MAX_USES}"
EXPIRES = "expires must be a time in the future, in milliseconds since 1970"
NOTE = f"note must be a text of at most {MAX_NOTE} characters"
HOST = "external must be a DNS name or an IP address, without brackets and port"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([0], USES),
        ([-1], USES),
        ([1.5], USES),
        ([MAX_USES + 1], USES),
        ([10**400], USES),
        (["5"], USES),
        ([True], USES),
        ([None], USES),
        ([{"uses": None}], USES),
        ([{"uses": []}], USES),
        ([{"expires": NOW}], EXPIRES),
        ([{"expires": "30d"}], EXPIRES),
        ([{"expires": 10**400}], EXPIRES),
        ([{"expires": True}], EXPIRES),
        ([{"note": "x" * (MAX_NOTE + 1)}], NOTE),
        ([{"note": ["x"]}], NOTE),
        ([{"note": "\ud800"}], NOTE),
        ([{"external": "[2001:db8::1]"}], HOST),
        ([{"external": "pub.example:8008"}], HOST),
        ([{"external": "ws://pub.example"}], HOST),
        ([{"external": "pub"}], HOST),
        ([{"external": "a~b.example"}], HOST),
        ([{"external": "\ud800.example"}], HOST),
        ([{"modern": True}], "modern invites need a WebSocket address, which this pub does not have"),
    ],
    ids=lambda value: ascii(value)[:60],
)
async def test_what_makes_no_code(tmp_path: Path, args: list[Any], text: str) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        with pytest.raises(RpcError) as caught:
            await create(*args)
        assert caught.value.message == text
        with pub.rooms.store.read() as txn:
            assert pub.rooms.invites.records(txn) == []


async def test_without_an_address_no_code_is_made(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        pub.rooms.address = None
        with pytest.raises(RpcError) as caught:
            await create(1)
        assert caught.value.message.startswith("Server has no public ip address, cannot create useable invitation")
        assert "address.host" in caught.value.message
        assert (await create({"external": "pub.example"})).startswith(f"pub.example:{pub.rooms.port}:")


@pytest.mark.parametrize("note", ["x" * MAX_NOTE, "\U0001f41d" * MAX_NOTE, "\x00" * MAX_NOTE, '"' * MAX_NOTE])
async def test_the_longest_note_fits_into_the_message(tmp_path: Path, note: str) -> None:
    async with at_the_desk(tmp_path) as (pub, create):
        code = await create({"note": note})
        answer = await redeem(pub, code)
        assert answer["value"]["content"]["note"] == note


async def test_the_code_itself_is_not_kept(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        seed = parse_invite(await pub.invite()).seed
    data = (tmp_path / "data.mdb").read_bytes()
    assert guest_keys(seed).public in data
    assert seed not in data


# --- listing and taking back ------------------------------------------------------------------------------


async def test_codes_are_listed_newest_first(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        assert await operator.call("invite.list") == []
        codes = []
        for expires in (None, NOW + 5000, None):
            codes.append(await pub.invite(uses=2, note="choir", expires=expires))
            pub.now += 1000
        await redeem(pub, codes[0])
        await operator.call("invite.revoke", codes[2])
        pub.now += 5000
        listed = await operator.call("invite.list")
    assert [entry["id"] for entry in listed] == [guest_of(code).id for code in reversed(codes)]
    assert [entry["state"] for entry in listed] == ["revoked", "expired", "open"]
    assert listed[2] == {
        "id": guest_of(codes[0]).id,
        "uses": 2,
        "used": 1,
        "state": "open",
        "created": NOW,
        "expires": None,
        "revoked": None,
        "note": "choir",
    }
    assert (listed[0]["revoked"], listed[1]["expires"]) == (NOW + 3000, NOW + 5000)


async def test_a_code_is_taken_back_by_code_or_id_for_good(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        code = await pub.invite(uses=5)
        pub.now += 1
        other = await pub.invite()
        await redeem(pub, code)
        assert await operator.call("invite.revoke", code) == {"id": guest_of(code).id}
        pub.now += 1000
        assert await operator.call("invite.revoke", guest_of(code).id) == {"id": guest_of(code).id}
        assert [entry["revoked"] for entry in await operator.call("invite.list")] == [None, NOW + 1]
        assert await refused(pub, code, {"feed": BOB.id}) == "invite has been revoked"
        assert await member_ids(pub) == [ALICE.id]  # who has come stays
        assert await redeem(pub, other, {"feed": BOB.id})


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["rubbish"], "that is neither an invite code nor the id of one"),
        ([7], "that is neither an invite code nor the id of one"),
        ([{}], "that is neither an invite code nor the id of one"),
        ([ALICE.id], "there is no such invite"),
        ([format_invite(Address("pub.example", 8008, ALICE.public), bytes(32))], "there is no such invite"),
        ([], "Param 0 is required"),
    ],
)
async def test_what_cannot_be_taken_back(tmp_path: Path, args: list[Any], text: str) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        code = await pub.invite()
        with pytest.raises(RpcError) as caught:
            await operator.call("invite.revoke", *args)
        assert caught.value.message == text
        assert await redeem(pub, code)
