"""The one writer at work, with a real store: what peers hand in, what is refused, and what the watchers see."""

from pathlib import Path

import pytest
import trio
import trio.testing

from pub.ingest.batch import NotStored
from pub.protocol.classic import MAX_UNITS, MAX_WIRE_BYTES, Head, Message, create
from pub.protocol.contacts import FOLLOW
from pub.store.env import Store
from pub.store.log import Appender, Changes, Log
from tests.ingest.people import NOW, Author, Backwards, Closed, MakeDesk, encoded

ALICE, BOB, CAROL = 1, 2, 3  # what the peers call these feeds


async def test_feeds_stay_in_order_though_chunks_finish_backwards(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pub.ingest.intake.CHUNK_MESSAGES", 4)
    desk = make_desk(Backwards(lanes=6))
    people = [Author(name) for name in ("alice", "bob", "carol")]
    feeds = [author.write_many(8) for author in people]
    async with desk.running():
        for start in range(0, 8, 2):
            for number, messages in enumerate(feeds):
                await desk.submit(messages[start : start + 2], number)
    assert [desk.stored(author) for author in people] == [encoded(messages) for messages in feeds]
    assert desk.refused == []
    assert desk.received("stored") == desk.log.message_count == 24


async def test_a_job_neither_waits_for_the_verifiers_nor_lets_messages_overtake(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pub.ingest.intake.CHUNK_MESSAGES", 4)
    verifier, alice = Closed(lanes=4), Author("alice")
    desk = make_desk(verifier)
    async with desk.running():
        await desk.submit(alice.write_many(12))
        await trio.testing.wait_all_tasks_blocked()
        await desk.ingest.publish({"type": "post", "text": "hello"})
        assert desk.stored(alice) == []
        verifier.opened.set()
    assert desk.stored(alice) == encoded(alice.messages)


async def test_the_log_keeps_the_order_in_which_messages_were_handed_in(make_desk: MakeDesk) -> None:
    desk, alice, bob = make_desk(), Author("alice"), Author("bob")
    order: list[tuple[int, int]] = []
    desk.ingest.watchers.append(lambda changes: order.extend(changes.appended))
    async with desk.running(), desk.one_transaction():
        await desk.submit([alice.write(), alice.write()])
        await desk.submit([bob.write()])
        await desk.submit([alice.write()])
    numbers = [desk.log.numbers[author.keys.public] for author in (alice, bob)]
    assert order == [(numbers[0], 1), (numbers[0], 2), (numbers[1], 1), (numbers[0], 3)]
    times = [record.received for record in desk.log.records(numbers[0], 0, 1 << 20)]
    times.insert(2, desk.log.records(numbers[1], 0, 1 << 20)[0].received)
    assert times == [NOW, NOW + 0.001, NOW + 0.002, NOW + 0.003], "though the clock stood still"


async def test_whoever_hands_in_what_is_not_stored_is_told_why(make_desk: MakeDesk) -> None:
    desk, alice, bob, carol = make_desk(), Author("alice"), Author("bob"), Author("carol")
    alice.write_many(4)
    fork = alice.write_instead(2, "the other branch").write()
    headless = create(carol.keys, Head(0, bytes(32), None), {"type": "post"}, NOW)
    hello = bob.write().encoded
    long = hello.ljust(MAX_WIRE_BYTES + 1), hello.replace(b"hello", b"x" * MAX_UNITS)
    async with desk.running(), desk.one_transaction():
        await desk.submit(alice.messages[:2], ALICE)
        await desk.submit([alice.messages[1], alice.messages[3]], ALICE)
        await desk.submit([headless], CAROL)
        await desk.submit([hello.replace(b"hello", b"hullo"), b"{}", *long, bob.messages[0]], BOB)
        await desk.submit([fork], ALICE)
        await desk.submit([alice.messages[2]], ALICE)
    assert [refusal[:3] for refusal in desk.refused] == [
        (ALICE, 2, NotStored.DUPLICATE),
        (ALICE, 4, NotStored.GAP),
        (CAROL, 1, NotStored.INVALID_FIRST),
        (BOB, 0, NotStored.BAD_SIGNATURE),
        (BOB, 0, NotStored.INVALID),
        (BOB, 0, NotStored.TOO_LARGE),
        (BOB, 0, NotStored.TOO_LARGE),
        (ALICE, 3, NotStored.FORK),
    ]
    assert desk.refused[3][3] == f"{bob.keys.id} seq 1: the signature does not match"
    assert desk.stored(alice) == encoded(alice.messages[:3])
    assert desk.stored(bob) == encoded(bob.messages)
    assert desk.stored(carol) == []
    counts = {result: desk.received(result) for result in ("stored", "disk_full", *(each.value for each in NotStored))}
    assert counts == {
        "stored": 4,
        "duplicate": 1,
        "gap": 1,
        "fork": 1,
        "invalid_first": 1,
        "bad_signature": 1,
        "too_large": 2,
        "invalid": 1,
        "disk_full": 0,
        "bug": 0,
    }


async def test_refusals_are_told_after_the_commit(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    alice.write_many(3)
    heads: list[int] = []
    submission = desk.submission([alice.messages[0], alice.messages[2]])
    submission.refused = lambda *_refusal: heads.append(len(desk.stored(alice)))
    async with desk.running():
        await desk.ingest.submit(submission)
    assert heads == [1]


async def test_watchers_are_called_when_everything_is_on_disk_and_in_memory(make_desk: MakeDesk) -> None:
    desk, alice, bob = make_desk(), Author("alice"), Author("bob")
    seen: list[tuple[Changes, list[bytes]]] = []

    def watch(changes: Changes) -> None:
        numbers = desk.log.numbers
        seen.append((changes, desk.stored(alice)))
        assert desk.log.heads[numbers[alice.keys.public]] == 1

    desk.ingest.watchers.append(watch)
    async with desk.running():
        await desk.submit([alice.write(type="contact", contact=bob.keys.id, following=True)])
    [(changes, on_disk)] = seen
    assert changes.keys == [alice.keys.public, bob.keys.public]
    assert changes.heads == {0: 1}
    assert changes.edges == [(0, 1, FOLLOW)]
    assert on_disk == encoded(alice.messages)


async def test_nobody_sees_a_message_before_it_is_committed(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    found: list[object] = []

    def look(_appender: Appender) -> None:
        found.extend((desk.log.message_count, desk.stored(alice)))

    alice.write()
    async with desk.running(), trio.open_nursery() as nursery, desk.one_transaction():
        await desk.submit(alice.messages)
        nursery.start_soon(desk.ingest.write, look)
    assert found == [0, []]
    assert desk.stored(alice) == encoded(alice.messages)


# --- the valve --------------------------------------------------------------------------------------------


async def test_who_hands_in_too_much_waits_until_it_is_written(make_desk: MakeDesk) -> None:
    verifier, alice, bob = Closed(), Author("alice"), Author("bob")
    alice.write_many(3)
    size = sum(map(len, encoded(alice.messages)))
    desk = make_desk(verifier, max_bytes=size)
    handed_in: list[str] = []

    async def hand_in(author: Author) -> None:
        await desk.submit(author.messages)
        handed_in.append(author.keys.id)

    bob.write_many(2)
    async with desk.running(), trio.open_nursery() as nursery:
        await hand_in(alice)
        for _ in range(2):
            nursery.start_soon(hand_in, bob)
        await trio.testing.wait_all_tasks_blocked()
        assert handed_in == [alice.keys.id]
        assert desk.limit_hits("ingest_bytes") == 2
        verifier.opened.set()
    assert handed_in == [alice.keys.id, bob.keys.id, bob.keys.id]
    assert desk.limit_hits("ingest_bytes") == 2, "once for each that had to wait, however often it looked"
    assert desk.stored(bob) == encoded(bob.messages)


async def test_what_is_larger_than_the_valve_enters_when_it_is_empty(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(max_bytes=10), Author("alice")
    async with desk.running():
        for _ in range(3):
            await desk.submit([alice.write(), alice.write()])
    assert desk.stored(alice) == encoded(alice.messages)
    assert desk.limit_hits("ingest_bytes") == 2


async def test_who_gives_up_at_the_valve_has_handed_in_nothing(make_desk: MakeDesk) -> None:
    verifier, alice, bob = Closed(), Author("alice"), Author("bob")
    desk = make_desk(verifier, max_bytes=10)
    bob.write()
    async with desk.running():
        await desk.submit([alice.write()])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.submit, bob.messages)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        verifier.opened.set()
    assert desk.stored(alice) == encoded(alice.messages)
    assert desk.stored(bob) == []


# --- the end, the full disk and the growing map -----------------------------------------------------------


async def test_stop_returns_once_everything_is_on_disk(tmp_path: Path, make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(desk.ingest.run)
            await desk.submit(alice.write_many(30))
            nursery.start_soon(desk.ingest.publish, {"type": "post", "text": "good night"})
            await trio.lowlevel.checkpoint()  # it has handed in its job
            desk.ingest.stop()
    desk.store.close()
    with Store.open(tmp_path) as store:
        assert Log(store).message_count == 31


async def test_a_writer_with_nothing_to_do_stops_at_once(make_desk: MakeDesk) -> None:
    desk = make_desk()
    async with desk.running():
        await trio.testing.wait_all_tasks_blocked()


async def test_the_map_grows_inside_a_batch_and_everything_happens_once(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(initial_map=256 << 10), Author("alice")
    map_size = desk.store.map_size
    runs: list[int] = []

    def count(appender: Appender) -> int:
        value = int(appender.txn.get(b"count", b"0", db=desk.store.meta)) + 1
        appender.txn.put(b"count", b"%d" % value, db=desk.store.meta)
        appender.txn.put(b"ballast", bytes(2 * map_size), db=desk.store.meta)
        runs.append(value)
        return value

    alice.write_many(20)
    async with desk.running(), trio.open_nursery() as nursery, desk.one_transaction():
        await desk.submit(alice.messages)
        for _ in range(2):
            nursery.start_soon(desk.ingest.write, count)
            nursery.start_soon(desk.ingest.publish, {"type": "post", "text": "hello"})
    assert desk.store.map_size > map_size
    assert runs == [1, 2], "neither of them finished where there was no room"
    assert desk.stored(alice) == encoded(alice.messages)
    assert len(desk.stored(desk.pub)) == 2
    assert desk.refused == []
    assert desk.received("stored") == 20
    assert desk.metrics.value("messages_published_total") == 2


async def test_a_verifier_that_dies_ends_the_writer(make_desk: MakeDesk) -> None:
    class Dead:
        lanes = 1

        async def verify(self, _chunk: object) -> list[Message | str | None]:
            raise RuntimeError("ended by itself")

    desk, alice = make_desk(Dead()), Author("alice")
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="by itself"), flatten_subgroups=True):
        async with desk.running():
            await desk.submit([alice.write()])
            await trio.sleep_forever()
