"""Odd peers who send as fast as they can, in a process of their own: the test itself could not be so fast.

Arguments: the pub's id and port, how many peers, and which of ``FLOODS`` they send. Every other one reads what comes.
"""

import sys

import trio

from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import MAX_OPEN_REQUESTS
from pub.protocol.refs import feed_id, feed_key
from tests.odd.lines import DUPLEX, EBT, END, JSON, RNG, STREAM, packet, request
from tests.odd.lines import shake_hands_with as enter

PING = ("gossip.ping", {"timeout": 1})


def many(one: bytes) -> bytes:
    return one * ((1 << 20) // len(one))


OPENED = b"".join(request(number, *PING, kind=DUPLEX) for number in range(1, MAX_OPEN_REQUESTS))
CLOCK = {feed_id(RNG.randbytes(32)): 2 for _ in range(130_000)}

# how the flood begins, and what is then sent for ever
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "empty": (b"", many(packet(5, b""))),
    "requests": (b"", many(packet(5, b"{}"))),
    "streams": (b"", b"".join(packet(number, b"{}", STREAM | JSON) for number in range(1, 50_000))),
    "answers": (b"", many(packet(-5, b"1"))),
    "ends": (b"", many(packet(5, b"1", STREAM | JSON | END))),
    "names": (b"", many(packet(5, {"name": ["x" * 60_000], "args": []}))),
    "lists": (b"", many(packet(5, b'{"args":[' + b"[]," * 20_000 + b"1]}"))),
    "pings": (request(1, *PING, kind=DUPLEX), many(packet(1, b"1", STREAM | JSON))),
    "notes": (packet(1, EBT, STREAM | JSON), many(packet(1, b"{}", STREAM | JSON))),
    "clocks": (packet(1, EBT, STREAM | JSON), packet(1, CLOCK, STREAM | JSON)),
    "histories": (b"", many(request(5, "createHistoryStream", {"id": KeyPair.generate(bytes(32)).id}, kind="source"))),
    "opened": (OPENED, many(packet(7, b"1", STREAM | JSON))),
    "manifest": (b"", b"".join(request(number, "manifest") for number in range(1, 20_000))),
}


async def flood(key: bytes, port: int, name: str, reads: bool) -> None:
    while True:
        secret = await enter(await trio.open_tcp_stream("127.0.0.1", port), key)
        print("in", flush=True)  # whoever started this waits for the first one
        before, data = FLOODS[name]
        async with trio.open_nursery() as nursery:
            if reads:
                nursery.start_soon(_read, secret)
            try:
                await secret.send_all(before)
                while True:
                    await secret.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(secret.transport)


async def _read(stream: trio.abc.Stream) -> None:
    try:
        while await stream.receive_some():
            pass
    except Exception:
        return


async def main(pub: str, port: int, peers: int, name: str) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(peers):
            nursery.start_soon(flood, feed_key(pub), port, name, number % 2 == 0)


if __name__ == "__main__":
    RNG.seed(sys.argv[4])
    trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
