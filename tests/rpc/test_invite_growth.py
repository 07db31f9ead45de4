"""Redeeming a code costs the same in a village and in a city: counted work, not time."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from pub.store.env import Store, Txn
from pub.store.log import Appender, Log
from pub.store.members import Member, Members
from tests.ingest.people import Author
from tests.pubs import NOW, RunningPub, connect, guest_of, open_pub
from tests.rpc.redeeming import member_ids
from tests.rpc.replicas import replicate

VILLAGE, CITY = 100, 80_000


def populate(folder: Path, count: int) -> None:
    """``count`` members whom the pub follows, straight into the store; none has written anything yet."""
    with Store.open(folder) as store:
        log, members = Log(store), Members(store)
        (own,) = range(len(log.keys))

        def job(txn: Txn) -> None:
            appender = Appender(log, txn)
            feeds = [appender.intern(number.to_bytes(32, "big")) for number in range(count)]
            appender.finish()
            for feed in feeds:
                members.add(txn, feed, Member(NOW, None, ""))
                txn.put(struct.pack(">II", own, feed), struct.pack(">b", 1), db=store.edges)

        store.write(job)


class Work:
    """Calls made while it counts, of Python functions and of C functions, in the event loop and in the writer."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.calls += event in ("call", "c_call")

    def counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """``Store.write``, counted in the thread it runs in."""

        def counting(store: Store, job: Callable[[Txn], Any]) -> Any:
            sys.setprofile(self.count)
            try:
                return write(store, job)
            finally:
                sys.setprofile(None)

        return counting


async def work_of_redeeming(pub: RunningPub, patch: pytest.MonkeyPatch, code: str, author: Author) -> int:
    """Calls of one redemption, from the request to its answer."""
    work = Work()
    async with connect(pub, guest_of(code)) as guest:
        await pub.settle()
        with patch.context() as counting:
            counting.setattr(Store, "write", work.counted(Store.write))
            sys.setprofile(work.count)
            try:
                await guest.call("invite.use", {"feed": author.keys.id})
            finally:
                sys.setprofile(None)
    return work.calls


async def work_with(folder: Path, patch: pytest.MonkeyPatch, count: int) -> int:
    """The least of a few redemptions (the scheduler's share varies), with some peers online."""
    async with open_pub(folder):
        pass
    populate(folder, count)
    async with open_pub(folder, life=2) as pub:
        code = await pub.invite(uses=5)
        async with connect(pub, Role.MEMBER) as reader:
            await replicate(reader)
            await reader.open("createHistoryStream", {"id": pub.id, "live": True}, kind=Kind.SOURCE)
            await pub.settle()
            costs = [await work_of_redeeming(pub, patch, code, Author(f"new {number}")) for number in range(5)]
        assert len(await member_ids(pub)) == count + 5
        return min(costs)


@pytest.mark.slow
async def test_redeeming_among_eighty_thousand_costs_at_most_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    village = await work_with(tmp_path / "village", monkeypatch, VILLAGE)
    city = await work_with(tmp_path / "city", monkeypatch, CITY)
    assert village > 100  # else the counting is broken
    assert city <= 2 * village, f"{village} calls among {VILLAGE}, {city} among {CITY}"
