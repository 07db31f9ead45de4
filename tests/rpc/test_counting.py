"""Requests, bytes and messages are counted as what they are. (How cheaply: tests/benchmarks/test_work.py.)"""

from pathlib import Path

import pytest
from trio.testing import MockClock

from pub.errors import RpcError
from pub.net.roles import Role
from pub.protocol.muxrpc import Kind
from pub.rpc.resends import FRESH_SECONDS, MAX_FRESH, Resends
from pub.store.log import Changes
from tests.ingest.people import Author
from tests.pubs import RunningPub, connect, open_pub
from tests.rpc.replicas import replicate

EVERY = range(2 * MAX_FRESH).__contains__  # somebody replicates each of these feeds


def requests(pub: RunningPub, method: str) -> dict[str, int]:
    """How many requests of this method ended how."""
    [family] = pub.rooms.metrics.requests.collect()
    mine = (sample for sample in family.samples if sample.labels["method"] == method and sample.value)
    return {sample.labels["result"]: int(sample.value) for sample in mine}


async def test_every_request_is_counted_by_method_and_result(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator, connect(pub) as stranger:
        await operator.call("whoami")
        await operator.call("whoami")
        with pytest.raises(RpcError):
            await operator.call("invite.revoke", "no code")
        for name in ("whoami", "private.read", "x" * 1000):
            with pytest.raises(RpcError):
                await stranger.call(name)
        with pytest.raises(RpcError):
            await operator.call("createHistoryStream", {})  # it is a source
        stream = await stranger.open("createHistoryStream", {"id": pub.id}, kind=Kind.SOURCE)
        await stream.rest()
        assert requests(pub, "whoami") == {"answered": 2, "forbidden": 1}
        assert requests(pub, "invite.revoke") == {"refused": 1}
        assert requests(pub, "other") == {"forbidden": 2}
        assert requests(pub, "createHistoryStream") == {"unknown": 1, "answered": 1}
        assert pub.value("rpc_request_seconds_count", method="whoami") == 2
        assert pub.value("rpc_request_seconds_count") == 3
        assert pub.value("rpc_requests_in_flight") == 0


async def test_connections_by_direction_and_role(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL), connect(pub), connect(pub):
        await pub.settle()
        assert pub.value("connections", direction="incoming", role="stranger") == 2
        assert pub.value("connections", direction="incoming", role="control") == 1
        assert pub.value("connections", direction="outgoing") == 0


async def test_bytes_in_both_directions(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub, connect(pub, Role.CONTROL) as operator:
        await operator.call("whoami", "x" * 1000)
        assert 1000 < pub.value("transferred_bytes_total", direction="received") < 1300
        assert 0 < pub.value("transferred_bytes_total", direction="sent") < 200


async def test_messages_of_a_blocked_author_are_told_from_those_nobody_wants(tmp_path: Path) -> None:
    mallory, nobody, bob = Author("mallory"), Author("nobody"), Author("bob")
    mallory.write_many(2)
    nobody.write_many(3)
    async with open_pub(tmp_path) as pub, connect(pub, bob.keys) as client:
        replica = await replicate(client)
        await pub.say(mallory.keys.public, blocking=True)
        await replica.hand_over([*mallory.messages, *nobody.messages])
        await pub.settle()
        assert pub.value("messages_received_total", result="blocked") == 2
        assert pub.value("messages_received_total", result="not_wanted") == 3


async def test_a_peer_that_waits_gets_what_is_stored_and_the_time_is_taken(tmp_path: Path) -> None:
    alice, bob, carol = Author("alice"), Author("bob"), Author("carol")
    async with open_pub(tmp_path) as pub:
        await pub.follow(alice.keys.public, bob.keys.public, carol.keys.public)
        await pub.take_in(alice.write_many(2))
        async with connect(pub, bob.keys) as client:
            replica = await replicate(client)
            await replica.say(alice, 0)
            for _ in range(2):
                await replica.next_message()
            assert pub.value("resend_seconds_count") == 0, "it caught up"
            await pub.take_in(alice.write_many(3))
            for _ in range(3):
                await replica.next_message()
            assert pub.value("resend_seconds_count") == 1


async def test_a_peer_that_catches_up_is_not_timed(tmp_path: Path) -> None:
    async with open_pub(tmp_path) as pub:
        resends = Resends(pub.rooms.metrics)
        resends.committed(Changes(heads={1: 9}, appended=[(1, 9)]), EVERY)
        resends.sent(1, 0, 8)
        resends.sent(1, 5, 4)
        resends.sent(1, 8, 1)  # that was not the first time
        assert pub.value("resend_seconds_count") == 0


async def test_max_fresh(tmp_path: Path) -> None:
    """A first sync of thousands of feeds is no time to take times; afterwards they are taken again."""
    async with open_pub(tmp_path) as pub:
        resends = Resends(pub.rooms.metrics)
        for half in (range(MAX_FRESH * 2 // 3), range(MAX_FRESH, MAX_FRESH * 5 // 3)):
            changes = Changes(heads=dict.fromkeys(half, 1), appended=[(feed, 1) for feed in half])
            resends.committed(changes, EVERY)
            assert 0 < len(resends._fresh) <= MAX_FRESH
        many = range(MAX_FRESH + 1)
        resends.committed(Changes(heads=dict.fromkeys(many, 1), appended=[(feed, 1) for feed in many]), EVERY)
        for feed in many:
            resends.sent(feed, 0, 9)
        assert pub.value("resend_seconds_count") == 0
        resends.committed(Changes(heads={1: 6}, appended=[(1, 6)]), EVERY)
        resends.sent(1, 5, 1)
        assert pub.value("resend_seconds_count") == 1


async def test_fresh_seconds(tmp_path: Path, jump_clock: MockClock) -> None:
    async with open_pub(tmp_path, patience=10 * FRESH_SECONDS) as pub:
        resends = Resends(pub.rooms.metrics)
        resends.committed(Changes(heads={1: 1}, appended=[(1, 1)]), EVERY)
        jump_clock.jump(FRESH_SECONDS + 1)
        resends.sent(1, 0, 1)
        assert pub.value("resend_seconds_count") == 0
