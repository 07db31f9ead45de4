"""docker-compose.yml: every service as tight as the pub, every image an exact one; and the pub comes up by it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import pub
from pub.config import Settings, load
from pub.service.watchdog import END, ROUND_SECONDS, ROUNDS
from tests.deploy.engine import ROOT, Container, Engine, base_image, free_port

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[a-z]+)*")  # never "latest", never "3"
BIN = Path(sys.executable).parent


# --- as it is written ----------------------------------------------------------------------------------------


def test_the_pub_alone_needs_no_profile() -> None:
    assert {name: each.get("profiles", []) for name, each in SERVICES.items()} == {
        "pub": [],
        "prometheus": ["monitoring"],
        "alertmanager": ["monitoring"],
        "grafana": ["monitoring"],
        "caddy": ["web"],
    }


def test_every_image_is_an_exact_one() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert [image for image in images if not EXACT.fullmatch(image)] == []
    assert SERVICES["pub"]["image"] == f"ssb-pub:{pub.__version__}"
    assert base_image(ROOT / "Dockerfile") == base_image(ROOT / "tests" / "deploy" / "systemd.Dockerfile")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_caged(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert {"interval", "retries", "start_period", "test", "timeout"} <= service["healthcheck"].keys()
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not {"privileged", "network_mode", "pid", "devices"} & service.keys()
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_mounts_is_there(name: str) -> None:
    for mount in SERVICES[name]["volumes"]:
        source, _, target = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).is_dir(), mount
            assert target.endswith(":ro"), mount
        else:
            assert source in COMPOSE["volumes"], mount


def test_only_what_is_for_the_world_is_open_to_it() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert {name for name, each in ports.items() for port in each if not port.startswith("127.0.0.1:")} == {
        "pub",
        "caddy",
    }


def test_the_example_of_settings_holds_what_is_used_and_is_valid(tmp_path: Path) -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())) <= example.keys()
    settings = load(environ=example, data=str(tmp_path))
    assert (settings.public_host, settings.public_port) == ("pub.example.org", 8008)


def test_the_engine_waits_longer_than_the_pub_takes_to_drain() -> None:
    longest = Settings(data=Path()).limits.grace_seconds + ROUNDS[END] * ROUND_SECONDS
    assert longest < int(SERVICES["pub"]["stop_grace_period"].rstrip("s"))


# --- as it runs ----------------------------------------------------------------------------------------------


class Project:
    """This compose file, brought up by podman-compose; ``down`` keeps the volumes."""

    def __init__(self, engine: Engine, name: str, port: int) -> None:
        self.pub = Container(engine, f"{name}_pub_1")
        self._engine = engine
        self._command = (str(BIN / "podman-compose"), "--project-name", name)
        engine.environment |= {"PUB_ADDRESS_HOST": "127.0.0.1", "PUB_NETWORK_PORT": str(port)}

    def __call__(self, *command: str) -> None:
        finished = self._engine.run(*self._command, *command, limit=120)
        assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture
def project(engine: Engine, image: str, volume_name: str) -> Iterator[Project]:
    if not (BIN / "podman-compose").exists():
        pytest.skip("no podman-compose: it comes with the dependencies of the tests")
    before = dict(engine.environment)
    project = Project(engine, volume_name, free_port())
    try:
        yield project
    finally:
        project("down", "--volumes")
        engine.environment = before


@pytest.mark.slow
@pytest.mark.containers
def test_one_command_brings_the_pub_up_and_another_down(project: Project) -> None:
    project("up", "--detach")
    project.pub.wait_healthy()
    before = project.pub.json("status")
    assert before["address"].startswith("net:127.0.0.1:")
    assert f"The first invite code is {before['address'].partition('~')[0].removeprefix('net:')}" in project.pub.log
    limits = project.pub.inspect(".HostConfig")
    assert (limits["Memory"], limits["PidsLimit"], limits["ReadonlyRootfs"]) == (512 << 20, 256, True)
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert not project.pub.inspect(".EffectiveCaps")
    project("down")
    project("up", "--detach")
    project.pub.wait_healthy()
    assert project.pub.json("whoami")["id"] == before["id"]
