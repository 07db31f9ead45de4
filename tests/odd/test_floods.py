"""Peers who send as fast as they can, who open all they may and close nothing, and who never read."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
import trio

from pub.net.peer import MAX_HELD_BYTES
from pub.net.penance import ABREAST
from pub.protocol.muxrpc import MAX_OPEN_REQUESTS
from pub.protocol.packets import GOODBYE
from tests.odd.flooder import FLOODS
from tests.odd.house import House
from tests.odd.lines import DUPLEX, JSON, RNG, STREAM, Line, Wrapped, begin_ebt, enter, packet, request, somebody
from tests.odd.members import ALICE
from tests.service.processes import ROOT, environment

pytestmark = pytest.mark.slow

FLOODERS = 4
FLOOD_SECONDS = 0.7
# what a flood may cost: of each flooder an outbox full of answers that it does not read, and the largest clock in hand
FLOOD_MEMORY = 96 << 20
CONNECTIONS = 4  # that one identity may have
LIVE = ("createHistoryStream", {"id": ALICE.id, "live": True})
STREAM_BYTES = 2048  # of memory for an open stream


@contextmanager
def flooding(house: House, name: str) -> Iterator[None]:
    arguments = [house.pub.announced["id"], str(house.pub.port), str(FLOODERS), name]
    command = [sys.executable, "-m", "tests.odd.flooder", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the flooder did not come in"
            yield
            assert process.poll() is None, "the flooder gave up"
        finally:
            process.kill()


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood(house: House, name: str) -> None:
    """Half of the peers read what the pub answers, the others don't."""
    async with house.watched(memory=FLOOD_MEMORY):
        with flooding(house, name):
            await trio.sleep(FLOOD_SECONDS)


@pytest.mark.parametrize("name", ["requests", "streams", "answers", "ends", "empty"])
async def test_garbage_is_not_looked_at_as_fast_as_it_comes(house: House, name: str) -> None:
    """How fast, is in ``tests/net/test_penance.py``: on a clock of its own."""
    async with house.watched(memory=FLOOD_MEMORY):
        held_back = await house.limit_hits("refused_packets")
        with flooding(house, name):
            await trio.sleep(FLOOD_SECONDS)
        assert await house.limit_hits("refused_packets") > held_back


# --- opened and never closed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False], ids=["live", "old"])
async def test_thousands_of_history_streams(house: House, live: bool) -> None:
    """As many as one may have, of the busiest feed there is, on every connection of one peer."""
    keys = somebody()
    count = CONNECTIONS * MAX_OPEN_REQUESTS
    async with house.watched(memory=count * STREAM_BYTES + FLOOD_MEMORY), AsyncExitStack() as stack:
        refused = await house.limit_hits("open_requests")
        lines = [await stack.enter_async_context(enter(house, keys)) for _ in range(CONNECTIONS)]
        asked = {"id": ALICE.id, "live": live, "old": not live, "keys": False}
        for line in lines:
            await line.send(
                *(
                    request(number, "createHistoryStream", asked, kind="source")
                    for number in range(1, MAX_OPEN_REQUESTS + 1)
                )
            )
        for line in lines:
            if live:
                await line.send(request(MAX_OPEN_REQUESTS + 1, "manifest"))
                assert b"too many open requests" in (await line.answer(MAX_OPEN_REQUESTS + 1)).body
            await line.leave()
        assert (await house.limit_hits("open_requests") > refused) is live


async def test_thousands_of_pings_and_of_ebt(house: House) -> None:
    async with house.watched(memory=MAX_OPEN_REQUESTS * STREAM_BYTES + (32 << 20)), enter(house) as line:
        for number in range(1, MAX_OPEN_REQUESTS):
            await line.send(request(number, "gossip.ping", {"timeout": number % 3 - 1}, kind=DUPLEX))
            await line.send(packet(number, b"1", STREAM | JSON))
        assert await line.is_served(MAX_OPEN_REQUESTS)


async def test_streams_opened_and_left_by_hanging_up(house: House) -> None:
    async with house.watched():
        for _ in range(20):
            async with enter(house) as line:
                for number in range(1, 500):
                    await line.send(request(number, *LIVE, kind="source"))


# --- never reading ----------------------------------------------------------------------------------------------


async def test_a_slow_reader_of_everything(house: House) -> None:
    """Pages wait in the log for who does not read, not in memory."""
    async with house.watched(), AsyncExitStack() as stack:
        for _ in range(50):
            line = await stack.enter_async_context(enter(house, receive_buffer=4096))
            await begin_ebt(line)
            await line.send(packet(1, {ALICE.id: 0}, STREAM | JSON))
            for number in range(2, 50):
                await line.send(request(number, *LIVE, kind="source"))
        await trio.sleep(1)


async def test_questions_whose_answers_are_never_read(house: House) -> None:
    """Answers can't wait in the log: who lets megabytes of them lie is dropped."""
    async with house.watched(memory=FLOOD_MEMORY):
        slow = await house.limit_hits("outbound_bytes")
        async with enter(house, receive_buffer=4096) as line:
            data = b"".join(request(number, "manifest") for number in range(1, 2000))
            with trio.fail_after(20):
                while await line.send(data):
                    pass
        assert await house.limit_hits("outbound_bytes") == slow + 1


async def test_many_who_let_answers_lie(house: House) -> None:
    """Each within its bound; all together they are not, and the heaviest go."""
    async with house.watched(memory=MAX_HELD_BYTES + FLOOD_MEMORY), AsyncExitStack() as stack:
        heavy = await house.limit_hits("held_bytes")
        answer = {"name": ["x" * 60_000], "args": []}
        for _ in range(60 // ABREAST):
            async with trio.open_nursery() as nursery:  # so many at a time as are not slowed down by each other
                for _ in range(ABREAST):
                    line = await stack.enter_async_context(enter(house, receive_buffer=4096))
                    # 3.6 MB of answers; the kernel takes some
                    nursery.start_soon(line.send, *(packet(number, answer) for number in range(1, 60)))
        assert await house.limit_hits("held_bytes") > heavy


async def test_goodbye_and_never_reading(house: House) -> None:
    """Said, and then the answers to all that was asked before are not taken: the place is free again after a while."""
    async with house.watched(memory=FLOOD_MEMORY), AsyncExitStack() as stack:
        for _ in range(10):
            line = await stack.enter_async_context(enter(house, receive_buffer=4096))
            await line.send(*(packet(number, {"name": ["x" * 60_000], "args": []}) for number in range(1, 40)), GOODBYE)


async def test_one_byte_read_at_a_time(house: House) -> None:
    async with house.watched(), enter(house, receive_buffer=4096) as line:
        await line.send(request(1, "manifest"), request(2, "createHistoryStream", {"id": ALICE.id}, kind="source"))
        stream = OneByte(line.stream)
        assert (await Line(stream).answer(1)).body
        assert (await Line(stream).next()) is not None


class OneByte(Wrapped):
    """Reads one byte at a time."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(1)


# --- for nobody -------------------------------------------------------------------------------------------------


async def test_messages_nobody_asked_for(house: House) -> None:
    """Of thousands of feeds, in the form of good frames."""
    async with house.watched(), enter(house) as line:
        await begin_ebt(line)
        for _ in range(20):
            frames = [
                {"author": somebody().id, "sequence": RNG.randrange(1, 9), "content": {"type": "post"}}
                for _ in range(200)
            ]
            await line.send(*(packet(1, frame, STREAM | JSON) for frame in frames))
        assert await line.is_served()
