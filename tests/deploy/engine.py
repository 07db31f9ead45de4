"""A container engine of the tests' own: podman and buildah, with a storage that no other container of the machine sees.

    engine = Engine(folder)
    image = engine.build_pub()                              # the checkout's Dockerfile
    with engine.start(image, "-v", "data:/data") as pub:    # as hard a cage as deploy/README.md recommends
        pub.wait_healthy()
        assert pub.json("status")["ready"]
        assert pub.stop() == 0

The storage lies in the checkout (.containers/), so that the base image is fetched or made once. Where the public base
image can be pulled, `podman --root … pull` it there; where no registry can be reached, base.sh makes a stand-in of the
same name, and the Dockerfile stays an ordinary one.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pub

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TOOLS = ("podman", "buildah", "runc", "mmdebstrap", "catatonit")
PATIENCE = 30  # seconds until something that should happen counts as not happening
BUILD_LIMIT = 600  # a minute on a quiet machine
GRACE = 20  # seconds between SIGTERM and SIGKILL: more than limits.grace_seconds
CAGE = (
    *("--init", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--pids-limit", "256", "--memory", "256m"),
)

# What works without systemd, without cgroups of version 2, and where root may not raise limits.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{folder}/networks"
"""

STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
[storage.options.overlay]
skip_mount_home = "true"
"""


def missing() -> str | None:
    """Why no containers can run here."""
    if os.geteuid() != 0:
        return "containers are run by root here"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def base_image(dockerfile: Path) -> str:
    """The image that the last stage starts from."""
    [*_, last] = re.finditer(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
    return last[1]


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Engine:
    """podman and buildah on a storage in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "containers.conf").write_text(CONTAINERS_CONF.format(folder=folder))
        (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
        self._folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PUB_")},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",  # the other format knows no HEALTHCHECK
        }

    def run(self, *command: str, limit: float = 60) -> subprocess.CompletedProcess[str]:
        """Any command that speaks to this engine; whether it worked is the caller's question."""
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=limit, check=False, cwd=ROOT
        )

    def podman(self, *arguments: str, limit: float = 60) -> str:
        """What ``podman …`` prints; it must succeed."""
        finished = self.run("podman", *arguments, limit=limit)
        assert finished.returncode == 0, f"podman {' '.join(arguments)}\n{finished.stdout}\n{finished.stderr}"
        return finished.stdout.strip()

    def has_image(self, name: str) -> bool:
        return self.run("podman", "image", "exists", name).returncode == 0

    def size(self, image: str) -> int:
        """Bytes, all layers."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image))

    def build_pub(self) -> str:
        """The image of this checkout, under the name that docker-compose.yml gives it."""
        dockerfile = ROOT / "Dockerfile"
        self._provide(base_image(dockerfile))
        name = f"localhost/ssb-pub:{pub.__version__}"
        self._build(name, dockerfile, ROOT)
        self.podman("image", "prune", "--force")  # those of earlier builds
        return name

    def build_machine(self) -> str:
        """A machine with systemd."""
        dockerfile = HERE / "systemd.Dockerfile"
        self._provide(base_image(dockerfile))
        name = f"localhost/machine:{hashlib.sha256(dockerfile.read_bytes()).hexdigest()[:12]}"
        if not self.has_image(name):
            self._build(name, dockerfile, HERE)
        return name

    def _build(self, name: str, dockerfile: Path, context: Path) -> None:
        built = self.run("buildah", "bud", "--tag", name, "--file", str(dockerfile), str(context), limit=BUILD_LIMIT)
        assert built.returncode == 0, built.stdout + built.stderr

    def _provide(self, base: str) -> None:
        if self.has_image(base):
            return
        archive = self._folder / "base.tar"
        made = self.run(str(HERE / "base.sh"), str(archive), limit=BUILD_LIMIT)
        assert made.returncode == 0, made.stderr
        self.podman("import", str(archive), base, limit=BUILD_LIMIT)
        archive.unlink()

    @contextlib.contextmanager
    def volume(self, name: str) -> Iterator[str]:
        self.run("podman", "volume", "rm", "--force", name)  # of a run that was killed
        self.podman("volume", "create", name)
        try:
            yield name
        finally:
            self.podman("volume", "rm", "--force", name)

    @contextlib.contextmanager
    def start(self, image: str, *flags: str, command: tuple[str, ...] = ()) -> Iterator["Container"]:
        """A container in the cage; removed at the end of the block."""
        container = Container(self, self.podman("run", "--detach", *CAGE, *flags, image, *command))
        try:
            yield container
        finally:
            container.remove()


@dataclass
class Container:
    """A container with a pub in it; ``id`` may be its name."""

    engine: Engine
    id: str

    def inspect(self, path: str) -> Any:
        """A part of what the engine knows of it, such as ``.State.ExitCode``."""
        return json.loads(self.engine.podman("inspect", "--format", f"{{{{json {path}}}}}", self.id))

    @property
    def log(self) -> str:
        finished = self.engine.run("podman", "logs", self.id)
        return finished.stdout + finished.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside."""
        return self.engine.run("podman", "exec", self.id, *command)

    def json(self, *arguments: str) -> Any:
        """What ``ssb-pub … --json`` answers inside."""
        finished = self.run("ssb-pub", *arguments, "--json")
        assert finished.returncode == 0, finished.stderr + self.log
        return json.loads(finished.stdout)

    def is_healthy(self) -> bool:
        """Run the image's health check, as engines do it every half minute."""
        return self.engine.run("podman", "healthcheck", "run", self.id).returncode == 0

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.is_healthy():
            assert self.inspect(".State.Running"), self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM; the exit code, which is 137 if that was not enough."""
        self.engine.podman("stop", "--time", str(GRACE), self.id)
        return int(self.inspect(".State.ExitCode"))

    def remove(self) -> None:
        """With SIGKILL if it runs; volumes that have a name stay."""
        self.engine.podman("rm", "--force", "--volumes", "--time", "0", self.id)
