"""What the pub told someone is its own is on disk: system calls of the running pub, in their order."""

import shutil
import time
from pathlib import Path

import pytest
import trio

from tests.interop.clients import FAMILIES
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub
from tests.interop.traces import RECEIVES, SENDS, accepted_after, first, is_committed_between, parse, traced

QUIET = 0.5  # seconds until the packets that open a connection are over


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace: the order of system calls cannot be seen")


async def test_a_redemption_is_on_disk_before_it_is_answered(pub: Pub, client: Opener, tmp_path: Path) -> None:
    code = await pub.invite()
    output = tmp_path / "trace"
    async with client("raw", "alice") as alice, traced(pub.pid, output):
        start = time.time()
        guest = await alice.call("guest", code)
        await trio.sleep(QUIET)
        asked = time.time()
        [answer] = await alice.call("use", [[guest, {"feed": alice.feed}]])
        assert "result" in answer
    calls = parse(output.read_text().splitlines())
    socket = accepted_after(calls, start)
    request = first(calls, RECEIVES, socket, asked)
    reply = first(calls, SENDS, socket, request.end)
    assert is_committed_between(calls, request, reply)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_message_is_on_disk_before_a_note_claims_it(
    pub: Pub, client: Opener, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "trace"
    async with client(kind, "alice") as alice, client("raw", "watcher") as watcher:
        await alice.call("accept", await pub.invite())
        async with traced(pub.pid, output):
            start = time.time()
            await alice.call("connect", pub.address)
            await trio.sleep(QUIET)
            between = time.time()
            await watcher.call("watch", pub.address, alice.feed)
            await watcher.call("wait-feed", alice.feed, len(await alice.call("feed", alice.feed)))
            await trio.sleep(QUIET)
            published = time.time()
            await alice.call("publish", {"type": "post", "text": "is it safe?"})
            await watcher.call("wait-feed", alice.feed, len(await alice.call("feed", alice.feed)))
    calls = parse(output.read_text().splitlines())
    message = first(calls, RECEIVES, accepted_after(calls, start), published)
    note = first(calls, SENDS, accepted_after(calls, between), message.end)
    assert is_committed_between(calls, message, note)
