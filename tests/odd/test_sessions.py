"""Whole sessions of a member with random mutations, at every layer: the wire, the boxes, the packets, the JSON.

A failure names its seed; ``ODD_SEED=<seed>`` replays it. One of the seeds is new in every run.
"""

import os
import random
from collections.abc import Callable, Iterator

import msgspec
import pytest
import trio

from pub.errors import HandshakeError
from pub.protocol.classic import create
from pub.protocol.ebt import encode_note
from pub.protocol.keys import KeyPair
from pub.protocol.packets import GOODBYE
from tests.odd.house import House
from tests.odd.lines import DUPLEX, EBT, END, JSON, STREAM, Line, Wrapped, knock, packet, request, shake_hands
from tests.odd.members import ALICE

pytestmark = pytest.mark.slow

SESSIONS = 40
SEEDS = [int(os.environ["ODD_SEED"])] if "ODD_SEED" in os.environ else [1, 2, random.SystemRandom().randrange(1 << 32)]
NOON = 1_700_000_000_000.0
ODD_VALUES: list[object] = [
    *(None, True, -1, 0, 2**31, 2**53, 2**64, 1e308, 0.1, "", "\0", "x" * 1000, "__proto__", [], {}, [[[]]], {"a": {}}),
]

Rng = random.Random
Mutation = Callable[[Rng, list[bytes]], list[bytes]]


def session(rng: Rng, keys: KeyPair) -> Iterator[bytes]:
    """What a client of some kind says in one visit, packet by packet."""
    first = create(keys, None, {"type": "post", "text": "hello"}, NOON)
    yield request(1, "manifest")
    yield request(2, "gossip.ping", {"timeout": 300_000}, kind=DUPLEX)
    yield packet(2, 1_700_000_000_000, STREAM | JSON)
    yield request(3, "blobs.createWants", kind="source")
    yield packet(4, EBT, STREAM | JSON)
    yield packet(4, {keys.id: encode_note(1, receive=True), ALICE.id: encode_note(0, receive=True)}, STREAM | JSON)
    yield packet(4, first.encoded, STREAM | JSON)
    for number in range(5, 5 + rng.randrange(10)):
        yield request(
            number, "createHistoryStream", {"id": ALICE.id, "live": True, "seq": rng.randrange(9)}, kind="source"
        )
    yield request(30, "whoami")
    yield packet(5, b"true", STREAM | JSON | END)
    yield packet(4, {ALICE.id: -1}, STREAM | JSON)
    yield GOODBYE


# --- mutations of a list of byte strings, whatever they are -------------------------------------------------------


def flip(rng: Rng, parts: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(parts))
    part = bytearray(parts[at])
    for _ in range(rng.randrange(1, 4)):
        part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
    return [*parts[:at], bytes(part), *parts[at + 1 :]]


def repeat(rng: Rng, parts: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(parts))
    return [*parts[:at], *[parts[at]] * rng.randrange(2, 50), *parts[at:]]


def leave_out(rng: Rng, parts: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(parts))
    return parts[:at] + parts[at + 1 :]


def shuffle(rng: Rng, parts: list[bytes]) -> list[bytes]:
    return rng.sample(parts, len(parts))


def cut(rng: Rng, parts: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(parts))
    return [*parts[:at], parts[at][: rng.randint(1, len(parts[at]))], *parts[at + 1 :]]


def stop(rng: Rng, parts: list[bytes]) -> list[bytes]:
    return parts[: rng.randrange(len(parts))]


def stuff(rng: Rng, parts: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(parts) + 1)
    return [*parts[:at], rng.randbytes(rng.choice([1, 9, 34, 100, 5000])), *parts[at:]]


# --- mutations of packets -----------------------------------------------------------------------------------------


def renumber(rng: Rng, parts: list[bytes]) -> list[bytes]:
    """Another flag, length or request number in the header of a packet."""
    at = rng.randrange(len(parts))
    header = bytearray(parts[at][:9])
    header[rng.randrange(len(header))] = rng.choice([0, 1, 8, 10, 14, 255])
    return [*parts[:at], bytes(header) + parts[at][9:], *parts[at + 1 :]]


def rewrite(rng: Rng, parts: list[bytes]) -> list[bytes]:
    """Another value somewhere in the JSON of a packet."""
    at = rng.randrange(len(parts))
    header, body = parts[at][:9], parts[at][9:]
    try:
        value = msgspec.json.encode(changed(rng, msgspec.json.decode(body)))
    except msgspec.DecodeError:  # another mutation was here before
        return parts
    return [*parts[:at], header[:1] + len(value).to_bytes(4, "big") + header[5:] + value, *parts[at + 1 :]]


def changed(rng: Rng, value: object) -> object:
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {str(rng.choice(ODD_VALUES)) if each == key else each: value[each] for each in value}
        return value | {key: changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice(ODD_VALUES)


ANYWHERE: list[Mutation] = [flip, repeat, leave_out, shuffle, cut, stop, stuff]
PACKETS: list[Mutation] = [*ANYWHERE, renumber, renumber, rewrite, rewrite, rewrite]


class Mutator(Wrapped):
    """Changes one write, the one that is number ``which``; 0: none."""

    def __init__(self, rng: Rng, stream: trio.abc.Stream, which: int) -> None:
        super().__init__(stream)
        self._rng = rng
        self._left = which

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._left -= 1
        parts = [bytes(data)]
        if self._left == 0:
            parts = self._rng.choice(ANYWHERE)(self._rng, parts)
        for part in parts:
            await self.stream.send_all(part)


async def visit(house: House, rng: Rng, keys: KeyPair) -> None:
    """One session: mutated in its packets, or on the wire from the first hello to the last box, or not at all."""
    packets = list(session(rng, keys))
    is_on_the_wire = rng.random() < 0.3
    for _ in range(0 if is_on_the_wire else rng.randrange(4)):
        packets = rng.choice(PACKETS)(rng, packets) or packets
    transport = await knock(house)
    try:
        with trio.move_on_after(0.5):
            await _converse(
                house, Mutator(rng, transport, rng.randrange(1, 20) if is_on_the_wire else 0), packets, keys
            )
    finally:
        await trio.aclose_forcefully(transport)


async def _converse(house: House, transport: Mutator, packets: list[bytes], keys: KeyPair) -> None:
    try:
        line = Line(await shake_hands(house, transport, keys))
    except (HandshakeError, trio.BrokenResourceError):
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.rest)
        for data in packets:
            await line.send(data)


@pytest.mark.parametrize("seed", SEEDS)
async def test_sessions_with_mutations(house: House, seed: int) -> None:
    rng = Rng(seed)
    members = [KeyPair.generate(rng.randbytes(32)) for _ in range(20)]
    for keys in members[:10]:
        await house.ask("friends", "follow", args=[keys.id])
    try:
        async with house.watched(lines=40, alarms=("feed_forked",)):
            for _ in range(SESSIONS // 5):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(visit, house, rng, rng.choice(members))
    except BaseException as error:
        error.add_note(f"ODD_SEED={seed}")
        raise
