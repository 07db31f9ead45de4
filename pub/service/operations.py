"""The operations listener: metrics and health over HTTP, from before the first peer comes in until all is written.

Of all doors it opens first and closes last: while the pub drains, ``/readyz`` says so, and a scrape sees it to the end.
It is no way in for peers, so nothing has to be turned away before it closes.

What speaks HTTP is two hundred modules, a fifth of what starting an empty pub takes. They are loaded in a thread once
the port is open: members need not wait for them, and who asks earlier has its answer a moment later.
"""

from typing import TYPE_CHECKING

import structlog
import trio

from pub.config import Settings
from pub.errors import CannotListen
from pub.rpc.context import Pub
from pub.service.gauges import Gauges, watch_event_loop
from pub.service.health import Health

if TYPE_CHECKING:
    from pub.web.server import HttpServer

log = structlog.get_logger()


async def serve_operations(
    pub: Pub, settings: Settings, health: Health, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer until cancelled; not at all if ``operations.host`` is empty. Raises CannotListen."""
    if not settings.operations.host:
        task_status.started()
        return
    listeners = await _listen(settings.operations.host, settings.operations.port)
    gauges = Gauges(pub, settings, health)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answer, pub, gauges, health, listeners)
        nursery.start_soon(watch_event_loop, pub.metrics)
        host, port = listeners[0].socket.getsockname()[:2]
        log.info("operations_listening", host=host, port=port)
        task_status.started()


async def _answer(pub: Pub, gauges: Gauges, health: Health, listeners: list[trio.SocketListener]) -> None:
    server = await trio.to_thread.run_sync(_load, pub, gauges, health)
    await server.run(listeners)


def _load(pub: Pub, gauges: Gauges, health: Health) -> "HttpServer":
    from pub.web.operations import LIMITS, contained, operations
    from pub.web.server import HttpServer

    return HttpServer(contained(operations(gauges.scrape, health.check), pub.metrics), LIMITS, pub.metrics)


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        reason = error.strerror or error
        raise CannotListen(
            f"cannot listen on {host} port {port} for metrics and health: {reason}; "
            "choose another operations.port, or leave operations.host empty to do without"
        ) from None
