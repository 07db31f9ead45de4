"""What requests and ends say: odd requests are refused one by one, odd ends are still ends."""

import json

import pytest

from pub.errors import MuxrpcError
from pub.protocol.calls import MAX_ERROR_TEXT, MAX_REQUEST_BODY, method_not_allowed, no_such_method
from pub.protocol.muxrpc import BodyType, Kind, RequestFailed, RequestReceived, Session
from pub.protocol.packets import Packet, encode_packet
from tests.protocol.test_muxrpc import REQUEST, events_of, packets_of, stream


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"null", "invalid request, args should be array, was: null"),
        (b'{"args":[]}', 'invalid request, name should be array of strings, was: {"args":[]}'),
        (b'{"name":[],"args":[]}', 'invalid request, name should be array of strings, was: {"name":[],"args":[]}'),
        (b'{"name":["a"],"args":[],"type":["source"]}', "unsupported stream type: undefined"),
        (b'{"name":["a"],"args":[],"type":"async"}', "unsupported stream type: async"),
    ],
)
def test_a_request_that_is_no_call_is_refused_and_the_session_goes_on(body: bytes, text: str) -> None:
    session = Session()
    assert events_of(session, stream(1, body)) == []
    (answer,) = packets_of(session.data_to_send())
    assert isinstance(answer, Packet)
    assert json.loads(answer.body) == {"message": text, "name": "Error", "stack": ""}
    # what was on its way is dropped, and the echo of the refusal is not answered
    assert events_of(session, stream(1, b"7") + stream(1, end=True)) == []
    assert session.data_to_send() == b""
    assert session.open_requests == 0
    assert len(events_of(session, stream(2, REQUEST))) == 1


def test_a_binary_request_is_refused() -> None:
    session = Session()
    assert events_of(session, encode_packet(1, b"\xff\xfe", BodyType.BINARY)) == []
    assert b"args should be array, was: 2 bytes" in session.data_to_send()


@pytest.mark.parametrize("body", [b"tru", b'{"name":["a"],"args":' + b"[" * 5000 + b"]" * 5000 + b"}", b"\xff"])
def test_a_request_that_is_no_json_or_is_too_deep_ends_the_connection(body: bytes) -> None:
    with pytest.raises(MuxrpcError, match="request 1"):
        events_of(Session(), encode_packet(1, body))


def test_what_javascript_reads_and_a_strict_parser_refuses_is_read() -> None:
    (event,) = events_of(Session(), encode_packet(1, b'{"name":["\\ud800"],"args":["\xff"]}\n'))
    assert event == RequestReceived(1, ("\ud800",), ["\ufffd"], Kind.ASYNC)
    session = Session()
    events_of(session, encode_packet(1, b'{"name":["\\ud800"],"args":[]}'))
    assert b"method:\\ud800 is not" in session.fail(1, method_not_allowed(["\ud800"]))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"message":"nope","name":"Error","stack":""}', "nope"),
        (b'{"message":7}', '{"message":7}'),
        (b'"nope"', '"nope"'),
        (b"no json", "no json"),
        (b"true", "ended without an answer"),
        (b"x" * 5000, "x" * MAX_ERROR_TEXT),
        (b'"' + b"x" * MAX_REQUEST_BODY, '"' + "x" * (MAX_ERROR_TEXT - 1)),
    ],
)
def test_our_async_call_is_refused_in_whatever_words(body: bytes, text: str) -> None:
    session = Session()
    session.open(["whoami"], [], Kind.ASYNC)
    (event,) = events_of(session, encode_packet(-1, body, end=True))
    assert isinstance(event, RequestFailed)
    assert event.error.message == text


def test_the_texts_that_peers_compare() -> None:
    assert str(no_such_method(Kind.DUPLEX, ["a", "b"])) == "no duplex:a,b"
    assert str(method_not_allowed(["a", "toString"])) == "method:a,toString is not in list of allowed methods"
    assert str(method_not_allowed(["constructor"])) == "method:constructor is on list of disallowed methods"
