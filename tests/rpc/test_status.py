"""``whoami``, ``getAddress``, ``status`` and ``members``."""

from pathlib import Path

import pytest

from pub import __version__
from pub.net.roles import Role
from pub.protocol.addresses import Address
from pub.rpc import lists
from tests.conftest import InternalErrors
from tests.ingest.people import Author
from tests.pubs import NOW, connect, guest_of, open_pub


async def test_status_of_a_new_pub(tmp_path: Path) -> None:
    async with open_pub(tmp_path, name="Our pub") as pub, connect(pub, Role.CONTROL) as operator:
        pub.now += 61_500
        assert await operator.call("status") == {
            "id": pub.id,
            "name": "Our pub",
            "version": __version__,
            "address": f"net:pub.example:8008~shs:{pub.id[1:45]}",
            "ready": True,
            "uptime": 61.5,
            "peers": 0,
            "feeds": 0,
            "messages": 0,
            "members": 0,
            "forked": 0,
            "storing": None,
            "publishing": None,
            "internal_errors": 0,
            "limit_hits": {},
        }


async def test_status_counts(tmp_path: Path, internal_errors: InternalErrors) -> None:
    alice, bob = Author("alice"), Author("bob")
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        async with connect(pub, guest_of(await pub.invite())) as guest:
            await guest.call("invite.use", {"feed": alice.keys.id})
        await pub.take_in(alice.write_many(3) + bob.write_many(2))
        pub.rooms.metrics.limit_hits.labels("ingest_bytes").inc(2)
        pub.rooms.metrics.internal_errors.inc()
        internal_errors.expected = 1
        async with connect(pub, alice.keys), connect(pub, alice.keys), connect(pub, bob.keys):
            await pub.settle()
            status = await operator.call("status")
        assert status["peers"] == 2  # identities, without the operator
        assert (status["feeds"], status["messages"], status["members"]) == (3, 6, 1)
        assert (status["internal_errors"], status["limit_hits"]) == (1, {"ingest_bytes": 2})
        await pub.settle()
        assert (await operator.call("status"))["peers"] == 0


async def test_members_are_listed_with_their_codes(tmp_path: Path) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        assert await operator.call("members") == []
        code = await pub.invite(uses=2, note="choir")
        async with connect(pub, guest_of(code)) as guest:
            await guest.call("invite.use", {"feed": alice.keys.id})
            pub.now += 1000
            await guest.call("invite.use", {"feed": bob.keys.id})
        await pub.follow(carol.keys.public)  # by hand: she is followed, but no code brought her
        joined = {"invite": guest_of(code).id, "note": "choir"}
        assert await operator.call("members") == [
            {"id": alice.keys.id, "joined": NOW, **joined},
            {"id": bob.keys.id, "joined": NOW + 1000, **joined},
        ]


async def test_members_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE_BYTES", 400)
    people = [Author(name).keys for name in ("alice", "bob", "carol", "dave", "erin")]
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        async with connect(pub, guest_of(await pub.invite(uses=len(people)))) as guest:
            for each in people:
                await guest.call("invite.use", {"feed": each.id})
        pages: list[list[str]] = []
        asked: dict[str, str] = {}
        while page := await operator.call("members", asked):
            pages.append([member["id"] for member in page])
            asked = {"after": pages[-1][-1]}
        assert [len(page) for page in pages] == [2, 2, 1]
        assert [each for page in pages for each in page] == [each.id for each in people]


async def test_who_and_where(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.MEMBER) as alice, connect(pub, Role.GUEST) as guest:
        assert await alice.call("whoami") == {"id": pub.id}
        assert await guest.call("getAddress") == f"net:pub.example:8008~shs:{pub.id[1:45]}"
        pub.rooms.address = Address("2001:db8::1", 8008, pub.rooms.keys.public)
        assert await guest.call("getAddress") == f"net:2001:db8::1:8008~shs:{pub.id[1:45]}"
        pub.rooms.address = None
        assert await guest.call("getAddress") is None
