"""Fan-out: a member publishes, and everybody who is connected should have it at once.

K clients, each with EBT open, follow one member, who publishes a message of about 600 bytes every 100 ms (every half
millisecond times K when they are many: what is measured is one message, not a queue of them). The time
of a client runs from just before the message is handed to the member's socket until the read that brought it to the
client's; the time of a message is that of its slowest client. What arrives is compared with what was published, after
the reading.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.connection import Connection, Inbox, LoadFailed
from benchmarks.dataset import Content, Feed, keys_of, write_feed
from benchmarks.figures import Figure, Figures, client_cpu, percentile
from benchmarks.members import EbtSession, is_message, join, upload
from benchmarks.meter import measured
from benchmarks.peers import Peer
from pub.protocol.ebt import encode_note

GAP_SECONDS = 0.1
CLIENT_SECONDS = 0.0005  # more time between two messages, for each client
STRAGGLERS_SECONDS = 10.0  # how long the last message may take
TEXT = "and here is something for everybody who is listening " * 4


@dataclass
class Board:
    """When each message was published, and when it came to whom."""

    feed: Feed
    published: list[float] = field(default_factory=list)
    seen: dict[Connection, list[float]] = field(default_factory=dict)

    def take(self, inbox: Inbox, seconds: float) -> None:
        """Write down what arrives within that time."""
        deadline = perf_counter() + seconds
        while (left := deadline - perf_counter()) > 0 and (arrival := inbox.next(left)) is not None:
            for packet in filter(is_message, arrival.packets):
                times = self.seen[arrival.connection]
                if packet.body != self.feed.messages[len(times)]:
                    raise LoadFailed("a client received something else than what was published next")
                times.append(arrival.time)

    def complete(self, inbox: Inbox) -> None:
        """Wait until everybody has everything. Raises LoadFailed after a while."""
        deadline = perf_counter() + STRAGGLERS_SECONDS
        while any(len(times) <= len(self.published) for times in self.seen.values()):
            if perf_counter() > deadline:
                raise LoadFailed(f"not every client had every message {STRAGGLERS_SECONDS:g} s after the last one")
            self.take(inbox, GAP_SECONDS)

    def delays(self) -> Iterator[list[float]]:
        """For each message but the first, the milliseconds until each client had it."""
        for number, published in enumerate(self.published, start=1):
            yield [(times[number] - published) * 1000 for times in self.seen.values()]


@dataclass
class Party:
    """Everybody is there, and has the first message: their proof that the others will come live."""

    peer: Peer
    board: Board
    publisher: Connection
    session: EbtSession
    inbox: Inbox

    def run(self) -> Figures:
        """Publish the others, one after the other."""
        board, clients, messages = self.board, len(self.board.seen), self.board.feed.messages[1:]
        gap = max(GAP_SECONDS, clients * CLIENT_SECONDS)
        with measured(self.peer.pid) as usage:
            for message in messages:
                board.published.append(perf_counter())
                self.session.send(message)
                board.take(self.inbox, gap)
        board.complete(self.inbox)
        for connection in (self.publisher, *board.seen):
            connection.close()
        delays = list(board.delays())
        slowest = [max(each) for each in delays]
        each = [delay for row in delays for delay in row]
        return [
            Figure("until all have it, p50", percentile(slowest, 0.5), "ms"),
            Figure("until all have it, p99", percentile(slowest, 0.99), "ms"),
            Figure("until one has it, p50", percentile(each, 0.5), "ms"),
            Figure("CPU per message and client", usage.cpu / len(messages) / clients * 1e6, "µs"),
            client_cpu(usage.client_cpu),
        ]


def fan_out(peer: Peer, clients: int, messages: int) -> Figures:
    """``messages`` published, one after the other, to ``clients`` clients."""
    return gather(peer, clients, messages).run()


def gather(peer: Peer, clients: int, messages: int, who: str = "publisher") -> Party:
    """A member who is going to publish, and the clients who follow."""
    feed = _make_feed(who, clients, messages)
    join(peer, feed.keys)
    publisher, session, own_inbox = upload(peer, Feed(feed.keys, feed.messages[:1]))
    own_inbox.close()
    board = Board(feed, seen={_follow(peer, feed, number): [] for number in range(clients)})
    party = Party(peer, board, publisher, session, Inbox(publisher, *board.seen))
    board.complete(party.inbox)
    return party


def _make_feed(who: str, clients: int, messages: int) -> Feed:
    """Another person for another number of clients: the pub has nothing of them yet."""
    posts: list[Content] = [{"type": "post", "text": f"{number} {TEXT}"} for number in range(messages + 1)]
    return write_feed(keys_of(who, clients), posts)


def _follow(peer: Peer, feed: Feed, number: int) -> Connection:
    connection = Connection(peer, keys_of("follower", feed.id, number))
    inbox = Inbox(connection)
    session = EbtSession(connection)
    session.wait_notes(inbox)
    session.send_notes({feed.id: encode_note(0, receive=True)})
    inbox.close()
    return connection
