"""Who comes with an invite code. Many may come with the same one, and each tries until it has an answer that counts.

A connection can be lost at any moment, so a guest may be in without having heard of it: it comes again and is told
"already following". At the end each code has been used exactly as often as people were let in by it.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from pub.errors import RpcError
from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.refs import feed_id
from pub.rpc.invite import ALREADY_FOLLOWING, REFUSALS
from tests.pubs import Client
from tests.sim.clock import chance
from tests.sim.ledger import demand
from tests.sim.machines import Machine, Surroundings
from tests.sim.network import HostNetwork
from tests.sim.trace import who
from tests.sim.visits import LOST, Caller, visit

ANSWER_SECONDS = 20.0
PAUSE = (0.5, 5.0)  # seconds between two tries
LATEST_SECONDS = 60.0  # after the code was made: some race for it, others come when much has happened


@dataclass
class Code:
    """An invite code of one pub; ``accepted`` are the feeds that were told so, ``refused`` those it was spent for."""

    pub: Machine
    text: str
    uses: int
    accepted: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)

    @property
    def guest(self) -> bytes:
        return guest_keys(parse_invite(self.text).seed).public


async def ask_operator(around: Surroundings, pub: Machine, name: str, *args: object) -> object:
    """What the operator of this pub is answered on the control socket; tries until there is an answer."""
    while True:
        try:
            await pub.is_up.wait()
            stream = around.network.connect_inside(pub.host, Path(pub.settings.socket))
            async with trio.open_nursery() as nursery, Client(stream) as client:
                nursery.start_soon(client.run)
                answer: object = await client.call(name, *args)
        except* LOST:
            await trio.sleep(1)
        else:
            return answer


async def make_code(around: Surroundings, pub: Machine, uses: int) -> Code:
    text = await ask_operator(around, pub, "invite.create", uses)
    return Code(pub, str(text), uses)


async def redeem(around: Surroundings, code: Code, name: str, feed: bytes) -> None:
    """Until this feed is followed, or the code is spent."""
    who.set(name)
    rng = chance(around.seed, f"{name} redeems")
    keys = guest_keys(parse_invite(code.text).seed)
    network = HostNetwork(around.network, name)
    await trio.sleep(rng.choice([0.0, 0.0, rng.uniform(0, LATEST_SECONDS)]))
    while feed not in code.accepted | code.refused:
        await visit(network, code.pub, keys, rng, partial(_use, around, code, feed))
        await trio.sleep(rng.uniform(*PAUSE))


async def _use(around: Surroundings, code: Code, feed: bytes, client: Caller) -> None:
    pub = code.pub.key
    with trio.move_on_after(ANSWER_SECONDS):
        try:
            answer = await client.call("invite.use", {"feed": feed_id(feed)})
            demand(answer["value"]["content"]["contact"] == feed_id(feed), "the answer is the follow message", answer)
        except RpcError as refusal:
            around.trace.note("refused", text=refusal.message)
            if refusal.message in REFUSALS.values():
                code.refused.add(feed)
            if refusal.message != ALREADY_FOLLOWING:
                return
        around.trace.note("is in", feed=feed)
        around.ledger.shown_membership(pub, feed)
        code.accepted.add(feed)
