"""A feed of a hundred thousand messages and a thousand feeds of a hundred, fetched whole by people who have nothing.

All of it lies in one pub, brought by two members over EBT. Everyone here checks that each feed comes in order; that it
came to its end with the right message is checked here, and through the chain of hashes that says it of every message.
Meanwhile the pub's memory is looked at: who serves from a log needs a page of it, however long it is.
"""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio

from benchmarks.clients import Carrier, dial, redeem
from benchmarks.dataset import Shape, make
from benchmarks.mapped import Mapped
from benchmarks.meter import anonymous
from pub.net.control import call
from pub.protocol.classic import examine
from pub.protocol.refs import message_id
from tests.interop.clients import Client, ClientError
from tests.interop.conftest import Opener
from tests.interop.steps import follow
from tests.service.processes import Process, start_pub

MANY = Shape(1000, 100)
LONG = Shape(1, 100_000)
# What serving may add to what the pub holds at rest, all its processes together: a page and a buffer for each peer, and
# what it remembers of a thousand feeds for each. One MiB was measured; all that is fetched has 110.
FLAT = 16 << 20
LOOK = 0.2  # seconds between two looks at the pub's memory
FILLING = 120  # seconds until filling the pub counts as failed; ten on a quiet machine
REDIAL = 2  # seconds between two looks whether a client is still connected
PATIENCE = 30  # seconds without anything new until a fetch counts as stuck

Heads = dict[str, list[Any]]


@dataclass
class FullPub:
    """A pub with everything in it. ``heads`` are by feed its length and the key of its last message."""

    process: Process
    hubs: list[str]
    heads: Heads
    messages: int

    @property
    def address(self) -> str:
        return str(self.process.announced["address"])


@pytest.fixture(scope="module")
def full_pub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullPub]:
    folder = tmp_path_factory.mktemp("size")
    with ThreadPoolExecutor() as threads:  # each makes its feeds in processes of its own
        list(threads.map(partial(make, folder=folder), (LONG, MANY)))
    with ExitStack() as stack:
        data = [stack.enter_context(Mapped(shape, folder)) for shape in (LONG, MANY)]
        with start_pub(folder / "pub") as process:
            trio.run(bring, process, data)
            assert process.end() == 0
        process = stack.enter_context(start_pub(folder / "pub"))  # without what filling left in its memory
        heads = {each: head_of(mapped, feed) for mapped in data for feed, each in enumerate(mapped.ids)}
        yield FullPub(process, [each.hub.id for each in data], heads, sum(each.count for each in data))
        assert process.ask("status")["internal_errors"] == 0
        assert process.end() == 0


async def bring(process: Process, data: list[Mapped]) -> None:
    """Two members fill the pub, both at once."""
    async with trio.open_nursery() as nursery:
        for each in data:
            code = await trio.to_thread.run_sync(process.ask, "invite", "create")
            await redeem(process.port, code["code"], each.hub.id)
            nursery.start_soon(carry, process, each)
        await until_stored(process, sum(each.count for each in data))
        nursery.cancel_scope.cancel()


async def carry(process: Process, data: Mapped) -> None:
    async with dial(process.port, process.key, data.hub) as connection:
        Carrier(connection, data)
        await trio.sleep_forever()


async def until_stored(process: Process, count: int) -> None:
    with trio.fail_after(FILLING):
        while (await call(process.folder / "socket", ("status",), []))["messages"] < count:  # noqa: ASYNC110
            await trio.sleep(LOOK)


def head_of(data: Mapped, feed: int) -> list[Any]:
    length = data.length(feed)
    [last] = data.page(feed, length - 1, 1)
    return [length, message_id(examine(last).id)]


@asynccontextmanager
async def flat_memory(pub: FullPub) -> AsyncIterator[None]:
    """The pub's memory stays within FLAT of what it is now."""
    before = anonymous(pub.process.process.pid)
    highest = before

    async def look() -> None:
        nonlocal highest
        while True:
            highest = max(highest, anonymous(pub.process.process.pid))
            await trio.sleep(LOOK)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield
        nursery.cancel_scope.cancel()
    print(f"memory: {before / 2**20:.1f} MiB, at most {highest / 2**20:.1f} MiB")
    assert highest - before < FLAT


async def until_complete(pub: FullPub, person: Client) -> None:
    """Return when this person has everything; fail when something came out of turn, or nothing comes any more."""
    began = latest = trio.current_time()
    messages = 0
    while messages < pub.messages or not is_complete(pub.heads, await person.call("heads")):
        arrived = await person.call("arrived")
        assert arrived["disordered"] == 0
        if arrived["messages"] > messages:
            latest, messages = trio.current_time(), arrived["messages"]
        assert trio.current_time() - latest < PATIENCE, f"nothing after {messages} of {pub.messages} messages"
        await trio.sleep(LOOK)
    print(f"{messages} messages in {trio.current_time() - began:.1f} s")


def is_complete(wanted: Heads, heads: Heads) -> bool:
    return all(heads.get(feed) == head for feed, head in wanted.items())


@pytest.mark.parametrize("how", ["ebt", "history"])
async def test_a_stranger_fetches_everything(full_pub: FullPub, client: Opener, how: str) -> None:
    async with client("reader", "rita") as rita, flat_memory(full_pub):
        await rita.call(f"fetch-{how}", full_pub.address, list(full_pub.heads))
        await until_complete(full_pub, rita)
        assert (await rita.call("arrived"))["messages"] == full_pub.messages


async def test_fresh_clients_of_both_families_fetch_everything(full_pub: FullPub, client: Opener) -> None:
    async with (
        client("classic", "bob") as bob,
        client("db2", "dora") as dora,
        flat_memory(full_pub),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(join_and_fetch, full_pub, bob)
        nursery.start_soon(join_and_fetch, full_pub, dora)


async def join_and_fetch(pub: FullPub, person: Client) -> None:
    code = await trio.to_thread.run_sync(pub.process.ask, "invite", "create")
    await person.call("accept", code["code"])
    await follow(person, *pub.hubs)
    await person.call("connect", pub.address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay_connected, pub, person)
        await until_complete(pub, person)
        nursery.cancel_scope.cancel()


async def stay_connected(pub: FullPub, person: Client) -> None:
    """What the application does. The classic client hangs up after ten seconds as soon as half a second brings nothing,
    unless its first ping took a measurable time; on a busy machine that happens in the middle of everything.
    """
    while True:
        await trio.sleep(REDIAL)
        connected = (await call(pub.process.folder / "socket", ("conn", "peers"), []))["connected"]
        if all(each["id"] != person.feed for each in connected):
            with suppress(ClientError):  # it may be too busy even for this
                await person.call("connect", pub.address)
