"""People whose clients know no EBT, and what the pub asks of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from pub.errors import RpcError
from pub.net.peer import contained, serve_connection
from pub.net.roles import Peer, Role
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import Kind, RequestReceived
from tests.ingest.people import Author
from tests.pubs import Client, ClientStream, RunningPub, connect

NAME = ("createHistoryStream",)


def options_of(client: Client) -> list[dict[str, Any]]:
    """What the pub asked for, in order."""
    return [request.args[0] for request in client.asked if request.name == NAME]


def ids_of(client: Client) -> set[str]:
    return {asked["id"] for asked in options_of(client)}


def answer(client: Client, author: Author) -> ClientStream:
    """The stream in which the pub waits for this feed; the last one, if there were several."""
    requests = [each for each in client.asked if each.name == NAME and each.args[0]["id"] == author.keys.id]
    return client.accept(requests[-1])


async def is_over(stream: ClientStream) -> bool:
    """Has the pub ended it?"""
    with trio.move_on_after(0.05):
        await stream.rest()
        return True
    return False


async def give_cue(client: Client) -> ClientStream:
    """What a client without EBT says first."""
    return await client.open("createHistoryStream", {"id": client.feed, "live": True}, kind=Kind.SOURCE)


def encoded(author: Author) -> list[bytes]:
    return [message.encoded for message in author.messages]


@asynccontextmanager
async def dialled(pub: RunningPub, keys: KeyPair) -> AsyncIterator[Client]:
    """Somebody whom the pub has dialled."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = Peer(keys.public, Role.STRANGER, "192.0.2.1", is_outgoing=True)

    async def serve() -> None:
        with contained(pub.rooms.metrics, peer.address):
            await serve_connection(pub.host, theirs, peer)
        await theirs.aclose()

    pub.nursery.start_soon(serve)
    async with trio.open_nursery() as nursery, Client(ours, keys.id) as client:
        nursery.start_soon(client.run)
        await pub.settle()
        yield client


def request_for(client: Client, *name: str) -> RequestReceived:
    [request] = [each for each in client.asked if each.name == name]
    return request


async def refuse(client: Client, request: RequestReceived, text: str) -> None:
    await client.send(client.session.fail(request.number, RpcError(text)))


@asynccontextmanager
async def alice_is_asked(pub: RunningPub, *others: Author) -> AsyncIterator[tuple[Author, Client]]:
    alice = Author("alice")
    await pub.follow(alice.keys.public, *(other.keys.public for other in others))
    async with connect(pub, alice.keys) as client:
        await give_cue(client)
        await pub.settle()
        yield alice, client
