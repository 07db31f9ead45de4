"""HTTP connections within bounds: the connections of Hypercorn's trio worker, behind a door of our own.

Hypercorn's own door takes any number of connections, and what goes wrong in one of them ends them all, and with them
the process. So each connection is taken here, counted, given a longest life, and contained: whatever comes out of it
is a line in the log and one connection less. Hypercorn also shields what it sends from being cancelled: a client that
doesn't read would hold up the end of the process, so sending has a deadline in here, and stopping closes every socket.

Hypercorn speaks through the log of the pub; it keeps no access log.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from pub.metrics import Metrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may cost us, and all of them."""

    connections: int
    connection_seconds: float
    """Longest life of a connection, busy or not; its client dials again."""
    idle_seconds: float
    """Time for the first byte of a request to the last of its head, and between two requests."""
    send_seconds: float
    """Time to take what we send at once."""
    head_bytes: int
    """Request line and headers."""


class HttpServer:
    """Serves one application; see the file's text."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, metrics: Metrics) -> None:
        self._app = wrap_app(cast(ASGIFramework, app), 0, "asgi")
        self._config = _config(limits)
        self._limits = limits
        self._metrics = metrics
        self._open: set[_Stream] = set()

    async def run(self, listeners: list[trio.SocketListener]) -> None:
        """Take connections until cancelled. Closes the listeners."""
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(self._serve, listeners, handler_nursery=connections)
            finally:
                for stream in list(self._open):  # also those in the middle of a send
                    await trio.aclose_forcefully(stream.transport)

    async def _serve(self, transport: trio.SocketStream) -> None:
        async with transport:
            if len(self._open) >= self._limits.connections:
                self._metrics.limit_hits.labels("http_connections").inc()
                return
            stream = _Stream(transport, self._limits.send_seconds, self._metrics)
            self._open.add(stream)
            try:
                with self._contained(), trio.move_on_after(self._limits.connection_seconds) as life:
                    await self._converse(stream)
                if life.cancelled_caught:
                    self._metrics.limit_hits.labels("http_connection_seconds").inc()
            finally:
                self._open.discard(stream)

    async def _converse(self, stream: "_Stream") -> None:
        # its types want a stream with TLS; without it this takes whatever has these methods
        tls = cast(trio.SSLStream[trio.SocketStream], stream)
        server = TCPServer(self._app, self._config, WorkerContext(None), ConnectionState({}), tls)
        stream.at_end = server.idle_task.stop  # else it would wait for the next request of who has left
        await server

    @contextmanager
    def _contained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._report(error)
        except BaseExceptionGroup as group:
            ours, rest = group.split(Exception)
            if ours is not None:
                self._report(ours)
            if rest is not None:
                raise rest from None

    def _report(self, error: BaseException) -> None:
        self._metrics.internal_errors.inc()
        log.error("internal_error", address="http", exc_info=error)


class _Stream:
    """A TCP connection that breaks when the client doesn't take what we send."""

    def __init__(self, transport: trio.SocketStream, seconds: float, metrics: Metrics) -> None:
        self.transport = transport
        self.socket = transport.socket
        self.send_eof = transport.send_eof
        self.aclose = transport.aclose
        self.at_end: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._seconds = seconds
        self._metrics = metrics

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self.transport.receive_some(max_bytes)
        finally:
            if not data:
                await self.at_end()
        return data

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._seconds) as patience:
            await self.transport.send_all(data)
        if patience.cancelled_caught:
            self._metrics.limit_hits.labels("http_send_seconds").inc()
            await trio.aclose_forcefully(self.transport)
            raise trio.BrokenResourceError("the client does not read")


def _config(limits: HttpLimits) -> Config:
    settings: dict[str, Any] = {
        "accesslog": None,
        "errorlog": logging.getLogger("hypercorn.error"),  # else it writes to stderr by itself
        "h11_max_incomplete_size": limits.head_bytes,
        "include_server_header": False,
        "keep_alive_timeout": limits.idle_seconds,
    }
    return Config.from_mapping(settings)
