"""Messages of a peer on their way into ingest, and who hears what became of them."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pub.protocol.arrivals import Expectation
from pub.protocol.ebt import MessageFrame
from pub.rpc.incoming import MESSAGE_PACKETS, Incoming
from tests.ingest.people import Author
from tests.pubs import RunningPub, open_pub


@dataclass
class Trusting:
    """Expects whatever comes, until something is refused."""

    heard: list[str] = field(default_factory=list)
    expected: Expectation = Expectation.NEXT

    def expects(self, _feed: int, _sequence: int, _now: float) -> Expectation:
        return self.expected

    def shares(self, _feed: int) -> bool:
        return not self.heard

    def refused(self, _feed: int) -> None:
        self.heard.append("refused")

    def in_vain(self, packets: int, size: int) -> None:
        assert packets == MESSAGE_PACKETS
        self.heard.append(f"{size} bytes in vain")

    def withdrawn(self, _feed: int) -> None:
        self.heard.append("withdrawn")


async def hand_in(pub: RunningPub, incoming: Incoming, author: Author, raws: list[bytes]) -> None:
    await pub.follow(author.keys.public)
    for number, raw in enumerate(raws):
        incoming.take(MessageFrame(author.keys.id, number + 1), raw)
    await incoming.hand_in()


async def test_a_forged_message_and_all_behind_it_is_one_refusal(tmp_path: Path) -> None:
    alice = Author("alice")
    alice.write_many(5)
    raws = [message.encoded for message in alice.messages]
    raws[1] = raws[1].replace(b"number 1", b"NUMBER 1")
    async with open_pub(tmp_path) as pub:
        taker = Trusting()
        await hand_in(pub, Incoming(pub.rooms, taker, taker.in_vain), alice, raws)
        await pub.settle()
        assert taker.heard == ["refused"]
        assert pub.feed(alice.keys.public) == raws[:1]
        assert [pub.value("messages_received_total", result=result) for result in ("bad_signature", "gap")] == [1, 3]


async def test_who_has_gone_hears_nothing(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        taker = Trusting()
        incoming = Incoming(pub.rooms, taker, taker.in_vain)
        await hand_in(pub, incoming, alice, [b"{}"])
        incoming.close()
        await pub.settle()
        assert taker.heard == []
        assert pub.value("messages_received_total", result="invalid") == 1


@pytest.mark.parametrize("author", ["@nobody", Author("a feed nobody spoke of").keys.id])
async def test_feeds_without_a_number(tmp_path: Path, author: str) -> None:
    async with open_pub(tmp_path) as pub:
        taker = Trusting()
        incoming = Incoming(pub.rooms, taker, taker.in_vain)
        incoming.take(MessageFrame(author, 1), b"{}")
        await incoming.hand_in()
        await pub.settle()
        assert pub.value("messages_received_total", result="not_wanted") == 1
        assert taker.heard == ["2 bytes in vain"]


@pytest.mark.parametrize("expectation", [Expectation.DUPLICATE, Expectation.GAP, Expectation.NOT_WANTED])
async def test_what_we_did_not_wait_for_is_in_vain(tmp_path: Path, expectation: Expectation) -> None:
    async with open_pub(tmp_path) as pub:
        taker = Trusting(expected=expectation)
        await hand_in(pub, Incoming(pub.rooms, taker, taker.in_vain), Author("alice"), [b"{}", b"{ }"])
        assert taker.heard == ["2 bytes in vain", "3 bytes in vain"]
        assert pub.value("messages_received_total", result=expectation.name.lower()) == 2
