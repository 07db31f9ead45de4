"""Sessions: the life of each kind of call, limits, and whatever two sides or a hostile peer may do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.errors import MuxrpcError, ProtocolError, RpcError
from pub.protocol.muxrpc import (
    BODY_LIMIT,
    MAX_LINGERING,
    MAX_REQUEST_BODY,
    BodyType,
    DataReceived,
    Event,
    GoodbyeReceived,
    Kind,
    ReplyReceived,
    RequestReceived,
    Session,
    StreamEnded,
)
from pub.protocol.packets import GOODBYE, Goodbye, Packet, PacketReader, encode_data, encode_packet
from tests.protocol.test_packets import split

REQUEST = b'{"name":["count"],"args":[],"type":"source"}'
DUPLEX = b'{"name":["dup"],"args":[],"type":"duplex"}'
SINK = b'{"name":["sinky"],"args":[],"type":"sink"}'
CALL = b'{"name":["hello"],"args":[]}'


def events_of(session: Session, data: bytes) -> list[Event]:
    session.receive_data(data)
    return list(iter(session.next_event, None))


def packets_of(data: bytes) -> list[Packet | Goodbye]:
    reader = PacketReader(lambda _: BODY_LIMIT)
    reader.receive_data(data)
    return list(iter(reader.next_packet, None))


def stream(number: int, body: bytes = b"true", *, end: bool = False) -> bytes:
    return encode_packet(number, body, stream=True, end=end)


def session_with(*requests: bytes) -> Session:
    """A session whose peer opened streams 1, 2, … with these bodies."""
    session = Session()
    for number, request in enumerate(requests, 1):
        assert isinstance(events_of(session, stream(number, request))[0], RequestReceived)
    return session


# --- calls of the peer --------------------------------------------------------------------------------------


def test_alice_aborts_a_source_and_the_session_agrees_by_itself() -> None:
    session = session_with(REQUEST)
    assert session.data(1, b"0") == stream(-1, b"0")
    assert events_of(session, stream(1, end=True)) == [StreamEnded(1, None)]
    assert session.data_to_send() == stream(-1, end=True)
    assert session.data(1, b"1") == b""
    assert session.data_many(1, [b"1"]) == b""
    assert session.end(1) == b""
    assert session.open_requests == 0


def test_alice_finishes_a_sink_and_waits_for_the_verdict() -> None:
    session = session_with(SINK)
    assert events_of(session, stream(1, b"7") + stream(1, end=True)) == [
        DataReceived(1, b"7", BodyType.JSON),
        StreamEnded(1, None),
    ]
    assert session.data_to_send() == b""
    assert session.end(1) == stream(-1, end=True)
    assert session.open_requests == 0


def test_either_side_of_a_duplex_may_finish_first() -> None:
    session = session_with(DUPLEX, DUPLEX)
    events_of(session, stream(1, end=True))
    assert session.data(1, b"7") == stream(-1, b"7")
    session.end(1)
    session.end(2)
    assert len(events_of(session, stream(2, b"7") + stream(2, end=True))) == 2
    assert session.data_to_send() == b""
    assert session.open_requests == 0


def test_an_error_ends_both_directions_of_a_duplex() -> None:
    session = session_with(DUPLEX, DUPLEX)
    (event,) = events_of(session, stream(1, b'{"message":"no","name":"TypeError","stack":"at x"}', end=True))
    assert isinstance(event, StreamEnded)
    assert event.error is not None
    assert (event.error.message, event.error.name) == ("no", "TypeError")
    assert session.data_to_send() == stream(-1, end=True)
    session.fail(2, RpcError("reconnected to peer"))
    assert events_of(session, stream(2, b"7") + stream(2, end=True)) == []
    assert session.open_requests == 0


def test_a_number_in_use_is_refused_and_the_call_in_it_lives_on() -> None:
    session = Session()
    assert len(events_of(session, encode_packet(1, CALL) * 2 + stream(1, REQUEST))) == 1
    assert session.data_to_send().count(b"request number 1 is in use") == 2
    assert session.reply(1, b"7") == encode_packet(-1, b"7")
    assert session.reply(1, b"7") == b""
    assert session.open_requests == 0


def test_empty_packets_neither_end_the_connection_nor_reach_a_handler() -> None:
    session = session_with(SINK)
    empty_data, empty_end, empty_call = ([flags, 0, 0, 0, 0, 0, 0, 0, 1] for flags in (8, 14, 2))
    assert events_of(session, bytes(empty_data) + bytes(empty_call)) == []
    assert events_of(session, bytes(empty_end)) == [StreamEnded(1, None)]
    assert session.data(1, b"", BodyType.BINARY) == b""  # and we never send one
    with pytest.raises(ValueError, match="empty"):
        session_with_call().reply(1, b"")


def test_a_caller_that_confirms_or_echoes_an_async_answer_is_not_answered_again() -> None:
    session = session_with_call()
    session.fail(1, RpcError("no"))
    assert events_of(session, encode_packet(1, b'{"message":"no"}', end=True)) == []
    assert session.data_to_send() == b""


def session_with_call() -> Session:
    session = Session()
    events_of(session, encode_packet(1, CALL))
    return session


# --- calls of ours ------------------------------------------------------------------------------------------


def test_our_async_call_gets_its_answer_once() -> None:
    session = Session()
    number, data = session.open(("blobs", "has"), ["&x"], Kind.ASYNC)
    assert (number, data) == (-1, encode_packet(1, b'{"name":["blobs","has"],"args":["&x"],"type":"async"}'))
    assert events_of(session, encode_packet(-1, b"false") * 2) == [ReplyReceived(-1, b"false", BodyType.JSON)]
    assert session.open_requests == 0


def test_an_async_call_has_no_stream_to_write_to() -> None:
    session = session_with_call()
    number, _ = session.open(["whoami"], [], Kind.ASYNC)
    assert session.data(1, b"7") == session.data_many(number, [b"7"]) == b""
    assert session.open_requests == 2


def test_we_give_up_on_an_answer() -> None:
    session = Session()
    number, _ = session.open(["whoami"], [], Kind.ASYNC)
    assert session.end(number) == b""
    assert events_of(session, encode_packet(number, b"7")) == []
    assert session.open_requests == 0


def test_a_source_we_read_ends_and_we_agree() -> None:
    session = Session()
    number, _ = session.open(["createHistoryStream"], [{}], Kind.SOURCE)
    assert events_of(session, stream(-1, b"1") + stream(-1, end=True)) == [
        DataReceived(number, b"1", BodyType.JSON),
        StreamEnded(number, None),
    ]
    assert session.data_to_send() == stream(1, end=True)
    assert session.open_requests == 0


def test_a_source_we_abort_is_heard_no_more() -> None:
    session = Session()
    number, _ = session.open(["createHistoryStream"], [{}], Kind.SOURCE)
    assert session.end(number) == stream(1, end=True)
    assert events_of(session, stream(-1, b"1") + stream(-1, end=True)) == []
    assert session.data_to_send() == b""
    assert session.open_requests == 0


def test_a_stream_refused_without_its_stream_bit_is_refused() -> None:
    session = Session()
    number, _ = session.open(["ebt", "replicate"], [], Kind.DUPLEX)
    (event,) = events_of(session, encode_packet(-1, b'{"message":"no duplex:ebt,replicate"}', end=True))
    assert isinstance(event, StreamEnded)
    assert event.number == number
    assert session.open_requests == 0


def test_goodbye_forgets_everything_and_nothing_follows_it() -> None:
    alice, pub = Session(), session_with(REQUEST)
    pub.open(["whoami"], [], Kind.ASYNC)
    events_of(pub, stream(9, end=True))
    assert pub.goodbye() == stream(-9, end=True) + GOODBYE  # what was due before is said before
    assert (pub.goodbye(), pub.data(1, b"7"), pub.open_requests) == (b"", b"", 0)
    with pytest.raises(RpcError, match="unexpected end of parent stream"):
        pub.open(["whoami"], [], Kind.ASYNC)
    assert events_of(alice, GOODBYE) == [GoodbyeReceived()]
    assert alice.data_to_send() == GOODBYE
    assert events_of(pub, stream(4, REQUEST) + GOODBYE) == [GoodbyeReceived()]
    assert pub.data_to_send() == b""


# --- limits -------------------------------------------------------------------------------------------------


def test_too_many_open_requests_are_refused_until_one_ends() -> None:
    session = Session(max_open_requests=2)
    assert len(events_of(session, b"".join(stream(number, REQUEST) for number in (1, 2, 3)))) == 2
    assert b"too many open requests" in session.data_to_send()
    assert session.limit_hits["open_requests"] == 1
    session.end(1)
    assert len(events_of(session, stream(4, REQUEST))) == 1


def test_answered_calls_no_longer_count_as_open() -> None:
    session = Session(max_open_requests=2)
    for number in range(1, 6):
        assert len(events_of(session, encode_packet(number, CALL))) == 1
        assert session.reply(number, b"7")


def test_a_peer_that_never_echoes_our_ends_is_served_on_in_bounded_memory() -> None:
    session = Session(max_open_requests=2)
    for number in range(1, MAX_LINGERING + 100):
        assert len(events_of(session, stream(number, REQUEST))) == 1
        session.end(number)
    assert session.open_requests == MAX_LINGERING


def test_a_request_that_is_too_large_is_refused() -> None:
    session = Session()
    body = b'{"name":["a"],"args":["' + b"x" * MAX_REQUEST_BODY + b'"]}'
    assert events_of(session, encode_packet(1, body)) == []
    assert b"request is too large" in session.data_to_send()
    assert session.limit_hits["request_body"] == 1


def test_the_body_limit_belongs_to_the_call() -> None:
    session = session_with(DUPLEX, DUPLEX)
    session.set_body_limit(1, BODY_LIMIT + 1)
    large = b"7" * (BODY_LIMIT + 1)
    assert events_of(session, stream(1, large)) == [DataReceived(1, large, BodyType.JSON)]
    with pytest.raises(MuxrpcError, match=r"request 2: .* over the limit"):
        events_of(session, stream(2, large)[:9])
    ours = Session()
    ours.open(["get"], [], Kind.ASYNC, body_limit=5000)
    with pytest.raises(MuxrpcError, match="over the limit of 5000"):
        events_of(ours, encode_packet(-1, b"7" * 5001)[:9])


# --- any sequence -------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 1), st.sampled_from(["open", "data", "end", "fail", "reply", "deliver"]), st.integers(0, 9)
    ),
    max_size=60,
)


class Side:
    """One end of a connection: what it heard of, what it may still say."""

    def __init__(self) -> None:
        self.session = Session()
        self.numbers: list[int] = []
        self.ended: set[int] = set()
        self.wire = b""

    def do(self, operation: str, pick: int) -> None:
        if operation == "open":
            number, data = self.session.open(["a"], [], list(Kind)[pick % 4])
            self.numbers.append(number)
            self.wire += data
        elif self.numbers:
            number = self.numbers[pick % len(self.numbers)]
            self.wire += {
                "data": lambda: self.session.data(number, b"7"),
                "end": lambda: self.session.end(number),
                "fail": lambda: self.session.fail(number, RpcError("no")),
                "reply": lambda: self.session.reply(number, b"7"),
            }[operation]()

    def hear(self, data: bytes) -> None:
        for event in events_of(self.session, data):
            assert not isinstance(event, GoodbyeReceived)
            assert event.number not in self.ended, "nothing comes after the end of a stream"
            if isinstance(event, RequestReceived):
                self.numbers.append(event.number)
            elif isinstance(event, StreamEnded):
                self.ended.add(event.number)
        self.wire += self.session.data_to_send()


def deliver(sender: Side, receiver: Side) -> None:
    data, sender.wire = sender.wire, b""
    receiver.hear(data)


@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_whatever_two_sides_do_nothing_is_remembered_when_all_calls_are_over(
    operations: list[tuple[int, str, int]],
) -> None:
    sides = Side(), Side()
    for who, operation, pick in operations:
        if operation == "deliver":
            deliver(sides[who], sides[1 - who])
        else:
            sides[who].do(operation, pick)
    for _ in range(4):
        for who in (0, 1):
            deliver(sides[who], sides[1 - who])
            # an answer that is still owed is given, what still runs is ended
            sides[who].wire += b"".join(sides[who].session.end(n) for n in sides[who].numbers if n > 0)
    for side in sides:
        side.wire += b"".join(side.session.end(number) for number in side.numbers)
    for _ in range(2):
        deliver(sides[0], sides[1])
        deliver(sides[1], sides[0])
    assert (sides[0].session.open_requests, sides[1].session.open_requests) == (0, 0)
    assert sides[0].wire == sides[1].wire == b""


BODIES = st.sampled_from(
    [REQUEST, DUPLEX, SINK, CALL, b"true", b"null", b"tru", b'{"message":7}', b"\xff", b'"\\ud800"']
)
HOSTILE = st.builds(
    lambda number, body, body_type, is_stream, is_end: encode_packet(
        number, body, body_type, stream=is_stream, end=is_end
    ),
    st.integers(-4, 4),
    BODIES | st.binary(min_size=1, max_size=30),
    st.sampled_from(BodyType),
    st.booleans(),
    st.booleans(),
)


@given(
    steps=st.lists(HOSTILE | st.binary(max_size=20) | st.integers(-4, 4), max_size=30),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_a_hostile_peer_meets_only_protocol_errors_and_legal_packets(steps: list[bytes | int], cuts: list[int]) -> None:
    session = Session(max_open_requests=3)
    session.open(["a"], [], Kind.ASYNC)
    session.open(["b"], [], Kind.DUPLEX)
    sent = b""
    try:
        for step in steps:
            if isinstance(step, int):
                sent += session.data(step, b"7") + session.end(step)
            else:
                for piece in split(step, cuts):
                    events_of(session, piece)
            sent += session.data_to_send()
    except ProtocolError:
        sent += session.data_to_send()
    answers = packets_of(sent)
    assert sum(9 + len(packet.body) if isinstance(packet, Packet) else 9 for packet in answers) == len(sent)
    assert all(packet.body for packet in answers if isinstance(packet, Packet))


@given(body=st.binary(min_size=1, max_size=50), number=st.integers(1, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_data_comes_out_as_it_went_in(body: bytes, number: int) -> None:
    session = Session()
    events_of(session, stream(number, DUPLEX))
    assert events_of(session, encode_data(number, body)) == [DataReceived(number, body, BodyType.JSON)]
    assert session.data(number, body) == encode_data(-number, body)
