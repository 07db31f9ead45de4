"""``/metrics``, ``/livez`` and ``/readyz`` as scrapers and supervisors see them."""

import json
from contextlib import AbstractAsyncContextManager

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from structlog.testing import capture_logs

from pub.metrics import Metrics, render
from pub.web.checks import Check
from pub.web.operations import contained, operations
from tests.conftest import InternalErrors
from tests.web.clients import Site, serve

WELL = [Check("serving"), Check("disk")]
ILL = [Check("serving"), Check("disk", "3 MiB free")]


def site(checks: list[Check], metrics: Metrics | None = None) -> AbstractAsyncContextManager[Site]:
    counted = metrics or Metrics()

    async def scrape(accept: str) -> tuple[str, bytes]:
        return render(counted.families(), accept)

    async def found() -> list[Check]:
        return checks

    return serve(contained(operations(scrape, found), counted), counted)


async def test_the_loop_is_alive_whatever_else() -> None:
    async with site(ILL) as ops:
        answer = await ops.get("/livez")
        assert (answer.status, answer.text) == (200, "ok\n")


async def test_ready() -> None:
    async with site(WELL) as ops:
        answer = await ops.get("/readyz")
        assert (answer.status, answer.text) == (200, "ok\n")
        answer = await ops.get("/readyz?verbose")
        assert (answer.status, answer.text) == (200, "[+]serving ok\n[+]disk ok\nreadyz check passed\n")


@pytest.mark.parametrize("path", ["/readyz", "/readyz?verbose"])
async def test_a_failure_always_says_why(path: str) -> None:
    async with site(ILL) as ops:
        answer = await ops.get(path)
        assert (answer.status, answer.text) == (
            503,
            "[+]serving ok\n[-]disk failed: 3 MiB free\nreadyz check failed\n",
        )


async def test_json_where_it_is_asked_for() -> None:
    async with site(ILL) as ops:
        answer = await ops.get("/readyz", accept="application/json")
        assert answer.status == 503
        assert json.loads(answer.text) == {
            "ready": False,
            "checks": [
                {"name": "serving", "passed": True, "reason": None},
                {"name": "disk", "passed": False, "reason": "3 MiB free"},
            ],
        }


async def test_metrics_in_both_formats() -> None:
    async with site(WELL) as ops:
        plain = await ops.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert {"ssb_pub_messages_sent", "ssb_pub_build_info"} <= {each.name for each in prometheus(plain.text)}
        asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
        modern = await ops.get("/metrics", accept=asked)
        assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert {"ssb_pub_messages_sent", "ssb_pub_build"} <= {each.name for each in openmetrics(modern.text)}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("odd", ["", "*/*", ";;,=,", "application/openmetrics-text; version=x", "text/plain;version=."])
async def test_an_odd_wish_gets_the_plain_format(odd: str) -> None:
    async with site(WELL) as ops:
        answer = await ops.get("/metrics", accept=odd)
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 405)])
async def test_there_is_nothing_else(method: str, path: str, status: int) -> None:
    async with site(WELL) as ops:
        assert (await ops.get(path, method)).status == status


async def test_a_bug_is_counted_and_logged_once_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, internal_errors: InternalErrors
) -> None:
    async def scrape(_accept: str) -> tuple[str, bytes]:
        raise LookupError("planted")

    async def found() -> list[Check]:
        return WELL

    metrics = Metrics()
    internal_errors.expected = 1
    with capture_logs() as lines:
        async with serve(contained(operations(scrape, found), metrics), metrics) as ops:
            assert (await ops.get("/metrics")).status == 500
            assert (await ops.get("/livez")).status == 200
    assert metrics.value("internal_errors_total") == 1
    assert [line["event"] for line in lines] == ["internal_error"]
    assert [record for record in caplog.records if record.name.startswith("hypercorn")] == []
