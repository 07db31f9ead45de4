"""Honest people: each has a feed, follows others, and gossips with one pub or more, by EBT or as clients did before.

Nothing here is taken from the pub's own replication. A person asks everybody for everything it wants, keeps what
continues a feed, and passes on whatever it has to whoever asks. What a pub shows it goes to the ``Ledger``, and no pub
may ever send it a message that leaves a gap.

Who speaks EBT says once for each feed how much it has, again when the pub turns out to be behind, and sends when it is
asked. Who does not asks for every feed with ``createHistoryStream`` and answers when the pub asks so (``OldTalk``).
"""

from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from pub.protocol.calls import no_such_method
from pub.protocol.ebt import decode_note, encode_note
from pub.protocol.muxrpc import Kind, RequestReceived
from pub.protocol.refs import feed_id, feed_key, is_feed_id
from tests.ingest.people import Author
from tests.pubs import ClientStream, Ended
from tests.sim.clock import chance
from tests.sim.ledger import demand
from tests.sim.machines import Machine, Surroundings
from tests.sim.network import HostNetwork
from tests.sim.trace import who
from tests.sim.visits import Caller, visit

PAUSE = (1.0, 8.0)  # seconds between a lost connection and the next try
BATCH = 10  # messages in one write


class Talk(Protocol):
    """What a person does on one connection."""

    async def run(self, client: Caller) -> None: ...

    def wants(self, key: bytes) -> None:
        """The person replicates this feed from now on."""

    def grew(self, key: bytes) -> None:
        """The person has more of this feed."""


class Person:
    """``wants`` are the feeds it replicates, its own included; ``pubs`` those it is in contact with."""

    def __init__(self, around: Surroundings, name: str, pubs: list[Machine], *, is_old: bool = False) -> None:
        self.name = name
        self.author = Author(name)
        self.key = self.author.keys.public
        self.pubs = pubs
        self.is_old = is_old
        self.feeds: dict[bytes, list[bytes]] = {}
        self.wants = {self.key: None} | {pub.key: None for pub in pubs}
        self.slowness = 0.0
        self._around = around
        self._rng = chance(around.seed, name)
        self._network = HostNetwork(around.network, name)
        self._talks: list[Talk] = []
        self._is_there = trio.Event()
        self._visits: list[trio.CancelScope] = []
        self._is_there.set()
        around.trace.name(self.key, name)
        around.ledger.written[self.key] = self.feeds.setdefault(self.key, [])

    # --- what it does -------------------------------------------------------------------------------------

    def post(self, text: str) -> None:
        self._write(type="post", text=text)

    def follow(self, other: bytes) -> None:
        """Say so, and want the feed."""
        self.wants[other] = None
        self._write(type="contact", contact=feed_id(other), following=True)
        for talk in self._talks:
            talk.wants(other)

    def _write(self, **content: Any) -> None:
        self.feeds[self.key].append(self.author.write(**content).encoded)
        self._tell(self.key)

    def leave(self) -> None:
        """Switch the phone off: no pub hears of it."""
        if self._is_there.is_set():
            self._is_there = trio.Event()
        for scope in self._visits:
            scope.cancel()

    def come_back(self) -> None:
        self._is_there.set()

    async def gossip(self, pub: Machine) -> None:
        """With one pub, for ever."""
        who.set(self.name)
        while True:
            await self._is_there.wait()
            with trio.CancelScope() as scope:
                self._visits.append(scope)
                await visit(self._network, pub, self.author.keys, self._rng, partial(self._talk, pub), self.slowness)
            self._visits.remove(scope)
            await trio.sleep(self._rng.uniform(*PAUSE))

    async def _talk(self, pub: Machine, client: Caller) -> None:
        talk: Talk = OldTalk(self, pub.key) if self.is_old else EbtTalk(self, pub.key)
        self._talks.append(talk)
        try:
            await talk.run(client)
        finally:
            self._talks.remove(talk)

    # --- what comes ---------------------------------------------------------------------------------------

    def length(self, key: bytes) -> int:
        return len(self.feeds.get(key, ()))

    def take(self, pub: bytes, raw: bytes) -> tuple[bytes, int]:
        """A pub has sent a message: whose, and which."""
        author, sequence = self._around.ledger.shown_message(pub, raw)
        if author in self.wants:
            feed = self.feeds.setdefault(author, [])
            demand(sequence <= len(feed) + 1, "no pub leaves a gap", self.name, feed_id(author), sequence, len(feed))
            if sequence == len(feed) + 1:
                feed.append(raw)
                self._tell(author)
        return author, sequence

    def hear(self, pub: bytes, author: bytes, sequence: int) -> None:
        """A pub says how much it has."""
        self._around.ledger.shown_note(pub, author, sequence)

    def _tell(self, key: bytes) -> None:
        for talk in self._talks:
            talk.grew(key)


