"""What is left out of a record comes back, byte for byte, whatever the message looks like."""

from base64 import b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pub.protocol.classic import Message, create
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id
from pub.store.env import Store
from pub.store.log import Log
from pub.store.records import WHOLE, Record, id_of, pack, place_of, record, unpack
from tests.store.authors import RECEIVED, commit

ALICE, BOB, CAROL = (KeyPair.generate(name.ljust(32)) for name in (b"alice", b"bob", b"carol"))
FRAME_BYTES = 230  # what is left out of a message that is not its feed's first
HEADER_BYTES = 58


def packed(message: Message) -> bytes:
    """The record of a message that is the 8th that was received, the one before it the 5th."""
    stored = Record(message.sequence, message.id, RECEIVED, message.encoded)
    return pack(3, message.author, 5, message.previous, stored)


def shape(raw: bytes) -> int:
    return raw[56]


def text_of(raw: bytes, message: Message) -> bytes:
    """What a reader makes of a record, who has the one before."""
    before = None
    if message.previous is not None:
        before = pack(3, message.author, 0, None, Record(message.sequence - 1, message.previous, RECEIVED, b"{}"))
    [(same, encoded)] = unpack(message.author, [raw], before)
    assert same is raw
    assert record(raw, encoded) == Record(message.sequence, message.id, RECEIVED, encoded)
    assert (place_of(raw), id_of(raw)) == ((message.sequence, 5), message.id)
    return encoded


def signed(*texts: str, keys: KeyPair = ALICE) -> list[Message]:
    feed: list[Message] = []
    for text in texts:
        feed.append(create(keys, feed[-1].head if feed else None, {"type": "post", "text": text}, 1_700_000_000_000))
    return feed


def author_first(message: Message) -> Message:
    """Spelled in the old order. (The store looks at no signature.)"""
    author = b'"author":"%b",' % feed_id(message.author).encode()
    sequence = b'"sequence":%d,' % message.sequence
    return spelled(message, message.encoded.replace(sequence + author, author + sequence, 1))


def spelled(message: Message, encoded: bytes) -> Message:
    return Message(
        message.id, message.author, message.sequence, message.previous, message.timestamp, encoded, None, None
    )


WRITTEN = [signed(*(f"{number} ö✓" for number in range(60)), keys=keys) for keys in (ALICE, BOB, CAROL)]


def test_a_record_has_nothing_that_the_store_knows() -> None:
    first, second = signed("hello", "again")
    for message in (second, author_first(second)):
        raw = packed(message)
        assert len(message.encoded) - (len(raw) - HEADER_BYTES) > FRAME_BYTES
        assert ALICE.id.encode() not in raw
        assert text_of(raw, message) == message.encoded
    assert shape(packed(first)) == shape(packed(second)) != WHOLE
    assert text_of(packed(first), first) == first.encoded


def test_what_is_spelled_in_another_way_is_kept_whole() -> None:
    first, message = signed("hello", 'a text with ,"hash":"sha256","content": in it')
    text = message.encoded
    signature = text[-102:-14]
    loose = signature[:-3] + (b"R==" if signature[-3:-2] == b"Q" else b"Q==")  # may differ in bits that say nothing
    spellings = [
        text.replace(b'"previous":"%', b'"previous":"&', 1),
        text.replace(b'"author":"@', b'"author":"%', 1),
        text.replace(b'"sequence":2', b'"sequence":2.0', 1),
        text.replace(b'"sha256"', b'"sha512"', 1),
        text.replace(b'"timestamp":', b'"timestamp" :', 1),
        text.replace(b'"timestamp":', b'"timestamp":' + b"1" * 256, 1),
        text.replace(b'"signature"', b'"Signature"'),
        text.replace(b".sig.ed25519", b".sig.ed25518"),
        text.replace(signature, signature[:-1]),
        text.replace(signature, b"!" * 88),
        text.replace(signature, b"A" * 86 + b"B="),
        text + b" ",
        text[: len(text) - 116 - 20],
        b"{}",
        b"",
    ]
    for each in (spelled(message, encoded) for encoded in spellings):
        assert shape(packed(each)) == WHOLE, each.encoded
        assert text_of(packed(each), each) == each.encoded
    for each in (spelled(message, text.replace(signature, loose)), spelled(message, first.encoded)):
        assert text_of(packed(each), each) == each.encoded


