"""``manifest`` says what the caller may use, no more and no less, and that is what the pub then does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from pub.rpc.permissions import ALLOWED
from pub.service.wiring import METHODS
from tests.pubs import Client, connect, open_pub

NOT_ALLOWED = "is not in list of allowed methods"
STREAMS = {"source": Kind.SOURCE, "sink": Kind.SINK, "duplex": Kind.DUPLEX}


def flat(manifest: dict[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in manifest.items():
        if isinstance(value, dict):
            yield from flat(value, *path, name)
        else:
            yield (*path, name), value


async def complaint(client: Client, name: tuple[str, ...], kind: Kind) -> str:
    """The text the pub refuses this call with, without arguments; empty: it does not."""
    dotted = ".".join(name)
    try:
        if kind is Kind.ASYNC:
            await client.call(dotted)
        else:
            stream = await client.open(dotted, kind=kind)
            await stream.end()
            await stream.rest()
    except RpcError as error:
        return error.message
    return ""


@pytest.mark.parametrize("role", [Role.STRANGER, Role.MEMBER, Role.CONTROL])
async def test_exactly_what_the_role_may_call(tmp_path: Path, role: Role) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, role) as client:
        offered = dict(flat(await client.call("manifest")))
        assert offered
        for name, method in METHODS.items():
            refusal = await complaint(client, name, STREAMS.get(method.type, Kind.ASYNC))
            assert (NOT_ALLOWED not in refusal) is (name in offered), (name, refusal)
        assert offered == {name: METHODS[name].type for name in offered}


async def test_a_guest_is_not_told(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.GUEST) as guest:
        with pytest.raises(RpcError, match=f"^method:manifest {NOT_ALLOWED}$"):
            await guest.call("manifest")


async def test_the_operator_is_offered_everything(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        assert dict(flat(await operator.call("manifest"))) == {name: each.type for name, each in METHODS.items()}


def test_every_method_that_is_allowed_exists() -> None:
    for names in ALLOWED.values():
        assert names <= METHODS.keys()


def test_no_name_is_a_method_and_a_namespace() -> None:
    for name in METHODS:
        assert not any(name[:length] in METHODS for length in range(1, len(name)))
