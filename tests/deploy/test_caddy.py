"""A real Caddy, with our configuration, in front of a real pub: what the world may see of it, and what not.

It runs without TLS here: certificates are Caddy's own business, and a public name is needed to get one.
"""

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.deploy.engine import PATIENCE, ROOT, free_port
from tests.service.processes import start_pub

pytestmark = pytest.mark.slow

CADDY = Path(sys.executable).parent / "caddy"
CONFIGURATION = ("--config", str(ROOT / "deploy" / "caddy" / "Caddyfile"), "--adapter", "caddyfile")


@pytest.fixture(autouse=True)
def installed_caddy() -> None:
    if not CADDY.exists():
        pytest.skip("no caddy: it comes with the dependencies of the tests")


@contextmanager
def caddy_before(upstream: int, folder: Path) -> Iterator[int]:
    """Caddy in front of a port of this machine; yields its own."""
    port = free_port()
    settings = {
        "SITE": f"http://127.0.0.1:{port}",
        "UPSTREAM": f"127.0.0.1:{upstream}",
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        "HOME": str(folder),
    }
    with (folder / "caddy.log").open("w") as log:
        process = subprocess.Popen([CADDY, "run", *CONFIGURATION], env=os.environ | settings, stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(port):
            assert process.poll() is None, (folder / "caddy.log").read_text()
            assert time.monotonic() < deadline, (folder / "caddy.log").read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(port: int) -> bool:
    try:
        return get(port, "/")[0] == 200
    except ConnectionError:
        return False


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_world_sees_that_the_pub_lives_and_nothing_else(tmp_path: Path) -> None:
    with start_pub(tmp_path / "pub") as pub:
        [upstream] = [line["port"] for line in pub.log if line["event"] == "operations_listening"]
        assert get(upstream, "/metrics")[0] == 200
        with caddy_before(upstream, tmp_path) as port:
            assert "Secure Scuttlebutt pub" in get(port, "/")[1]
            assert get(port, "/livez") == (200, "ok\n")
            for path in ("/metrics", "/readyz", "/readyz?verbose", "/livez/../metrics", "//metrics", "/livez/x"):
                assert get(port, path) == (404, ""), path
            pub.end()
            assert get(port, "/livez")[0] == 502


def test_what_is_tested_here_is_what_compose_runs() -> None:
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["caddy"]["image"]
    version = subprocess.run([CADDY, "version"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\d+\.\d+\.\d+", version)[:1] == re.findall(r"\d+\.\d+\.\d+", image)
