"""What a client does before and after a measurement: redeem an invite, speak EBT, hand over a feed, read one back."""

from collections import deque
from collections.abc import Iterable
from time import sleep

import msgspec

from benchmarks.connection import Connection, Inbox, LoadFailed
from benchmarks.dataset import Feed, keys_of
from benchmarks.meter import wait_rest
from benchmarks.peers import Peer
from pub.protocol.calls import Kind
from pub.protocol.ebt import encode_note
from pub.protocol.invites import guest_keys, parse_invite
from pub.protocol.keys import KeyPair
from pub.protocol.packets import Packet, encode_data, encode_page

POLL_SECONDS = 0.01  # between two looks whether something is stored
QUIET_SECONDS = 0.5
AT_ONCE = 1000  # histories asked for; a pub allows a peer some thousands

_read_notes = msgspec.json.Decoder(dict[str, int]).decode


def is_message(packet: Packet) -> bool:
    """Is it a message, and not notes? Ours begin like this, and notes with a feed id."""
    return packet.body.startswith(b'{"previous":')


class EbtSession:
    """The client's end of ``ebt.replicate``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.number = connection.open("ebt.replicate", [{"version": 3, "format": "classic"}], Kind.DUPLEX)
        self._notes: deque[bytes] = deque()

    def wait_notes(self, inbox: Inbox) -> dict[str, int]:
        """The next notes of the peer."""
        while not self._notes:
            for packet in inbox.wait().packets:
                if packet.request == self.number and packet.end:
                    raise LoadFailed(f"the peer ended EBT: {packet.body.decode()}")
                if packet.request == self.number and not is_message(packet):
                    self._notes.append(packet.body)
        return _read_notes(self._notes.popleft())

    def wait_asked(self, inbox: Inbox, ids: Iterable[str]) -> None:
        """Return when the peer has asked for each of these feeds, from its beginning."""
        missing = set(ids)
        while missing:
            missing.difference_update(feed for feed, note in self.wait_notes(inbox).items() if note == 0)

    def send_notes(self, notes: dict[str, int]) -> None:
        self.connection.send(self.notes(notes))

    def notes(self, notes: dict[str, int]) -> bytes:
        """A packet of notes, not sent yet."""
        return self.page([msgspec.json.encode(notes)])

    def page(self, bodies: Iterable[bytes]) -> bytes:
        """Packets, not sent yet."""
        return encode_page(-self.number, bodies)

    def send(self, body: bytes) -> None:
        self.connection.send(encode_data(-self.number, body))


def join(peer: Peer, keys: KeyPair) -> None:
    """Redeem the invite code for ``keys``: the pub follows them."""
    guest = Connection(peer, guest_keys(parse_invite(peer.invite).seed))
    number = guest.open("invite.use", [{"feed": keys.id}], Kind.ASYNC)
    answer = next(packet for packet in Inbox(guest).wait().packets if packet.request == number)
    guest.close()
    if answer.end:
        raise LoadFailed(f"the invite was refused: {answer.body.decode()}")


def barrier(connection: Connection, inbox: Inbox) -> None:
    """Return when the peer has dealt with all it was sent: it answers, or refuses, a question asked after that."""
    number = connection.open("whoami", [], Kind.ASYNC)
    while not any(packet.request == number for packet in inbox.wait().packets):
        pass


def watch(peer: Peer, feed: Feed) -> Connection:
    """A connection to read back over, once ``feed`` can be read.

    ssb-server hangs up on whoever dials while it is indexing, and asks whoever reads a history for every feed in
    return. Both are over when this returns.
    """
    wait_rest(peer.pid)
    watcher = Connection(peer, keys_of("watcher"))
    inbox = Inbox(watcher)
    wait_stored(watcher, [feed])
    while inbox.next(QUIET_SECONDS) is not None:
        pass
    inbox.close()
    return watcher


def offer(peer: Peer, keys: KeyPair, feeds: list[Feed]) -> tuple[Connection, EbtSession, Inbox]:
    """Connect, say what we have, and wait until the peer has asked for all of it."""
    connection = Connection(peer, keys)
    inbox = Inbox(connection)
    session = EbtSession(connection)
    asked = session.wait_notes(inbox)
    session.send_notes({feed.id: encode_note(len(feed.messages), receive=False) for feed in feeds})
    session.wait_asked(inbox, (feed.id for feed in feeds if asked.get(feed.id) != 0))
    return connection, session, inbox


def upload(peer: Peer, feed: Feed) -> tuple[Connection, EbtSession, Inbox]:
    """Hand over a feed as its author; returns when it can be read back, the session still open."""
    connection, session, inbox = offer(peer, feed.keys, [feed])
    connection.send(session.page(feed.messages))
    watch(peer, feed).close()
    return connection, session, inbox


def wait_stored(watcher: Connection, feeds: list[Feed]) -> None:
    """Return when the last message of each feed can be read, byte for byte.

    One feed is asked for again and again, so that asking costs the peer next to nothing; then all others.
    """
    inbox = Inbox(watcher)
    missing = {feed.id: feed for feed in feeds}
    while missing:
        batch = list(missing.values())[:AT_ONCE] if len(missing) < len(feeds) or len(feeds) == 1 else feeds[-1:]
        stored = _read_last(watcher, inbox, batch)
        for feed in stored:
            del missing[feed.id]
        if missing and len(stored) < len(batch):
            sleep(POLL_SECONDS)
    inbox.close()


def read_back(peer: Peer, feed: str, message: bytes) -> None:
    """Ask for the last message of a feed. Raises LoadFailed if that is not this one."""
    watcher = Connection(peer, keys_of("watcher"))
    sequence = msgspec.json.decode(message)["sequence"]
    asked = {"id": feed, "seq": sequence, "limit": 1, "keys": False, "live": False}
    number = watcher.open("createHistoryStream", [asked], Kind.SOURCE)
    inbox = Inbox(watcher)
    answers: list[Packet] = []
    while not any(packet.end for packet in answers):
        answers += [packet for packet in inbox.wait().packets if packet.request == number]
    inbox.remove(watcher)
    if answers[0].body != message:
        raise LoadFailed(f"the last message of {feed} is not what was sent")


def _read_last(watcher: Connection, inbox: Inbox, feeds: list[Feed]) -> list[Feed]:
    """Those feeds whose last message the peer shows."""
    waiting = {}
    for feed in feeds:
        asked = {"id": feed.id, "seq": len(feed.messages), "limit": 1, "keys": False, "live": False}
        waiting[watcher.open("createHistoryStream", [asked], Kind.SOURCE)] = feed
    stored = []
    while waiting:
        for packet in inbox.wait().packets:
            feed = waiting[packet.request]
            if packet.end:
                del waiting[packet.request]
            elif packet.body == feed.messages[-1]:
                stored.append(feed)
            else:
                raise LoadFailed(f"the last message of {feed.id} is not what was sent")
    return stored
