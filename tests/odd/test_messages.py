"""Odd messages of a member: refused one and all, and the member may go on with good ones.

Each case has a member of its own, who writes one good message, then the odd one in the place of the second, and comes
back with a good second one. What the pub then has of that feed is the two good ones.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pub.protocol import canonical
from pub.protocol.classic import MAX_WIRE_BYTES, Message, create
from pub.protocol.ebt import decode_note, encode_note
from pub.protocol.keys import KeyPair
from pub.protocol.refs import message_id
from tests.odd.house import House
from tests.odd.lines import EBT, JSON, STREAM, Line, begin_ebt, enter, packet, somebody

pytestmark = pytest.mark.slow

NOON = 1_700_000_000_000.0
MALLORY = somebody()
Fields = dict[str, Any]
Forge = Callable[[KeyPair, Fields], bytes]


def first(keys: KeyPair) -> Message:
    return create(keys, None, {"type": "post", "text": "one"}, NOON)


def good(keys: KeyPair) -> Fields:
    """The fields of a good second message, without its signature."""
    return {
        "previous": message_id(first(keys).id),
        "author": keys.id,
        "sequence": 2,
        "timestamp": NOON + 1,
        "hash": "sha256",
        "content": {"type": "post", "text": "two"},
    }


def signed(keys: KeyPair, fields: Fields, suffix: str = ".sig.ed25519", extra: bytes = b"") -> bytes:
    signature = keys.sign(canonical.indented(fields).encode("utf-8", "replace")) + extra
    return canonical.compact(fields | {"signature": base64.b64encode(signature).decode() + suffix}).encode()


def but(**changes: Any) -> Forge:
    """A good message but for these fields; signed by its author as it is."""
    return lambda keys, fields: signed(keys, fields | changes)


def saying(content: object) -> Forge:
    return but(content=content)


def spelled(old: bytes, new: bytes) -> Forge:
    """A good message in which this is changed on the wire."""
    return lambda keys, fields: signed(keys, fields).replace(old, new)


def without(name: str) -> Forge:
    return lambda keys, fields: signed(keys, {key: value for key, value in fields.items() if key != name})


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return {"type": "post", "deep": value}


def stretched(keys: KeyPair, fields: Fields, size: int) -> bytes:
    return signed(keys, fields)[:-1] + b" " * size + b"}"


def reordered(keys: KeyPair, fields: Fields) -> bytes:
    return signed(keys, dict(sorted(fields.items())))


def bent(at: int) -> Forge:
    """A byte of the signature is another."""

    def forge(keys: KeyPair, fields: Fields) -> bytes:
        message = msgspec.json.decode(signed(keys, fields))
        signature = bytearray(base64.b64decode(message["signature"][:88]))
        signature[at] ^= 1
        message["signature"] = base64.b64encode(signature).decode() + ".sig.ed25519"
        return msgspec.json.encode(message)

    return forge


REFUSED: dict[str, Forge] = {
    "forged by somebody else": lambda _keys, fields: signed(MALLORY, fields),
    "signature of zeros": lambda keys, fields: signed(keys, fields)[:-103] + b"A" * 86 + b'==.sig.ed25519"}',
    "first byte of the signature": bent(0),
    "last byte of the signature": bent(63),
    "signature of 65 bytes": lambda keys, fields: signed(keys, fields, extra=b"\0"),
    "signature of 66 bytes": lambda keys, fields: signed(keys, fields, extra=b"\0\0"),
    "signature twice": lambda keys, fields: signed(keys, fields, extra=keys.sign(b"")),
    "signature of another kind": lambda keys, fields: signed(keys, fields, suffix=".sig.sha256"),
    "signature with a tail": lambda keys, fields: signed(keys, fields, suffix=".sig.ed25519 "),
    "another text under the signature": spelled(b"two", b"TWO"),
    "type of one letter": saying({"type": "x"}),
    "type too long": saying({"type": "x" * 53}),
    "type that is no text": saying({"type": {"type": "post"}}),
    "no type": saying({"text": "two"}),
    "list": saying([1, 2, 3]),
    "text that is no box": saying("hello"),
    "box that is no base64": saying("====.box"),
    "deep content": saying(deep(70)),
    "very deep content": lambda keys, fields: signed(keys, fields).replace(b'"two"', b"[" * 2000 + b"]" * 2000),
    "invalid utf-8": spelled(b"two", b"\xff\xfe\xc0"),
    "null byte": spelled(b"two", b"\0"),
    "number beyond all": spelled(b'"two"', b"1e999"),
    "not a number": spelled(b'"two"', b"NaN"),
    "leading zero": spelled(b'"two"', b"007"),
    "hash of another kind": but(hash="sha1"),
    "one field more": lambda keys, fields: signed(keys, fields | {"extra": 1}),
    "no hash": without("hash"),
    "no timestamp": without("timestamp"),
    "fields in another order": reordered,
    "too long": saying({"type": "post", "text": "x" * 9000}),
    "padded with space": lambda keys, fields: stretched(keys, fields, MAX_WIRE_BYTES),
    "a megabyte of space": lambda keys, fields: stretched(keys, fields, 1 << 20),
}
ODD_BUT_GOOD: dict[str, Forge] = {
    "type unknown": saying({"type": "made-up-today"}),
    "lone surrogate": saying({"type": "post", "text": "\ud800 and \udfff"}),
    "largest number": saying({"type": "post", "n": [1.7976931348623157e308, 5e-324, 2**53, -0.0]}),
    "names of prototypes": saying({"type": "post", "__proto__": {"a": 1}, "constructor": "x", "toString": None}),
    "numbers for names": saying({"2": 1, "1": 2, "type": "post", "0": 3}),
    "deep, but no deeper than can be": saying(deep(50)),
    "timestamp of the future": but(timestamp=1e300),
    "timestamp that is no number": but(timestamp="yesterday"),
    "two signatures, of which the last counts": spelled(b'"signature":', b'"signature":"","signature":'),
    "spelled with escapes": spelled(b'"two"', rb'"\u0074\u0077\u006f"'),
}


@asynccontextmanager
async def sending(house: House, keys: KeyPair, sequence: int) -> AsyncIterator[Line]:
    """The member is in, has offered that much of its feed, and the pub has asked for it."""
    async with enter(house, keys) as line:
        notes = await begin_ebt(line)
        await line.send(packet(1, {keys.id: encode_note(sequence, receive=True)}, STREAM | JSON))
        while (note := decode_note(notes.get(keys.id))) is None or not note.receive:
            notes = msgspec.json.decode((await line.answer(1)).body)
        yield line


async def noted(line: Line, keys: KeyPair) -> int:
    """What the pub's next word on this feed is: -1, or how far it has it."""
    while True:
        notes = msgspec.json.decode((await line.answer(1)).body)
        if keys.id in notes and "content" not in notes:
            note = decode_note(notes[keys.id])
            return note.sequence if note is not None and note.replicate else -1


