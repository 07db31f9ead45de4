"""What the operator's machines ask: ``/metrics``, ``/livez``, ``/readyz``.

``/livez`` answers if the event loop does: whoever gets no answer may end the process. ``/readyz`` says whether members
are served as they should be: 200 or 503, in words as Kubernetes writes them (``?verbose`` names every check, a failure
always does) or as JSON where that is asked for. Both may be asked by strangers: they tell no id and no address.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pub.metrics import Metrics
from pub.web.checks import Check, as_json, as_text
from pub.web.server import HttpLimits

log = structlog.get_logger()

LIMITS = HttpLimits(
    connections=32,  # a few scrapers, probes and curious operators; each takes a file descriptor
    connection_seconds=60,  # nothing asked here takes one
    idle_seconds=5,  # who asks a machine has the question ready
    send_seconds=5,  # 40 KB
    head_bytes=8192,  # a scraper's is 400 bytes
)


def operations(
    scrape: Callable[[str], Awaitable[tuple[str, bytes]]], checks: Callable[[], Awaitable[Sequence[Check]]]
) -> Starlette:
    """The application. ``scrape`` gives content type and text for an ``Accept`` header."""

    async def metrics(request: Request) -> Response:
        content_type, text = await scrape(request.headers.get("accept", ""))
        return Response(text, media_type=content_type, headers={"Cache-Control": "no-store"})

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        found = await checks()
        status = 200 if all(check.passed for check in found) else 503
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(as_json(found), status)
        is_short = status == 200 and "verbose" not in request.query_params
        return PlainTextResponse("ok\n" if is_short else as_text(found), status)

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


def contained(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """A bug in a handler is a 500 for its caller (Starlette's), and a counted line in the log."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            metrics.internal_errors.inc()
            log.error("internal_error", address="http", exc_info=error)

    return outer
