"""``blobs.createWants``: every client opens it at once and waits for the first object."""

from pathlib import Path

import pytest

from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from tests.pubs import connect, open_pub


@pytest.mark.parametrize("role", [Role.STRANGER, Role.MEMBER])
async def test_wants_begin_empty_and_stay_open(tmp_path: Path, role: Role) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, role) as alice:
        wants = await alice.open("blobs.createWants", kind=Kind.SOURCE)
        assert await wants.next() == {}
        await pub.rooms.ingest.publish({"type": "post", "text": "nothing to do with it"})
        await pub.settle()
        assert wants.arrived() == []
        (connection,) = pub.rooms.lobby.connections
        assert connection.session.open_requests == 1
        await wants.end()
        await pub.settle()
        assert connection.session.open_requests == 0
        assert await alice.call("manifest")
