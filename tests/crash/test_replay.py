"""A crash of the machine: whatever part of what the pub wrote has reached the disk, the store opens and is whole."""

import hashlib
import multiprocessing
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import trio

from pub.store.env import Store, Txn
from pub.store.log import Appender, Changes, Log
from tests.crash.conftest import KILLS
from tests.crash.crowd import Bringer, Reader, visit
from tests.crash.guests import Rush
from tests.crash.ledger import Ledger, ledger_of, read_ledger
from tests.crash.library import Carrier, Library, keys_of
from tests.crash.recording import ENDED, State, after_each_commit, crashes, read_recording, strace_of
from tests.crash.supervisor import Supervisor
from tests.ingest.people import NOW, Author
from tests.service.people import holder_of
from tests.service.processes import SSB_PUB, answer_of

POSTS = 40  # of each author
STATES = 40 * KILLS
PATIENCE = 120
AT_ONCE = 16  # states handed out at once: each is a whole store in memory

Feeds = dict[str, list[bytes]]


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace: what is written cannot be seen")


async def test_what_a_crash_leaves_of_a_recorded_run_is_a_store(
    tmp_path: Path, rng: random.Random, library: Library
) -> None:
    folder, output = tmp_path / "pub", tmp_path / "trace"
    few = Library([Carrier(each.keys, first_posts(each.feeds)) for each in library.carriers])
    assert answer_of(folder, "init").returncode == 0
    base = (folder / "data.mdb").read_bytes()
    supervisor = Supervisor(folder, rng, (*strace_of(folder / "data.mdb", output), *SSB_PUB))
    await record(supervisor, few, rng)
    recorded = read_recording((await whole_trace(output)).splitlines())
    inspect = partial(contents_of, tmp_path, supervisor.process.announced["id"], few.feeds)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")
    ) as pool:  # processes of their own: LMDB reads what it maps, and a hole in the file would kill the reader
        complete = [contents for _state, contents in inspected(pool, inspect, after_each_commit(base, recorded))]
        count = 0
        for state, contents in inspected(pool, inspect, crashes(base, recorded, rng, STATES)):
            assert contents in complete[state.least : state.most + 1], state.name
            count += 1
    assert complete[-1] == hash_of(read_ledger(folder))
    print(f"{len(recorded)} calls, {len(complete)} commits, {count} states")
    assert len(set(complete)) > 20


def first_posts(feeds: Feeds) -> Feeds:
    return {feed: texts[:POSTS] for feed, texts in feeds.items()}


async def record(supervisor: Supervisor, library: Library, rng: random.Random) -> None:
    """Carriers bring their feeds while guests redeem codes."""
    rush, reader = Rush(supervisor, rng), Reader(keys_of("reader"), library.feeds)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            code = await supervisor.ask("invite", "create", args=[len(library.carriers)])
            async with trio.open_nursery() as guests:
                guests.start_soon(rush.run)
                nursery.start_soon(reader.run, supervisor)
                async with visit(supervisor, holder_of(code)) as guest:
                    for carrier in library.carriers:
                        await guest.call("invite", "use", args=[{"feed": carrier.keys.id}])
                        nursery.start_soon(Bringer(carrier).run, supervisor)
                await reader.wait_complete()
                rush.is_over = True
            await supervisor.stop()
            nursery.cancel_scope.cancel()


async def whole_trace(output: Path) -> str:
    """strace, which nobody waits for, may still be writing when the pub has ended."""
    with trio.fail_after(PATIENCE):
        while True:
            text = await trio.Path(output).read_text()
            if ENDED.search(text):
                return text
            await trio.sleep(0.1)


def inspected(pool: ProcessPoolExecutor, inspect: partial[str], states: Iterator[State]) -> Iterator[tuple[State, str]]:
    while batch := list(islice(states, AT_ONCE)):
        yield from zip(batch, pool.map(inspect, batch), strict=True)


def contents_of(parent: Path, own: str, feeds: Feeds, state: State) -> str:
    """The store opens, holds the beginning of what was written, and takes what comes next. A hash of what it holds."""
    folder = parent / f"{os.getpid()} {state.name}"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(state.content)  # and no lock file: that does not outlive the machine
    with Store.open(folder) as store:
        ledger = ledger_of(store)
        expect_beginning(ledger, own, feeds)
        newcomer = Author("newcomer")
        message = newcomer.write("it goes on")

        def job(txn: Txn) -> Changes:
            appender = Appender(Log(store), txn)
            appender.append(message, NOW)
            return appender.finish()

        store.write(job)
    with Store.open(folder) as store:
        assert ledger_of(store).feeds == ledger.feeds | {newcomer.keys.id: [message.encoded]}
    shutil.rmtree(folder)
    return hash_of(ledger)


def expect_beginning(ledger: Ledger, own: str, feeds: Feeds) -> None:
    followed = ledger.followed_by(own)
    for feed, texts in ledger.feeds.items():
        assert feed == own or texts == feeds[feed][: len(texts)]
    assert followed == dict.fromkeys(ledger.members, 1)
    assert Counter(ledger.members.values()) == +Counter(ledger.used)


def hash_of(ledger: Ledger) -> str:
    """Equal where the ledgers are."""
    parts = (ledger.feeds, ledger.used, ledger.members)
    return hashlib.sha256(repr([sorted(part.items()) for part in parts]).encode()).hexdigest()
