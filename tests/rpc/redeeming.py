"""Dialling with a code, and what it costs."""

from typing import Any

import pytest

from pub.errors import RpcError
from pub.net.roles import Role
from tests.ingest.people import Author
from tests.pubs import RunningPub, connect, guest_of

ALICE, BOB, MALLORY = Author("alice").keys, Author("bob").keys, Author("mallory").keys


async def redeem(pub: RunningPub, code: str, *request: Any) -> Any:
    """Dial with the code and ask for ``request`` (for Alice, if there is none)."""
    async with connect(pub, guest_of(code)) as guest:
        return await guest.call("invite.use", *(request or [{"feed": ALICE.id}]))


async def refused(pub: RunningPub, code: str, *request: Any) -> str:
    """The text of a refusal, which costs nothing: no use, no message, no member."""
    before = (await uses(pub, code), pub.contents(), await member_ids(pub))
    with pytest.raises(RpcError) as caught:
        await redeem(pub, code, *request)
    assert (await uses(pub, code), pub.contents(), await member_ids(pub)) == before
    return caught.value.message


async def uses(pub: RunningPub, code: str) -> int | None:
    """How often ``code`` was used, as on disk."""
    with pub.rooms.store.read() as txn:
        record = pub.rooms.invites.get(txn, guest_of(code).public)
    return record.used if record else None


async def member_ids(pub: RunningPub) -> list[str]:
    ids: list[str] = []
    async with connect(pub, Role.CONTROL) as operator:
        while page := await operator.call("members", {"after": ids[-1]} if ids else {}):
            ids += [member["id"] for member in page]
    return ids