class EbtTalk:
    """One session. Reading never waits for writing."""

    def __init__(self, person: Person, pub: bytes) -> None:
        self._person = person
        self._pub = pub
        self._theirs: dict[bytes, int] = {}  # how much the pub says it has
        self._told: dict[bytes, None] = {}  # what we have said a word about
        self._pending: dict[bytes, None] = {}  # what we shall say a word about
        self._cursors: dict[bytes, int] = {}  # what the pub has asked for, and how far we have sent it
        self._bell = trio.Event()

    async def run(self, client: Caller) -> None:
        stream = await client.open("ebt.replicate", {"version": 3, "format": "classic"}, body_limit=1 << 23)
        self._hear(await stream.next_body())  # the pub speaks first
        self._pending |= self._person.wants
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream)
            while True:
                self._hear(await stream.next_body())

    def wants(self, key: bytes) -> None:
        """See ``Talk``."""
        self._pending[key] = None
        self._bell.set()

    def grew(self, key: bytes) -> None:
        """See ``Talk``. A pub that did not ask hears of it when it is behind."""
        if key not in self._cursors and (key not in self._told or self._is_behind(key)):
            self._pending[key] = None
        self._bell.set()

    def _is_behind(self, key: bytes) -> bool:
        return 0 <= self._theirs.get(key, -1) < self._person.length(key)

    def _hear(self, body: bytes) -> None:
        if b'"content":' in body:
            author, sequence = self._person.take(self._pub, body)
            self._theirs[author] = max(sequence, self._theirs.get(author, 0))
            if self._cursors.get(author, sequence) < sequence:
                self._cursors[author] = sequence
            return
        for text, number in msgspec.json.decode(body).items():
            note = decode_note(number)
            assert note is not None, number
            self._heed(feed_key(text), note.sequence if note.replicate else -1, note.receive)
        self._bell.set()

    def _heed(self, key: bytes, sequence: int, is_asked: bool) -> None:
        self._theirs[key] = sequence
        self._cursors.pop(key, None)
        if key not in self._told:
            self._pending[key] = None
        if sequence < 0:
            return
        self._person.hear(self._pub, key, sequence)
        if is_asked:
            self._cursors[key] = sequence
        elif self._is_behind(key):
            self._pending[key] = None

    async def _send(self, stream: ClientStream) -> None:
        while True:
            self._bell = trio.Event()
            if self._pending:
                notes = {feed_id(key): self._word_on(key) for key in self._pending}
                self._told |= self._pending
                self._pending.clear()
                await stream.send(notes)
            elif batch := self._next_batch():
                await stream.send(*batch)
            else:
                await self._bell.wait()

    def _word_on(self, key: bytes) -> int:
        return encode_note(self._person.length(key), True) if key in self._person.wants else -1

    def _next_batch(self) -> list[bytes]:
        for key, after in self._cursors.items():
            batch = self._person.feeds.get(key, [])[after : after + BATCH]
            if batch:
                self._cursors[key] = after + len(batch)
                return batch
        return []


class OldTalk:
    """A client without EBT: history streams both ways, open for what is written later."""

    def __init__(self, person: Person, pub: bytes) -> None:
        self._person = person
        self._pub = pub
        self._asked: dict[bytes, None] = {}
        self._bell = trio.Event()

    async def run(self, client: Caller) -> None:
        await client.open("createHistoryStream", self._options(self._person.key), kind=Kind.SOURCE)
        answered = 0
        async with trio.open_nursery() as nursery:
            while True:
                self._bell = client.bell = trio.Event()
                for key in [key for key in self._person.wants if key not in self._asked]:
                    self._asked[key] = None
                    nursery.start_soon(self._ask, client, key)
                for request in client.asked[answered:]:
                    answered += 1
                    nursery.start_soon(self._answer, client, request)
                await self._bell.wait()

    def wants(self, key: bytes) -> None:
        """See ``Talk``."""
        self._bell.set()

    def grew(self, key: bytes) -> None:
        """See ``Talk``."""
        self._bell.set()

    def _options(self, key: bytes) -> dict[str, Any]:
        return {"id": feed_id(key), "seq": self._person.length(key) + 1, "live": True, "keys": False}

    async def _ask(self, client: Caller, key: bytes) -> None:
        stream = await client.open("createHistoryStream", self._options(key), kind=Kind.SOURCE)
        with suppress(Ended):
            while True:
                self._person.take(self._pub, await stream.next_body())

    async def _answer(self, client: Caller, request: RequestReceived) -> None:
        """The pub asks for one feed, or for what we do not have."""
        if request.name != ("createHistoryStream",):
            await client.send(client.session.fail(request.number, no_such_method(request.kind, request.name)))
            return
        asked = request.args[0]
        assert is_feed_id(asked["id"])
        key, after, stream = feed_key(asked["id"]), asked["seq"] - 1, client.accept(request)
        while client.session.is_watched(request.number):
            bell = self._bell
            batch = self._person.feeds.get(key, [])[after : after + BATCH]
            if batch:
                await stream.send(*batch)
                after += len(batch)
            elif asked["live"]:
                await bell.wait()
            else:
                await stream.end()
                return
