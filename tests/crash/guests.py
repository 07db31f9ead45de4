"""Guests who redeem invite codes, and try again when the pub died before it answered."""

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from pub.errors import RpcError
from pub.net.control import PubNotRunning
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import CLOSED_TEXT
from pub.protocol.refs import feed_id
from pub.rpc.invite import ALREADY_FOLLOWING, REFUSALS
from pub.store.invites import InviteState
from tests.crash.crowd import visit
from tests.crash.ledger import Ledger
from tests.crash.library import keys_of
from tests.crash.supervisor import Supervisor
from tests.service.people import Visitor, holder_of

MULTI_USES, MULTI_GUESTS = 30, 40  # of a code for many: there are always more guests than uses
SINGLE_CODES, SINGLE_GUESTS = 5, 2  # codes for one beside each code for many, and who wants it
PARTY = 8  # guests on one connection
AT_ONCE = 16  # parties that redeem at the same time
SPENT = REFUSALS[InviteState.SPENT]


class Guest:
    """Somebody with a feed who wants to be followed."""

    def __init__(self, name: str) -> None:
        self.feed = keys_of(name).id
        self.cut = 0
        """How many of the calls got no answer."""
        self.answer: Any = None
        """What the pub said in the end: its contact message, or a sentence."""

    async def ask(self, visitor: Visitor) -> None:
        """One call; without an answer if the pub dies over it."""
        try:
            self.answer = await visitor.call("invite", "use", args=[{"feed": self.feed}])
        except RpcError as error:
            if error.message == CLOSED_TEXT:
                self.cut += 1
            else:
                self.answer = error.message

    @property
    def has_won(self) -> bool:
        """Was it told that it is followed?"""
        return bool(self.answer != SPENT)


@dataclass
class Code:
    """An invite code: ``keys`` are those its guests dial with."""

    keys: KeyPair
    uses: int
    guests: list[Guest]

    @property
    def parties(self) -> "list[Party]":
        """Of a code for one each comes alone: who comes second shall not know it from the start."""
        size = 1 if self.uses == 1 else PARTY
        return [Party(self.keys, self.guests[start : start + size]) for start in range(0, len(self.guests), size)]


@dataclass
class Party:
    """Guests with one code who come together and all call at once."""

    keys: KeyPair
    guests: list[Guest]


class Rush:
    """Guests who keep coming until ``is_over``; those who have a code by then still redeem it."""

    def __init__(self, supervisor: Supervisor, rng: random.Random) -> None:
        self.codes: list[Code] = []
        self.is_over = False
        self._supervisor = supervisor
        self._rng = rng
        self._waiting: list[Party] = []
        self._making = trio.Lock()
        self._calling = trio.Event()

    @property
    def guests(self) -> list[Guest]:
        return [guest for code in self.codes for guest in code.guests]

    async def wait_call(self) -> None:
        """Until a party calls."""
        await self._calling.wait()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._redeem_parties)

    async def _redeem_parties(self) -> None:
        while True:
            async with self._making:
                if not self._waiting:
                    if self.is_over:
                        return
                    await self._make_codes()
                party = self._waiting.pop()
            await self._redeem(party)

    async def _redeem(self, party: Party) -> None:
        """Until each has its answer."""
        while asking := [guest for guest in party.guests if guest.answer is None]:
            async with visit(self._supervisor, party.keys) as visitor, trio.open_nursery() as nursery:
                for guest in asking:
                    nursery.start_soon(guest.ask, visitor)
                self._calling.set()
                self._calling = trio.Event()

    async def _make_codes(self) -> None:
        for uses, count in [(MULTI_USES, MULTI_GUESTS), *[(1, SINGLE_GUESTS)] * SINGLE_CODES]:
            guests = [Guest(f"guest {n} of code {len(self.codes)}") for n in range(count)]
            self.codes.append(Code(holder_of(await self._new_code(uses)), uses, guests))
            self._waiting += self.codes[-1].parties
        self._rng.shuffle(self._waiting)

    async def _new_code(self, uses: int) -> str:
        while True:
            await self._supervisor.up.wait()
            with suppress(PubNotRunning, OSError):
                code: str = await self._supervisor.ask("invite", "create", args=[uses])
                return code
            await trio.sleep(0.01)


def expect_exact_uses(code: Code, ledger: Ledger, own: str) -> None:
    """As many guests as the code has uses were followed, once each, and they alone were told so."""
    followed = ledger.followed_by(own)
    winners = {guest.feed for guest in code.guests if guest.has_won}
    assert ledger.used[code.keys.id] == len(winners) == code.uses
    assert {guest.feed: followed[guest.feed] for guest in code.guests} == {
        guest.feed: int(guest.has_won) for guest in code.guests
    }
    assert {feed for feed, by in ledger.members.items() if by == feed_id(code.keys.public)} == winners
    for guest in code.guests:
        if isinstance(guest.answer, dict):
            value = guest.answer["value"]
            assert value["content"]["contact"] == guest.feed
            assert value["signature"].encode() in ledger.feeds[own][value["sequence"] - 1]
        else:
            assert guest.answer == SPENT or (guest.answer == ALREADY_FOLLOWING and guest.cut), guest.answer
