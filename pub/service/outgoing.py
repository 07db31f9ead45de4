"""The way out: whom this pub dials, and how it learns where they are.

The operator names peers in ``connections.peers`` and with ``ssb-pub connect``. A pub that we follow may tell its
address itself, in a ``pub`` message on its own feed, or we told it on ours. What others say about third parties is
never dialled: it would let anyone point this pub at anybody.

Members are followed, too, so a member can have one machine dialled that is not its own, seldom and with 64 bytes. That
machine shall not stand in the operator's own network: a pub with a public address takes no private ones from messages.
"""

import ipaddress
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from pub.config import Settings
from pub.errors import ConfigError, InvalidReference, StoringStopped
from pub.net.dialer import TRANSPORT, Dialer
from pub.net.peer import Host
from pub.net.schedule import Schedule
from pub.net.sockets import Network
from pub.protocol.addresses import Address, parse_address, parse_announcement
from pub.protocol.contacts import FOLLOW
from pub.rpc.context import Pub
from pub.store.log import Appender, Changes
from pub.store.peers import PeerRecord, Peers, Source

log = structlog.get_logger()

PAGE_BYTES = 1 << 18  # read at once of a feed that is searched: a millisecond of the event loop
PUB_TYPE = b'"type":"pub"'  # stored messages are compact, so every pub message contains exactly this


def make_dialer(pub: Pub, settings: Settings, host: Host, network: Network[Any]) -> Dialer:
    """The dialer with its address book, the settings taken over. Raises ConfigError."""
    book = Peers(pub.store)
    with pub.store.read() as txn:
        schedule = Schedule(book.records(txn))
    schedule.configure(map(partial(_configured, pub), settings.connections.peers), pub.wall_clock())
    return Dialer(
        host,
        schedule,
        network,
        max_outgoing=settings.connections.max_outgoing,
        may_dial=partial(_may_dial, pub),
        save=partial(_save, pub, book),
        wall_clock=pub.wall_clock,
    )


def _configured(pub: Pub, text: str) -> Address:
    try:
        address = parse_address(text)
    except InvalidReference:
        raise ConfigError(f"connections.peers: {text} can't be dialled: check its host, port and key") from None
    if address.key == pub.keys.public:
        raise ConfigError("connections.peers: one of them is this pub itself")
    return address


def _may_dial(pub: Pub, record: PeerRecord) -> bool:
    feed = pub.log.numbers.get(record.address.key)
    if record.source is Source.FOLLOWED:
        return feed is not None and pub.graph.is_following(pub.own, feed)
    return feed is None or not pub.graph.is_blocking(pub.own, feed)


async def _save(pub: Pub, book: Peers, changes: Mapping[Address, PeerRecord | None]) -> None:
    def job(appender: Appender) -> None:
        for address, record in changes.items():
            if record is None:
                book.remove(appender.txn, address)
            else:
                book.put(appender.txn, record)

    try:
        await pub.ingest.write(job)
    except StoringStopped as refusal:
        log.debug("address_book_not_saved", reason=refusal.message)


class Discovery:
    """Finds out where the pubs are that we follow."""

    def __init__(self, pub: Pub) -> None:
        self._pub = pub
        self._unread: set[int] = set()  # feeds followed just now, of which we hold messages from before
        self._bell = trio.Event()

    def watch(self, changes: Changes) -> None:
        """Called after each commit."""
        pub = self._pub
        for feed, text in changes.announced:
            self._hear(feed, text)
        for author, target, value in changes.edges:
            if author == pub.own and value != FOLLOW:
                pub.dialer.schedule.remove_found(pub.log.keys[target])
            elif author == pub.own and pub.log.heads[target]:
                self._unread.add(target)
                self._bell.set()

    async def run(self) -> None:
        """Search the feeds that we had before we followed them, for ever."""
        while True:
            while self._unread:
                await self._search(self._unread.pop())
            self._bell = trio.Event()
            await self._bell.wait()

    async def _search(self, feed: int) -> None:
        after = 0
        while page := self._pub.log.page(feed, after, PAGE_BYTES):
            for raw in page:
                if PUB_TYPE in raw and (text := _announced(raw)) is not None:
                    self._hear(feed, text)
            after += len(page)
            await trio.lowlevel.checkpoint()

    def _hear(self, author: int, text: str) -> None:
        """``author`` says that a pub is at ``text``."""
        pub = self._pub
        address = parse_address(text)
        is_about_itself = address.key == pub.log.keys[author] and pub.graph.is_following(pub.own, author)
        if not is_about_itself and (author != pub.own or address.key == pub.keys.public):
            return
        if address.transport != TRANSPORT or (is_private(address.host) and not self._is_private_network()):
            return
        if address not in pub.dialer.schedule.records:
            pub.dialer.schedule.add(address, Source.FOLLOWED, pub.wall_clock())
            pub.dialer.wake()

    def _is_private_network(self) -> bool:
        ours = self._pub.address
        return ours is not None and is_private(ours.host)


def is_private(host: str) -> bool:
    """Does this host lie in a network of its own, as far as can be seen without asking?"""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost"


def _announced(raw: bytes) -> str | None:
    content = msgspec.json.decode(raw)["content"]
    return parse_announcement(content) if isinstance(content, dict) else None
