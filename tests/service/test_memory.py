"""What reading large clocks took goes back to the system."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pub.protocol.refs import feed_id
from pub.rpc.ebt import NOTES_PER_TURN
from pub.service import memory
from pub.service.memory import PAUSE_SECONDS, give_back, keep_small
from tests.ingest.people import Author
from tests.pubs import connect, open_pub
from tests.rpc.replicas import replicate

KIB = 1024
LARGE = {feed_id(number.to_bytes(32, "big")): 0 for number in range(2 * NOTES_PER_TURN)}
SMALL = {feed_id(number.to_bytes(32, "big")): 0 for number in range(10)}


@pytest.fixture
def still_clock() -> MockClock:
    """It moves when it is told to."""
    return MockClock()


def anonymous() -> int:
    """Bytes of this process that belong to no file."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("Anonymous:"))


@pytest.mark.skipif(memory._trim is None, reason="another allocator than glibc's")
def test_pages_between_things_that_stay_are_given_back() -> None:
    held = [bytes(32 * KIB) for _ in range(512)]
    before = anonymous()
    del held[1::2]
    give_back()
    assert before - anonymous() > 4 << 20


async def test_memory_goes_back_once_after_all_clocks_that_came_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, still_clock: MockClock
) -> None:
    times: list[float] = []
    monkeypatch.setattr(memory, "give_back", lambda: times.append(trio.current_time()))
    async with open_pub(tmp_path) as pub, connect(pub) as line, connect(pub, Author("alice").keys) as other:
        pub.nursery.start_soon(keep_small, pub.rooms)
        began = trio.current_time()
        for session in (await replicate(line), await replicate(other)):
            await session.stream.send(LARGE)
            await pub.settle()
        assert not times
        still_clock.jump(PAUSE_SECONDS)
        await pub.settle()
        assert times == [began + PAUSE_SECONDS]
        await session.stream.send(SMALL)
        await pub.settle()
        still_clock.jump(PAUSE_SECONDS)
        await pub.settle()
        assert len(times) == 1, "a small one takes nothing worth mentioning"
        pub.nursery.cancel_scope.cancel()
