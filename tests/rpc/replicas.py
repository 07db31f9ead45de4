"""Peers who speak EBT by hand, and two pubs on one line."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import trio
import trio.testing

from pub.errors import RpcError
from pub.net.connection import Connection
from pub.net.peer import contained, serve_connection
from pub.net.roles import Peer
from pub.protocol.classic import Message
from pub.protocol.ebt import encode_note
from pub.rpc import ebt
from pub.service.doors import role_of
from tests.ingest.people import Author
from tests.pubs import ADDRESS, Client, ClientStream, RunningPub

VERSION_3 = {"version": 3, "format": "classic"}
ROUNDS = 100  # of settling, until what should have happened by then is given up


class Replica:
    """One session with the pub, opened by the peer. ``notes`` are the pub's last words on each feed."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self.notes: dict[str, int] = {}
        self.messages: list[Any] = []

    async def next(self) -> Any:
        """The next frame, filed under notes or messages."""
        frame = await self.stream.next()
        self._file(frame)
        return frame

    async def next_message(self) -> Any:
        while "author" not in (frame := await self.next()):
            pass
        return frame

    async def note_on(self, author: Author | RunningPub) -> int:
        """The pub's next word on this feed."""
        while name_of(author) not in (frame := await self.next()):
            pass
        return int(frame[name_of(author)])

    async def say(self, author: Author | RunningPub, sequence: int, receive: bool = True) -> None:
        await self.stream.send({name_of(author): encode_note(sequence, receive)})

    async def hand_over(self, messages: Sequence[Message | bytes]) -> None:
        """All messages in one write."""
        await self.stream.send(*(each if isinstance(each, bytes) else each.encoded for each in messages))

    def arrived(self) -> list[Any]:
        """Frames that came since, filed."""
        frames = self.stream.arrived()
        for frame in frames:
            self._file(frame)
        return frames

    def _file(self, frame: dict[str, Any]) -> None:
        if "author" in frame:
            self.messages.append(frame)
        else:
            self.notes |= frame


def name_of(author: Author | RunningPub) -> str:
    return author.id if isinstance(author, RunningPub) else author.keys.id


async def replicate(client: Client) -> Replica:
    """Open a session; it is the pub who speaks first."""
    replica = Replica(await client.open("ebt.replicate", VERSION_3))
    await replica.next()
    return replica


async def end_of(replica: Replica) -> RpcError | None:
    """How the pub ended the session."""
    try:
        await replica.stream.rest()
    except RpcError as error:
        return error
    return None


@asynccontextmanager
async def dial(caller: RunningPub, callee: RunningPub) -> AsyncIterator[None]:
    """``caller`` has dialled ``callee`` and asks it to replicate, as our dialler does; one line, two whole pubs."""
    near, far = trio.testing.memory_stream_pair()
    greet: Callable[[Connection], None] = partial(ebt.call, caller.rooms)
    over = trio.Event()

    async def serve(pub: RunningPub, other: RunningPub, stream: trio.abc.Stream) -> None:
        host = replace(pub.host, greet=greet) if pub is caller else pub.host
        role = role_of(pub.rooms, other.rooms.keys.public)
        assert role is not None
        with contained(pub.rooms.metrics, ADDRESS):
            await serve_connection(host, stream, Peer(other.rooms.keys.public, role, ADDRESS))
        over.set()

    caller.nursery.start_soon(serve, caller, callee, near)
    callee.nursery.start_soon(serve, callee, caller, far)
    yield
    await near.aclose()
    await over.wait()


async def eventually(is_so: Callable[[], bool], *pubs: RunningPub) -> None:
    for _ in range(ROUNDS):
        if is_so():
            return
        for pub in pubs:
            await pub.settle()
    raise AssertionError("it did not happen")
