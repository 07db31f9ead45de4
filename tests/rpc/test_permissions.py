"""Who may call what, and the words of a refusal. The lists are written out here once more: a change is a decision."""

from pathlib import Path

import pytest

from pub.errors import RpcError
from pub.net.roles import Peer, Role
from pub.protocol.muxrpc import Kind
from pub.rpc.permissions import is_allowed
from pub.service.doors import role_of
from pub.service.wiring import METHODS
from tests.ingest.people import Author
from tests.pubs import Client, connect, guest_of, open_pub

ANONYMOUS = {"manifest", "createHistoryStream", "ebt.replicate", "blobs.createWants", "gossip.ping"}
MAY_CALL = {
    Role.STRANGER: ANONYMOUS,
    Role.MEMBER: ANONYMOUS | {"whoami"},
    Role.GUEST: {"invite.use", "getAddress"},
}


@pytest.mark.parametrize("role", MAY_CALL, ids=lambda role: role.value)
def test_the_lists(role: Role) -> None:
    peer = Peer(bytes(32), role, "127.0.0.1")
    assert {".".join(name) for name in METHODS if is_allowed(peer, name)} == MAY_CALL[role]
    assert not is_allowed(peer, ("invite",))
    assert not is_allowed(peer, ())


def test_the_operator_may_do_everything() -> None:
    peer = Peer(b"", Role.CONTROL, "control socket")
    assert all(is_allowed(peer, name) for name in METHODS)
    assert is_allowed(peer, ("no", "such", "thing"))


async def refusal(client: Client, name: str, kind: Kind = Kind.ASYNC) -> str:
    answer = client.call(name) if kind is Kind.ASYNC else (await client.open(name, kind=kind)).next()
    with pytest.raises(RpcError) as caught:
        await answer
    return caught.value.message


@pytest.mark.parametrize(
    ("role", "name", "kind", "text"),
    [
        (Role.STRANGER, "status", Kind.ASYNC, "method:status is not in list of allowed methods"),
        (Role.STRANGER, "invite.use", Kind.ASYNC, "method:invite,use is not in list of allowed methods"),
        (Role.STRANGER, "no.such", Kind.SOURCE, "method:no,such is not in list of allowed methods"),
        (Role.STRANGER, "toString", Kind.ASYNC, "method:toString is on list of disallowed methods"),
        (Role.STRANGER, "ebt.replicate", Kind.SOURCE, "no source:ebt,replicate"),
        (Role.STRANGER, "ebt.replicate", Kind.ASYNC, "no async:ebt,replicate"),
        (Role.MEMBER, "members", Kind.ASYNC, "method:members is not in list of allowed methods"),
        (Role.GUEST, "ebt.replicate", Kind.DUPLEX, "method:ebt,replicate is not in list of allowed methods"),
        (Role.GUEST, "gossip.ping", Kind.DUPLEX, "method:gossip,ping is not in list of allowed methods"),
        (Role.GUEST, "blobs.createWants", Kind.SOURCE, "method:blobs,createWants is not in list of allowed methods"),
        (Role.CONTROL, "no.such", Kind.ASYNC, "no async:no,such"),
        (Role.CONTROL, "status", Kind.SOURCE, "no source:status"),
    ],
)
async def test_texts(tmp_path: Path, role: Role, name: str, kind: Kind, text: str) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, role) as client:
        assert await refusal(client, name, kind) == text
        await pub.settle()
        assert not client.gone.is_set()  # a refusal ends its call, not the connection


async def test_a_guest_redeems_after_everything_else_was_refused(tmp_path: Path) -> None:
    """Clients send ping, createWants and replicate before they know that they are guests."""
    async with open_pub(tmp_path) as pub, connect(pub, guest_of(await pub.invite())) as guest:
        streams = [
            await guest.open("gossip.ping", {"timeout": 300_000}),
            await guest.open("blobs.createWants", kind=Kind.SOURCE),
            await guest.open("ebt.replicate", {"version": 3}),
        ]
        await streams[0].send(1)
        assert await guest.call("invite.use", {"feed": Author("alice").keys.id})
        for stream in streams:
            with pytest.raises(RpcError, match="is not in list of allowed methods"):
                await stream.next()


async def test_roles(tmp_path: Path) -> None:
    alice, bob, mallory = Author("alice"), Author("bob"), Author("mallory")
    async with open_pub(tmp_path) as pub:
        code = await pub.invite()
        await pub.follow(alice.keys.public)
        await pub.say(mallory.keys.public, blocking=True)
        roles = {
            pub.rooms.keys.public: Role.CONTROL,
            alice.keys.public: Role.MEMBER,
            bob.keys.public: Role.STRANGER,
            mallory.keys.public: None,
            guest_of(code).public: Role.GUEST,
        }
        assert {key: role_of(pub.rooms, key) for key in roles} == roles
        await pub.say(alice.keys.public, following=False)
        await pub.say(mallory.keys.public, blocking=False)
        assert role_of(pub.rooms, alice.keys.public) is role_of(pub.rooms, mallory.keys.public) is Role.STRANGER


async def test_the_pubs_own_key_may_do_everything(tmp_path: Path) -> None:
    """Local tools connect over TCP with the pub's secret file."""
    async with open_pub(tmp_path) as pub, connect(pub, pub.rooms.keys) as operator:
        assert await operator.call("whoami") == {"id": pub.id}
        assert (await operator.call("status"))["id"] == pub.id
