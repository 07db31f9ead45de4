"""The lines in front of the verifiers: who waits for whom, and for how long."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from pub.ingest.batch import Chunk, Submission
from pub.ingest.ingest import COMPANY, COMPANY_SECONDS
from pub.ingest.intake import CHUNK_MESSAGES, MAX_EXPRESS, MAX_EXPRESS_OF_ONE, MAX_LIVE_BATCH, Intake
from pub.ingest.verify import FEW_MESSAGES
from pub.ingest.worker import verdict
from pub.protocol.classic import Message
from tests.ingest.people import PATIENCE, Author, MakeDesk, encoded


class Gate:
    """Verifies so many chunks at once, and finishes each when it is told; what it is given is bytes, not messages."""

    def __init__(self, lanes: int = 1) -> None:
        self.lanes = lanes
        self.given: list[Sequence[bytes]] = []
        self.answers: list[trio.Event] = []

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        answer = trio.Event()
        self.given.append(chunk)
        self.answers.append(answer)
        await answer.wait()
        return [raw.decode() for raw in chunk]


def submission(sender: str, count: int) -> Submission:
    raws = [f"{sender} {number}".encode() for number in range(count)]
    return Submission(sender, raws, [(0, 0)] * count, lambda *_: None)


def senders(chunk: Sequence[bytes]) -> list[str]:
    """Of the messages, those that follow one another named once."""
    names = [raw.split()[0].decode() for raw in chunk]
    return [name for number, name in enumerate(names) if not number or names[number - 1] != name]


def of(chunks: list[Chunk]) -> list[str]:
    """Whose messages a transaction has."""
    return senders([raw for chunk in chunks for each in chunk.submissions for raw in each.raws])


def open_intake(verifier: Gate, nursery: trio.Nursery, max_bytes: int = 1 << 20) -> Intake:
    intake = Intake(verifier, max_bytes, lambda: None, lambda: None)
    nursery.start_soon(intake.run)
    return intake


async def let_all_work() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def flooded(nursery: trio.Nursery, submissions: int, lanes: int = 1) -> tuple[Gate, Intake]:
    """Somebody has handed in so much already."""
    gate = Gate(lanes)
    intake = open_intake(gate, nursery)
    await let_all_work()
    for _ in range(submissions):
        intake.put(submission("flood", 64))
    await let_all_work()
    return gate, intake


async def test_a_sender_of_little_does_not_wait_behind_a_sender_of_much(nursery: trio.Nursery) -> None:
    gate, intake = await flooded(nursery, 40)
    intake.put(submission("alice", FEW_MESSAGES + 1))
    intake.put(submission("bob", FEW_MESSAGES + 1))
    gate.answers[0].set()
    await let_all_work()
    first, second = gate.given
    assert senders(first) == ["flood"]
    assert len(first) >= CHUNK_MESSAGES
    assert senders(second) == ["flood", "alice", "bob", "flood"]


async def test_what_one_sender_hands_in_stays_in_order(nursery: trio.Nursery) -> None:
    gate = Gate(lanes=3)
    intake = open_intake(gate, nursery)
    await let_all_work()
    handed_in = [submission("alice", count) for count in (1, 2, 300, 1, 64, 64, 200, 1, 2)]
    others = [submission("bob", count) for count in (300, 1, 300)]
    for each in handed_in:
        intake.put(each)
    for each in others:
        intake.put(each)
    taken: list[Chunk] = []
    while not intake.is_empty:
        await let_all_work()
        for answer in reversed(gate.answers):  # the last one begun is done first
            answer.set()
            await let_all_work()
            taken += intake.take()
    order = [each for chunk in taken for each in chunk.submissions]
    assert [each for each in order if each.sender == "alice"] == handed_in
    assert [each for each in order if each.sender == "bob"] == others


async def test_a_message_just_written_passes_by_all_that_waits(nursery: trio.Nursery) -> None:
    gate, intake = await flooded(nursery, 10)
    assert intake.is_worth_waiting(COMPANY)
    intake.put(submission("alice", 1))
    await let_all_work()
    assert not intake.is_worth_waiting(COMPANY), "for her nobody waits"
    gate.answers[0].set()
    await let_all_work()
    assert not intake.has_ready, "her next message may be in there"
    gate.answers[1].set()
    await let_all_work()
    assert of(intake.take()) == ["alice"], "by itself: the flood would keep her friends waiting"
    intake.put(submission("bob", 1))
    await let_all_work()
    gate.answers[-1].set()
    await let_all_work()
    assert of(intake.take()) == ["bob", "flood"], "and the flood waits for no more than one transaction"


async def test_few_go_by_express_at_once(nursery: trio.Nursery) -> None:
    gate = Gate()
    intake = open_intake(gate, nursery)
    await let_all_work()
    for number in range(MAX_EXPRESS + 10):
        intake.put(submission(f"person{number}", 1))
    await let_all_work()
    assert [len(chunk) for chunk in gate.given] == [1] * MAX_EXPRESS + [10]


async def test_who_writes_again_before_the_last_is_stored_passes_by_as_well(nursery: trio.Nursery) -> None:
    gate, intake = await flooded(nursery, 10)
    for _ in range(MAX_EXPRESS_OF_ONE + 2):
        intake.put(submission("alice", 1))
    await let_all_work()
    assert [senders(chunk) for chunk in gate.given] == [["flood"], *[["alice"]] * MAX_EXPRESS_OF_ONE]


async def test_what_stands_in_a_line_is_not_overtaken_by_its_sender(nursery: trio.Nursery) -> None:
    gate = Gate()
    intake = open_intake(gate, nursery)
    await let_all_work()
    for _ in range(10):
        intake.put(submission("flood", 64))
    much, little = submission("alice", FEW_MESSAGES + 1), submission("alice", 1)
    intake.put(much)
    intake.put(little)
    taken: list[Chunk] = []
    while not intake.is_empty:
        await let_all_work()
        for answer in gate.answers:
            answer.set()
        await let_all_work()
        taken += intake.take()
    assert [each for chunk in taken for each in chunk.submissions if each.sender == "alice"] == [much, little]
    intake.release(each for chunk in taken for each in chunk.submissions)
    intake.put(submission("alice", 1))
    await let_all_work()
    assert senders(gate.given[-1]) == ["alice"], "nothing of hers is on its way any more"


async def test_while_people_talk_a_transaction_is_small(nursery: trio.Nursery) -> None:
    gate, intake = await flooded(nursery, 40, lanes=4)
    for answer in gate.answers:
        answer.set()
    await let_all_work()
    intake.put(submission("alice", 1))
    await let_all_work()
    gate.answers[-1].set()
    await let_all_work()
    assert of(intake.take()) == ["alice"]
    assert sum(len(chunk.verdicts or ()) for chunk in intake.take()) == MAX_LIVE_BATCH


async def test_what_is_released_counts_no_more(nursery: trio.Nursery) -> None:
    gate = Gate()
    intake = open_intake(gate, nursery, max_bytes=95)
    await let_all_work()
    first, second = submission("alice", 12), submission("alice", 1)
    intake.put(first)
    intake.put(second)
    assert intake.held_bytes == first.size + second.size
    assert intake.waiting == 13
    with trio.move_on_after(0.01) as patience:
        await intake.wait_for_room(submission("bob", 1))
    assert patience.cancelled_caught
    assert intake.give_up() == [first, second]
    intake.release([first, second])
    assert (intake.held_bytes, intake.waiting, intake.is_empty) == (0, 0, True)
    await intake.wait_for_room(submission("bob", 1))
    intake.put(submission("alice", 1))
    await let_all_work()
    assert len(gate.given[-1]) == 1, "she has nothing else on its way"


async def test_a_verifier_that_gives_too_few_verdicts_is_a_bug() -> None:
    class Careless:
        lanes = 1

        async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
            return [None] * (len(chunk) - 1)

    intake = Intake(Careless(), 100, lambda: None, lambda: None)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="4 verdicts on 5 messages"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(intake.run)
            await let_all_work()
            intake.put(submission("alice", 5))


class Slow:
    """Verifies all of its first chunk at once, and never the second."""

    lanes = 2

    def __init__(self) -> None:
        self.chunks = 0

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        self.chunks += 1
        if self.chunks == 2:
            await trio.sleep_forever()
        return [verdict(raw, None) for raw in chunk]


async def test_while_others_are_verified_the_writer_waits_for_company_but_not_for_long(make_desk: MakeDesk) -> None:
    alice, bob = Author("alice"), Author("bob")
    desk = make_desk(Slow())
    alice.write_many(CHUNK_MESSAGES)
    bob.write_many(FEW_MESSAGES + 1)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(desk.ingest.run)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await desk.submit(alice.messages)
            await desk.ingest.submit(Submission("bob", encoded(bob.messages), [(0, 0)] * 5, lambda *_: None))
            while not desk.log.message_count:
                await trio.lowlevel.checkpoint()
            assert trio.current_time() - began >= COMPANY_SECONDS
            assert desk.stored(alice) == encoded(alice.messages)
            nursery.cancel_scope.cancel()


async def test_alone_the_writer_waits_for_nobody(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    async with desk.running():
        for _ in range(3):
            await desk.settle(alice.write_many(FEW_MESSAGES + 1))
            assert not desk.ingest._intake.is_worth_waiting(COMPANY)
    assert desk.stored(alice) == encoded(alice.messages)
