"""``createHistoryStream``: one feed in order, for peers without EBT. Old messages, live ones and both are one cursor.

The author of a feed decides who reads it here: the stream of a feed ends as soon as its author blocks the caller, and
the message that says so is not sent any more.

A stream holds no messages: it reads a page from the log when the socket is free. A live stream that has caught up is
woken by the commit that extends its feed; thousands of them cost a dictionary entry each and no task.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from pub.errors import RpcError
from pub.net.methods import Method, Methods
from pub.net.roles import Role
from pub.net.rpcstream import RpcStream
from pub.protocol.refs import feed_key, is_feed_id, message_id
from pub.rpc.arguments import number, options
from pub.rpc.context import Pub
from pub.store.log import Changes
from pub.store.records import Record

SYNC_MARKER = b'{"sync":true}'
NO_LIMIT = -1
NAME = ("createHistoryStream",)


class LiveHistory:
    """Which live streams wait for which feed."""

    def __init__(self, pub: Pub) -> None:
        self._pub = pub
        self._waiting: dict[bytes, dict[History, None]] = {}

    @property
    def count(self) -> int:
        """How many live streams are open."""
        return sum(map(len, self._waiting.values()))

    def add(self, history: "History") -> None:
        """Wake ``history`` whenever its feed grows."""
        self._waiting.setdefault(history.key, {})[history] = None

    def discard(self, history: "History") -> None:
        """Its stream has ended."""
        waiting = self._waiting.get(history.key)
        if waiting is not None:
            waiting.pop(history, None)
            if not waiting:
                del self._waiting[history.key]

    def watch(self, changes: Changes) -> None:
        """Called after each commit."""
        if self._waiting:
            for feed in changes.heads:
                for history in self._waiting.get(self._pub.log.keys[feed], ()):
                    history.stream.wake()


class History:
    """One stream: where it stands (``after``), where the old messages end, and what it sends of each message."""

    def __init__(self, pub: Pub, stream: RpcStream, key: bytes, first: float, asked: dict[str, Any]) -> None:
        self.key = key
        self.stream = stream
        self._pub = pub
        self._feed = pub.log.numbers.get(key)
        self._boundary = pub.log.heads[self._feed] if self._feed is not None else 0
        self._after = max(math.ceil(first) - 1, 0)
        self._is_live = bool(asked.get("live"))
        self._left = _limit(asked)
        self._is_old_done = asked.get("old", True) is False
        if self._is_old_done:
            self._after = max(self._after, self._boundary)
        self._marks_sync = asked.get("sync") is False
        self._shape = _shape(asked.get("keys", True) is not False, asked.get("values", True) is not False)

    async def receive(self, bodies: list[bytes]) -> None:
        """A source has nothing to receive; what comes is ignored."""

    def ended(self, _error: RpcError | None) -> None:
        """The caller has had enough."""
        self._pub.history.discard(self)

    def next_page(self, budget: int) -> list[bytes]:
        """See ``Source``."""
        if self._feed is None:
            self._feed = self._pub.log.numbers.get(self.key)
        if self._is_hidden():
            self._pub.history.discard(self)
            self.stream.end()
            return []
        if not self._is_old_done:
            page = self._read(budget, self._old_end())
            if page:
                if self._left != NO_LIMIT:
                    self._left -= len(page)
                return page
            return self._finish_old(budget)
        return self._read(budget, None) if self._is_live else []

    def _is_hidden(self) -> bool:
        """Does the author block the caller?"""
        peer = self.stream.connection.peer
        caller = self._pub.log.numbers.get(peer.key)
        if self._feed is None or caller is None or peer.role is Role.CONTROL:
            return False
        return self._pub.graph.is_blocking(self._feed, caller)

    def _old_end(self) -> int:
        return self._boundary if self._left == NO_LIMIT else min(self._boundary, self._after + self._left)

    def _finish_old(self, budget: int) -> list[bytes]:
        self._is_old_done = True
        self._after = max(self._after, self._boundary)
        if not self._is_live:
            self.stream.end()
            return []
        return [SYNC_MARKER] if self._marks_sync else self._read(budget, None)

    def _read(self, budget: int, end: int | None) -> list[bytes]:
        """Messages after the cursor, up to the sequence ``end``, shaped; moves the cursor."""
        if self._feed is None or (end is not None and self._after >= end):
            return []
        log = self._pub.log
        count = None if end is None else end - self._after
        if self._shape is None:
            page = self._pub.pages.page(self._feed, self._after, budget)[:count]
        else:
            page = [self._shape(record) for record in log.records(self._feed, self._after, budget)[:count]]
        self._after += len(page)
        self._pub.metrics.tally.sent_messages += len(page)
        return page


def _shape(keys: bool, values: bool) -> Callable[[Record], bytes] | None:
    """How a record is sent; ``None``: the bare message, exactly as stored."""
    if not keys:
        return None
    return key_value if values else _key_only


def key_value(record: Record) -> bytes:
    """``{"key", "value", "timestamp"}``: the message with its id and our receive time in ms."""
    number = b"%d" % record.received if record.received.is_integer() else repr(record.received).encode()
    key = message_id(record.id).encode()
    return b'{"key":"' + key + b'","value":' + record.encoded + b',"timestamp":' + number + b"}"


def _key_only(record: Record) -> bytes:
    return msgspec.json.encode(message_id(record.id))


def _first_sequence(asked: dict[str, Any]) -> float | None:
    """The first sequence to send (inclusive); ``sequence`` goes before ``seq``. ``None``: it is no number."""
    return number(asked.get("sequence") or asked.get("seq") or 0)


def _limit(asked: dict[str, Any]) -> int:
    limit = number(asked.get("limit"))
    return NO_LIMIT if limit is None or limit < 0 else int(limit)


def create_history_stream(pub: Pub, stream: RpcStream, args: list[Any]) -> None:
    """source ``[{id, seq|sequence, limit, live, old, keys, values}]``; an unknown feed or a bad id is a clean end.

    Clients without EBT begin with their own feed: for us the cue to ask them, too.
    """
    asked = options(args)
    first = _first_sequence(asked)
    if not is_feed_id(asked.get("id")) or first is None:
        stream.end()
        return
    key = feed_key(asked["id"])
    if key == stream.connection.peer.key:
        pub.legacy.begin(stream.connection)
    history = History(pub, stream, key, first, asked)
    stream.receiver = stream.source = history
    if asked.get("live"):
        pub.history.add(history)
    stream.wake()


METHODS: Methods = {NAME: Method("source", create_history_stream)}
