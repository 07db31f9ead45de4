"""Jobs in the writer's transaction: our own posts, redemptions, refusals and bugs."""

import itertools
from collections.abc import Callable

import pytest
import trio
import trio.testing

from pub.errors import PublishingStopped, RpcError
from pub.ingest.own_feed import CLAIM_SECONDS, OwnFeed
from pub.protocol.classic import Message
from pub.store.log import Appender
from tests.ingest.people import NOW, Author, MakeDesk, encoded

FRIEND = b"a friend of the pub"
POST = {"type": "post", "text": "hello"}


@pytest.mark.parametrize("clock", [itertools.repeat(NOW), itertools.count(NOW, -1000)], ids=["frozen", "backwards"])
async def test_fifty_posts_at_once_under_a_bad_clock(make_desk: MakeDesk, clock: "itertools.count[float]") -> None:
    desk = make_desk()
    desk.ingest._wall_clock = lambda: next(clock)
    messages: list[Message] = []

    async def publish(number: int) -> None:
        messages.append(await desk.ingest.publish({"type": "post", "text": f"number {number}"}))

    async with desk.running(), trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(publish, number)
    messages.sort(key=lambda message: message.sequence)
    assert [message.sequence for message in messages] == list(range(1, 51))
    times = [message.timestamp or 0.0 for message in messages]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert times[-1] < NOW + 1, "all of it reads as the same millisecond"
    assert desk.stored(desk.pub) == encoded(messages)
    assert len({message.id for message in messages}) == 50
    assert desk.metrics.value("messages_published_total") == 50


async def test_posts_carry_the_time_of_the_clock_in_whole_milliseconds(make_desk: MakeDesk) -> None:
    desk = make_desk()
    async with desk.running():
        first = await desk.ingest.publish(POST)
        desk.now = NOW + 2500.75
        second = await desk.ingest.publish(POST)
    assert [first.timestamp, second.timestamp] == [NOW, NOW + 2500]
    assert desk.ingest.last_received == desk.log.records(0, 1, 1)[0].received == NOW + 2500


async def test_a_job_gets_its_result_when_it_is_on_disk(make_desk: MakeDesk) -> None:
    desk = make_desk()
    async with desk.running():
        message = await desk.ingest.publish(POST)
        assert desk.stored(desk.pub) == [message.encoded]
        assert await desk.ingest.write(lambda appender: appender.intern(desk.pub.keys.public)) == 0


