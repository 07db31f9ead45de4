"""Sessions that are looked at in turns, and what of a peer's bytes is still to be looked at."""

import pytest

from pub.errors import RpcError
from pub.protocol.calls import COSTLY_BYTES, VAIN_PACKETS
from pub.protocol.muxrpc import Kind, RequestReceived, Session
from pub.protocol.packets import encode_packet
from tests.protocol.test_muxrpc import CALL, events_of, packets_of


def test_a_turn_ends_after_so_many_packets_and_the_next_one_goes_on() -> None:
    session = Session(turn=3)
    session.receive_data(b"".join(encode_packet(number, CALL) for number in range(1, 8)))
    turns = [[event.number for event in iter(session.next_event, None) if isinstance(event, RequestReceived)]]
    while session.next_turn():
        turns.append([event.number for event in iter(session.next_event, None) if isinstance(event, RequestReceived)])
    assert turns == [[1, 2, 3], [4, 5, 6], [7]]
    assert not session.next_turn()


@pytest.mark.parametrize("turn", [3 * VAIN_PACKETS, 3 * VAIN_PACKETS - 5])
def test_packets_without_an_event_count_many_times_in_a_turn(turn: int) -> None:
    session = Session(turn=turn)
    assert events_of(session, 7 * encode_packet(1, b"{}")) == []
    refusals = [len(packets_of(session.data_to_send()))]
    while session.next_turn():
        assert session.next_event() is None
        refusals.append(len(packets_of(session.data_to_send())))
    assert refusals == [3, 3, 1]


def test_a_large_request_takes_a_turn() -> None:
    large = b'{"name":["hello"],"args":["' + b"x" * 3 * COSTLY_BYTES + b'"]}'
    session = Session(turn=3)
    assert len(events_of(session, encode_packet(1, large) + encode_packet(2, CALL))) == 1
    assert session.next_turn()
    assert len(events_of(session, b"")) == 1


def test_what_is_not_read_counts_until_the_connection_is_closed() -> None:
    session = Session()
    assert events_of(session, encode_packet(1, CALL) + encode_packet(2, CALL)[:20]) != []
    assert session.unread == 20
    session.close()
    assert session.unread == 0
    assert events_of(session, encode_packet(3, CALL)) == []
    with pytest.raises(RpcError):
        session.open(("hello",), [], Kind.ASYNC)


def test_what_was_in_vain_is_paid_for_by_the_next_turns() -> None:
    """Whoever took in what a turn brought may find out later that it was worth nothing."""
    session = Session(turn=3)
    assert len(events_of(session, b"".join(encode_packet(number, CALL) for number in range(1, 8)))) == 3
    session.charge(7)
    turns = []
    while session.next_turn():
        turns.append(len(list(iter(session.next_event, None))))
    assert turns == [0, 0, 2, 2]


STREAM_END = encode_packet(7, b"true", stream=True, end=True)


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        (encode_packet(1, CALL), 0),
        (encode_packet(1, b"{}"), VAIN_PACKETS),
        (encode_packet(1, b"{}".ljust(3 * COSTLY_BYTES)), VAIN_PACKETS + 3),
        (encode_packet(-1, b"true"), 1),
        (encode_packet(-1, bytes(5 * COSTLY_BYTES), stream=True), 6),
        (2 * STREAM_END, 2),
    ],
    ids=["a call", "a refusal", "a large one", "an answer to nothing", "much for nobody", "ends of nothing"],
)
def test_what_was_in_vain_is_counted_by_its_cost(data: bytes, cost: int) -> None:
    session = Session()
    events_of(session, data)
    assert (session.take_vain(), session.take_vain()) == (cost, 0)


def test_what_the_application_refuses_is_counted_as_well() -> None:
    session = Session()
    events_of(session, encode_packet(1, CALL))
    assert session.request_bytes == len(CALL)
    session.in_vain(VAIN_PACKETS, 2 * COSTLY_BYTES)
    assert session.take_vain() == VAIN_PACKETS + 2
