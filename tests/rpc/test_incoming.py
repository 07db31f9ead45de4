"""Messages of a peer on their way into ingest, and who hears what became of them."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pub.protocol.arrivals import Expectation
from pub.protocol.ebt import MessageFrame
from pub.rpc.incoming import Incoming
from tests.ingest.people import Author
from tests.pubs import RunningPub, open_pub


@dataclass
class Trusting:
    """Expects whatever comes, until something is refused."""

    heard: list[str] = field(default_factory=list)

    def expects(self, _feed: int, _sequence: int, _now: float) -> Expectation:
        return Expectation.NEXT

    def shares(self, _feed: int) -> bool:
        return not self.heard

    def refused(self, _feed: int) -> None:
        self.heard.append("refused")

    def charge(self) -> None:
        self.heard.append("charged")

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
        await hand_in(pub, Incoming(pub.rooms, taker, taker.charge), alice, raws)
        await pub.settle()
        assert taker.heard == ["refused"]
        assert pub.feed(alice.keys.public) == raws[:1]
        assert [pub.value("messages_received_total", result=result) for result in ("bad_signature", "gap")] == [1, 3]


async def test_who_has_gone_hears_nothing(tmp_path: Path) -> None:
    alice = Author("alice")
    async with open_pub(tmp_path) as pub:
        taker = Trusting()
        incoming = Incoming(pub.rooms, taker, taker.charge)
        await hand_in(pub, incoming, alice, [b"{}"])
        incoming.close()
        await pub.settle()
        assert taker.heard == []
        assert pub.value("messages_received_total", result="invalid") == 1


@pytest.mark.parametrize("author", ["@nobody", Author("a feed nobody spoke of").keys.id])
async def test_feeds_without_a_number(tmp_path: Path, author: str) -> None:
    async with open_pub(tmp_path) as pub:
        taker = Trusting()
        incoming = Incoming(pub.rooms, taker, taker.charge)
        incoming.take(MessageFrame(author, 1), b"{}")
        await incoming.hand_in()
        await pub.settle()
        assert pub.value("messages_received_total", result="not_wanted") == 1
        assert taker.heard == ["charged"]
