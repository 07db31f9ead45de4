"""The unit under a real systemd, in a container booted like a machine, installed by the script that people use."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.deploy.engine import PATIENCE, ROOT, Container, Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]

EXPOSURE = 15  # tenths: what `systemd-analyze security` may say at most
INSTALL = "/src/deploy/systemd/install.sh"
UNIT_FOLDER = "/etc/systemd/system/ssb-pub.service.d"
BOOT = (
    *("--systemd=always", "--volume", f"{ROOT}:/src:ro"),
    *("--cap-add", "SYS_ADMIN,NET_ADMIN,SYS_PTRACE,AUDIT_WRITE"),  # what systemd needs to build its sandboxes
)


class Machine(Container):
    """A booted machine; ``id`` is the container's."""

    def do(self, *command: str, limit: float = 60) -> str:
        """What a command prints that must succeed."""
        finished = self.engine.run("podman", "exec", self.id, *command, limit=limit)
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}\n{self.journal()}"
        return finished.stdout.strip()

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.do("systemctl", "show", "--value", "--property", name, "ssb-pub")

    def journal(self) -> str:
        return self.run("journalctl", "--unit", "ssb-pub", "--no-pager", "--output", "cat").stdout

    def override(self, *lines: str) -> None:
        """The unit's drop-in of this test, and a start with it; whether that works is the caller's question."""
        text = "\n".join(["[Service]", *lines, ""])
        self.do("sh", "-c", f'mkdir -p {UNIT_FOLDER} && printf %s "$1" >{UNIT_FOLDER}/test.conf', "sh", text)
        self.do("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "ssb-pub")

    def kill(self, signal: str) -> None:
        """Send the pub's own process a signal."""
        self.do("systemctl", "kill", "--kill-whom=main", f"--signal={signal}", "ssb-pub")

    def until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not check():
            assert time.monotonic() < deadline, self.journal()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def installed(engine: Engine) -> Iterator[Machine]:
    """A machine on which install.sh has run once."""
    machine = Machine(engine, engine.podman("run", "--detach", *BOOT, engine.build_machine()))
    try:
        machine.until(lambda: machine.run("systemctl", "is-system-running").stdout.strip() == "running")
        assert "ready" in machine.do(INSTALL, "pub.example.org", limit=180)
        yield machine
    finally:
        machine.remove()


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """The same machine, its pub running as installed."""
    yield installed
    if installed.run("test", "-e", f"{UNIT_FOLDER}/test.conf").returncode == 0:
        installed.do("rm", f"{UNIT_FOLDER}/test.conf")
        installed.do("systemctl", "daemon-reload")
        installed.do("systemctl", "stop", "ssb-pub")
    installed.do("systemctl", "start", "ssb-pub")


def test_the_unit_is_well_written_and_tight(machine: Machine) -> None:
    verified = machine.run("systemd-analyze", "verify", "/etc/systemd/system/ssb-pub.service")
    assert (verified.returncode, verified.stderr) == (0, "")
    finished = machine.run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager",
        "/etc/systemd/system/ssb-pub.service",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    print(finished.stdout.splitlines()[-1])


def test_it_is_ready_when_systemd_says_so_and_tells_the_first_code(machine: Machine) -> None:
    assert machine.do("systemctl", "is-active", "ssb-pub") == "active"
    assert machine.do("systemctl", "is-enabled", "ssb-pub") == "enabled"
    assert machine.do("ssb-pub", "health") == "ready"
    assert re.search(r"^The first invite code is pub\.example\.org:8008:@", machine.journal(), re.MULTILINE)


def test_it_runs_in_its_sandbox(machine: Machine) -> None:
    pid = machine.show("MainPID")
    status = dict(line.split(":\t") for line in machine.do("cat", f"/proc/{pid}/status").splitlines())
    assert int(status["Uid"].split()[0]) >= 61184  # where systemd takes dynamic users from
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {16 * "0"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = dict(line.split()[1:4:2] for line in machine.do("cat", f"/proc/{pid}/mounts").splitlines())
    assert mounts["/"].startswith("ro,")
    assert mounts["/var/lib/private/ssb-pub"].startswith("rw,")
    assert re.search(r"Max open files +16384 +16384", machine.do("cat", f"/proc/{pid}/limits"))
    assert "few_file_descriptors" not in machine.journal()


def test_stopping_it_drains(machine: Machine) -> None:
    machine.do("systemctl", "stop", "ssb-pub")
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert '"event": "stopped"' in machine.journal()
    assert machine.run("ssb-pub", "health").returncode == 1


def test_the_watchdog_leaves_it_alone_while_it_lives_and_restarts_it_when_it_hangs(machine: Machine) -> None:
    machine.override("WatchdogSec=4s", "RestartSec=0")
    pid = machine.show("MainPID")
    time.sleep(9)  # what shows that the signs of life arrive is that nothing happens
    assert (machine.show("MainPID"), machine.show("NRestarts")) == (pid, "0")
    machine.kill("STOP")
    machine.until(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active")
    assert "Watchdog timeout" in machine.journal()
    assert machine.show("MainPID") != pid
    assert machine.do("ssb-pub", "health") == "ready"


def test_a_crash_is_followed_by_a_new_start(machine: Machine) -> None:
    machine.override("RestartSec=0")
    machine.kill("KILL")
    machine.until(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active")
    assert machine.do("ssb-pub", "health") == "ready"


def test_a_mistake_in_the_settings_is_not_tried_again(machine: Machine) -> None:
    machine.override("Environment=PUB_NETWORK_PORT=banana", "RestartSec=0")
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus")) == ("failed", "78")
    assert machine.show("NRestarts") == "0"
    assert "banana" in machine.journal()


def test_an_upgrade_keeps_the_pub_and_the_release_before(machine: Machine) -> None:
    before, old = machine.do("ssb-pub", "whoami"), machine.do("readlink", "/opt/ssb-pub/current")
    assert "pub.example.org:8008" in machine.do(INSTALL, limit=180)
    assert machine.do("ssb-pub", "whoami") == before
    new = machine.do("readlink", "/opt/ssb-pub/current")
    releases = machine.do("find", "/opt/ssb-pub", "-mindepth", "1", "-maxdepth", "1", "-type", "d").split()
    assert sorted(releases) == [old, new]


def test_a_folder_from_another_machine_is_the_pub_of_that_machine(machine: Machine) -> None:
    """The steps of deploy/README.md for moving; the files belong to whoever they belonged to there."""
    before = machine.do("ssb-pub", "whoami")
    machine.do("systemctl", "stop", "ssb-pub")
    machine.do("tar", "-C", "/var/lib/ssb-pub", "--owner=10008", "--group=10008", "-czf", "/srv/pub.tar.gz", ".")
    machine.do("find", "/var/lib/ssb-pub/", "-mindepth", "1", "-delete")
    machine.do("tar", "-C", "/var/lib/ssb-pub", "-xzf", "/srv/pub.tar.gz")
    machine.do("systemctl", "start", "ssb-pub")
    assert machine.do("ssb-pub", "whoami") == before
    assert machine.do("ssb-pub", "health") == "ready"
