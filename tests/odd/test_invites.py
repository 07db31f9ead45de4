"""Odd guests: nonsense to redeem, codes that never were, and everything at once. A code is used as often as it says."""

import pytest
import trio

from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.keys import KeyPair
from pub.protocol.muxrpc import MAX_OPEN_REQUESTS
from tests.odd.house import House
from tests.odd.lines import DUPLEX, JSON, RNG, STREAM, Line, enter, packet, request, somebody

pytestmark = pytest.mark.slow

DENIED = "is not in list of allowed methods"
MISSING = "feed to follow is missing"
NO_FEED = "feed to follow is not a feed id"
NONSENSE = {
    "[]": "Param 0 is required",
    "[null]": "Param 0 is required",
    "[0]": MISSING,
    '["@"]': MISSING,
    "[[]]": MISSING,
    "[{}]": MISSING,
    '[{"feed":null}]': MISSING,
    '[{"feed":""}]': MISSING,
    '[{"feed":0}]': MISSING,
    '[{"feed":5}]': NO_FEED,
    '[{"feed":[]}]': MISSING,
    '[{"feed":["@"]}]': NO_FEED,
    '[{"feed":{"a":1}}]': NO_FEED,
    '[{"feed":"@"}]': NO_FEED,
    '[{"feed":"\\ud800"}]': NO_FEED,
    '[{"feed":"__proto__"}]': NO_FEED,
    '[{"__proto__":{"feed":"x"}}]': MISSING,
    f'[{{"feed":"@{"A" * 43}=.ed25519\\u0000"}}]': NO_FEED,
    f'[{{"feed":"%{"A" * 43}=.sha256"}}]': NO_FEED,
    f'[{{"feed":"{"x" * 60_000}"}}]': NO_FEED,
}


async def guest(house: House, uses: int) -> KeyPair:
    code = await house.ask("invite", "create", args=[uses])
    return guest_keys(parse_invite(code).seed)


async def used(house: House, guest: KeyPair) -> int:
    invites = await house.ask("invite", "list")
    return next(int(invite["used"]) for invite in invites if invite["id"] == guest.id)


async def redeem(line: Line, number: int, feed: str, padding: int = 0) -> None:
    await line.send(request(number, "invite.use", {"feed": feed}, "x" * padding))


async def test_nonsense_to_redeem(house: House) -> None:
    keys = await guest(house, 1)
    async with house.watched():
        async with enter(house, keys) as line:
            for number, (args, refusal) in enumerate(NONSENSE.items(), start=1):
                await line.send(packet(number, f'{{"name":["invite","use"],"args":{args}}}'.encode()))
                assert refusal in await line.text(number), args
            await redeem(line, 100, house.pub.announced["id"])
            assert "this pub's own" in await line.text(100)
            await redeem(line, 101, somebody().id)
            assert "following" in await line.text(101)
        assert await used(house, keys) == 1


async def test_what_else_guests_may_not(house: House) -> None:
    keys = await guest(house, 1)
    async with house.watched(), enter(house, keys) as line:
        for number, name in enumerate(("manifest", "whoami", "status", "invite.create", "publish"), start=1):
            await line.send(request(number, name))
            assert DENIED in await line.text(number)
        for number, name in enumerate(("ebt.replicate", "gossip.ping", "tunnel.connect"), start=10):
            await line.send(request(number, name, {"version": 3}, kind=DUPLEX), packet(number, b"1", STREAM | JSON))
            assert DENIED in await line.text(number)
        await redeem(line, 20, somebody().id)
        assert "following" in await line.text(20)


async def test_codes_guessed_in_bulk(house: House) -> None:
    """A code that is none makes a stranger of its holder, who learns nothing."""
    real = await guest(house, 1)
    async with house.watched():
        for _ in range(300):
            async with enter(house, guest_keys(RNG.randbytes(32))) as line:
                await redeem(line, 1, somebody().id)
                assert DENIED in await line.text(1)
        assert await used(house, real) == 0


async def test_one_use_for_thousands_at_once(house: House) -> None:
    """The holders of one code try it on many connections, as often as each may: one comes in, and the memory holds."""
    keys, wins = await guest(house, 1), list[bytes]()
    async with house.watched():
        async with trio.open_nursery() as nursery:

            async def try_hard() -> None:
                async with enter(house, keys) as line:
                    for number in range(1, 200):
                        await redeem(line, number, somebody().id)
                    wins.extend(each for each in await line.answers(199) if b'"following":true' in each)

            for _ in range(10):
                nursery.start_soon(try_hard)
        assert len(wins) == await used(house, keys) == 1


async def test_the_largest_calls_that_wait_for_the_disk(house: House) -> None:
    """Each may be 64 KiB, and thousands may be under way: they are judged by what they need to keep."""
    keys = await guest(house, 10)
    async with house.watched(memory=64 << 20), enter(house, keys) as line:
        feed = somebody().id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.answers, MAX_OPEN_REQUESTS // 2)
            for number in range(MAX_OPEN_REQUESTS // 2):
                await redeem(line, number + 1, feed, padding=60_000)
        assert await used(house, keys) == 1
