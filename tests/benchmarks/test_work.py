"""Counted work: what a pub does for a message, for a client and for a greeting may not grow unnoticed.

Each row of ``BOUNDS`` is one number that the pub may not exceed, with what it was when the bound was set: lower both
where work was saved. Nothing here is a time: the same calls happen on every machine, but for the way in which messages
happen to fall into chunks and commits, which is a hundredth or two.

    python -m pytest -s tests/benchmarks/test_work.py      # prints today's values
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.ingest.verify import open_verifiers
from pub.protocol.ebt import encode_note
from pub.protocol.refs import feed_id
from pub.store.log import Appender
from tests.benchmarks.gates import Gate, Work, counted, joined, on_the_spot, until, weighed
from tests.ingest.people import Author
from tests.pubs import RunningPub, open_pub
from tests.rpc.replicas import Replica, replicate
from tests.store.authors import Author as Unexamined

FEEDS, MESSAGES = 20, 1000  # in all feeds together, in each half of what is brought
CLIENTS, PUBLISHED = 50, 10
FEW_NOTES = 2  # the pub's own feed, and that of who comes

Meter = Callable[[], AbstractContextManager[Work]]

# what: (bound, what it was)
BOUNDS: dict[str, tuple[float, float]] = {
    "ingest: calls per message": (91, 83),
    "ingest: calls of the metrics library per message": (0.06, 0.03),
    "ingest: blocks of memory kept per message": (2, 0.5),
    "ingest: bytes at once per message": (1650, 1536),
    "serve: calls per message": (15.5, 14.3),
    "serve: calls of the metrics library per message": (0.01, 0),
    "serve: bytes at once per message": (525, 488),
    "fan-out: calls per message and client": (160, 151.4),
    "greeting over 1,000 feeds: calls": (1320, 1246),
    "greeting over 10,000 feeds: calls": (1320, 1244),
}


def check(measured: dict[str, float]) -> None:
    for what, value in measured.items():
        print(f"{what}: {value:,.2f}, bound {BOUNDS[what][0]:,}")
    over = [f"{what}: {value:,.2f}" for what, value in measured.items() if value > BOUNDS[what][0]]
    assert not over, "more work than the bounds allow"


@asynccontextmanager
async def a_pub(folder: Path) -> AsyncIterator[RunningPub]:
    """With one verifying process; the writer works in this thread."""
    async with (
        open_verifiers(1) as verifier,
        open_pub(folder, verifier=verifier, run_blocking=on_the_spot, patience=60) as pub,
    ):
        yield pub


async def follow(pub: RunningPub, *keys: bytes) -> None:
    """All in one commit."""
    contents = [{"type": "contact", "contact": feed_id(key), "following": True} for key in keys]

    def job(appender: Appender) -> None:
        for content in contents:
            pub.rooms.ingest.append_own(appender, content)

    await pub.rooms.ingest.write(job)


def authors() -> list[Author]:
    people = [Author(f"author {number}") for number in range(FEEDS)]
    for author in people:
        author.write_many(2 * MESSAGES // FEEDS)
    return people


def half(people: list[Author], second: bool) -> list[bytes]:
    """One message of each in turn."""
    count = MESSAGES // FEEDS
    feeds = [author.messages[count:] if second else author.messages[:count] for author in people]
    return [message.encoded for message in chain.from_iterable(zip(*feeds, strict=True))]


async def take_in(pub: RunningPub, replica: Replica, gate: Gate, messages: list[bytes], meter: Meter) -> Work:
    """What it takes the pub until they are on disk."""
    gate.shut()
    await replica.hand_over(messages)
    wanted = pub.rooms.log.message_count + len(messages)
    with meter() as work:
        await gate.release()
        await until(lambda: pub.rooms.log.message_count >= wanted)
    gate.open()
    return work


async def ingest(folder: Path) -> dict[str, float]:
    people, bob = authors(), Author("bob")
    async with a_pub(folder) as pub:
        await follow(pub, bob.keys.public, *(author.keys.public for author in people))
        async with joined(pub, bob.keys) as (client, gate):
            replica = await replicate(client)
            await replica.stream.send({author.keys.id: encode_note(len(author.messages), False) for author in people})
            await pub.settle()
            work = await take_in(pub, replica, gate, half(people, False), counted)
            memory = await take_in(pub, replica, gate, half(people, True), weighed)
        assert all(pub.feed(author.keys.public)[-1] == author.messages[-1].encoded for author in people)
    return {
        "ingest: calls per message": work.calls / MESSAGES,
        "ingest: calls of the metrics library per message": work.library_calls / MESSAGES,
        "ingest: blocks of memory kept per message": memory.kept_blocks / MESSAGES,
        "ingest: bytes at once per message": memory.peak_bytes / MESSAGES,
    }


async def give_out(pub: RunningPub, people: list[Author], name: str, meter: Meter) -> Work:
    """What it takes the pub to send somebody new all of these feeds."""
    async with joined(pub, Author(name).keys) as (client, gate):
        replica = await replicate(client)
        gate.shut()
        await replica.stream.send({author.keys.id: encode_note(0, True) for author in people})
        tally = pub.rooms.metrics.tally
        wanted = tally.sent_messages + 2 * MESSAGES
        with meter() as work:
            await gate.release()
            await until(lambda: tally.sent_messages >= wanted)
        gate.open()
        for _ in range(2 * MESSAGES):
            await replica.next_message()
    return work


async def serve(folder: Path) -> dict[str, float]:
    people = authors()
    async with a_pub(folder) as pub:
        await follow(pub, *(author.keys.public for author in people))
        await pub.take_in(chain.from_iterable(author.messages for author in people))
        work = await give_out(pub, people, "bob", counted)
        memory = await give_out(pub, people, "carol", weighed)
    return {
        "serve: calls per message": work.calls / 2 / MESSAGES,
        "serve: calls of the metrics library per message": work.library_calls / 2 / MESSAGES,
        "serve: bytes at once per message": memory.peak_bytes / 2 / MESSAGES,
    }


async def fan_out(folder: Path) -> dict[str, float]:
    alice = Author("alice")
    async with a_pub(folder) as pub, AsyncExitStack() as crowd:
        await follow(pub, alice.keys.public)
        listeners = [
            await crowd.enter_async_context(joined(pub, Author(f"{number}").keys, by_socket=True))
            for number in range(CLIENTS)
        ]
        replicas = [await replicate(client) for client, _ in listeners]
        for replica in replicas:
            await replica.say(alice, 0)
        client, gate = await crowd.enter_async_context(joined(pub, alice.keys))
        writer = await replicate(client)
        await writer.say(alice, PUBLISHED)
        await pub.settle()
        for _, each in listeners:
            each.shut()
        tally, calls = pub.rooms.metrics.tally, 0
        for message in alice.write_many(PUBLISHED):
            wanted = tally.sent_messages + CLIENTS
            gate.shut()
            await writer.hand_over([message])
            with counted() as work:
                await gate.release()
                await until(lambda wanted=wanted: tally.sent_messages >= wanted)  # type: ignore[misc]
            calls += work.calls
            gate.open()
        for (_, each), replica in zip(listeners, replicas, strict=True):
            each.open()
            assert [(await replica.next_message())["sequence"] for _ in range(PUBLISHED)] == [*range(1, PUBLISHED + 1)]
    return {"fan-out: calls per message and client": calls / PUBLISHED / CLIENTS}


async def greeting(folder: Path, feeds: int) -> dict[str, float]:
    """A member who has everything was here before, and comes back."""
    bob = Author("bob")
    others = [Unexamined(f"{number}") for number in range(feeds)]
    async with a_pub(folder) as pub:
        await follow(pub, bob.keys.public, *(each.key for each in others))
        await pub.take_in([each.write() for each in others])
        async with joined(pub, bob.keys) as (client, _):
            replica = await replicate(client)
            await replica.stream.send({feed_id(each.key): encode_note(1, True) for each in others})
            await pub.settle()
        await pub.settle()
        async with joined(pub, bob.keys) as (client, gate):
            await pub.settle()
            gate.shut()
            stream = await client.open("ebt.replicate", {"version": 3, "format": "classic"})
            with counted() as work:
                await gate.release()
                await trio.testing.wait_all_tasks_blocked(0.05)
            gate.open()
            assert len(await stream.next()) <= FEW_NOTES
    return {f"greeting over {feeds:,} feeds: calls": work.calls}


@pytest.mark.slow
@pytest.mark.parametrize("scene", [ingest, serve, fan_out])
async def test_a_message_costs_no_more_work(scene: Callable[[Path], Any], tmp_path: Path) -> None:
    check(await scene(tmp_path / "pub"))


@pytest.mark.slow
async def test_a_greeting_costs_no_more_work(tmp_path: Path) -> None:
    for feeds in (1000, 10_000):
        check(await greeting(tmp_path / str(feeds), feeds))


@pytest.mark.slow
async def test_a_few_calls_more_for_each_message_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Appender.append

    def wasteful(*arguments: Any) -> Any:
        for _ in range(10):
            len(arguments)
        return original(*arguments)

    monkeypatch.setattr(Appender, "append", wasteful)
    with pytest.raises(AssertionError, match="more work than the bounds allow"):
        check(await ingest(tmp_path / "pub"))


def test_every_bound_is_near_what_it_was() -> None:
    """One far above says nothing."""
    assert all(was <= bound <= max(1.1 * was, 2) for bound, was in BOUNDS.values())
