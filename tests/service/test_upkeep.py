"""What a pub tells its operator and says of itself, and what it does every few seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from pub.config import reference_table
from pub.errors import ConfigError, PublishingStopped, StoreFull
from pub.ingest import disk
from pub.ingest.ingest import Ingest
from pub.ingest.own_feed import CLAIM_SECONDS
from pub.protocol.keys import KeyPair, render_secret
from pub.rpc.context import Pub
from pub.service import upkeep
from pub.store.env import Store
from pub.store.log import Appender
from tests.service.people import Friend, holder_of, open_pub, person, stored, write_feed

ALICE = person("alice")
UNKNOWN = "this key is older than this data folder: waiting for a peer to show the pub's own feed"


@pytest.fixture
def busy_house(monkeypatch: pytest.MonkeyPatch) -> None:
    """Housekeeping without the long pauses."""
    monkeypatch.setattr(upkeep, "HOUSEKEEPING_SECONDS", 0.02)


async def notes_of(folder: Path, flags: dict[str, Any]) -> list[str]:
    async with open_pub(folder, flags) as pub:
        return pub.started.notes


async def abouts(folder: Path, *starts: dict[str, Any]) -> list[dict[str, Any]]:
    """What a pub says of itself in the course of these starts."""
    for flags in starts:
        async with open_pub(folder, flags) as pub:
            pass
    contents = [json.loads(raw)["content"] for raw in stored(folder, pub.key)]
    assert all(content.pop("type") == "about" and content.pop("about") == pub.started.id for content in contents)
    return contents


async def test_a_start_without_news_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may take its time for a flush, and nobody has to wait for it."""
    commits: list[object] = []
    write = Ingest.write

    async def noted(ingest: Ingest, job: Callable[[Appender], Any]) -> Any:
        commits.append(job)
        return await write(ingest, job)

    monkeypatch.setattr(Ingest, "write", noted)
    async with open_pub(tmp_path):
        assert commits, "it said who it is, and made a first code"
    commits.clear()
    async with open_pub(tmp_path):
        assert commits == []


# --- what the operator is told -------------------------------------------------------------------------------


async def test_on_every_address_no_code_is_made_and_the_missing_setting_is_named(tmp_path: Path) -> None:
    async with open_pub(tmp_path, {"network.host": ""}) as pub:
        assert (pub.started.address, pub.started.invite) == (None, None)
        [note] = pub.started.notes
        assert "No invite codes can be made" in note
        assert "address.host" in note
        assert await pub.ask("getAddress") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_an_address_of_the_loopback_is_local_only(tmp_path: Path, host: str) -> None:
    async with open_pub(tmp_path, {"network.host": host}) as pub:
        [note] = pub.started.notes
        assert note.startswith(f"{host} is local only")
        assert pub.started.address == await pub.ask("getAddress")
        assert pub.started.address == f"net:{host}:{pub.port}~shs:{pub.started.id[1:45]}"
        assert pub.started.invite is not None
        assert pub.started.invite.startswith(f"{host}:{pub.port}:{pub.started.id}~")


@pytest.mark.parametrize("network_host", ["", "127.0.0.1"])
async def test_the_address_that_members_dial_goes_into_codes(tmp_path: Path, network_host: str) -> None:
    flags = {"network.host": network_host, "address.host": "pub.example.org", "address.port": 443}
    async with open_pub(tmp_path, flags) as pub:
        assert pub.started.notes == []
        assert pub.started.address == f"net:pub.example.org:443~shs:{pub.started.id[1:45]}"
        assert pub.started.invite is not None
        assert pub.started.invite.startswith(f"pub.example.org:443:{pub.started.id}~")


async def test_the_first_code_is_made_once_when_there_is_an_address_for_it(tmp_path: Path) -> None:
    made = []
    for flags in ({"network.host": ""}, {}, {}):
        async with open_pub(tmp_path, flags) as pub:
            made.append(pub.started.invite)
            listed = await pub.ask("invite", "list")
    assert [code is not None for code in made] == [False, True, False]
    assert [(each["uses"], each["used"]) for each in listed] == [(1, 0)]


async def test_the_first_code_may_have_more_uses_or_none(tmp_path: Path) -> None:
    async with open_pub(tmp_path / "a", {"invites.first_uses": 5}) as pub:
        assert [each["uses"] for each in await pub.ask("invite", "list")] == [5]
    async with open_pub(tmp_path / "b", {"invites.first_uses": 0}) as pub:
        assert pub.started.invite is None


