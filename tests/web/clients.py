"""Whoever asks over HTTP, spelled out in bytes: odd requests are what the tests are about."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import trio
from starlette.types import ASGIApp

from pub.metrics import Metrics
from pub.web.operations import LIMITS
from pub.web.server import HttpServer

PATIENCE = 10  # seconds until something that hangs fails the test


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Site:
    """A server that runs."""

    port: int
    metrics: Metrics

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await get(self.port, path, method, **headers)

    async def send(self, data: bytes) -> bytes:
        """On a connection of its own; all that comes back until the server closes it."""
        async with await self.connect() as stream:
            try:
                await stream.send_all(data)
                return await rest(stream)
            except trio.BrokenResourceError:  # it was closed before it had read all we sent
                return b""

    def hits(self, limit: str) -> int:
        return self.metrics.value("limit_hits_total", limit=limit)


async def rest(stream: trio.SocketStream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


async def get(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask, on a connection that is closed after the answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: pub", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        return parse(await rest(stream))


def parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in headers)
    return Answer(int(status.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, body.decode())


@asynccontextmanager
async def serve(app: ASGIApp, metrics: Metrics | None = None, **limits: float) -> AsyncIterator[Site]:
    """A server whose life is this block; it must end by itself and leave nobody behind."""
    metrics = metrics or Metrics()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    site = Site(listeners[0].socket.getsockname()[1], metrics)
    server = HttpServer(app, replace(LIMITS, **limits), metrics)  # type: ignore[arg-type]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, listeners)
            yield site
            nursery.cancel_scope.cancel()
