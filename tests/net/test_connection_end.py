"""How streams, calls and connections end, and that nothing of them is left behind."""

import gc
import itertools
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from pub.errors import ProtocolError, RpcError, SlowPeer
from pub.net.connection import SEND_BUFFER, Connection
from pub.net.methods import Method
from pub.net.rpcstream import RpcStream
from pub.protocol.muxrpc import CLOSED_TEXT, Kind, ReplyReceived, RequestReceived
from pub.protocol.packets import BodyType, encode_packet
from tests.net.ends import (
    BODY,
    METHODS,
    Collector,
    Pages,
    Waiting,
    Wire,
    connected,
    listen,
    make,
    narrow_pair,
    served,
)


async def test_a_goodbye_lets_everything_queued_out_first() -> None:
    async with served(METHODS, narrow_pair()) as (wire, pub):
        for _ in range(5):
            await wire.open("large")
        await trio.testing.wait_all_tasks_blocked(0.01)
        pub.close()
        pub.close()
        events = await wire.events_until_goodbye()
    assert [type(event) for event in events] == [ReplyReceived] * 5


async def test_a_goodbye_of_the_peer_is_answered() -> None:
    async with served(METHODS) as (wire, _pub):
        await wire.open("whoami")
        assert isinstance(await wire.next_event(), ReplyReceived)
        await wire.stream.send_all(wire.session.goodbye())
        assert await wire.events_until_goodbye() == []
        assert await wire.stream.receive_some() == b""


@pytest.mark.parametrize("who", ["the peer", "the pub"])
async def test_after_a_goodbye_nothing_more_is_pulled(who: str) -> None:
    """A source that never runs dry must not be asked for pages that nobody can be sent."""
    sources: list[Pages] = []

    def endless(stream: RpcStream, _args: list[Any]) -> None:
        sources.append(Pages(stream, itertools.repeat(BODY, 10_000)))

    async with served({"endless": Method("source", endless)}, narrow_pair()) as (wire, pub):
        await wire.open("endless", kind=Kind.SOURCE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        if who == "the pub":
            pub.close()
        else:
            await wire.stream.send_all(wire.session.goodbye())
            await trio.testing.wait_all_tasks_blocked(0.01)
        while await wire.stream.receive_some():
            pass
    assert sources[0].pulled <= 3 * SEND_BUFFER


async def test_a_stream_that_ended_unhandled_is_not_asked_for_ever() -> None:
    """Its end was read behind data that somebody still takes in: the sender learns it from the session alone."""
    waiting = Waiting()
    pulled: list[Pages] = []

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = waiting
        pulled.append(Pages(stream, itertools.repeat(BODY, 10_000)))

    async with served({"take": Method("duplex", take)}, narrow_pair()) as (wire, _pub):
        number = await wire.open("take", kind=Kind.DUPLEX)
        session = wire.session
        await wire.stream.send_all(session.data(number, b"1") + session.end(number, RpcError("enough")))
        with trio.move_on_after(0.05):
            while True:
                await wire.stream.receive_some()
        assert pulled[0].pulled <= 3 * SEND_BUFFER
        waiting.may_go_on.set()
        await waiting.over.wait()
        await wire.stream.send_all(session.goodbye())
    assert waiting.bodies == [b"1"]
    assert waiting.endings == ["enough"]


async def test_when_the_peer_hangs_up_everybody_is_told() -> None:
    collectors = [Collector() for _ in range(3)]
    waiting = iter(collectors)
    left, right = trio.testing.memory_stream_pair()
    refusals: list[str] = []

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = next(waiting)

    pub = make(right, {"take": Method("duplex", take)})

    async def ask() -> None:
        with pytest.raises(RpcError) as refusal:
            await pub.call(("whoami",), [])
        refusals.append(refusal.value.message)

    wire = Wire(left)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pub.run)
        nursery.start_soon(ask)
        for _ in range(2):
            await wire.open("take", kind=Kind.DUPLEX)
        pub.open_stream(("echo",), [], Kind.DUPLEX).receiver = collectors[2]
        await trio.testing.wait_all_tasks_blocked()
        await left.aclose()
    assert [collector.endings for collector in collectors] == [[CLOSED_TEXT]] * 3
    await ask()
    with pytest.raises(RpcError):
        pub.open_stream(("echo",), [], Kind.DUPLEX)
    assert refusals == [CLOSED_TEXT] * 2, "the one in flight, and the one that came too late"


