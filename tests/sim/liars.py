"""People who do not play by the rules. Each comes back again and again; none may cost anybody else anything.

A behaviour is one function: what somebody does on one connection. ``BEHAVIOURS`` names them.
"""

import json
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import trio

from pub.protocol.ebt import decode_note, encode_note
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id, feed_key
from tests.pubs import ClientStream
from tests.sim.clock import chance
from tests.sim.machines import Machine, Surroundings
from tests.sim.network import HostNetwork
from tests.sim.trace import who
from tests.sim.visits import Caller, visit

STAY = (5.0, 30.0, 90.0, math.inf)  # seconds on one connection, one of these
PAUSE = (1.0, 20.0)
AHEAD = 50  # messages more than there are, as a boaster says
BEYOND_NOTES = [2**31, 2**40, -2, 1.5, None, "3", True]

Lie = Callable[["Liar", Caller], Awaitable[None]]


class Liar:
    """``behaviour`` is what it does to ``pub``."""

    def __init__(self, around: Surroundings, name: str, pub: Machine, behaviour: Lie) -> None:
        self.around = around
        self.name = name
        self.rng: random.Random = chance(around.seed, name)
        self.pub = pub
        self._behaviour = behaviour
        self._keys = KeyPair.generate(self.rng.randbytes(32))
        around.trace.name(self._keys.public, name)

    async def run(self) -> None:
        """For ever."""
        who.set(self.name)
        network = HostNetwork(self.around.network, self.name)
        while True:
            slowness = 1e6 if self._behaviour is be_mute else 0.0  # its wire fills
            await visit(network, self.pub, self._keys, self.rng, self._talk, slowness)
            await trio.sleep(self.rng.uniform(*PAUSE))

    async def _talk(self, client: Caller) -> None:
        with trio.move_on_after(self.rng.choice(STAY)):
            await self._behaviour(self, client)
            await trio.sleep_forever()

    def victims(self) -> list[bytes]:
        """The feeds of others: of people and of other pubs."""
        return [key for key in self.around.ledger.written if key != self.pub.key]

    def length(self, key: bytes) -> int:
        return len(self.around.ledger.written[key])


async def _open(client: Caller) -> ClientStream:
    stream = await client.open("ebt.replicate", {"version": 3, "format": "classic"}, body_limit=1 << 23)
    await stream.next_body()
    return stream


async def _boast(liar: Liar, stream: ClientStream, keys: list[bytes]) -> None:
    receive = liar.rng.random() < 0.5
    await stream.send({feed_id(key): encode_note(liar.length(key) + AHEAD, receive) for key in keys})


async def boast(liar: Liar, client: Caller) -> None:
    """Has more of everything than anybody, and never sends any of it."""
    await _boast(liar, await _open(client), liar.victims())


async def claim_the_pubs_feed(liar: Liar, client: Caller) -> None:
    """Has more of the pub's own feed than the pub."""
    await _boast(liar, await _open(client), [liar.pub.key])


async def _answer(liar: Liar, client: Caller, spoil: Callable[[Liar, bytes, int], bytes | None]) -> None:
    """Boast, and send something ``spoil``ed of each feed that the pub then asks for."""
    stream = await _open(client)
    await _boast(liar, stream, liar.victims())
    while True:
        frame = msgspec.json.decode(await stream.next_body())
        for text, number in frame.items() if "content" not in frame else ():
            note = decode_note(number)
            if note is not None and note.replicate and note.receive:
                body = spoil(liar, feed_key(text), note.sequence)
                if body is not None:
                    await stream.send(body)


def _forged(liar: Liar, key: bytes, after: int) -> bytes | None:
    """The next message, with other words under the same signature."""
    written = liar.around.ledger.written.get(key, [])
    if after >= len(written):
        return None
    message = json.loads(written[after])
    message["content"] = {"type": "post", "text": "what was never said"}
    return msgspec.json.encode(message)


def _far_ahead(liar: Liar, key: bytes, after: int) -> bytes | None:
    """A true message, but not the next one."""
    written = liar.around.ledger.written.get(key, [])
    return written[after + 1] if after + 1 < len(written) else None


async def babble(liar: Liar, client: Caller) -> None:
    """Speaks of thousands of feeds that nobody knows, in notes that are none."""
    stream = await _open(client)
    for _ in range(5):
        unknown = {feed_id(liar.rng.randbytes(32)): encode_note(liar.rng.randrange(1 << 29), True) for _ in range(500)}
        await stream.send(unknown)
        await stream.send({feed_id(key): liar.rng.choice(BEYOND_NOTES) for key in liar.victims()})
        await trio.sleep(liar.rng.uniform(0, 5))


async def be_mute(liar: Liar, client: Caller) -> None:
    """Asks for everything from its beginning, and reads nothing of it."""
    await client.open("ebt.replicate", {"version": 3, "format": "classic"})
    stream = await client.open("ebt.replicate", {"version": 3, "format": "classic"})
    await stream.send({feed_id(key): encode_note(0, True) for key in liar.around.ledger.written})


async def ramble(liar: Liar, client: Caller) -> None:
    """Sends what is nothing at all."""
    stream = await _open(client)
    for body in (b"[]", b'{"author":1,"sequence":2,"content":{}}', b"17", liar.rng.randbytes(100)):
        await stream.send(body)
        await trio.sleep(1)


BEHAVIOURS: dict[str, Lie] = {
    "boaster": boast,
    "claimant": claim_the_pubs_feed,
    "forger": partial(_answer, spoil=_forged),
    "skipper": partial(_answer, spoil=_far_ahead),
    "babbler": babble,
    "mute": be_mute,
    "rambler": ramble,
}
