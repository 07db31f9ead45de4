"""A full disk: nothing new is taken in, everything else goes on, and when there is room all of it comes by itself."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from pub.errors import RpcError, StoringStopped
from tests.crash.crowd import Bringer, Reader, visit
from tests.crash.disks import Disk, FileLimit, small_file_system
from tests.crash.ledger import check_chain, read_ledger
from tests.crash.library import Carrier, Library, keys_of
from tests.crash.storm import short_fuse
from tests.crash.supervisor import Supervisor
from tests.service.people import Visitor, holder_of
from tests.service.processes import answer_of

POSTS = 120  # of each author
BEFORE = 500  # messages that come through before the disk is full
FULL_SECONDS = 3.0  # how long it stays so: we look for room meanwhile
MAX_GUESTS = 2000  # as many as pages that became free inside the store may still hold, and some
MAX_LINES = 100  # of the log, in all
PATIENCE = 60


@pytest.fixture(params=["a file system", "a limit on files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with small_file_system(tmp_path / "pub") as mounted:
        if request.param == "a file system" and mounted is not None:
            yield mounted
        else:
            yield FileLimit(tmp_path / "elsewhere")


@pytest.fixture
def few(library: Library) -> Library:
    return Library(
        [Carrier(c.keys, {feed: texts[:POSTS] for feed, texts in c.feeds.items()}) for c in library.carriers]
    )


@dataclass
class Scene:
    """A pub, four members who bring it what they have, and a reader who fetches it."""

    disk: Disk
    supervisor: Supervisor
    library: Library
    code: str
    bringers: list[Bringer]
    reader: Reader
    followed: list[str] = field(default_factory=list)
    """Guests who were told that they are followed."""

    async def fill_disk(self) -> None:
        """Some messages come through, then the pub finds its disk full."""
        await self.reader.wait_count(BEFORE)
        self.disk.fill(self.supervisor.process.process.pid)
        await self.wait_storing(False)

    async def wait_storing(self, is_storing: bool) -> None:
        while True:
            if ((await self.supervisor.ask("status"))["storing"] is None) is is_storing:
                return
            await trio.sleep(0.05)

    async def redeem(self, visitor: Visitor, feed: str) -> bool:
        """Whether it was followed; the only reason why not is the disk."""
        try:
            answer = await visitor.call("invite", "use", args=[{"feed": feed}])
        except RpcError as error:
            if error.message != StoringStopped().message:
                raise
            return False
        assert answer["value"]["content"]["contact"] == feed
        self.followed.append(feed)
        return True

    async def redeem_until_refused(self, visitor: Visitor) -> str:
        """The first feed that was not followed."""
        for number in range(MAX_GUESTS):
            feed = keys_of(f"guest {number}").id
            if not await self.redeem(visitor, feed):
                return feed
        raise AssertionError(f"{MAX_GUESTS} redemptions fit on a full disk")

    async def expect_reading(self) -> None:
        """Somebody new is served all that the pub has, and it has what it had."""
        newcomer = Reader(keys_of("newcomer"), self.library.feeds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(newcomer.run, self.supervisor)
            await newcomer.wait_count(self.reader.count)
            nursery.cancel_scope.cancel()

    async def expect_everything(self) -> None:
        """All of it is on disk, once, and the members are those who were told so."""
        await self.reader.wait_complete()
        own = self.supervisor.process.announced["id"]
        await self.supervisor.stop()
        ledger = read_ledger(self.supervisor.folder)
        check_chain(ledger.feeds[own])
        members = [bringer.keys.id for bringer in self.bringers] + self.followed
        assert ledger.followed_by(own) == dict.fromkeys(members, 1)
        assert ledger.members.keys() == set(members)
        assert ledger.used[holder_of(self.code).id] == len(members)
        del ledger.feeds[own]
        assert ledger.feeds == self.library.feeds

    def logged(self, event: str) -> int:
        return sum(1 for line in self.supervisor.process.log if line["event"] == event)


@asynccontextmanager
async def open_scene(disk: Disk, library: Library, rng: random.Random) -> AsyncIterator[Scene]:
    supervisor = Supervisor(disk.folder, rng)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            code = await supervisor.ask("invite", "create", args=[MAX_GUESTS])
            bringers = [Bringer(carrier) for carrier in library.carriers]
            scene = Scene(disk, supervisor, library, code, bringers, Reader(keys_of("reader"), library.feeds))
            async with visit(supervisor, holder_of(code)) as visitor:
                for bringer in bringers:
                    assert await scene.redeem(visitor, bringer.keys.id)
            scene.followed.clear()
            for replica in (scene.reader, *bringers):
                nursery.start_soon(replica.run, supervisor)
            yield scene
            nursery.cancel_scope.cancel()


async def test_nothing_new_until_there_is_room_and_all_of_it_then(disk: Disk, few: Library, rng: random.Random) -> None:
    async with open_scene(disk, few, rng) as scene, visit(scene.supervisor, holder_of(scene.code)) as guest:
        await scene.fill_disk()
        refused = await scene.redeem_until_refused(guest)
        status = answer_of(disk.folder, "status").stdout
        assert "storing stopped: no room left for the data folder" in status
        await trio.sleep(FULL_SECONDS)
        for _ in range(3):
            assert not await scene.redeem(guest, refused)
        await scene.expect_reading()
        assert not scene.reader.is_complete
        await scene.wait_storing(False)
        disk.make_room(scene.supervisor.process.process.pid)
        await scene.wait_storing(True)
        assert await scene.redeem(guest, refused)
        await scene.reader.wait_complete()
        assert [replica.visits for replica in (scene.reader, *scene.bringers)] == [1] * 5, "nobody had to come again"
        assert [scene.logged("disk_full"), scene.logged("disk_has_room")] == [1, 1]
        assert len(scene.supervisor.process.log) < MAX_LINES
        await scene.expect_everything()


async def test_a_pub_that_dies_on_a_full_disk_comes_back_on_it(disk: Disk, few: Library, rng: random.Random) -> None:
    async with open_scene(disk, few, rng) as scene:
        await scene.fill_disk()
        for _ in range(3):
            await scene.supervisor.kill(short_fuse(rng))
            await scene.supervisor.up.wait()
            disk.fill(scene.supervisor.process.process.pid)
            await scene.wait_storing(False)
            await scene.expect_reading()
        disk.make_room(scene.supervisor.process.process.pid)
        await scene.expect_everything()