async def stored(house: House, keys: KeyPair) -> list[Any]:
    """The messages the pub has of this feed."""
    async with enter(house) as line:
        body = {"name": ["createHistoryStream"], "args": [{"id": keys.id, "keys": False}], "type": "source"}
        await line.send(packet(1, body, STREAM | JSON))
        return [json.loads(each) for each in await line.page(1)]


async def begin_feed(house: House) -> KeyPair:
    """A new member, of whom the pub has one message."""
    keys = somebody()
    await house.ask("friends", "follow", args=[keys.id])
    async with sending(house, keys, 1) as line:
        await line.send(packet(1, first(keys).encoded, STREAM | JSON))
        await house.wait_for_head(keys, 1)
    return keys


@pytest.mark.parametrize("forge", REFUSED.values(), ids=REFUSED)
async def test_an_odd_message(house: House, forge: Forge) -> None:
    keys = await begin_feed(house)
    async with house.watched():
        async with sending(house, keys, 2) as line:
            await line.send(packet(1, forge(keys, good(keys)), STREAM | JSON))
            body = packet(1, {somebody().id: 0}, STREAM | JSON)
            assert not await line.send(body) or await is_refused_or_dropped(line, keys)
        assert len(await stored(house, keys)) == 1
        async with sending(house, keys, 2) as line:
            await line.send(packet(1, signed(keys, good(keys)), STREAM | JSON))
            await house.wait_for_head(keys, 2)