async def test_a_dropped_peer_is_not_said_goodbye() -> None:
    left, right = trio.testing.memory_stream_pair()
    pub = make(right)
    with pytest.RaisesGroup(pytest.RaisesExc(SlowPeer, match="first")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pub.run)
            await trio.testing.wait_all_tasks_blocked()
            pub.drop(SlowPeer("first"))
            pub.drop(ProtocolError("second"))
    assert await left.receive_some() == b""


async def test_ends_that_cross_are_each_told_once() -> None:
    left, right = trio.testing.memory_stream_pair()
    there, here = Collector(), Collector()
    streams: list[RpcStream] = []

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = there
        streams.append(stream)

    peer, pub = make(left), make(right, {"take": Method("duplex", take)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        nursery.start_soon(pub.run)
        streams.append(peer.open_stream(("take",), [], Kind.DUPLEX))
        streams[0].receiver = here
        await trio.testing.wait_all_tasks_blocked()
        for stream in streams:
            stream.end()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.session.open_requests == pub.session.open_requests == 0
        peer.close()
    assert there.endings == here.endings == [None]


async def end_well(stream: RpcStream) -> None:
    stream.end()


async def end_badly(stream: RpcStream) -> None:
    stream.end(RpcError("enough"))


@pytest.mark.parametrize("kind", [Kind.SOURCE, Kind.DUPLEX])
@pytest.mark.parametrize("end", [end_well, end_badly])
async def test_a_stream_that_is_over_leaves_nothing_behind(
    kind: Kind, end: Callable[[RpcStream], Awaitable[None]]
) -> None:
    left_over: list[weakref.ref[Collector]] = []
    open_streams: list[RpcStream] = []

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = Collector()
        left_over.append(weakref.ref(stream.receiver))
        open_streams.append(stream)

    async with connected({"take": Method(kind.value, take)}) as (peer, pub):
        for _ in range(10):
            listen(peer, "take", kind)
        await trio.testing.wait_all_tasks_blocked()
        while open_streams:
            await end(open_streams.pop())
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert [each() for each in left_over] == [None] * 10
        assert peer.session.open_requests == pub.session.open_requests == 0


async def test_who_stops_waiting_for_an_answer_leaves_nothing_behind() -> None:
    async with served({}) as (wire, pub):
        with trio.move_on_after(0.01):
            await pub.call(("ask",), [])
        assert pub.session.open_requests == 0
        request = await wire.next_event()
        assert isinstance(request, RequestReceived)
        await wire.stream.send_all(wire.session.reply(request.number, b"1") + wire.session.goodbye())


@pytest.mark.parametrize(
    ("body", "body_type", "answer"),
    [(b'{"a":[1]}', BodyType.JSON, {"a": [1]}), (b"plain", BodyType.TEXT, b"plain"), (b"\0", BodyType.BINARY, b"\0")],
)
async def test_answers_of_every_type(body: bytes, body_type: BodyType, answer: object) -> None:
    async with served({}) as (wire, pub), trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await pub.call(("ask",), []) == answer

        nursery.start_soon(ask)
        await wire.next_event()
        await wire.stream.send_all(encode_packet(-1, body, body_type))
        await trio.testing.wait_all_tasks_blocked()
        await wire.stream.send_all(wire.session.goodbye())


@pytest.mark.parametrize("body", [b"{", b"[" * 5000 + b"]" * 5000, b"\xff"])
async def test_an_answer_that_is_no_json_is_the_peers_fault(body: bytes) -> None:
    async def ask(pub: Connection) -> None:
        with pytest.raises(RpcError, match=CLOSED_TEXT):
            await pub.call(("ask",), [])

    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True):
        async with served({}) as (wire, pub), trio.open_nursery() as nursery:
            nursery.start_soon(ask, pub)
            await wire.next_event()
            await wire.stream.send_all(encode_packet(-1, body))
