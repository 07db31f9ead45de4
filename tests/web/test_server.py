"""What a client may do to the HTTP server, and what becomes of the others meanwhile."""

import logging
from contextlib import suppress

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from tests.conftest import InternalErrors
from tests.web.clients import Site, rest, serve

HELLO = b"GET / HTTP/1.1\r\nHost: pub\r\n\r\n"
LARGE = 1 << 20


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def large(_request: Request) -> Response:
    return PlainTextResponse("x" * LARGE)


APP = Starlette(routes=[Route("/", hello), Route("/large", large)])


async def is_well(site: Site) -> bool:
    return (await site.get("/")).text == "hello" and site.metrics.value("internal_errors_total") == 0


async def wait_for_hit(site: Site, limit: str) -> None:
    while not site.hits(limit):  # noqa: ASYNC110 (a counter wakes nobody)
        await trio.sleep(0.01)


@pytest.mark.parametrize(
    "odd",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # somebody tries TLS
        b"\r\n" * 100,
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: pub\r\n\r\n",
        b"GET http://[::1/%zz HTTP/1.1\r\nHost: pub\r\n\r\n",
        b"GET /%ff%00?%ff HTTP/1.1\r\nHost: pub\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: pub\r\nHost: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\nX: \xff\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: pub\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: pub\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: pub\r\nContent-Length: 99999999999\r\n\r\n" + bytes(LARGE),
        b"POST / HTTP/1.1\r\nHost: pub\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: pub\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET / HTTP/1.1\r\nHost: pub\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: pub\r\nConnection: close\r\n\r\n",
        b"CONNECT pub:22 HTTP/1.1\r\nHost: pub\r\nConnection: close\r\n\r\n",
        HELLO * 50 + b"GET / HTTP/1.0\r\n\r\n",
    ],
)
async def test_an_odd_request_hurts_nobody(odd: bytes) -> None:
    async with serve(APP, idle_seconds=0.1, connection_seconds=0.2) as site:
        await site.send(odd)
        assert await is_well(site)


async def test_head_bytes() -> None:
    async with serve(APP) as site:
        answer = await site.send(b"GET / HTTP/1.1\r\nHost: pub\r\nX: " + b"x" * 20_000)
        assert answer == b"" or answer.split()[1] in (b"400", b"431")
        assert await is_well(site)


async def test_idle_seconds() -> None:
    """Half a request, or none, or one and then silence."""
    async with serve(APP, idle_seconds=0.05) as site:
        for sent in (b"", b"GET / HTT", HELLO):
            assert b"hello" in await site.send(sent) or sent is not HELLO
        assert await is_well(site)


async def test_http_connections() -> None:
    async with serve(APP, connections=2) as site, await site.connect() as one:
        async with await site.connect() as two:
            for stream in (one, two):
                await stream.send_all(HELLO)
                await stream.receive_some()
            assert await site.send(HELLO) == b""
            assert site.hits("http_connections") == 1
        await trio.testing.wait_all_tasks_blocked(0.05)  # until its leaving was noticed
        assert await is_well(site), "there is a place again"


async def test_http_connection_seconds() -> None:
    async with serve(APP, connection_seconds=0.1, idle_seconds=60) as site:
        assert b"hello" in await site.send(HELLO)
        assert site.hits("http_connection_seconds") == 1
        assert await is_well(site)


async def test_http_send_seconds() -> None:
    """It asks for 50 MB and reads nothing; somebody else is answered meanwhile."""
    async with serve(APP, send_seconds=0.1) as site, await site.connect() as mute:
        await mute.send_all(b"GET /large HTTP/1.1\r\nHost: pub\r\n\r\n" * 50)
        assert await is_well(site)
        await wait_for_hit(site, "http_send_seconds")
        with suppress(trio.BrokenResourceError):  # or it is closed in order, after what fitted into the buffers
            assert len(await rest(mute)) < 50 * LARGE
        assert await is_well(site)


async def test_who_does_not_read_does_not_hold_up_the_end() -> None:
    async with serve(APP, send_seconds=3600) as site:
        mute = await site.connect()
        await mute.send_all(b"GET /large HTTP/1.1\r\nHost: pub\r\n\r\n" * 50)
        assert await is_well(site)
        await trio.testing.wait_all_tasks_blocked(0.05)  # in the middle of a send that hypercorn shields
    await mute.aclose()


async def test_hypercorn_has_no_log_of_its_own() -> None:
    async with serve(APP) as site:
        assert await is_well(site)
    for name in ("hypercorn.error", "hypercorn.access"):
        assert logging.getLogger(name).handlers == []


async def test_what_comes_out_of_hypercorn_ends_that_connection_alone(
    monkeypatch: pytest.MonkeyPatch, internal_errors: InternalErrors
) -> None:
    async def fail(_server: object) -> None:
        raise LookupError("planted")

    internal_errors.expected = 1
    async with serve(APP) as site:
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr("hypercorn.trio.tcp_server.TCPServer.run", fail)
            assert await site.send(HELLO) == b""
        assert (await site.get("/")).text == "hello"
    assert [line["event"] for line in lines] == ["internal_error"]
    assert site.metrics.value("internal_errors_total") == 1
