"""The line: who has something to send gets a turn, nobody waits for a full socket, and rounds are short."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from pub.net.line import ROUND_BYTES, ROUND_TURNS, Line
from pub.net.methods import Method
from pub.net.rpcstream import RpcStream
from pub.protocol.muxrpc import Kind
from tests.net.ends import BODY, METHODS, Pages, connected, listen, make, narrow_pair, secured


class Sender:
    """Writes ``size`` bytes in each of its turns, as often as it is told to."""

    def __init__(self, line: Line, turns: int = 1, size: int = 1) -> None:
        self.line = line
        self.left = turns
        self.size = size
        line.join(self)

    def take_turn(self) -> int:
        self.left -= 1
        if self.left:
            self.line.go_on(self)
        return self.size


@asynccontextmanager
async def running() -> AsyncIterator[Line]:
    line = Line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        await trio.testing.wait_all_tasks_blocked()
        yield line
        nursery.cancel_scope.cancel()


async def test_everybody_has_a_turn_and_who_wants_more_queues_again() -> None:
    async with running() as line:
        senders = [Sender(line, turns) for turns in (1, 3, 2)]
        await trio.testing.wait_all_tasks_blocked()
        assert [each.left for each in senders] == [0, 0, 0]
        late = Sender(line)
        await trio.testing.wait_all_tasks_blocked()
        assert late.left == 0


async def test_news_pass_by_those_who_fetch_everything_and_hold_nobody_up() -> None:
    async with running() as line:
        fetching = [Sender(line, turns=9, size=ROUND_BYTES) for _ in range(3)]
        while any(each.left == 9 for each in fetching):
            await trio.lowlevel.checkpoint()
        before = sum(each.left for each in fetching)
        listening = [Sender(line) for _ in range(3)]
        while any(each.left for each in listening):
            await trio.lowlevel.checkpoint()
        assert before - sum(each.left for each in fetching) <= 3, "of them a round has one, and the look may come late"
        await trio.testing.wait_all_tasks_blocked()
        assert [each.left for each in fetching] == [0, 0, 0]


async def test_whoever_goes_on_has_a_turn_however_much_news_there_is() -> None:
    async with running() as line:
        fetching = Sender(line, turns=3, size=ROUND_BYTES)
        await trio.lowlevel.checkpoint()
        listening = [Sender(line, size=ROUND_BYTES) for _ in range(20)]
        for _ in range(8):
            await trio.lowlevel.checkpoint()
        assert fetching.left == 0
        assert any(each.left for each in listening)


async def test_a_round_is_bounded_in_turns() -> None:
    async with running() as line:
        senders = [Sender(line) for _ in range(3 * ROUND_TURNS)]
        served = await served_at_once(senders)
    assert max(served) <= 2 * ROUND_TURNS, "one look may fall between two rounds"
    assert sum(served) == len(senders)


async def test_a_round_is_bounded_in_bytes() -> None:
    async with running() as line:
        senders = [Sender(line, size=ROUND_BYTES // 2) for _ in range(9)]
        served = await served_at_once(senders)
    assert max(served) <= 4
    assert sum(served) == len(senders)


async def served_at_once(senders: list[Sender]) -> list[int]:
    """How many had their turn between two looks of another task."""
    served, done = [], 0
    while done < len(senders):
        await trio.lowlevel.checkpoint()
        before, done = done, sum(each.left == 0 for each in senders)
        served.append(done - before)
    return served


async def test_who_does_not_read_keeps_nobody_waiting() -> None:
    """Ten are served in one line; nine of them read."""

    def endless(stream: RpcStream, _args: list[Any]) -> None:
        Pages(stream, itertools.repeat(BODY))

    async with running() as line:
        deaf, ours = await secured(narrow_pair())
        pub = make(ours, {"endless": Method("source", endless)}, line=line)
        async with deaf, trio.open_nursery() as nursery:
            nursery.start_soon(pub.run)
            peer = make(deaf)
            await deaf.send_all(peer.session.open(("endless",), [], Kind.SOURCE)[1])
            async with AsyncExitStack() as people:
                readers = [await people.enter_async_context(secure(line)) for _ in range(9)]
                collectors = [listen(reader, "count") for reader in readers]
                for collector in collectors:
                    await collector.over.wait()
            nursery.cancel_scope.cancel()
    assert {len(collector.bodies) for collector in collectors} == {1000}


@asynccontextmanager
async def secure(line: Line) -> AsyncIterator[Any]:
    async with connected(METHODS, await secured(narrow_pair()), line=line) as (peer, _pub):
        yield peer


async def test_through_a_narrow_socket_everything_comes_in_order() -> None:
    pulled: list[Pages] = []

    def numbers(stream: RpcStream, _args: list[Any]) -> None:
        pulled.append(Pages(stream, [b"%d" % number * 40 for number in range(5000)]))

    async with connected({"numbers": Method("source", numbers)}, await secured(narrow_pair())) as (peer, _pub):
        collector = listen(peer, "numbers")
        await collector.over.wait()
    assert collector.bodies == [b"%d" % number * 40 for number in range(5000)]


async def test_a_bug_of_one_source_ends_one_connection() -> None:
    class Broken(Pages):
        def next_page(self, _budget: int) -> list[bytes]:
            raise ZeroDivisionError("a bug")

    def broken(stream: RpcStream, _args: list[Any]) -> None:
        Broken(stream, [])

    async with running() as line, secure(line) as other:
        hers, ours = await secured(narrow_pair())
        pub = make(ours, {"broken": Method("source", broken)}, line=line)
        async with hers:
            await hers.send_all(make(hers).session.open(("broken",), [], Kind.SOURCE)[1])
            with pytest.raises(ZeroDivisionError):
                await pub.run()
        assert await other.call(("whoami",), []) == {"id": "the pub"}
