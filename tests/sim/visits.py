"""One connection of somebody to a pub: dial, shake hands, talk, and leave; or be left at any point of that."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from pub.errors import PubError
from pub.net.stream import open_handshake
from pub.protocol.keys import KeyPair
from pub.protocol.shs import MAIN_NETWORK
from tests.pubs import Client, Ended
from tests.sim.machines import PORT, Machine
from tests.sim.network import HostNetwork

CONNECT_SECONDS = 10.0
HANDSHAKE_SECONDS = 5.0
KEEPALIVE_SECONDS = 20.0  # of a phone: it wants to know soon whether it is still connected
GOODBYE_SECONDS = 1.0
LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, PubError, Ended)


class Caller(Client):
    """A client whose ``bell`` rings when the pub asks for something."""

    bell: trio.Event

    def _take(self, event: object) -> None:
        super()._take(event)
        self.bell.set()


Talk = Callable[[Caller], Awaitable[None]]


async def visit(
    network: HostNetwork, machine: Machine, keys: KeyPair, rng: random.Random, talk: Talk, slowness: float = 0.0
) -> None:
    """Dial as ``keys`` and ``talk``, which is cancelled when the connection is lost. Returns when all is over."""
    try:
        with trio.fail_after(CONNECT_SECONDS):
            transport = await network.connect(machine.host, PORT)
        network.keep_alive(transport, KEEPALIVE_SECONDS)
        with trio.fail_after(HANDSHAKE_SECONDS):
            stream = await open_handshake(transport, keys, MAIN_NETWORK, rng.randbytes(32), machine.key)
    except LOST:
        return
    transport.slowness = slowness
    client = Caller(stream, keys.id)
    client.bell = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, client, nursery.cancel_scope)
            await talk(client)
            nursery.cancel_scope.cancel()
    except* LOST:
        pass
    finally:
        await _leave(client, transport)


async def _listen(client: Caller, talk: trio.CancelScope) -> None:
    await client.run()
    talk.cancel()


async def _leave(client: Caller, transport: trio.abc.Stream) -> None:
    """With a goodbye, if it can be said."""
    with trio.CancelScope(shield=True):
        with trio.move_on_after(GOODBYE_SECONDS):
            with suppress(*LOST):
                await client.close()
        await trio.aclose_forcefully(transport)
