"""Classic messages: the reference implementation's verdicts, where we differ, and messages of our own."""

import itertools
import json
import re
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.errors import InvalidKey, InvalidMessage, InvalidReference, ProtocolError
from pub.protocol import canonical, classic
from pub.protocol.classic import MAX_UNITS, MAX_WIRE_BYTES, Chain, Head, Message, chain, create, examine, parse_hmac_key
from pub.protocol.contacts import FOLLOW, Contact
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id, message_digest, message_id
from tests.vectors import load

CASES = load("message_validation")["cases"]
ALICE = KeyPair.generate(b"a" * 32)
BOB = KeyPair.generate(b"b" * 32)
NOW = 1_700_000_000_000.0
POST = {"type": "post", "text": "hello"}

# The reference takes 65 bytes for a signature and ignores the last: one message would have several ids.
NOT_FOR_US = {"signature 65 bytes"}
# The reference holds against the author that a message comes before others of its feed; a relay may just be quicker.
COMES_EARLY = {"second without state", "first with sequence 2"}


def examined(case: dict[str, Any]) -> Message | None:
    try:
        hmac_key = None if case["hmac_key"] is None else parse_hmac_key(case["hmac_key"])
        return examine(case["message_json"].encode(), hmac_key)
    except ProtocolError:
        return None


def head_of(state: dict[str, Any] | None) -> Head | None:
    if state is None:
        return None
    try:
        digest = message_digest(state["id"])
    except InvalidReference:
        digest = b""
    return Head(state["sequence"], digest, None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["note"])
def test_agrees_with_the_reference(case: dict[str, Any]) -> None:
    message = examined(case)
    verdict = chain(head_of(case["state"]), message) if message else None
    is_for_us = case["note"] not in NOT_FOR_US
    assert (verdict is Chain.NEXT) == (case["valid"] and is_for_us)
    # out of order, the reference asks for a numeric timestamp at any sequence
    assert (message is not None and message.timestamp is not None) == (case["valid_out_of_order"] and is_for_us)
    if message:
        assert message_id(message.id) == case["id"]
        is_fatal = verdict in (Chain.FORK, Chain.INVALID_FIRST)
        assert is_fatal == (case.get("fatal", False) and case["note"] not in COMES_EARLY)


@pytest.mark.parametrize("case", [case for case in CASES if examined(case)], ids=lambda case: case["note"])
def test_what_we_store_is_the_same_message(case: dict[str, Any]) -> None:
    message = examined(case)
    assert message
    hmac_key = None if case["hmac_key"] is None else parse_hmac_key(case["hmac_key"])
    assert examine(message.encoded, hmac_key) == message


# --- a feed of our own ------------------------------------------------------------------------------------


def feed(*contents: Any) -> list[Message]:
    messages: list[Message] = []
    for content in contents:
        messages.append(create(ALICE, messages[-1].head if messages else None, content, NOW + len(messages)))
    return messages


def test_alice_writes_a_feed_that_everyone_can_follow() -> None:
    first, second, third = feed(POST, {"type": "contact", "contact": BOB.id, "following": True}, "YWJj.box")
    assert (first.author, first.sequence, first.previous, first.timestamp) == (ALICE.public, 1, None, NOW)
    assert second.contact == Contact(BOB.public, FOLLOW)
    assert third.contact is None
    assert chain(None, first) is chain(first.head, second) is chain(second.head, third) is Chain.NEXT


def test_a_message_has_its_fields_in_the_order_that_others_print() -> None:
    fields = ["previous", "sequence", "author", "timestamp", "hash", "content", "signature"]
    assert list(json.loads(feed(POST)[0].encoded)) == fields


def test_alices_clock_stands_still_and_her_timestamps_rise() -> None:
    first = create(ALICE, None, POST, NOW)
    second = create(ALICE, first.head, POST, NOW)
    third = create(ALICE, second.head, POST, NOW - 3_600_000)
    assert NOW == (first.timestamp or 0) < (second.timestamp or 0) < (third.timestamp or 0) < NOW + 1


