"""A wire between client and pub that counts what passes."""

import contextlib
from collections.abc import AsyncIterator

import trio

from tests.interop.pubs import Pub

CHUNK = 65536


class Proxy:
    """``address`` is the pub's, by way of this proxy. The counts are bytes since the last ``cut``."""

    def __init__(self, pub: Pub) -> None:
        self.address = ""
        self.to_pub = 0
        self.to_client = 0
        self._pub = pub
        self._open: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """End all connections, as a network that changes does it, and count anew."""
        for scope in self._open:
            scope.cancel()
        self.to_pub = self.to_client = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        self.address = self._pub.address.replace(f":{self._pub.port}~", f":{port}~")
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream(self._pub.host, self._pub.port) as server:
            async with trio.open_nursery() as nursery:
                self._open.add(nursery.cancel_scope)
                nursery.start_soon(self._carry, client, server, True)
                nursery.start_soon(self._carry, server, client, False)
            self._open.discard(nursery.cancel_scope)

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, is_to_pub: bool) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK):
                if is_to_pub:
                    self.to_pub += len(data)
                else:
                    self.to_client += len(data)
                await target.send_all(data)
            await target.send_eof()


@contextlib.asynccontextmanager
async def open_proxy(pub: Pub) -> AsyncIterator[Proxy]:
    proxy = Proxy(pub)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
