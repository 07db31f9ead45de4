"""Classic messages: is this one well formed and signed, which id has it, how does it continue its feed.

A message is a JSON object of seven fields. Its author signs the indented normal form of the first six as UTF-8; its id
is the hash of the indented normal form of all seven, squeezed to the low byte of every UTF-16 unit. `examine` checks
all that the message says by itself and is meant for worker processes; `chain` compares the outcome with the head of the
feed and is all that the writer has left to do; `create` makes the next message of our own feed.

The rules are those of the reference implementation: who accepts more or less than the others do splits the network.
We differ where it takes several spellings of one thing: a signature has exactly 64 bytes (65 or 66 would give a relay
more ids for the same message) and an author ends in `.ed25519`. Of a second or later message the network checks no
timestamp, not even its type; we follow.
"""

import enum
import hashlib
import hmac
import math
import re
from binascii import a2b_base64, b2a_base64
from typing import Any

import msgspec

from pub.errors import InvalidJson, InvalidKey, InvalidMessage, InvalidReference
from pub.protocol import canonical
from pub.protocol.addresses import parse_announcement
from pub.protocol.contacts import Contact, parse_contact
from pub.protocol.keys import KeyPair, verify
from pub.protocol.refs import feed_key, message_digest, message_id

MAX_UNITS = 8192  # UTF-16 units of the indented text, signature included: the limit of the format
MAX_WIRE_BYTES = 6 * MAX_UNITS  # every unit spelled \uXXXX: what is longer carries padding, which costs us time to read
TOO_LONG = "longer than a message may be"  # the end of these refusals, by which they are counted
MISMATCH = "the signature does not match"
MAX_SEQUENCE = 2**31 - 1  # the reference implementation truncates to 32 bits
MIN_TYPE_UNITS = 3
MAX_TYPE_UNITS = 52
HMAC_BYTES = 32

_FIELDS = ("previous", "author", "sequence", "timestamp", "hash", "content", "signature")
_ORDERS = (_FIELDS, ("previous", "sequence", "author", *_FIELDS[3:]))