@pytest.mark.parametrize("previous", [message_id(bytes(32)), None, 5], ids=["of another", "null", "a number"])
async def test_a_second_message_that_follows_another(house: House, previous: object) -> None:
    """That is the author's own doing, a fork: the operator is told, and nothing of that branch is stored."""
    keys = await begin_feed(house)
    async with house.watched(alarms=("feed_forked",)):
        async with sending(house, keys, 2) as line:
            await line.send(packet(1, signed(keys, good(keys) | {"previous": previous}), STREAM | JSON))
            assert await noted(line, keys) == -1
        assert len(await stored(house, keys)) == 1


async def is_refused_or_dropped(line: Line, keys: KeyPair) -> bool:
    """Is the pub's next word on this feed that it wants none of it, or is that its last word at all?"""
    try:
        return await noted(line, keys) == -1
    except AssertionError:
        return True


@pytest.mark.parametrize("forge", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD)
async def test_a_message_that_is_odd_but_good(house: House, forge: Forge) -> None:
    """Others have it, and so do we: who refuses what the others take splits the network."""
    keys = await begin_feed(house)
    async with house.watched():
        async with sending(house, keys, 2) as line:
            await line.send(packet(1, forge(keys, good(keys)), STREAM | JSON))
            await house.wait_for_head(keys, 2)
        assert len(await stored(house, keys)) == 2


async def test_messages_out_of_their_place(house: House) -> None:
    """Again, too early, of others, of nobody, of the pub itself: counted, dropped, and the next good one is taken."""
    keys = await begin_feed(house)
    second = signed(keys, good(keys))
    beyond = signed(keys, good(keys) | {"sequence": 7})
    of_the_pub = signed(MALLORY, good(MALLORY) | {"author": (await house.ask("whoami"))["id"]})
    async with house.watched(), sending(house, keys, 2) as line:
        for odd in (first(keys).encoded, first(MALLORY).encoded, signed(MALLORY, good(MALLORY)), of_the_pub):
            await line.send(packet(1, odd, STREAM | JSON) * 500)
        await line.send(packet(1, second, STREAM | JSON) * 500)
        await house.wait_for_head(keys, 2)
        await line.send(packet(1, beyond, STREAM | JSON) * 500)
        assert await line.is_served()


async def test_the_same_message_from_many_at_once(house: House) -> None:
    """Ten connections of ten peers who all say they have it: one copy is stored."""
    keys = await begin_feed(house)
    async with house.watched():
        for _ in range(10):
            async with enter(house) as line:
                await line.send(
                    packet(1, EBT, STREAM | JSON), packet(1, {keys.id: encode_note(2, receive=True)}, STREAM | JSON)
                )
                await line.send(packet(1, signed(keys, good(keys)), STREAM | JSON))
                assert await line.is_served()
        async with sending(house, keys, 2) as line:
            await line.send(packet(1, signed(keys, good(keys)), STREAM | JSON))
        await house.wait_for_head(keys, 2)
        assert [each["sequence"] for each in await stored(house, keys)] == [1, 2]


async def test_thousands_of_forgeries(house: House) -> None:
    """Each costs its feed for that connection, so it takes as many connections; the log is not for counting them."""
    keys = await begin_feed(house)
    forged = signed(MALLORY, good(keys))
    async with house.watched():
        for _ in range(50):
            async with sending(house, keys, 2) as line:
                await line.send(packet(1, forged, STREAM | JSON) * 100)
                assert await noted(line, keys) == -1
        assert len(await stored(house, keys)) == 1