def test_a_code_is_in_no_repr() -> None:
    assert "seed" not in repr(upkeep.Started("@id", None, "seed", []))
    assert "invites.first_uses" in reference_table()


# --- about ---------------------------------------------------------------------------------------------------


async def test_the_pub_says_its_name_once(tmp_path: Path) -> None:
    assert await abouts(tmp_path, {}, {}) == [{"name": "Scuttlebutt pub"}]


async def test_the_pub_says_its_name_and_description_again_when_either_changes(tmp_path: Path) -> None:
    starts: list[dict[str, Any]] = [{"name": "Harbour", "description": d} for d in ("", "by the sea", "by the sea")]
    assert await abouts(tmp_path, *starts, {"name": "Ahoy", "description": "by the sea"}) == [
        {"name": "Harbour"},
        {"name": "Harbour", "description": "by the sea"},
        {"name": "Ahoy", "description": "by the sea"},
    ]


async def test_a_description_that_was_taken_back_is_taken_back_in_public(tmp_path: Path) -> None:
    starts: list[dict[str, Any]] = [{"name": "", "description": d} for d in ("by the sea", "", "")]
    assert await abouts(tmp_path, *starts) == [{"description": "by the sea"}, {"description": ""}]


async def test_the_pub_announces_its_address_only_when_it_may_and_when_it_changes(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"name": "", "address.host": "pub.example.org", "address.port": 443}
    loud, moved = quiet | {"address.announce": "yes"}, quiet | {"address.announce": "yes", "address.port": 8008}
    for flags in (quiet, loud, loud, moved, quiet):
        async with open_pub(tmp_path, flags) as pub:
            pass
    announced = [json.loads(raw)["content"] for raw in stored(tmp_path, pub.key)]
    where = {"host": "pub.example.org", "key": pub.started.id}
    assert announced == [{"type": "pub", "address": where | {"port": port}} for port in (443, 8008)]


async def test_a_pub_without_a_name_says_nothing(tmp_path: Path) -> None:
    assert await abouts(tmp_path, {"name": ""}, {"name": ""}) == []


async def test_a_description_longer_than_a_message_is_a_sentence(tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="description"), flatten_subgroups=True):
        async with open_pub(tmp_path, {"description": "x" * 8192}):
            pass


async def test_a_pub_starts_on_a_full_disk_and_speaks_when_there_is_room(
    tmp_path: Path, pubs: list[Pub], monkeypatch: pytest.MonkeyPatch, busy_house: None
) -> None:
    is_full = True
    write = Store.write

    def write_if_there_is_room(store: Store, job: Callable[[Any], Any]) -> Any:
        if is_full and len(pubs) == 2:
            raise StoreFull("no room left")
        return write(store, job)

    async with open_pub(tmp_path, {"network.host": ""}):
        pass
    monkeypatch.setattr(Store, "write", write_if_there_is_room)
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.01)
    with structlog.testing.capture_logs() as lines:
        async with open_pub(tmp_path, {"name": "Ahoy"}) as pub:
            assert pub.started.invite is None
            assert (await pub.ask("status"))["ready"] is True
            is_full = False
            await pub.wait_for_messages(2)
    assert {"not_introduced", "no_first_invite"} <= {line["event"] for line in lines}
    assert [json.loads(raw)["content"]["name"] for raw in stored(tmp_path, pub.key)] == ["Scuttlebutt pub", "Ahoy"]


# --- may we publish? -----------------------------------------------------------------------------------------


@pytest.fixture
def old_key(tmp_path: Path) -> KeyPair:
    """A secret file alone in the folder: its feed may exist elsewhere."""
    keys = person("the pub")
    (tmp_path / "secret").write_text(render_secret(keys))
    return keys


@pytest.mark.parametrize("name", ["Harbour", ""])
async def test_a_key_older_than_its_store_publishes_nothing_and_says_so_at_every_start(
    tmp_path: Path, old_key: KeyPair, name: str
) -> None:
    for _start in range(3):
        async with open_pub(tmp_path, {"name": name, "invites.first_uses": 0}) as pub:
            assert pub.started.notes[1] == f"Nothing is published for now: {UNKNOWN}."
            status = await pub.ask("status")
            assert (status["publishing"], status["messages"], status["ready"]) == (UNKNOWN, 0, True)
            code = await pub.ask("invite", "create", args=[1])
            async with pub.visited_by(holder_of(code)) as guest:
                assert UNKNOWN in await guest.refusal("invite", "use", args=[{"feed": ALICE.id}])
            assert (await pub.ask("invite", "list"))[0]["used"] == 0
    assert stored(tmp_path, old_key.public) == []