def test_a_timestamp_may_be_anything_after_the_first_message() -> None:
    _, message = signed("hello", "again")
    for odd in (b"null", b'"a string, with commas"', b'{"hash":"sha256","content":{}}', b"1.5e+300", b"-0.001", b""):
        each = spelled(message, message.encoded.replace(b"1700000000000.0002", odd, 1))
        assert odd == b"" or each.encoded != message.encoded
        assert shape(packed(each)) != WHOLE
        assert text_of(packed(each), each) == each.encoded


scraps = st.sampled_from(
    [b'"hash":"sha256",', b',"hash":"sha256","content":', b',"signature":"', b'.sig.ed25519"}', b"null", b"%", b"%b"]
)
noise = st.lists(scraps | st.binary(max_size=8), max_size=6).map(b"".join)


@given(
    is_first=st.booleans(),
    is_old=st.booleans(),
    sequence=st.integers(1, 2**31 - 1),
    previous=st.binary(min_size=32, max_size=32),
    parts=st.tuples(noise, noise, noise),
    signature=st.binary(min_size=62, max_size=66),
    cut=st.integers(0, 400),
)
@example(False, False, 2, bytes(32), (b"1", b"{}", b""), bytes(64), 0)
@example(False, True, 2, bytes(32), (b"", b"", b""), bytes(64), 117)
def test_whatever_a_message_looks_like_it_comes_back(
    is_first: bool,
    is_old: bool,
    sequence: int,
    previous: bytes,
    parts: tuple[bytes, bytes, bytes],
    signature: bytes,
    cut: int,
) -> None:
    """Also where the templates overlap, and where their constant parts stand in the wrong places."""
    link = b"null" if is_first else b'"%%%b.sha256"' % b64encode(previous)
    author = b'"author":"%b"' % ALICE.id.encode()
    number = b'"sequence":%d' % sequence
    timestamp, content, end = parts
    whole = b'{"previous":%b,%b,%b,"timestamp":%b,"hash":"sha256","content":%b,"signature":"%b.sig.ed25519"}%b' % (
        link,
        *((author, number) if is_old else (number, author)),
        timestamp,
        content,
        b64encode(signature),
        end,
    )
    for encoded in (whole, whole[:cut] + whole[2 * cut :], whole[: len(whole) - cut]):
        message = Message(bytes(32), ALICE.public, sequence, None if is_first else previous, None, encoded, None)
        assert text_of(packed(message), message) == encoded


turns = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(batches=st.lists(turns, min_size=1, max_size=3))
def test_feeds_of_real_messages_come_back_from_any_place(
    batches: list[list[tuple[int, int, bool]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Who writes, how many messages in a row, and in which order of the fields."""
    written = [list(feed) for feed in WRITTEN]
    feeds: dict[bytes, list[bytes]] = {}
    with Store.open(tmp_path_factory.mktemp("records")) as store:
        log = Log(store)
        for batch in batches:
            messages = []
            for who, count, is_old in batch:
                for message in (written[who].pop(0) for _ in range(min(count, len(written[who])))):
                    messages.append(author_first(message) if is_old else message)
                    feeds.setdefault(message.author, []).append(messages[-1].encoded)
            commit(log, messages)
        for key, texts in feeds.items():
            for after in range(len(texts)):
                assert log.page(log.numbers[key], after, 1 << 20) == texts[after:]
            assert [each.encoded for each in log.records(log.numbers[key], 0, 1 << 20)] == texts
