"""What the operator's machines are told about a pub, from its first moment to its last."""

import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from pub.errors import CannotListen, StoreFull
from pub.ingest.batch import Submission
from pub.ingest.verify import InlineVerifier
from pub.metrics import CHECKS
from pub.rpc.context import Pub
from pub.service import health
from pub.service.health import Health
from pub.service.identity import prepare
from pub.service.wiring import World, build
from pub.store.env import Store
from tests.service.neighbours import until
from tests.service.people import Friend, Running, open_pub, person, settings_of
from tests.test_metrics import documented
from tests.web.clients import Answer, get

ALICE = person("alice")
ALL_WELL = "".join(f"[+]{name} ok\n" for name in CHECKS)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def open_watched(folder: Path, flags: dict[str, Any] | None = None) -> AsyncIterator[tuple[Running, int]]:
    """A pub with its operations listener, and the port of that."""
    port = free_port()
    operations = {"operations.host": "127.0.0.1", "operations.port": port}
    async with open_pub(folder, operations | (flags or {})) as pub:
        yield pub, port


async def verdict(port: int) -> Answer:
    return await get(port, "/readyz?verbose")


async def wait_for(port: int, status: int) -> Answer:
    """Ask until the answer is this."""
    while True:
        answer = await verdict(port)
        if answer.status == status:
            return answer
        await trio.sleep(0.01)


