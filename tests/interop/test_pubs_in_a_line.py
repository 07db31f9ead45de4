"""Three pubs of ours and one ssb-server in a line: A - B - C - S. Each pub follows its neighbours only, and
Alice at the one end and the server at the other follow each other.

A dials B (it stands in A's settings), B dials C (its operator said so once), C dials S, and nobody tells them again.
"""

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from tests.interop.clients import Client
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub, open_pub
from tests.interop.steps import follow, join, post, until


class Line:
    """The line while it runs: ``alice`` is a member at its one end, ``server`` is the other end."""

    def __init__(self, pubs: list[Pub], alice: Client, server: "Server") -> None:
        self.pubs = pubs
        self.alice = alice
        self.server = server

    async def restart(self, number: int) -> None:
        if number < len(self.pubs):
            await self.pubs[number].restart()
        else:
            await self.server.restart()
        if number == 0:
            await self.alice.call("connect", self.pubs[0].address)

    async def carries_both_ways(self, text: str) -> None:
        server = self.server.client
        to_server, to_alice = await post(self.alice, text), await post(server, text)
        await server.call("wait-message", to_server)
        await self.alice.call("wait-message", to_alice)


class Server:
    """ssb-server on a port of its own, for as often as it is started."""

    def __init__(self, client: Opener, nursery: trio.Nursery) -> None:
        self.client: Client
        self._open = client
        self._nursery = nursery
        self._leave = trio.Event()
        self._has_left = trio.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def address(self) -> str:
        return f"net:127.0.0.1:{self._port}~shs:{self.client.feed[1:].removesuffix('.ed25519')}"

    async def start(self) -> None:
        self._leave, self._has_left = trio.Event(), trio.Event()
        self.client = await self._nursery.start(self._run)

    async def stop(self) -> None:
        self._leave.set()
        await self._has_left.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _run(self, *, task_status: trio.TaskStatus[Client]) -> None:
        async with self._open("server", "server", port=self._port) as client:
            task_status.started(client)
            await self._leave.wait()
        self._has_left.set()


@contextlib.asynccontextmanager
async def open_line(folder: Path, client: Opener) -> AsyncIterator[Line]:
    async with contextlib.AsyncExitStack() as stack:
        server = Server(client, await stack.enter_async_context(trio.open_nursery()))
        await server.start()
        stack.push_async_callback(server.stop)
        c = await stack.enter_async_context(open_pub(folder / "c"))
        b = await stack.enter_async_context(open_pub(folder / "b"))
        a = await stack.enter_async_context(open_pub(folder / "a", connections={"peers": [b.address]}))
        pubs = [a, b, c]
        for one, other in ((a, b), (b, c)):
            await one.json("follow", other.id)
            await other.json("follow", one.id)
        await c.json("follow", server.client.feed)
        alice = await stack.enter_async_context(client("db2", "alice"))
        await follow(server.client, c.id, alice.feed)
        await b.json("connect", c.address)
        await c.json("connect", server.address)
        await follow(alice, server.client.feed)
        await join(alice, a)
        yield Line(pubs, alice, server)


async def test_messages_go_from_end_to_end_whoever_restarts(tmp_path: Path, client: Opener) -> None:
    async with open_line(tmp_path, client) as line:
        await line.carries_both_ways("before")
        for number in range(4):
            await line.restart(number)
            await line.carries_both_ways(f"after restart {number}")


async def test_two_pubs_that_dial_each_other_keep_one_connection(tmp_path: Path, client: Opener) -> None:
    async with open_pub(tmp_path / "a") as a, open_pub(tmp_path / "b") as b:
        await a.json("follow", b.id)
        await b.json("follow", a.id)
        await a.json("connect", b.address)
        await b.json("connect", a.address)
        await a.restart()  # which both of them notice, and dial

        async def are_one() -> bool:
            ours, theirs = await a.connected(b.id), await b.connected(a.id)
            return [each["direction"] for each in (*ours, *theirs)] in (["in", "out"], ["out", "in"])

        await until(are_one)
        async with client("classic", "alice") as alice, client("db2", "bob") as bob:
            await follow(bob, alice.feed)
            await join(alice, a)
            await join(bob, b)
            await bob.call("wait-message", await post(alice, "through both"))
        assert await are_one()