async def test_a_refused_job_leaves_nothing(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")

    def refuse(_appender: Appender) -> None:
        raise RpcError("no")

    async def ask() -> None:
        with pytest.raises(RpcError, match="no"):
            await desk.ingest.write(refuse)

    async with desk.running(), trio.open_nursery() as nursery, desk.one_transaction():
        nursery.start_soon(ask)
        await desk.submit([alice.write()])
        nursery.start_soon(desk.ingest.publish, POST)
    assert desk.stored(alice) == encoded(alice.messages)
    assert len(desk.stored(desk.pub)) == 1


async def test_a_bug_in_a_job_is_its_callers_alone(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(), Author("alice")
    commits: list[int] = []
    results: list[str] = []

    def bug(appender: Appender) -> None:
        appender.txn.put(b"half", b"done", db=desk.store.meta)
        raise KeyError("planted")

    def refuse(_appender: Appender) -> None:
        raise RpcError("no")

    async def expect(error: type[Exception], job: Callable[[Appender], None]) -> None:
        with pytest.raises(error):
            await desk.ingest.write(job)
        results.append(error.__name__)

    async def publish() -> None:
        results.append(str((await desk.ingest.publish(POST)).sequence))

    async with desk.running(), trio.open_nursery() as nursery, desk.one_transaction():
        desk.ingest.watchers.append(lambda changes: commits.append(len(changes.appended)))
        await desk.submit(alice.write_many(3))
        for error, job in ((KeyError, bug), (RpcError, refuse), (KeyError, bug)):
            nursery.start_soon(expect, error, job)
            nursery.start_soon(publish)
    assert sorted(results) == ["1", "2", "3", "KeyError", "KeyError", "RpcError"]
    assert commits == [0, 6], "the busy writer's, and one with everything else"
    assert desk.stored(alice) == encoded(alice.messages)
    assert len(desk.stored(desk.pub)) == 3
    assert desk.metrics.value("messages_published_total") == 3
    with desk.store.read() as txn:
        assert txn.get(b"half", db=desk.store.meta) is None


async def test_twenty_redemptions_race_for_one_use(make_desk: MakeDesk) -> None:
    desk = make_desk()
    desk.store.write(lambda txn: txn.put(b"uses", b"1", db=desk.store.meta))
    won: list[int] = []
    lost: list[str] = []

    def redeem(appender: Appender) -> int:
        left = int(appender.txn.get(b"uses", b"", db=desk.store.meta))
        if not left:
            raise RpcError("invite has been used already")
        appender.txn.put(b"uses", b"%d" % (left - 1), db=desk.store.meta)
        return desk.ingest.append_own(appender, POST).sequence

    async def race() -> None:
        try:
            won.append(await desk.ingest.write(redeem))
        except RpcError as refusal:
            lost.append(refusal.message)

    async with desk.running(), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(race)
    assert won == [1]
    assert lost == ["invite has been used already"] * 19
    assert len(desk.stored(desk.pub)) == 1


async def test_who_does_not_wait_for_its_job_gets_it_done_all_the_same(make_desk: MakeDesk) -> None:
    desk = make_desk()
    async with desk.running(), desk.one_transaction(), trio.open_nursery() as nursery:
        nursery.start_soon(desk.ingest.publish, POST)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(desk.stored(desk.pub)) == 1


# --- the pub's own feed is longer elsewhere ---------------------------------------------------------------


async def test_a_rolled_back_pub_publishes_only_after_it_got_its_messages_back(make_desk: MakeDesk) -> None:
    own = OwnFeed()
    desk = make_desk(own_feed=own)
    desk.pub.write_many(2)
    async with desk.running():
        own.claim(FRIEND, 2, trio.current_time(), is_member=True)
        with pytest.raises(
            PublishingStopped, match=r"^this pub can't publish now: a peer has message 2 of .* we have 0"
        ):
            await desk.ingest.publish(POST)
        await desk.settle(desk.pub.messages[:1])
        with pytest.raises(PublishingStopped, match="we have 1"):
            await desk.ingest.publish(POST)
        await desk.settle(desk.pub.messages[1:])
        message = await desk.ingest.publish(POST)
    assert message.sequence == 3
    assert message.previous == desk.pub.messages[1].id
    assert desk.stored(desk.pub) == [*encoded(desk.pub.messages), message.encoded]
    assert desk.received("stored") == 2
    assert desk.metrics.value("messages_published_total") == 1


async def test_a_key_older_than_its_store_waits_for_its_feed(make_desk: MakeDesk) -> None:
    desk = make_desk(own_feed=OwnFeed(unconfirmed=True))
    async with desk.running():
        with pytest.raises(PublishingStopped, match="older than this data folder"):
            await desk.ingest.publish(POST)
        await desk.settle([desk.pub.write()])
        assert (await desk.ingest.publish(POST)).sequence == 2


async def test_a_stopped_pub_still_takes_in_others_and_runs_other_jobs(make_desk: MakeDesk) -> None:
    desk, alice = make_desk(own_feed=OwnFeed(unconfirmed=True)), Author("alice")
    async with desk.running():
        await desk.settle([alice.write()])
        assert await desk.ingest.write(lambda _appender: "done") == "done"
    assert desk.stored(alice) == encoded(alice.messages)


async def test_a_lie_lapses_and_is_counted(make_desk: MakeDesk, mock_clock: trio.testing.MockClock) -> None:
    own = OwnFeed()
    desk = make_desk(own_feed=own)
    async with desk.running(patience=10 * CLAIM_SECONDS):
        own.claim(FRIEND, 100, trio.current_time(), is_member=True)
        with pytest.raises(PublishingStopped):
            await desk.ingest.publish(POST)
        assert desk.limit_hits("own_feed_claims") == 0
        mock_clock.jump(CLAIM_SECONDS - 1)
        assert desk.ingest.publishing_stopped()
        mock_clock.jump(1)
        assert (await desk.ingest.publish(POST)).sequence == 1
        assert desk.ingest.publishing_stopped() is None
    assert desk.limit_hits("own_feed_claims") == 1
