"""muxrpc over one byte stream: one task a peer, which reads; who has something to send stands in line.

The reader hands what it reads straight to whoever the stream belongs to and waits for it (ingest's valve, mostly),
so a peer that sends more than we can take in stops at its own TCP window: muxrpc has no credit, and head-of-line
blocking is accepted. It never waits for a send: answers go to the outbox, which is bounded in bytes.

What one read brought is handled in turns of so many packets, with a chance for all other peers in between: thousands
of tiny packets fit into a read, and a member's message passes through many hands on its way from one peer to another.
The turns of a peer whose packets are refused are shorter (``Session.charge``), and then it is not read (``penance``).

Sending pulls. A stream with something to say is *ready*, and its connection stands in line (``line``). When it is its
turn it takes the outbox and then a page from each ready stream, until a buffer is full, and writes it with one call.
Only if the socket is full does it get a second task, the *sender*, which waits until the rest of that buffer is out.
Who reads slowly costs a cursor, and only its own sender waits.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from pub.errors import HungUp, ProtocolError, RpcError, SlowPeer
from pub.metrics import Metrics, Tally
from pub.net.answers import Answers
from pub.net.line import Line
from pub.net.methods import Methods
from pub.net.penance import Debt, Penance
from pub.net.roles import Peer
from pub.net.rpcstream import RpcStream, Source
from pub.net.sockets import write_now
from pub.net.stream import SecretStream
from pub.protocol.canonical import parse
from pub.protocol.muxrpc import (
    BODY_LIMIT,
    CLOSED_TEXT,
    DataReceived,
    Event,
    GoodbyeReceived,
    Kind,
    ReplyReceived,
    RequestFailed,
    RequestReceived,
    Session,
    StreamEnded,
)
from pub.protocol.packets import BodyType

SEND_BUFFER = 1 << 16  # bytes gathered for one write: 16 boxes, a few TCP windows of a phone
TURN = 64  # packets of one peer that are handled before others get their turn: a millisecond or two of requests
MAX_WRITE = 2 * SEND_BUFFER  # a full outbox leaves in parts: what is being written is boxed, and counts for nobody
FREE_BYTES = SEND_BUFFER  # held for a peer without asking for leave: what everybody needs now and then
FAREWELL_SECONDS = 10.0  # for a peer that has said goodbye to read what it asked for before
NO_STREAM = 0  # no call has this number


class Connection:
    """One authenticated peer. ``run`` returns when it has gone, and raises what it did wrong."""

    __slots__ = (
        *("__weakref__", "_calls", "_debt", "_failure", "_hold", "_inbound", "_answers", "_is_closing", "_is_over"),
        *("_is_stirred", "_line", "_max_outbound", "_nursery", "_outbox", "_ready"),
        *("_stream", "_streams", "_tally", "held_bytes", "is_held_back", "last_received", "opened", "peer", "session"),
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        peer: Peer,
        *,
        methods: Methods,
        is_allowed: Callable[[Peer, tuple[str, ...]], bool],
        max_outbound: int,
        metrics: Metrics | None = None,
        hold: Callable[[int], None] | None = None,
        line: Line | None = None,
        penance: Penance | None = None,
    ) -> None:
        """``metrics``: where to count; a connection without is not counted.

        ``hold`` is told by how many bytes grows or shrinks what is kept for this peer beyond ``FREE_BYTES``.
        ``line``, which the caller runs, and ``penance`` are those of all its connections; one without has its own.
        """
        self.peer = peer
        self.session = Session(turn=TURN)
        self.opened = self.last_received = trio.current_time()
        self.is_held_back = False
        """Do we not read on, because what the peer sent has to wait?"""
        self.held_bytes = 0
        """What the peer has not finished sending and what it has not read, beyond ``FREE_BYTES``."""
        self._hold = hold
        self._stream = stream
        self._answers = Answers(methods, is_allowed, metrics)
        self._max_outbound = max_outbound
        self._tally = metrics.tally if metrics is not None else Tally()
        self._debt = Debt(penance or Penance())
        self._streams: dict[int, RpcStream] = {}
        self._calls: dict[int, Callable[[Any], None]] = {}
        self._outbox = bytearray()
        self._inbound = 0  # bytes received that are not done with
        self._ready: list[RpcStream] = []  # mostly empty: a deque takes 600 bytes even then
        self._line = line
        self._is_stirred = False  # in line, or the sender is at work: in any case what is there now will be looked at
        self._is_closing = False
        self._is_over = False  # nothing more may go out
        self._failure: Exception | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve the peer until it has gone or is dropped. After its fault a secret stream's transport stays open."""
        try:
            async with trio.open_nursery() as self._nursery:
                if self._line is None:
                    self._line = Line()
                    self._nursery.start_soon(self._line.run)
                if self._outbox or self._ready:  # what was said before there was anybody to send it
                    self._stir()
                try:
                    await self._receive()
                except ProtocolError as fault:
                    self.drop(fault)
                self.close()
                self._nursery.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS
                await trio.sleep_forever()  # until everything is out, which cancels this
        finally:
            self._is_over = True
            self._abandon_streams()
            self._settle_account()
            is_at_fault = isinstance(self._failure, ProtocolError) and not isinstance(self._failure, HungUp)
            with trio.CancelScope(shield=True):
                if is_at_fault and isinstance(self._stream, SecretStream):
                    await self._stream.say_goodbye()  # when it is closed is for its owner to say: see ``limbo``
                else:
                    await self._stream.aclose()  # the box stream's goodbye, if the peer still takes it
        if self._failure is not None:
            raise self._failure

    @property
    def stream_count(self) -> int:
        """How many streams are open, whichever side asked for them."""
        return len(self._streams)

    def close(self) -> None:
        """Say goodbye once everything queued is out; ``run`` then returns."""
        if not self._is_closing:
            self._is_closing = True
            self.queue(self.session.goodbye())
            self._stir()

    def drop(self, failure: Exception) -> None:
        """Drop the peer now, without a goodbye; ``run`` raises ``failure``."""
        if self._failure is None:
            self._failure = failure
            self._settle_account()
            self._cancel()

    def _settle_account(self) -> None:
        self._outbox = bytearray()  # megabytes that would wait with this object for the garbage collector
        if self._hold is not None:
            self._hold(-self.held_bytes)
        self.held_bytes, self._hold = 0, None

    def _cancel(self) -> None:
        self._is_over = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _abandon_streams(self) -> None:
        lost = RpcError(CLOSED_TEXT)
        for stream in list(self._streams.values()):
            self.release(stream, lost)
        for answer in list(self._calls.values()):
            answer(lost)
        self.session.close()  # from now on it refuses new calls

    # --- what our side asks of the peer -------------------------------------------------------------------

    def start(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run something that ends with the connection."""
        if self._nursery is not None:
            self._nursery.start_soon(task, *args)

    async def call(self, name: tuple[str, ...], args: list[Any]) -> Any:
        """Ask an async method of the peer. Raises ``RpcError`` when it refuses or goes away."""
        number, data = self.session.open(name, args, Kind.ASYNC)
        answered = trio.Event()
        answers: list[Any] = []

        def answer(value: Any) -> None:
            answers.append(value)
            answered.set()

        self._calls[number] = answer
        self.queue(data)
        try:
            await answered.wait()
        finally:
            self._calls.pop(number, None)
            self.session.end(number)  # if we were cancelled: the answer, should it come, is for nobody
        if isinstance(answers[0], RpcError):
            raise answers[0]
        return answers[0]

    def open_stream(
        self, name: tuple[str, ...], args: list[Any], kind: Kind, body_limit: int = BODY_LIMIT
    ) -> RpcStream:
        """Open a stream of the peer's; the caller sets ``receiver`` and ``source``."""
        number, data = self.session.open(name, args, kind, body_limit)
        self.queue(data)
        return self.new_stream(number)

    # --- sending ------------------------------------------------------------------------------------------

    def queue(self, data: bytes) -> None:
        """Put bytes of the session into the outbox. When it is full the peer is dropped (``run`` raises SlowPeer)."""
        if not data:
            return
        self._outbox += data
        self._stir()
        if len(self._outbox) > self._max_outbound:
            self.drop(SlowPeer(f"{len(self._outbox)} bytes of answers wait for this peer to read"))
        self._weigh()

    def _weigh(self) -> None:
        """Tell whoever keeps the accounts of all peers what this one costs now."""
        change = max(self._inbound + len(self._outbox) - FREE_BYTES, 0) - self.held_bytes
        if change and self._hold is not None:
            self.held_bytes += change
            self._hold(change)

    def end_stream(self, number: int, error: RpcError | None) -> None:
        """Our end of a stream; it is forgotten unless the peer's end still means something to its receiver."""
        self.queue(self.session.end(number, error))
        if not self.session.is_watched(number):
            self._streams.pop(number, None)

    def stream_ready(self, stream: RpcStream) -> None:
        """``stream`` has something to say; see ``RpcStream.wake``."""
        self._ready.append(stream)
        self._stir()

    def when_free(self, source: Source) -> None:
        """Ask ``source`` once, when the socket is free: for one that opens streams, as many as fit its budget."""
        turn = RpcStream(self, NO_STREAM)
        turn.source = source
        turn.wake()

    def _stir(self) -> None:
        """There may be something to send."""
        if not self._is_stirred and self._line is not None and self._nursery is not None:
            self._is_stirred = True
            self._line.join(self)

    def take_turn(self) -> int:
        """See ``line.Waiting``: write one buffer. What goes wrong concerns this peer, and ``run`` raises it."""
        if self._is_over:
            return 0
        try:
            data = self._next_buffer()
            if not data or self._write_now(data):
                self._look_on()
            return len(data)
        except trio.BrokenResourceError as error:
            self._sending_failed(error)
        except Exception as error:
            self.drop(error)
        return 0

    def _write_now(self, data: bytes | bytearray) -> bool:
        """False: the socket has no room for all of it, and the sender has the rest."""
        if isinstance(self._stream, SecretStream):
            rest, is_out = data[:0], self._stream.send_now(data)  # what is left waits in the stream
        else:
            rest = data[write_now(self._stream, data) :]
            is_out = not rest
        if not is_out:
            self.start(self._send, rest)
        return is_out

    def _look_on(self) -> None:
        """What was taken for this turn is out. More of it is for another turn: others have waited for theirs."""
        if (self._ready or self._outbox) and self._line is not None:
            self._line.go_on(self)
        elif self._is_closing:
            self._cancel()
        else:
            self._is_stirred = False

    async def _send(self, data: bytes | bytearray) -> None:
        """The sender: waits until the socket has taken what it had no room for, and stands in line again."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._sending_failed(error)
        else:
            self._look_on()

    def _sending_failed(self, error: trio.BrokenResourceError) -> None:
        if self._is_closing:  # the peer did not wait for our goodbye
            self._cancel()
        else:
            self.drop(error)

    def _next_buffer(self) -> bytes | bytearray:
        asked = 0
        while self._ready and asked < TURN and len(self._outbox) < SEND_BUFFER:
            asked += 1
            stream = self._ready.pop(0)
            if not (page := self._next_page(stream)):
                stream.rest()
            self._outbox += page
            if stream.is_ready:
                self._ready.append(stream)
        buffer, self._outbox = self._outbox, bytearray()
        if len(buffer) > MAX_WRITE:
            buffer, self._outbox = buffer[:MAX_WRITE], buffer[MAX_WRITE:]
        self._tally.sent_bytes += len(buffer)
        self._weigh()
        return buffer

    def _next_page(self, stream: RpcStream) -> bytes:
        # a page of a stream whose end, or the goodbye, was read but not handled yet would be for nobody, for ever
        if stream.source is None or not (stream.number == NO_STREAM or self.session.is_writable(stream.number)):
            return b""
        bodies = stream.source.next_page(SEND_BUFFER - len(self._outbox))
        return self.session.data_many(stream.number, bodies) if bodies else b""

    # --- receiving ----------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        is_open = True
        while is_open and (data := await self._stream.receive_some()):
            self._tally.received_bytes += len(data)
            self.session.receive_data(bytes(data))
            del data  # an idle connection need not keep its last chunk
            self._inbound = self.session.unread
            self._weigh()
            self.is_held_back = True
            is_open = await self._handle_turns()
            self.is_held_back = False
            self._inbound = self.session.unread
            self.last_received = trio.current_time()

    async def _handle_turns(self) -> bool:
        """Handle all that one read brought, and let other peers in between; ``False`` after a goodbye."""
        while True:
            is_open = await self._handle_events()
            self.queue(self.session.data_to_send())
            if is_open and self.session.vain:
                self._tally.penances += await self._debt.pay(self.session.take_vain())
            if not (is_open and self.session.next_turn()):
                return is_open
            await trio.lowlevel.checkpoint()

    async def _handle_events(self) -> bool:
        """Handle what one turn brings; ``False`` after a goodbye."""
        bodies: dict[int, list[bytes]] = {}
        while (event := self.session.next_event()) is not None:
            if type(event) is DataReceived:
                if event.type is BodyType.JSON:
                    bodies.setdefault(event.number, []).append(event.body)
                continue
            await self._deliver(bodies)
            if isinstance(event, GoodbyeReceived):
                return False
            self._handle(event)
        await self._deliver(bodies)
        return True

    async def _deliver(self, bodies: dict[int, list[bytes]]) -> None:
        while bodies:
            number, batch = bodies.popitem()
            stream = self._streams.get(number)
            if stream is not None and stream.receiver is not None:
                await stream.receiver.receive(batch)

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._answers.answer(self, event)
        elif isinstance(event, StreamEnded):
            stream = self._streams.get(event.number)
            if stream is not None:
                self.release(stream, event.error)
                stream.end()
        elif isinstance(event, ReplyReceived) and event.number in self._calls:
            self._calls[event.number](parse(event.body) if event.type is BodyType.JSON else event.body)
        elif isinstance(event, RequestFailed) and event.number in self._calls:
            self._calls[event.number](event.error)

    def release(self, stream: RpcStream, error: RpcError | None) -> None:
        """Forget a stream; its receiver is told that nothing more will come."""
        self._streams.pop(stream.number, None)
        stream.source = None
        receiver, stream.receiver = stream.receiver, None
        if receiver is not None:
            receiver.ended(error)

    def new_stream(self, number: int) -> RpcStream:
        """``number`` was opened, by whichever side."""
        stream = self._streams[number] = RpcStream(self, number)
        return stream
