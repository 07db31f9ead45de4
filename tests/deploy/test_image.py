"""The image: what is in it, what it may do when it runs, and how it ends."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pub
from tests.deploy.engine import ROOT, Container, Engine, base_image

pytestmark = [pytest.mark.slow, pytest.mark.containers]

OWN_SIZE = 45_000_000  # bytes that we add to the base image; 34 MB at the time of writing
PLATFORMS = ("x86_64", "aarch64")


@pytest.fixture
def running(engine: Engine, image: str, volume_name: str) -> Iterator[Container]:
    with engine.volume(volume_name) as volume, engine.start(image, "--volume", f"{volume}:/data") as container:
        container.wait_healthy()
        yield container


def test_the_image_says_what_it_is(engine: Engine, image: str) -> None:
    container = Container(engine, image)
    config = container.inspect(".Config")
    assert config["User"] == "10008:10008"
    assert (config["Entrypoint"], config["Cmd"]) == (["ssb-pub"], ["run"])
    assert list(config["Volumes"]) == ["/data"]
    assert list(config["ExposedPorts"]) == ["8008/tcp"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == pub.__version__
    assert labels["base.name"] == base_image(ROOT / "Dockerfile")
    assert {"title", "description", "licenses"} <= labels.keys()
    assert container.inspect(".HealthCheck")["Test"] == ["CMD", "ssb-pub", "health"]


def test_the_image_is_small_and_holds_nothing_that_made_it(engine: Engine, image: str) -> None:
    own = engine.size(image) - engine.size(base_image(ROOT / "Dockerfile"))
    print(f"image: {engine.size(image) / 1e6:.0f} MB, {own / 1e6:.0f} MB of them ours")
    assert own < OWN_SIZE
    with engine.start(image, "--entrypoint", "sleep", command=("600",)) as idle:
        assert idle.run("test", "-e", "/src").returncode != 0
        assert idle.run("test", "-e", "/opt/ssb-pub/bin/pip").returncode != 0
        assert idle.run("python3", "-c", "import hatchling").returncode != 0
        assert idle.run("ls", "-A", "/data").stdout == ""
        assert not idle.is_healthy()  # nobody runs the pub in there
        outside = idle.run("find", "/", "-xdev", "-writable", "-not", "-path", "/proc/*", "-not", "-type", "l")
        writable = {line.split("/")[1] for line in outside.stdout.splitlines()}
        assert writable <= {"data", "dev", "tmp", "var", "run"}, outside.stdout


def test_it_runs_with_no_right_but_to_write_its_volume(running: Container) -> None:
    assert running.inspect(".State.Health.Status") == "healthy"
    status = dict(line.split(":\t") for line in running.run("cat", "/proc/1/status").stdout.splitlines())
    assert set(status["Uid"].split()) == {"10008"}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {16 * "0"}
    assert status["NoNewPrivs"] == "1"
    assert running.run("touch", "/data/x").returncode == 0
    for folder in ("/", "/tmp", "/opt/ssb-pub", "/run"):  # noqa: S108 - inside
        assert "Read-only" in running.run("touch", f"{folder}/x").stderr, folder
    assert running.json("status")["internal_errors"] == 0


def test_stopping_it_drains(running: Container) -> None:
    assert running.stop() == 0
    assert '"stopped"' in running.log.splitlines()[-1]
    assert not running.is_healthy()


def test_it_comes_back_as_itself(running: Container) -> None:
    before = running.json("whoami")
    running.engine.podman("restart", running.id)
    running.wait_healthy()
    assert running.json("whoami") == before


def test_a_copy_of_its_folder_is_the_pub_again(engine: Engine, image: str, running: Container) -> None:
    """The steps of deploy/README.md for a backup and for moving to another machine."""
    before = running.json("whoami")
    assert running.stop() == 0
    [old] = [mount["Name"] for mount in running.inspect(".Mounts")]
    tar = ("run", "--rm", "--interactive", "--entrypoint", "tar")
    with engine.volume(f"{old}-moved") as new:
        packed = f"podman {' '.join(tar)} --volume {old}:/data:ro {image} -C /data -cz ."
        unpacked = f"podman {' '.join(tar)} --volume {new}:/data {image} -C /data -xz"
        copied = engine.run("bash", "-o", "pipefail", "-c", f"{packed} | {unpacked}")
        assert copied.returncode == 0, copied.stderr
        with engine.start(image, "--volume", f"{new}:/data") as moved:
            moved.wait_healthy()
            assert moved.json("whoami") == before
            assert moved.json("status")["publishing"] is None


def test_more_memory_than_allowed_is_not_given(engine: Engine, image: str, volume_name: str) -> None:
    """A process that wants more is killed by the kernel, and it is not the pub."""
    hog = "x = bytearray(1 << 30)"
    with engine.volume(volume_name) as volume:
        flags = ("--volume", f"{volume}:/data", "--memory", "160m", "--memory-swap", "160m")
        with engine.start(image, *flags) as container:
            container.wait_healthy()
            assert container.inspect(".HostConfig.Memory") == 160 << 20
            assert container.run("python3", "-c", hog).returncode == 137
            assert container.is_healthy()
            assert container.inspect(".RestartCount") == 0


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_dependency_has_a_wheel_for_the_platform(platform: str, tmp_path: Path) -> None:
    pytest.importorskip("pip")  # environments made by uv have none
    [python] = re.findall(r"python:(\d+\.\d+)", base_image(ROOT / "Dockerfile"))
    flags = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(tmp_path)]
    for glibc in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        flags += ["--platform", f"{glibc}_{platform}"]
    command = [sys.executable, "-m", "pip", "download", *flags, "--python-version", python]
    finished = subprocess.run(
        [*command, "--requirement", str(ROOT / "requirements.lock")], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert list(tmp_path.glob("*.whl"))
