"""Whole pubs in this process, on real sockets, who dial each other."""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.config import Settings, load
from pub.ingest.verify import InlineVerifier, Verifier
from pub.net.control import call
from pub.protocol.addresses import Address, format_address
from pub.rpc.context import Pub
from pub.service import Started, doors, life
from pub.service.wiring import World

PATIENCE = 10  # seconds until something that hangs fails the test
HOST = "127.0.0.1"


@asynccontextmanager
async def verify_inline(_count: int, hmac_key: bytes | None = None) -> AsyncIterator[Verifier]:
    yield InlineVerifier(hmac_key)


@dataclass
class Neighbour:
    """A pub that is up. ``rooms`` are its rooms; its operator uses the control socket."""

    settings: Settings
    rooms: Pub

    @property
    def id(self) -> str:
        return self.rooms.keys.id

    @property
    def address(self) -> Address:
        assert self.rooms.address is not None
        return self.rooms.address

    async def ask(self, name: str, *args: Any) -> Any:
        return await call(self.settings.socket, tuple(name.split(".")), list(args))

    async def follow(self, other: "Neighbour") -> None:
        await self.ask("friends.follow", other.id)

    async def connect(self, address: Address) -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask("conn.connect", format_address(address))
        return answer

    async def post(self, text: str) -> None:
        await self.rooms.ingest.publish({"type": "post", "text": text})

    def texts_of(self, other: "Neighbour") -> list[bytes]:
        """The posts of ``other`` that have arrived here, as stored."""
        feed = self.rooms.log.numbers.get(other.rooms.keys.public)
        messages = [] if feed is None else self.rooms.log.page(feed, 0, 1 << 30)
        return [message for message in messages if b'"type":"post"' in message]

    def directions(self) -> list[str]:
        """Of every connection with a peer, who dialled."""
        return ["out" if each.peer.is_outgoing else "in" for each in self.rooms.lobby.connections if each.peer.key]


class Town:
    """The pubs of one test, each in its folder; open one again and it is the same after a restart."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._lives = 0
        self._rooms: dict[Path, Pub] = {}
        make = doors.host_of

        def make_and_remember(pub: Pub, settings: Settings) -> Any:
            self._rooms[settings.data] = pub
            return make(pub, settings)

        monkeypatch.setattr(life, "host_of", make_and_remember)

    def port_of(self, name: str) -> int:
        """The same for every life of a pub, and known before the first."""
        if name not in self._ports:
            with socket.socket() as listener:
                listener.bind((HOST, 0))
                self._ports[name] = listener.getsockname()[1]
        return self._ports[name]

    @asynccontextmanager
    async def open(self, name: str, **flags: Any) -> AsyncIterator[Neighbour]:
        """A pub whose life is this block; ``flags`` are settings with __ for the dot."""
        folder = self._folder / name
        given = {key.replace("__", "."): value for key, value in flags.items()}
        here = {"network.host": HOST, "network.port": self.port_of(name), "operations.host": ""}
        settings = load(environ={}, data=folder, flags=here | given)
        self._lives += 1
        world = World(random_bytes=random.Random(f"{name} {self._lives}").randbytes, open_verifiers=verify_inline)
        is_up, stop = trio.Event(), trio.Event()

        def announce(_started: Started) -> None:
            is_up.set()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(life.run, settings, announce, world, stop.wait)
                await is_up.wait()
                yield Neighbour(settings, self._rooms[folder])
                stop.set()


async def until(is_true: Callable[[], bool]) -> None:
    """Returns when it is; the test's patience ends it otherwise."""
    while not is_true():  # noqa: ASYNC110 - rooms that are looked at from outside ring no bell
        await trio.sleep(0.005)