def test_a_message_is_limited_to_max_units_with_its_signature() -> None:
    room = MAX_UNITS - len(canonical.indented(canonical.parse(feed({"type": "post", "text": ""})[0].encoded)))
    assert feed({"type": "post", "text": "😀" * (room // 2) + "x" * (room % 2)})
    with pytest.raises(InvalidMessage, match="8193 units, longer"):
        feed({"type": "post", "text": "x" * (room + 1)})


@pytest.mark.parametrize(
    "content", [{}, {"type": "ab"}, {"type": 5}, "no box", "YR==.box", ".box\u2028", {"type": "a" * 53}]
)
def test_we_never_publish_what_others_refuse(content: Any) -> None:
    with pytest.raises(InvalidMessage):
        feed(content)


def test_a_private_network_signs_under_its_own_key() -> None:
    key = parse_hmac_key(b64encode(bytes(32)).decode())
    message = create(ALICE, None, POST, NOW, key)
    assert examine(message.encoded, key) == message
    for other in (None, bytes([1]) * 32):
        with pytest.raises(InvalidMessage, match="signature does not match"):
            examine(message.encoded, other)


@pytest.mark.parametrize(
    "text", [None, 5, "", "YWJj", b64encode(bytes(31)).decode(), b64encode(bytes(33)).decode(), "é"]
)
def test_a_malformed_hmac_key_is_refused(text: object) -> None:
    with pytest.raises(InvalidKey):
        parse_hmac_key(text)


# --- how a message continues a feed -----------------------------------------------------------------------


def test_what_does_not_continue_alices_feed() -> None:
    first, second, third = feed(POST, POST, POST)
    assert chain(None, second) is chain(first.head, third) is Chain.GAP
    assert chain(second.head, first) is chain(second.head, second) is Chain.DUPLICATE
    other = create(ALICE, None, {"type": "post", "text": "another start"}, NOW)
    assert chain(other.head, second) is Chain.FORK


@pytest.mark.parametrize(
    "change",
    [{"previous": message_id(bytes(32))}, {"previous": "x"}, {"timestamp": None}, {"sequence": 0}, {"sequence": -1}],
)
def test_no_feed_starts_like_this(change: dict[str, Any]) -> None:
    assert chain(None, examine(signed(change))) is Chain.INVALID_FIRST


def signed(change: dict[str, Any]) -> bytes:
    """Alice's first message with some fields changed, and signed by her all the same."""
    fields = json.loads(feed(POST)[0].encoded) | change
    fields.pop("signature")
    signature = b64encode(ALICE.sign(canonical.indented(fields).encode())).decode()
    return canonical.compact(fields | {"signature": f"{signature}.sig.ed25519"}).encode()


def test_only_the_one_message_that_fits_is_next() -> None:
    digests = [b"", b"x" * 32, b"y" * 32]
    heads = [None, *itertools.starmap(Head, itertools.product([1, 2, 3], digests[1:], [None, NOW]))]
    claims = itertools.product(range(-1, 6), [None, *digests], [None, NOW])
    for head, (sequence, previous, timestamp) in itertools.product(heads, claims):
        message = Message(b"i" * 32, ALICE.public, sequence, previous, timestamp, b"{}", None)
        if head is None:
            fits = (sequence, previous, timestamp) == (1, None, NOW)
        else:
            fits = (sequence, previous) == (head.sequence + 1, head.id)
        assert (chain(head, message) is Chain.NEXT) == fits


# --- the text that is signed and hashed -------------------------------------------------------------------

texts = st.text('az 01"\\/\n\x00\x7f\ud800\udc00é\u2028😀', max_size=6)
values = st.recursive(
    st.sampled_from([None, True, False]) | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from("0129"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(texts, values, max_size=4))
def test_cutting_the_signature_off_equals_printing_without_it(content: dict[str, Any]) -> None:
    fields = canonical.parse(create(ALICE, None, {**content, "type": "test"}, NOW).encoded)
    whole = canonical.indented(fields).encode()
    del fields["signature"]
    assert whole[: -classic._TAIL] + b"\n}" == canonical.indented(fields).encode()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(texts, values, max_size=4))
def test_a_message_is_the_same_for_all_however_its_text_is_spelled(content: dict[str, Any]) -> None:
    message = create(ALICE, None, {**content, "type": "test"}, NOW)
    respelled = json.dumps(json.loads(message.encoded), indent=1).encode()
    assert examine(respelled) == examine(message.encoded) == message


# --- strangers --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | values.map(lambda value: canonical.compact(value).encode()))
def test_garbage_is_an_invalid_message(raw: bytes) -> None:
    with pytest.raises(InvalidMessage):
        examine(raw)


fields_of_strangers = st.dictionaries(
    st.sampled_from(["previous", "author", "sequence", "timestamp", "hash", "content", "signature"]),
    values | st.sampled_from([ALICE.id, "sha256", 1, {"type": "post"}, "a" * 100, "A" * 86 + "==.sig.ed25519"]),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(fields_of_strangers)
def test_a_message_with_strange_fields_is_refused(change: dict[str, Any]) -> None:
    message = feed(POST)[0]
    fields = canonical.parse(message.encoded)
    raw = canonical.compact(fields | change).encode()
    if canonical.compact(canonical.parse(raw)) == message.encoded.decode():
        return
    with pytest.raises(InvalidMessage):
        examine(raw)


def test_max_wire_bytes() -> None:
    raw = feed(POST)[0].encoded
    assert examine(raw.ljust(MAX_WIRE_BYTES)) == examine(raw)
    with pytest.raises(InvalidMessage, match=f"{MAX_WIRE_BYTES + 1} bytes, longer"):
        examine(raw.ljust(MAX_WIRE_BYTES + 1))


def test_a_timestamp_of_infinity_is_none() -> None:
    raw = signed({"timestamp": None}).replace(b'"timestamp":null', b'"timestamp":1e400')
    assert examine(raw).timestamp is None


def test_a_refusal_names_author_and_sequence_in_a_line_fit_for_logs() -> None:
    message = canonical.parse(feed(POST)[0].encoded) | {"hash": "md5"}
    with pytest.raises(InvalidMessage, match=re.escape(f"{ALICE.id} seq 1: the hash is not sha256")):
        examine(canonical.compact(message).encode())
    with pytest.raises(InvalidMessage) as refusal:
        examine(canonical.compact(message | {"author": "\ud800\n\x1b" * 1000, "sequence": [[]] * 100}).encode())
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isascii()
    assert str(refusal.value).isprintable()


def test_messages_and_heads_travel_between_processes() -> None:
    (message,) = feed({"type": "contact", "contact": feed_id(BOB.public), "following": True})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Message) == message
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message.head), type=Head) == message.head
