"""Real clients at a pub in a container: they join, publish, and find it all again in the next container."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.engine import Container, Engine, free_port
from tests.interop.clients import open_client
from tests.interop.conftest import installed_clients  # noqa: F401 - a fixture that every test here uses
from tests.interop.steps import contact, follow, post, until

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.containers]

LOAD = 20_000  # messages


@contextmanager
def open_to_the_world(engine: Engine, image: str, volume: str, port: int, *flags: str) -> Iterator[Container]:
    """A pub that says of itself where this machine lets people in."""
    settings = ("--env", "PUB_ADDRESS_HOST=127.0.0.1", "--env", f"PUB_ADDRESS_PORT={port}")
    place = ("--volume", f"{volume}:/data", "--publish", f"127.0.0.1:{port}:8008")
    with engine.start(image, *place, *settings, *flags) as container:
        container.wait_healthy()
        yield container


def stored(pub: Container, feed: str) -> int:
    return next((each["sequence"] for each in pub.json("feeds") if each["id"] == feed), 0)


async def until_stored(pub: Container, feed: str, sequence: int) -> None:
    async def is_so() -> bool:
        return stored(pub, feed) >= sequence

    await until(is_so)


@pytest.mark.parametrize(("writer", "reader"), [("classic", "db2"), ("db2", "classic")])
async def test_messages_outlive_the_container(
    engine: Engine, image: str, volume_name: str, tmp_path: Path, writer: str, reader: str
) -> None:
    """Alice joins and publishes; the container is killed and removed; Bob joins at the next one and reads her."""
    port = free_port()
    with engine.volume(volume_name) as volume:
        async with open_client(writer, tmp_path / "alice") as alice:
            with open_to_the_world(engine, image, volume, port) as pub:
                await alice.call("accept", pub.json("invite", "create")["code"])
                await alice.call("connect", pub.json("status")["address"])
                last = [await post(alice, f"number {number}") for number in range(20)][-1]
                written = await alice.call("feed", alice.feed)
                await until_stored(pub, alice.feed, len(written))
                before = pub.json("status")
        with open_to_the_world(engine, image, volume, port) as pub:
            after = pub.json("status")
            assert (after["id"], after["address"], after["members"]) == (before["id"], before["address"], 1)
            async with open_client(reader, tmp_path / "bob") as bob:
                await follow(bob, alice.feed)
                await bob.call("accept", pub.json("invite", "create")["code"])
                await bob.call("connect", after["address"])
                await bob.call("wait-message", last)
                assert [row["key"] for row in await bob.call("feed", alice.feed)] == [row["key"] for row in written]
            assert pub.json("status")["internal_errors"] == 0
            assert pub.stop() == 0


async def test_a_small_memory_limit_is_kept_under_load(
    engine: Engine, image: str, volume_name: str, tmp_path: Path
) -> None:
    """A member brings two hundred people with a hundred posts each; the pub takes them all in."""
    port, limit = free_port(), ("--memory", "192m", "--memory-swap", "192m")
    with engine.volume(volume_name) as volume, open_to_the_world(engine, image, volume, port, *limit) as pub:
        async with open_client("crowd", tmp_path / "carol") as carol:
            texts = [{"type": "post", "text": f"{number} " + "x" * 300} for number in range(100)]
            people = await carol.call("people", LOAD // len(texts), texts)
            await carol.call("publish-all", [contact(each) for each in people])
            code = pub.json("invite", "create")["code"]
            assert "result" in await carol.call("redeem", code, {"feed": carol.feed})
            await carol.call("replicate", pub.json("status")["address"])

            async def has_all() -> bool:
                return int(pub.json("status")["messages"]) >= LOAD

            await until(has_all)
        assert pub.is_healthy()
        assert (pub.inspect(".State.OOMKilled"), pub.inspect(".RestartCount")) == (False, 0)
        assert pub.stop() == 0
