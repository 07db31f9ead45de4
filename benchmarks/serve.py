"""Serve: somebody new pulls everything the pub has of the authors, by EBT or feed by feed as old clients do.

The clock runs from the first byte of asking until the read that brought the last message. Afterwards every message
is compared, byte for byte and in order, with what was handed over: one that is missing, doubled, out of order or
spelled differently fails the run. This is also the full count that ``ingest`` owes.
"""

from collections import defaultdict
from collections.abc import Callable
from time import perf_counter

from benchmarks.connection import Connection, Inbox, LoadFailed
from benchmarks.dataset import DataSet, keys_of
from benchmarks.figures import Figure, Figures, client_cpu
from benchmarks.members import EbtSession, is_message
from benchmarks.meter import measured
from benchmarks.peers import Peer
from pub.protocol.calls import Kind

Pull = Callable[[Connection, Inbox, DataSet], bytes]

_AUTHOR = b'"author":"'
_ID_BYTES = 53


def serve_ebt(peer: Peer, data: DataSet) -> Figures:
    """All feeds asked for in one clock."""
    return _serve(peer, data, _ask_by_ebt)


def serve_history(peer: Peer, data: DataSet) -> Figures:
    """One ``createHistoryStream`` per feed, all asked for at once."""
    return _serve(peer, data, _ask_by_history)


def _serve(peer: Peer, data: DataSet, ask: Pull) -> Figures:
    connection = Connection(peer, keys_of("reader", ask.__name__))
    inbox = Inbox(connection)
    request = ask(connection, inbox, data)
    with measured(peer.pid) as usage:
        start = perf_counter()
        connection.send(request)
        messages, last = _collect(inbox, data.count)
    inbox.close()
    connection.close()
    compare(messages, data)
    return [
        Figure("messages/s", data.count / (last - start), "", more_is_better=True),
        Figure("messages per CPU second", data.count / usage.cpu, "", more_is_better=True),
        client_cpu(usage.client_cpu),
    ]


def _ask_by_ebt(connection: Connection, inbox: Inbox, data: DataSet) -> bytes:
    session = EbtSession(connection)
    session.wait_notes(inbox)
    return session.notes(dict.fromkeys((feed.id for feed in data.feeds), 0))


def _ask_by_history(connection: Connection, _inbox: Inbox, data: DataSet) -> bytes:
    asked = ({"id": feed.id, "seq": 1, "limit": -1, "keys": False, "live": False} for feed in data.feeds)
    return b"".join(connection.request("createHistoryStream", [each], Kind.SOURCE) for each in asked)


def _collect(inbox: Inbox, count: int) -> tuple[list[bytes], float]:
    """So many messages, and when the last of them was read."""
    messages: list[bytes] = []
    while True:
        arrival = inbox.wait()
        messages += [packet.body for packet in arrival.packets if is_message(packet)]
        if len(messages) >= count:
            return messages, arrival.time


def compare(messages: list[bytes], data: DataSet) -> None:
    """Raises LoadFailed unless these are all messages of the data set, each feed in order."""
    feeds: dict[str, list[bytes]] = defaultdict(list)
    for message in messages:
        start = message.index(_AUTHOR) + len(_AUTHOR)
        feeds[message[start : start + _ID_BYTES].decode()].append(message)
    for feed in data.feeds:
        if feeds.pop(feed.id, []) != feed.messages:
            raise LoadFailed(f"{feed.id} did not arrive as it was sent")
    if feeds:
        raise LoadFailed(f"nobody asked for {', '.join(feeds)}")