_SIGNATURE_SUFFIX = ".sig.ed25519"
_SIGNATURE_CHARACTERS = 88  # base64 of 64 bytes
_TAIL = len(',\n  "signature": ""\n}') + _SIGNATURE_CHARACTERS + len(_SIGNATURE_SUFFIX)
_LINE_BREAK = re.compile("[\n\r\u2028\u2029]")


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last message of a feed that we have. `timestamp` is None if that message's was not a number."""

    sequence: int
    id: bytes
    timestamp: float | None


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that passed `examine`.

    `id` and `author` are 32 bytes; `previous` is None for null and b"" for anything else that is no message id;
    `timestamp` is in milliseconds since the epoch, None if it is no number that JSON can say; `encoded` is the compact
    normal form: what is stored and sent; `contact` is the edge it sets in the follow graph, `announced` the multiserver
    address of the pub it announces.
    """

    id: bytes
    author: bytes
    sequence: int
    previous: bytes | None
    timestamp: float | None
    encoded: bytes
    contact: Contact | None
    announced: str | None = None

    @property
    def head(self) -> Head:
        """The head of the feed once this message is its last one."""
        return Head(self.sequence, self.id, self.timestamp)


class Chain(enum.Enum):
    """How a message continues what we have of its feed."""

    NEXT = "next"
    DUPLICATE = "duplicate"  # not beyond our head: nothing new
    GAP = "gap"  # further than the next one: others have to come before it
    FORK = "fork"  # the next sequence on top of another message: the author broke the feed
    INVALID_FIRST = "invalid first"  # claims to start the feed, and no feed starts like this


def parse_hmac_key(text: object) -> bytes:
    """The 32-byte key under which a private network signs, from its canonical base64. Raises InvalidKey."""
    if isinstance(text, str):
        key = _decode_base64(text)
        if key is not None and len(key) == HMAC_BYTES:
            return key
    raise InvalidKey("a message HMAC key is the base64 of 32 bytes")


def examine(raw: bytes, hmac_key: bytes | None = None) -> Message:
    """Check everything about a message but its place in the feed. Raises InvalidMessage.

    `sequence` is only known to be a 32-bit integer: it takes `chain` to refuse 0 and below.
    """
    form = _normalise(raw)
    fields = form.value
    try:
        return _examine(form, fields, hmac_key)
    except (InvalidMessage, InvalidReference) as error:
        raise InvalidMessage(f"{_named(fields)}: {error}") from None


def chain(head: Head | None, message: Message) -> Chain:
    """How `message` continues the feed whose last message is `head` (None: we have nothing of it)."""
    sequence = 0 if head is None else head.sequence
    if message.sequence > sequence + 1:
        return Chain.GAP
    if head is None:
        is_first = message.sequence == 1 and message.previous is None and message.timestamp is not None
        return Chain.NEXT if is_first else Chain.INVALID_FIRST
    if message.sequence <= sequence:
        return Chain.DUPLICATE
    return Chain.NEXT if message.previous == head.id else Chain.FORK


def create(
    keys: KeyPair, head: Head | None, content: dict[str, Any] | str, timestamp: float, hmac_key: bytes | None = None
) -> Message:
    """The next message of our own feed. Raises InvalidMessage if others would refuse it.

    `timestamp` is now; a clock that did not move on since `head` is helped along, so that a feed's timestamps rise.
    """
    fields = {
        "previous": None if head is None else message_id(head.id),
        "sequence": 1 if head is None else head.sequence + 1,
        "author": keys.id,
        "timestamp": _rising(head, timestamp),
        "hash": "sha256",
        "content": content,
    }
    signature = keys.sign(_signed(canonical.indented(fields).encode(), hmac_key))
    fields["signature"] = b2a_base64(signature, newline=False).decode("ascii") + _SIGNATURE_SUFFIX
    return examine(canonical.compact(fields).encode(), hmac_key)


def _normalise(raw: bytes) -> canonical.Canonical:
    if len(raw) > MAX_WIRE_BYTES:
        raise InvalidMessage(f"{len(raw)} bytes, {TOO_LONG}")
    try:
        return canonical.normalise(raw)
    except InvalidJson as error:
        raise InvalidMessage(str(error)) from None


def _examine(form: canonical.Canonical, fields: Any, hmac_key: bytes | None) -> Message:
    if not isinstance(fields, dict) or tuple(fields) not in _ORDERS:
        raise InvalidMessage("not the seven fields in one of their two orders")
    author = feed_key(fields["author"])
    hashed = canonical.low_bytes(form.indented)
    if len(hashed) > MAX_UNITS:
        raise InvalidMessage(f"{len(hashed)} units, {TOO_LONG}")
    if fields["hash"] != "sha256":
        raise InvalidMessage("the hash is not sha256")
    sequence, content = fields["sequence"], fields["content"]
    if type(sequence) is not int or not -MAX_SEQUENCE - 1 <= sequence <= MAX_SEQUENCE:
        raise InvalidMessage("the sequence is not a 32-bit integer")
    contact = _check_content(content)
    _check_signature(form.indented, fields["signature"], author, hmac_key)
    return Message(
        hashlib.sha256(hashed).digest(),
        author,
        sequence,
        _previous(fields["previous"]),
        _timestamp(fields["timestamp"]),
        form.compact,
        contact,
        parse_announcement(content) if isinstance(content, dict) else None,
    )


def _check_content(content: object) -> Contact | None:
    if isinstance(content, dict):
        kind = content.get("type")
        if not isinstance(kind, str) or not MIN_TYPE_UNITS <= _units(kind) <= MAX_TYPE_UNITS:
            raise InvalidMessage(f"the type is not a string of {MIN_TYPE_UNITS} to {MAX_TYPE_UNITS} units")
        return parse_contact(content)
    if not isinstance(content, str) or not _is_box(content):
        raise InvalidMessage("the content is neither an object nor a box")
    return None


def _is_box(content: str) -> bool:
    """Canonical base64, `.box`, then anything on the same line: later kinds of boxes say there which they are."""
    base64, box, rest = content.partition(".box")
    return bool(box) and _decode_base64(base64) is not None and _LINE_BREAK.search(rest) is None


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _check_signature(indented: bytes, text: object, author: bytes, hmac_key: bytes | None) -> None:
    if not isinstance(text, str) or not text.endswith(_SIGNATURE_SUFFIX):
        raise InvalidMessage("the signature is not of the author's kind")
    signature = _decode_base64(text[: -len(_SIGNATURE_SUFFIX)])
    if signature is None or len(signature) != 64:
        raise InvalidMessage("the signature is not the base64 of 64 bytes")
    # The signature is the last field: without it, the rest of the text is what printing the other six gives.
    if not verify(author, signature, _signed(indented[:-_TAIL] + b"\n}", hmac_key)):
        raise InvalidMessage(MISMATCH)


def _signed(indented: bytes, hmac_key: bytes | None) -> bytes:
    """What is signed of a message without signature: its text, or in a private network the HMAC of that."""
    return indented if hmac_key is None else hmac.digest(hmac_key, indented, "sha512")[:HMAC_BYTES]


def _decode_base64(text: str) -> bytes | None:
    """What this base64 says, if it is the only spelling of it: padded, nothing around it, unused bits zero."""
    try:
        data = a2b_base64(text)
    except ValueError:
        return None
    return data if b2a_base64(data, newline=False) == text.encode("ascii") else None


def _previous(value: object) -> bytes | None:
    if value is None:
        return None
    try:
        return message_digest(value)
    except InvalidReference:
        return b""


def _timestamp(value: object) -> float | None:
    """Infinity (1e400 on the wire) is no timestamp: its normal form is null, which is all that others get to see."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _rising(head: Head | None, timestamp: float) -> float:
    if head is None or head.timestamp is None:
        return timestamp
    return max(timestamp, math.nextafter(head.timestamp, math.inf))


def _named(fields: object) -> str:
    """Whose message this claims to be; every part is a stranger's text."""
    if not isinstance(fields, dict):
        return "message"
    return f"{_shown(fields.get('author'), 53)} seq {_shown(fields.get('sequence'), 20)}"


def _shown(value: object, length: int) -> str:
    return str(value)[:length].encode("unicode_escape").decode("ascii")[:length]
