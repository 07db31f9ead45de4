"""kill -9 in the middle of everything: nothing that was promised is lost, nothing happens twice."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tests.crash.conftest import KILLS
from tests.crash.crowd import Bringer, Reader, visit
from tests.crash.guests import Rush, expect_exact_uses
from tests.crash.ledger import check_chain, read_ledger
from tests.crash.library import Library, keys_of
from tests.crash.storm import Pace, rage, short_fuse, wait_for_growth
from tests.crash.supervisor import Supervisor
from tests.service.people import holder_of

IN_INGEST = KILLS * 45 // 100
IN_REDEMPTIONS = KILLS * 35 // 100
IN_GROWTH = KILLS - IN_INGEST - IN_REDEMPTIONS
PATIENCE = 60 + 6 * KILLS  # seconds until what hangs fails the test

GROWTH_SECONDS = 0.002  # after the map has moved: the transaction that had no room runs again
REDEEMING_SECONDS = 0.6  # the longest that a storm of redemptions is left alone

READER = keys_of("reader")


async def test_a_great_ingest(tmp_path: Path, rng: random.Random, library: Library) -> None:
    """The kills are spread over the whole of it."""
    left = IN_INGEST
    while left > 0:
        async with supervised(tmp_path / f"{left} left", rng) as supervisor, open_crowd(supervisor, library) as reader:
            pace = Pace(rng, left, partial(getattr, reader, "share"))
            await kill_until_complete(supervisor, reader, left, pace.wait, short_fuse(rng))
            await expect_everything(supervisor, library, reader)
        left -= supervisor.kills


async def test_a_growing_map(tmp_path: Path, rng: random.Random, library: Library) -> None:
    """The kill comes when the map has just moved and the transaction that had no room in it runs again."""

    def at_growth(pid: int) -> None:
        wait_for_growth(pid)
        time.sleep(rng.uniform(0, GROWTH_SECONDS))

    left = IN_GROWTH
    while left > 0:
        async with supervised(tmp_path / f"{left} left", rng) as supervisor, open_crowd(supervisor, library) as reader:
            await kill_until_complete(supervisor, reader, left, trio.lowlevel.checkpoint, at_growth)
            await expect_everything(supervisor, library, reader)
        left -= supervisor.kills


async def kill_until_complete(
    supervisor: Supervisor,
    reader: Reader,
    kills: int,
    wait: Callable[[], Awaitable[None]],
    fuse: Callable[[int], None],
) -> None:
    """At most so often: what there is to bring may be brought before, and then another store has to follow."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rage, supervisor, kills, wait, fuse)
        await reader.wait_complete()
        nursery.cancel_scope.cancel()
    assert supervisor.kills


async def test_a_storm_of_redemptions(tmp_path: Path, rng: random.Random) -> None:
    async with supervised(tmp_path / "pub", rng) as supervisor:
        rush = Rush(supervisor, rng)

        async def in_a_call() -> None:
            await trio.sleep(rng.uniform(0, REDEEMING_SECONDS))
            await rush.wait_call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rush.run)
            await rage(supervisor, IN_REDEMPTIONS, in_a_call, short_fuse(rng))
            rush.is_over = True
        own = supervisor.process.announced["id"]
        await supervisor.stop()
        ledger = read_ledger(supervisor.folder)
        check_chain(ledger.feeds[own])
        for code in rush.codes:
            expect_exact_uses(code, ledger, own)
        cut = sum(guest.cut for guest in rush.guests)
        print(f"{len(rush.guests)} guests, {cut} of their calls cut short")
        assert cut


@asynccontextmanager
async def supervised(folder: Path, rng: random.Random) -> AsyncIterator[Supervisor]:
    """A pub that is killed again and again; says at the end how that went."""
    supervisor = Supervisor(folder, rng)
    began = time.perf_counter()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            yield supervisor
            nursery.cancel_scope.cancel()
    starts = sorted(supervisor.start_seconds)
    print(
        f"{supervisor.kills} kills in {time.perf_counter() - began:.0f} s; "
        f"ready {starts[len(starts) // 2]:.2f} s after exec (median), {starts[-1]:.2f} s (longest)"
    )


@asynccontextmanager
async def open_crowd(supervisor: Supervisor, library: Library) -> AsyncIterator[Reader]:
    """Every carrier is a member and brings what it has; the reader fetches it all meanwhile."""
    code = await supervisor.ask("invite", "create", args=[len(library.carriers)])
    async with visit(supervisor, holder_of(code)) as guest:
        for carrier in library.carriers:
            await guest.call("invite", "use", args=[{"feed": carrier.keys.id}])
    reader = Reader(READER, library.feeds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run, supervisor)
        for carrier in library.carriers:
            nursery.start_soon(Bringer(carrier).run, supervisor)
        yield reader
        nursery.cancel_scope.cancel()


async def expect_everything(supervisor: Supervisor, library: Library, reader: Reader) -> None:
    """All of it has come through, is there for somebody new, and is on disk, once."""
    await reader.wait_complete()
    fresh = Reader(keys_of("somebody new"), library.feeds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fresh.run, supervisor)
        await fresh.wait_complete()
        nursery.cancel_scope.cancel()
    own = supervisor.process.announced["id"]
    await supervisor.stop()
    ledger = read_ledger(supervisor.folder)
    check_chain(ledger.feeds.pop(own))
    assert ledger.feeds == library.feeds
    print(f"{library.count} messages")