async def test_a_fetched_feed_is_continued_and_the_store_is_its_home_from_then_on(
    tmp_path: Path, old_key: KeyPair, busy_house: None
) -> None:
    feed = write_feed(old_key, 3)
    async with open_pub(tmp_path) as pub, pub.visited_by(ALICE) as visitor:
        friend = Friend(visitor, feed, old_key.id)
        friend.has(old_key.id, 3)
        await pub.wait_for_messages(4)
        assert (await pub.ask("status"))["publishing"] is None
    async with open_pub(tmp_path) as pub:
        assert (await pub.ask("status"))["publishing"] is None
    raws = stored(tmp_path, old_key.public)
    assert raws[:3] == [message.encoded for message in feed]
    assert [json.loads(raw)["content"]["type"] for raw in raws[3:]] == ["about"]


async def test_a_part_of_the_feed_is_not_continued_by_a_restart(
    tmp_path: Path, old_key: KeyPair, busy_house: None
) -> None:
    feed = write_feed(old_key, 3)
    async with open_pub(tmp_path) as pub, pub.visited_by(ALICE) as visitor:
        friend = Friend(visitor, feed[:2], old_key.id)  # the line breaks before the third
        friend.has(old_key.id, 3)
        await pub.wait_for_messages(2)
    async with open_pub(tmp_path, {"name": "Ahoy"}) as pub:
        assert (await pub.ask("status"))["publishing"] == UNKNOWN
        async with pub.visited_by(ALICE) as visitor:
            friend = Friend(visitor, feed, old_key.id)
            friend.has(old_key.id, 3)
            await pub.wait_for_messages(4)
    assert [json.loads(raw)["content"].get("name") for raw in stored(tmp_path, old_key.public)] == [None] * 3 + ["Ahoy"]


async def test_what_could_not_be_said_is_said_when_the_claim_of_a_liar_lapses(
    tmp_path: Path, pubs: list[Pub], monkeypatch: pytest.MonkeyPatch, busy_house: None
) -> None:
    async with open_pub(tmp_path):
        pass
    greet = upkeep.introduce

    async def claim_first(pub: Pub, settings: Any) -> None:
        if pub is pubs[1] and not pub.ingest.own_feed.lapsed:
            pub.ingest.own_feed.claim(ALICE.public, 9, trio.current_time() - CLAIM_SECONDS + 0.1, is_member=True)
        await greet(pub, settings)

    monkeypatch.setattr(upkeep, "introduce", claim_first)
    async with open_pub(tmp_path, {"name": "Ahoy"}) as pub:
        assert "message 9 of this pub's own feed, we have 1" in pub.started.notes[1]
        with structlog.testing.capture_logs() as lines:
            await pub.wait_for_messages(2)
            await trio.sleep(0.05)
        assert [line["event"] for line in lines] == ["publishing_stopped", "publishing_resumed"]
    assert len(stored(tmp_path, pub.key)) == 2


async def test_the_operator_hears_that_publishing_stopped(tmp_path: Path, pubs: list[Pub], busy_house: None) -> None:
    with structlog.testing.capture_logs() as lines:
        async with open_pub(tmp_path) as pub, pub.visited_by(ALICE) as visitor:
            Friend(visitor, []).has(pub.started.id, 7)
            while not (stopped := [line for line in lines if line["event"] == "publishing_stopped"]):
                assert not visitor.gone.is_set()
                await trio.sleep(0.01)
            with pytest.raises(PublishingStopped):
                await pubs[0].ingest.publish({"type": "post", "text": "hello"})
    assert "message 7 of this pub's own feed, we have 1" in stopped[0]["reason"]


# --- looking around ------------------------------------------------------------------------------------------


async def test_who_is_silent_for_too_long_is_dropped(tmp_path: Path, pubs: list[Pub], busy_house: None) -> None:
    async with open_pub(tmp_path, {"limits.idle_seconds": 0.1}) as pub, pub.visited_by(ALICE) as sleeper:
        async with pub.visited_by(person("bob")) as talker:
            while not sleeper.gone.is_set():
                await talker.call("manifest")
                await trio.sleep(0.02)
            assert not talker.gone.is_set()
        assert (await pub.ask("status"))["limit_hits"] == {"idle_seconds": 1}
        assert pubs[0].metrics.value("disconnects_total", reason="idle") == 1
