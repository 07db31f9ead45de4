"""Connections that are there twice, and connections that are dead without anybody having said so."""

import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.interop.clients import FAMILIES
from tests.interop.conftest import Opener
from tests.interop.pubs import Pub, open_pub
from tests.interop.steps import enrol, follow, join, length, post, until, until_stored

KEEPALIVE = 2  # seconds
BOTH_ENDS = ("10.77.8.1", "10.77.8.2")


@pytest.mark.parametrize("kind", FAMILIES)
async def test_the_newer_of_two_connections_wins(pub: Pub, client: Opener, tmp_path: Path, kind: str) -> None:
    """Alice's identity on two devices at once (which nobody should do), and each of them comes and goes."""
    async with client(kind, "alice") as alice, client("crowd", "carol") as carol:
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        await follow(alice, carol.feed)
        await join(alice, pub)
        await alice.call("wait-message", await post(carol, "one"))
        (tmp_path / "twin-crowd").mkdir()
        shutil.copy(tmp_path / f"alice-{kind}" / "secret", tmp_path / "twin-crowd" / "secret")
        async with client("crowd", "twin") as twin:
            assert twin.feed == alice.feed
            first = await twin.call("replicate", pub.address, {"notes": {carol.feed: 0}})
            await twin.call("wait-message", await post(carol, "two"))
            second = await twin.call("replicate", pub.address, {"notes": {carol.feed: 4}})
            assert await twin.call("wait-end", first) == "reconnected to peer"
            await twin.call("wait-message", await post(carol, "three"))
            await alice.call("connect", pub.address)
            assert await twin.call("wait-end", second) == "reconnected to peer"
            await alice.call("wait-message", await post(carol, "four"))
            assert (await twin.call("counts", second))["repeated"] == 0
        await alice.call("wait-message", await post(carol, "five"))
        await post(alice, "still here")
        await until_stored(pub, alice.feed, await length(alice, alice.feed))
        assert await length(alice, carol.feed) == 5


@dataclass(frozen=True)
class Network:
    """A network namespace, wired to this machine by a pair of virtual ethernet devices."""

    name: str

    @property
    def within(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str) -> str:
        return run(*self.within, *command)

    def forget(self) -> None:
        """The firewall drops, in silence, what belongs to the connections there are now; new ones pass."""
        self.run("nft", "add table inet wall")
        for hook, end in (("output", "sport"), ("input", "dport")):
            self.run("nft", f"add chain inet wall {hook} {{ type filter hook {hook} priority 0; }}")
            for line in self.run("ss", "-Htn").splitlines():
                port = line.split()[3].rpartition(":")[2]
                self.run("nft", f"add rule inet wall {hook} tcp {end} {port} drop")


@asynccontextmanager
async def open_network() -> AsyncIterator[Network]:
    name = f"pub{os.getpid()}"
    ours, theirs = f"{name}a", f"{name}b"
    run("ip", "netns", "add", name)
    run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
    try:
        run("ip", "address", "add", f"{BOTH_ENDS[0]}/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        network = Network(name)
        network.run("ip", "address", "add", f"{BOTH_ENDS[1]}/30", "dev", theirs)
        network.run("ip", "link", "set", theirs, "up")
        network.run("ip", "link", "set", "lo", "up")
        yield network
    finally:
        run("ip", "link", "del", ours)  # the namespace itself may live as long as its dead connections
        run("ip", "netns", "del", name)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    for tool in ("ip", "ss", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: there is no firewall to put between client and pub")
    if os.geteuid() != 0:
        pytest.skip("not root: network namespaces can't be made")
    async with open_network() as made:
        yield made


@pytest.fixture
async def pub_outside(tmp_path: Path, network: Network) -> AsyncIterator[Pub]:
    limits = {"keepalive_seconds": KEEPALIVE}
    async with open_pub(tmp_path / "pub", host=BOTH_ENDS[0], limits=limits) as running:
        yield running


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_dead_connection_is_noticed_and_its_client_served_again(
    network: Network, pub_outside: Pub, client: Opener, kind: str
) -> None:
    pub = pub_outside
    async with client("crowd", "carol") as carol:
        await enrol(carol, pub)
        await carol.call("replicate", pub.address)
        async with client(kind, "alice", within=network.within) as alice:
            await follow(alice, carol.feed)
            await join(alice, pub)
            await alice.call("wait-message", await post(carol, "one"))
            await until_stored(pub, alice.feed, await length(alice, alice.feed))
            network.forget()
            lost = await post(carol, "two")
            assert len(await pub.connected(alice.feed)) >= 1
            with trio.fail_after(3 * KEEPALIVE):
                await until(lambda: is_away(pub, alice.feed))
            await alice.call("connect", pub.address)
            await alice.call("wait-message", lost)
            await alice.call("wait-message", await post(carol, "three"))
            await post(alice, "here I am")
            await until_stored(pub, alice.feed, await length(alice, alice.feed))


async def test_a_client_that_comes_back_before_the_pub_has_noticed_is_served_at_once(
    network: Network, pub_outside: Pub, client: Opener
) -> None:
    """More often than connections of one identity are allowed, as a phone on a train does."""
    pub = pub_outside
    async with client("crowd", "carol") as carol, client("crowd", "alice", within=network.within) as alice:
        await enrol(carol, pub)
        await enrol(alice, pub)
        await carol.call("replicate", pub.address)
        for number in itertools.count(1):
            await alice.call("replicate", pub.address, {"ask": [carol.feed]})
            await alice.call("wait-message", await post(carol, f"number {number}"))
            if number == 4:
                break
            network.forget()
        assert len(await pub.connected(alice.feed)) > 1
        with trio.fail_after(4 * KEEPALIVE):
            await until(lambda: has_one_connection(pub, alice.feed))
        await alice.call("wait-message", await post(carol, "at rest"))


async def is_away(pub: Pub, feed: str) -> bool:
    return not await pub.connected(feed)


async def has_one_connection(pub: Pub, feed: str) -> bool:
    return len(await pub.connected(feed)) == 1