async def values(port: int) -> dict[tuple[str, ...], float]:
    """Each sample by its name (without prefix) and label values."""
    families = text_string_to_metric_families((await get(port, "/metrics")).text)
    samples = (sample for family in families for sample in family.samples)
    return {(each.name.removeprefix("ssb_pub_"), *each.labels.values()): each.value for each in samples}


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is answered with a check of its own."""
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)


# --- ready ---------------------------------------------------------------------------------------------------


async def test_a_pub_that_is_well_says_so_to_everybody(tmp_path: Path) -> None:
    async with open_watched(tmp_path) as (pub, port):
        answer = await verdict(port)
        assert (answer.status, answer.text) == (200, f"{ALL_WELL}readyz check passed\n")
        assert (await get(port, "/livez")).text == "ok\n"
        told = await pub.ask("health")
        assert told["ready"] is True
        assert [check["name"] for check in told["checks"] if check["passed"]] == list(CHECKS)
        shown = await values(port)
        assert shown["ready",] == 1
        assert {shown["check_passed", check["name"]] for check in told["checks"]} == {1}


async def test_a_pub_without_operations_can_be_asked_through_its_socket(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        assert (await pub.ask("health"))["ready"] is True


async def test_fresh_seconds(tmp_path: Path, pubs: list[Pub]) -> None:
    """Whoever asks all the time makes the pub write and dial no more often."""
    async with open_watched(tmp_path) as (_pub, port):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(verdict, port)
        assert pubs[0].metrics.value("handshakes_total", result="own") == 1


def test_before_the_doors_open_it_is_not_ready(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    keys = prepare(settings)

    async def ask() -> dict[str, Any]:
        with Store.open(tmp_path) as store:
            world = World()
            rooms = build(settings, keys, store, InlineVerifier(), world)
            return await Health(rooms, settings, world.network).report()

    assert trio.run(ask) == {
        "ready": False,
        "checks": [{"name": "serving", "passed": False, "reason": "starting"}],
    }


async def test_while_it_drains_it_says_so_and_lets_itself_be_watched(tmp_path: Path) -> None:
    async with (
        open_watched(tmp_path, {"limits.grace_seconds": 0.5}) as (pub, port),
        await trio.open_tcp_stream("127.0.0.1", pub.port),  # has not shaken hands: it gets the whole grace
    ):
        pub.stop.set()
        answer = await wait_for(port, 503)
        assert answer.text == "[-]serving failed: draining\nreadyz check failed\n"
        assert (await get(port, "/livez")).status == 200
        assert (await values(port))["ready",] == 0


# --- not ready -----------------------------------------------------------------------------------------------


async def test_disk_floor(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with open_watched(tmp_path, {"operations.disk_floor": "900000GiB"}) as (_pub, port):
            answer = await verdict(port)
            assert answer.status == 503
            assert "[-]disk failed: " in answer.text
            assert "MiB free, less than operations.disk_floor (921600000 MiB)\n" in answer.text
            shown = await values(port)
            assert (shown["ready",], shown["check_passed", "disk"], shown["check_passed", "store"]) == (0, 0, 1)
            assert shown["disk_floor_bytes",] > shown["disk_size_bytes",] >= shown["disk_free_bytes",] > 0
    [line] = [line for line in lines if line["event"] == "checks_fail"]
    assert set(line) == {"event", "log_level", "disk"}


@pytest.mark.usefixtures("asked_anew")
async def test_a_full_disk_and_its_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_store: Store, _job: object) -> None:
        raise StoreFull("no room left")

    async with open_watched(tmp_path) as (_pub, port):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", fail)
            answer = await verdict(port)
            assert answer.status == 503
            assert "[-]store failed: this pub can't store anything now" in answer.text
            assert "[+]handshake ok" in answer.text
            assert (await values(port))["commit_under_way_seconds",] == 0
        assert (await verdict(port)).status == 200
        assert (await values(port))["commit_errors_total", "disk_full"] >= 1


@pytest.mark.usefixtures("asked_anew")
async def test_a_writer_that_stands_still(tmp_path: Path, pubs: list[Pub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(health, "WRITER_SECONDS", 0.01)
    stuck = threading.Event()
    async with open_watched(tmp_path) as (_pub, port), trio.open_nursery() as nursery:
        nursery.start_soon(pubs[0].ingest.write, lambda _appender: stuck.wait(10))
        try:
            while not pubs[0].ingest.commit_age > 0.02:  # noqa: ASYNC110 - a thread at work rings no bell
                await trio.sleep(0.01)
            answer = await verdict(port)
            await pubs[0].ingest.submit(Submission(None, [b"x" * 100, b"y" * 50], [(0, 1), (0, 2)], lambda *_: None))
            shown = await values(port)
            assert shown["commit_under_way_seconds",] > 0
            assert (shown["verify_queue_messages",], shown["ingest_bytes",]) == (2, 150)
        finally:
            stuck.set()
        assert answer.status == 503
        assert "[-]writer failed: a transaction has been under way for 0 seconds\n" in answer.text
        assert "[-]store failed: no result within 0.1 seconds\n" in answer.text


@pytest.mark.usefixtures("asked_anew")
async def test_a_pub_with_no_place_left(tmp_path: Path, pubs: list[Pub]) -> None:
    async with open_watched(tmp_path, {"limits.max_connections": 2}) as (pub, port):
        await wait_for(port, 200)
        lobby, metrics = pubs[0].lobby, pubs[0].metrics  # our check and the pub's own first one have come and gone:
        await until(lambda: metrics.value("handshakes_total", result="own") == 2 and not lobby.connections)
        async with pub.visited_by(ALICE), pub.visited_by(person("bob")):
            answer = await verdict(port)
            assert "[+]listener ok\n" in answer.text
            assert "[-]handshake failed: the pub did not let in its own key\n" in answer.text
        await wait_for(port, 200)


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = {"operations.host": "127.0.0.1", "operations.port": taken.getsockname()[1]}
        with pytest.RaisesGroup(pytest.RaisesExc(CannotListen, match="operations.port"), flatten_subgroups=True):
            async with open_pub(tmp_path, flags):
                pass


# --- metrics -------------------------------------------------------------------------------------------------


async def test_a_running_pub_shows_what_the_document_says_and_nothing_else(tmp_path: Path) -> None:
    async with open_watched(tmp_path) as (_pub, port):
        text = (await get(port, "/metrics")).text
    shown: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        ending = "_total" if family.type == "counter" else ""
        labels = {label for sample in family.samples for label in sample.labels}
        shown[family.name + ending] = labels
    table = {name: set(labels) for name, labels in documented().items()}
    assert shown == table | {"ssb_pub_build_info": {"version", "python"}}


async def test_figures_of_a_pub_with_a_guest_and_a_member(tmp_path: Path) -> None:
    async with open_watched(tmp_path) as (pub, port):
        before = await values(port)
        assert (before["invites_open",], before["members",]) == (1, 0)
        assert before["store_mapped_bytes",] >= before["store_file_bytes",] > before["store_used_bytes",] > 0
        await pub.ask("friends", "follow", args=[ALICE.id])
        async with pub.visited_by(ALICE):
            after = await values(port)
            assert after["messages",] == before["messages",] + 1
            assert after["feeds", "replicated"] == 2
            assert after["feeds", "stored"] == 1
            assert after["connections", "incoming", "member"] == 1
            assert (
                after["handshake_seconds_count",]
                == after["handshakes_total", "accepted"] + after["handshakes_total", "own"]
            )
            assert after["commit_seconds_count",] > before["commit_seconds_count",]
            assert after["rpc_requests_total", "friends.follow", "answered"] == 1
            assert after["tasks",] > 10
            assert after["event_loop_lag_seconds_count",] >= 0


async def test_figures_of_a_pub_with_a_client_that_replicates(tmp_path: Path) -> None:
    async with open_watched(tmp_path) as (pub, port), pub.visited_by(ALICE) as visitor:
        Friend(visitor, [])
        await visitor.call("manifest")
        shown = await values(port)
        assert (shown["ebt_sessions",], shown["legacy_peers",], shown["rpc_streams",]) == (1, 0, 1)


async def test_two_scrapes_at_once(tmp_path: Path) -> None:
    async with open_watched(tmp_path) as (_pub, port):
        answers: list[Answer] = []

        async def scrape() -> None:
            answers.append(await get(port, "/metrics"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(scrape)
        assert [answer.status for answer in answers] == [200] * 5


@pytest.mark.slow
def test_members_do_not_wait_until_http_is_loaded() -> None:
    """What is imported before the pub is ready; the modules of a server are a fifth of that."""
    command = [sys.executable, "-c", "import sys, pub.cli, pub.service; print(*sys.modules)"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "pub.service.operations" in modules
    assert not {"hypercorn", "starlette", "h11", "h2", "wsproto", "anyio"} & set(modules)
