"""What a pub writes into its log, and what it never does: at level debug, with everything going wrong."""

import base64
import json
import re
from pathlib import Path

import pytest
import trio

from pub.protocol.invites import parse_invite
from tests.service.people import dial, holder_of, person
from tests.service.processes import Process, answer_of, start_pub
from tests.web.clients import get

pytestmark = pytest.mark.slow

ALICE = person("alice")
SCANS = 40
CPU_OF_THE_MAIN_PROCESS = r'^(?:ssb_pub_cpu_seconds_total\{process="pub"\}|process_cpu_seconds_total) (\S+)$'
WHOLE_ID = re.compile(r"[@%&][A-Za-z0-9+/]{43}=\.(ed25519|sha256)")


def talkative(folder: Path) -> Path:
    """A data folder whose pub says everything."""
    folder.mkdir()
    (folder / "config.yaml").write_text("log: {level: debug}\n")
    return folder


async def scan(port: int) -> None:
    """Connect, say something else or nothing, and leave."""
    for number in range(SCANS):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            if number % 2:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n".ljust(100, b"\xff"))


async def redeem(pub: Process, code: str) -> None:
    async with dial("127.0.0.1", pub.port, pub.key, holder_of(code)) as guest:
        await guest.call("invite", "use", args=[{"feed": ALICE.id}])
        await be_refused(pub, code)


async def be_refused(pub: Process, code: str) -> None:
    async with dial("127.0.0.1", pub.port, pub.key, holder_of(code)) as guest:
        assert await guest.refusal("invite", "use", args=[{"feed": ALICE.id}])
        assert await guest.refusal("invite", "use", args=[{"feed": code}])
        assert await guest.refusal("invite", "revoke", args=[code])


async def operations_port(pub: Process) -> int:
    [port] = [line["port"] for line in pub.log if line["event"] == "operations_listening"]
    return int(port)


async def metric(pub: Process, line: str) -> float:
    text = (await get(await operations_port(pub), "/metrics")).text
    return float(text.partition(f"\nssb_pub_{line} ")[2].partition("\n")[0])


def test_no_secret_and_no_code_ever(tmp_path: Path) -> None:
    folder = talkative(tmp_path / "pub")
    with start_pub(folder) as pub:
        first = pub.announced["invite"]
        second = pub.ask("invite", "create", "--uses", "2")["code"]
        trio.run(redeem, pub, first)
        answer_of(folder, "invite", "revoke", second, "--json")
        answer_of(folder, "invite", "revoke", f"{second}x", "--json")
        answer_of(folder, "connect", second, "--json")
        trio.run(be_refused, pub, second)
        assert pub.end() == 0
    log = folder.with_suffix(".log").read_text()
    private = json.loads(re.sub(r"^#.*$", "", (folder / "secret").read_text(), flags=re.MULTILINE))["private"]
    assert private.removesuffix(".ed25519")[:40] not in log
    for code in (first, second):
        assert base64.b64encode(parse_invite(code).seed).decode().rstrip("=") not in log
    assert not WHOLE_ID.search(log)


def test_a_port_scan_is_counted_and_leaves_no_line(tmp_path: Path) -> None:
    with start_pub(talkative(tmp_path / "pub")) as pub:
        before = pub.log
        trio.run(scan, pub.port)

        async def wait_until_counted() -> None:
            with trio.fail_after(10):
                while await metric(pub, 'handshakes_total{result="failed"}') < SCANS:  # noqa: ASYNC110 - asked over HTTP
                    await trio.sleep(0.05)

        trio.run(wait_until_counted)
        assert pub.log == before
        assert pub.end() == 0


def test_figures_of_all_processes(tmp_path: Path) -> None:
    async def look(pub: Process) -> None:
        assert await metric(pub, 'processes{process="pub"}') == 1
        assert await metric(pub, 'processes{process="verifier"}') == len(pub.children) > 0
        for process in ("pub", "verifier"):
            assert await metric(pub, f'cpu_seconds_total{{process="{process}"}}') > 0
            resident = await metric(pub, f'resident_memory_bytes{{process="{process}"}}')
            assert resident > await metric(pub, f'anonymous_memory_bytes{{process="{process}"}}') > 1 << 20
        text = (await get(await operations_port(pub), "/metrics")).text
        values = re.findall(CPU_OF_THE_MAIN_PROCESS, text, re.MULTILINE)
        ours, whole = (round(float(value), 2) for value in values)  # the kernel counts hundredths, one is a sum of two
        assert ours <= whole, "it grows with the process, not with the scrapes"
        assert await metric(pub, 'log_lines_total{level="info"}') == len(pub.log)

    with start_pub(tmp_path / "pub") as pub:
        trio.run(look, pub)
        assert pub.end() == 0
