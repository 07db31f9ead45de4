"""muxrpc: many calls at once, in both directions, over one connection.

A request opens a number: its sender counts 1, 2, 3… and the other side answers with the number negated. A session uses
numbers as they arrive: positive = the peer asked, negative = we did. There are four kinds of call:

    async    one answer, or one error (a `sync` method is async on the wire)
    source   the callee streams to the caller
    sink     the caller streams to the callee
    duplex   both stream

A stream is over when each side has sent its end; only then is the number forgotten, so an end that crosses ours is
not answered again. Who has nothing left to say answers an end at once, and the session does that by itself: for an
error, for the reader of a source that finished, for the writer of a source that was aborted. What stays open is what
still has a purpose: the callee of a sink owes its verdict, a duplex has another direction. Those the application ends.

The session never sends: it returns bytes, and they must go out in the order they were made. Its own answers wait
in `data_to_send`: fetch them after the events of every read. Bodies of stream data stay bytes; only requests and
ends are parsed. A peer that breaks framing or sends a request that is not JSON loses the connection (MuxrpcError);
a request that is merely wrong is refused and the rest of the session goes on.

A peer that reuses a number while it is open is refused. After it is forgotten it is free again, so the application
must drop what it holds for a number with the last event or answer of that number.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pub.errors import MuxrpcError, RpcError
from pub.protocol.calls import (
    CLOSED_TEXT,
    COSTLY_BYTES,
    MAX_REQUEST_BODY,
    NO_RESULT,
    VAIN_PACKETS,
    Call,
    Kind,
    encode_end,
    encode_request,
    method_not_allowed,
    no_such_method,
    parse_end,
    parse_request,
)
from pub.protocol.events import (
    DataReceived,
    Event,
    GoodbyeReceived,
    ReplyReceived,
    RequestFailed,
    RequestReceived,
    StreamEnded,
)
from pub.protocol.packets import (
    GOODBYE,
    BodyType,
    Goodbye,
    Packet,
    PacketReader,
    encode_data,
    encode_packet,
    encode_page,
)

__all__ = [
    "BODY_LIMIT",
    "CLOSED_TEXT",
    "MAX_OPEN_REQUESTS",
    "MAX_REQUEST_BODY",
    "BodyType",
    "DataReceived",
    "Event",
    "GoodbyeReceived",
    "Kind",
    "ReplyReceived",
    "RequestFailed",
    "RequestReceived",
    "Session",
    "StreamEnded",
    "method_not_allowed",
    "no_such_method",
]

# The format allows 4 GiB. Nothing but a replication clock comes near this, and its call asks for more.
BODY_LIMIT = 1024 * 1024

MAX_OPEN_REQUESTS = 4096  # a client without EBT opens one history stream per feed it follows; each costs a handler

# Streams we are done with, kept until the peer echoes our end. Not every implementation does: the oldest are dropped.
MAX_LINGERING = 1024

MAX_NUMBER = 2**31 - 1  # of 32 bits on the wire, with a sign; the connection must be made anew before they wrap


# --- the session ------------------------------------------------------------------------------------------


class Session:
    """Both directions of one connection; see the top of the file.

    `limit_hits` counts refusals by the name of the limit: "open_requests", "request_body".
    """

    __slots__ = (
        *("_calls", "_has_left", "_last_number", "_lingering", "_outgoing", "_reader", "_their_calls"),
        *("_turn", "_turn_left", "limit_hits", "max_open_requests", "request_bytes", "vain"),
    )

    def __init__(self, max_open_requests: int = MAX_OPEN_REQUESTS, turn: float = math.inf) -> None:
        """`turn`: how many packets are looked at until `next_turn` is called."""
        self.max_open_requests = max_open_requests
        self.limit_hits: Counter[str] = Counter()
        self.request_bytes = 0
        """Size of the last request that was reported."""
        self.vain = 0
        """What was refused or for nobody since `take_vain`, in packets of an equal cost."""
        self._turn = self._turn_left = turn
        self._reader = PacketReader(self._body_limit)
        self._calls: dict[int, Call] = {}
        self._their_calls = 0  # without the lingering
        self._lingering: dict[int, None] = {}  # in the order of our ends
        self._last_number = 0
        self._outgoing: list[bytes] = []
        self._has_left = False  # our goodbye was made: nothing may follow it

    @property
    def open_requests(self) -> int:
        """How many numbers are remembered, of either side, those that only miss the peer's end included."""
        return len(self._calls)

    def is_watched(self, number: int) -> bool:
        """Will there be another event for this number? If not, the application may forget it."""
        call = self._calls.get(number)
        return call is not None and call.is_watched

    def is_writable(self, number: int) -> bool:
        """May we still send data of this stream?"""
        call = self._calls.get(number)
        return call is not None and call.open_here

    def receive_data(self, data: bytes) -> None:
        """Take in bytes from the wire; then ask `next_event` until it gives None."""
        self._reader.receive_data(data)

    def next_event(self) -> Event | None:
        """What happened next, or None until more arrives, or until the next turn. Raises MuxrpcError: drop the peer."""
        next_packet = self._reader.next_packet
        while self._turn_left > 0 and (packet := next_packet()) is not None:
            self._turn_left -= 1
            if isinstance(packet, Goodbye):
                return self._receive_goodbye()
            call = self._calls.get(packet.request)
            if call is not None and call.is_read and packet.stream and packet.body and not packet.end:
                return DataReceived(packet.request, packet.body, packet.type)
            if (event := self._receive(packet, call)) is not None:
                return event
            self.charge(VAIN_PACKETS - 1)
            self.vain += 1 + len(packet.body) // COSTLY_BYTES
        return None

    def charge(self, packets: int) -> None:
        """The last packet was as dear as so many more: what this turn lacks is taken from the next ones."""
        self._turn_left -= packets

    def in_vain(self, packets: int, size: int) -> None:
        """What came was refused or is for nobody: as dear as so many packets, besides its size in bytes. See `vain`."""
        packets += size // COSTLY_BYTES
        self.charge(packets)
        self.vain += packets

    def take_vain(self) -> int:
        """See `vain`, which begins anew."""
        vain, self.vain = self.vain, 0
        return vain

    def next_turn(self) -> bool:
        """Go on after a turn. False: the last one was not used up, so there is nothing to go on with."""
        left, self._turn_left = self._turn_left, self._turn + min(self._turn_left, 0)
        return left <= 0

    @property
    def unread(self) -> int:
        """How many bytes were received and not looked at, such as those of a packet that is not whole."""
        return self._reader.unread

    def data_to_send(self) -> bytes:
        """The answers the session gave by itself since the last time."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    # --- what the application says: each returns the bytes to send, or b"" when the call is over already

    def open(
        self, name: Sequence[str], args: Sequence[Any], kind: Kind, body_limit: int = BODY_LIMIT
    ) -> tuple[int, bytes]:
        """Call a method of the peer: our (negative) number and the bytes to send. RpcError after a goodbye."""
        if self._has_left:
            raise RpcError(CLOSED_TEXT)
        if self._last_number == MAX_NUMBER:
            raise MuxrpcError("the numbers of this connection are used up")
        packet = encode_request(self._last_number + 1, name, args, kind)
        self._last_number += 1
        self._calls[-self._last_number] = Call(kind, True, body_limit)
        return -self._last_number, packet

    def data(self, number: int, body: bytes, body_type: BodyType = BodyType.JSON) -> bytes:
        """One piece of a stream. An empty piece says nothing and is not sent: peers would read it as a goodbye."""
        call = self._calls.get(number)
        if call is None or not call.open_here or not body:
            return b""
        return encode_data(-number, body, body_type)

    def data_many(self, number: int, bodies: Iterable[bytes]) -> bytes:
        """Many JSON pieces of a stream in one buffer, for whole pages of messages. None may be empty."""
        call = self._calls.get(number)
        if call is None or not call.open_here:
            return b""
        return encode_page(-number, bodies)

    def end(self, number: int, error: RpcError | None = None) -> bytes:
        """End our side of a stream. For an async call of theirs: no result; for one of ours: we stopped waiting."""
        call = self._calls.get(number)
        if call is None:
            return b""
        if call.kind is Kind.ASYNC:
            return self._settle(number, error)
        if not call.open_here:
            return b""
        call.end_here(failed=error is not None)
        if not call.open_there:
            self._forget(number)
        elif not call.is_watched:
            self._linger(number)
        return encode_end(-number, error, stream=True)

    def reply(self, number: int, body: bytes, body_type: BodyType = BodyType.JSON) -> bytes:
        """The answer to an async call of the peer; it must not be empty."""
        call = self._calls.get(number)
        if call is None or call.kind is not Kind.ASYNC or number < 0:
            return b""
        packet = encode_packet(-number, body, body_type)
        self._forget(number)
        return packet

    def fail(self, number: int, error: RpcError) -> bytes:
        """Refuse or break off a call of any kind."""
        return self.end(number, error)

    def set_body_limit(self, number: int, limit: int) -> None:
        """Expect bodies up to `limit` bytes in a call, from the next packet on."""
        if (call := self._calls.get(number)) is not None:
            call.body_limit = limit

    def close(self) -> None:
        """The connection is gone: what did not arrive whole is forgotten."""
        self.goodbye()
        self._reader.close()

    def goodbye(self) -> bytes:
        """Close the session. Whatever is open is lost on both sides."""
        if self._has_left:
            return b""
        self._has_left = True
        self._calls.clear()
        self._lingering.clear()
        self._their_calls = 0
        return self.data_to_send() + GOODBYE

    def _settle(self, number: int, error: RpcError | None) -> bytes:
        self._forget(number)
        if number < 0:
            return b""
        return encode_packet(-number, NO_RESULT) if error is None else encode_end(-number, error, stream=False)

    # --- what the peer says

    def _body_limit(self, number: int) -> int:
        call = self._calls.get(number)
        return BODY_LIMIT if call is None else call.body_limit

    def _receive_goodbye(self) -> GoodbyeReceived:
        self._outgoing.append(self.goodbye())
        return GoodbyeReceived()

    def _receive(self, packet: Packet, call: Call | None) -> Event | None:
        if self._has_left:
            return None
        if packet.request < 0:
            return None if call is None else self._receive_answer(packet, call)
        if packet.request == 0:
            return None  # a message without a call: nobody ever defined one
        if packet.stream:
            return self._receive_stream(packet, call)
        # An end answers nothing here: some callers confirm an answer, or echo our refusal.
        return None if packet.end or not packet.body else self._receive_request(packet)

    def _receive_answer(self, packet: Packet, call: Call) -> Event | None:
        """A packet for a call of ours. Some peers refuse a stream without its stream bit: our kind decides."""
        number = packet.request
        if call.kind is Kind.ASYNC:
            self._forget(number)
            if packet.end:
                return RequestFailed(number, parse_end(packet) or RpcError("ended without an answer"))
            return ReplyReceived(number, packet.body, packet.type)
        return self._receive_end(packet, call) if packet.end else None

    def _receive_stream(self, packet: Packet, call: Call | None) -> Event | None:
        """A packet for a stream of theirs that is no data to be read."""
        if call is not None and call.kind is not Kind.ASYNC:
            return self._receive_end(packet, call) if packet.end else None
        if packet.end:
            self._outgoing.append(encode_end(-packet.request, None, stream=True))
            return None
        return self._receive_request(packet) if packet.body else None

    def _receive_end(self, packet: Packet, call: Call) -> StreamEnded | None:
        if not call.open_there:
            return None
        number, error = packet.request, parse_end(packet)
        call.end_there()
        if call.open_here and (error is not None or not call.outlives_theirs):
            self._outgoing.append(encode_end(-number, None, stream=True))
            call.open_here = False
        if not call.open_here:
            self._forget(number)
        return StreamEnded(number, error) if call.is_watched else None

    def _receive_request(self, packet: Packet) -> RequestReceived | None:
        self.charge(min(len(packet.body) // COSTLY_BYTES, MAX_REQUEST_BODY // COSTLY_BYTES))
        try:
            self._check_room(packet)
            request = parse_request(packet)
        except RpcError as refusal:
            self._refuse(packet, refusal)
            return None
        self._remember(packet.request, request.kind)
        self.request_bytes = len(packet.body)
        return RequestReceived(packet.request, request.name, request.args, request.kind)

    def _check_room(self, packet: Packet) -> None:
        if packet.request in self._calls:
            raise RpcError(f"request number {packet.request} is in use")
        if self._their_calls >= self.max_open_requests:
            self.limit_hits["open_requests"] += 1
            raise RpcError("too many open requests")
        if len(packet.body) > MAX_REQUEST_BODY:
            self.limit_hits["request_body"] += 1
            raise RpcError(f"request is too large: {len(packet.body)} bytes, {MAX_REQUEST_BODY} are allowed")

    def _refuse(self, packet: Packet, refusal: RpcError) -> None:
        """Say no, and remember a stream until the caller echoes the end: data may be on its way."""
        self.vain += VAIN_PACKETS - 1
        self._outgoing.append(encode_end(-packet.request, refusal, stream=packet.stream))
        if packet.stream and packet.request not in self._calls:
            self._remember(packet.request, Kind.SOURCE).end_here(failed=True)
            self._linger(packet.request)

    def _remember(self, number: int, kind: Kind) -> Call:
        self._their_calls += 1
        call = self._calls[number] = Call(kind, False, BODY_LIMIT)
        return call

    def _linger(self, number: int) -> None:
        self._their_calls -= number > 0
        self._lingering[number] = None
        if len(self._lingering) > MAX_LINGERING:
            self._forget(next(iter(self._lingering)))

    def _forget(self, number: int) -> None:
        del self._calls[number]
        if number in self._lingering:
            del self._lingering[number]
        else:
            self._their_calls -= number > 0
