"""Alice and Bob, two members who go on with their lives while odd peers visit the pub.

A process of its own, so that a test which is busy being odd does not make them late. Alice says something several
times a second; whenever Bob has got one of her messages, a line goes to standard output: when it was said, and how
long it took (seconds of the monotonic clock, which all processes of a machine share).
"""

import json
import sys
import time
from pathlib import Path

import msgspec
import trio

from pub.errors import RpcError
from pub.net.control import call
from pub.protocol.classic import Head, Message, create
from pub.protocol.ebt import decode_note, encode_note
from pub.protocol.muxrpc import Kind
from pub.protocol.refs import feed_key
from tests.service.people import Visitor, dial, person

BEAT_SECONDS = 0.1

ALICE = person("alice, who writes")
BOB = person("bob, who reads")


class Writer:
    """Alice: sends her feed as far as the pub asks for it."""

    def __init__(self, visitor: Visitor) -> None:
        self.feed: list[Message] = []
        self._sent: int | None = None
        self._stream = visitor.connection.open_stream(("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX, 1 << 24)
        self._stream.receiver = self._stream.source = self
        self._stream.send({ALICE.id: encode_note(0, receive=True)})

    def say(self, said: float) -> None:
        head: Head | None = self.feed[-1].head if self.feed else None
        self.feed.append(create(ALICE, head, {"type": "beat", "said": said}, time.time() * 1000))
        self._stream.wake()

    async def receive(self, bodies: list[bytes]) -> None:
        for body in bodies:
            note = decode_note(msgspec.json.decode(body).get(ALICE.id))
            if note is not None and note.receive and self._sent is None:
                self._sent = note.sequence
                self._stream.wake()

    def ended(self, error: RpcError | None) -> None:
        raise SystemExit(f"the pub ended Alice's stream: {error}")

    def next_page(self, _budget: int) -> list[bytes]:
        if self._sent is None:
            return []
        page = [message.encoded for message in self.feed[self._sent :]]
        self._sent += len(page)
        return page


class Reader:
    """Bob: tells whoever started this process what he hears from Alice, and when."""

    def __init__(self, visitor: Visitor) -> None:
        stream = visitor.connection.open_stream(("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX, 1 << 24)
        stream.receiver = self
        stream.send({ALICE.id: encode_note(0, receive=True)})

    async def receive(self, bodies: list[bytes]) -> None:
        now = time.monotonic()
        for body in bodies:
            frame = msgspec.json.decode(body)
            if "content" in frame:
                said = frame["content"]["said"]
                print(json.dumps({"said": said, "seconds": now - said}), flush=True)

    def ended(self, error: RpcError | None) -> None:
        raise SystemExit(f"the pub ended Bob's stream: {error}")


async def live(socket: Path, pub: str, port: int) -> None:
    for member in (ALICE, BOB):
        await call(socket, ("friends", "follow"), [member.id])
    async with (
        dial("127.0.0.1", port, feed_key(pub), ALICE) as alice,
        dial("127.0.0.1", port, feed_key(pub), BOB) as bob,
    ):
        writer = Writer(alice)
        Reader(bob)
        while True:
            writer.say(time.monotonic())
            await trio.sleep(BEAT_SECONDS)


if __name__ == "__main__":
    trio.run(live, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
