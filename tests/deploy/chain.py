"""A real Prometheus that watches one pub, a real Alertmanager behind it, and the webhook that it tells.

Both run with the committed configuration; changed are addresses, intervals, and whom Alertmanager tells. Of the alerts
`PubDown` alone waits for less: the others would take a pub that has just started for one that nobody comes to.
"""

import json
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trio
import yaml

from tests.deploy.engine import PATIENCE, free_port
from tests.deploy.watching import ALERTMANAGER, PROMETHEUS, tool


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - ours, on this machine
        text: str = answer.read().decode()
        return text


@dataclass
class Watch:
    """A Prometheus and an Alertmanager that watch one pub, and what they told us."""

    target: str
    port: int
    told: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        answer = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/query?{query}"))
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        found = self.ask(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[tuple[str, str]]:
        series = [each["metric"] for each in self.ask('ALERTS{alertstate="firing"}')]
        return {(each["alertname"], each["severity"]) for each in series}

    async def until_none(self, missing: Callable[[], list[str]]) -> None:
        """Wait until nothing is missing any more."""
        deadline = trio.current_time() + PATIENCE
        while left := missing():
            assert trio.current_time() < deadline, f"missing: {left}; told: {self.told}"
            await trio.sleep(0.2)


@contextmanager
def webhook(told: list[dict[str, Any]]) -> Iterator[str]:
    """Where Alertmanager tells us; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.extend(body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running(folder: Path, name: str, port: int, *flags: str) -> Iterator[None]:
    """A server of Prometheus's family, ready."""
    command = [tool(name), f"--web.listen-address=127.0.0.1:{port}", *flags]
    log = folder / f"{name}.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output, cwd=folder) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not is_ready(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def is_ready(port: int) -> bool:
    try:
        return bool(fetch(f"http://127.0.0.1:{port}/-/ready"))
    except OSError:
        return False


@contextmanager
def watched(folder: Path, target: str) -> Iterator[Watch]:
    prometheus, alertmanager = free_port(), free_port()
    watch = Watch(target, prometheus)
    with ExitStack() as stack:
        url = stack.enter_context(webhook(watch.told))
        write_alertmanager(folder, url)
        write_prometheus(folder, target, f"127.0.0.1:{prometheus}", f"127.0.0.1:{alertmanager}")
        flags = (f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alerts")
        stack.enter_context(
            running(folder, "prometheus-alertmanager", alertmanager, *flags, "--cluster.listen-address=")
        )
        flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series")
        stack.enter_context(running(folder, "prometheus", prometheus, *flags))
        yield watch


def write_prometheus(folder: Path, pub: str, itself: str, alertmanager: str) -> None:
    """The committed configuration; only where things are differs, and how often they are looked at."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    where = {"ssb-pub": pub, "prometheus": itself}
    for job in config["scrape_configs"]:
        job["static_configs"][0]["targets"] = [where[job["job_name"]]]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    rules = (PROMETHEUS / "alerts.yml").read_text()
    down = 'expr: up{job="ssb-pub"} == 0\n        for: '
    assert f"{down}2m" in rules
    (folder / "alerts.yml").write_text(rules.replace(f"{down}2m", f"{down}2s"))


def write_alertmanager(folder: Path, url: str) -> None:
    """The committed configuration, told whom to tell, and not to wait for more of the same."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    config["route"] |= {"group_wait": "0s"}
    config["receivers"][0]["webhook_configs"] = [{"url": url}]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
