"""Ids of feeds, messages and blobs, their links and their SSB URIs.

Inside the process an id is 32 bytes; text appears only at the edges. As text it is a sigil (`@` feed, `%` message,
`&` blob), 44 characters of base64 and a suffix. Base64 must be canonical (the unused bits of the last character are
zero), because one digest must have one spelling: ids are compared, hashed and signed as text all over the network.

A link is an id that may carry a query (`?unbox=…` opens an encrypted blob). An SSB URI (SIP 1) says the same in
URL-safe base64, and also names ids of other feed formats.

The `is_…` predicates take any object, since they are asked about fields of strangers' JSON. Decoding is on the hot path
(every note of every EBT clock), so it is three cheap comparisons before one C call.
"""

import re
from base64 import urlsafe_b64decode
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pub.errors import InvalidReference

# 32 bytes fill 43 characters but for two bits; these are the last characters whose two unused bits are zero.
_LAST_CHARACTERS = "AEIMQUYcgkosw048"
_FEED_ENDS = frozenset(c + "=.ed25519" for c in _LAST_CHARACTERS)
_HASH_ENDS = frozenset(c + "=.sha256" for c in _LAST_CHARACTERS)

_URI = re.compile(r"ssb:(?://)?([a-z]+(?:-[a-z]+)*)(?:[/:]([^/:?]+)(?:[/:]([A-Za-z0-9_-]{43}=))?)?(?:\?(.*))?")
_FEED_FORMATS = frozenset({"classic", "bendybutt-v1", "gabbygrove-v1", "buttwoo-v1", "indexed-v1"})
_URI_FORMATS = {
    "feed": _FEED_FORMATS,
    "message": _FEED_FORMATS | {"cloaked"},
    "blob": frozenset({"classic"}),
    "encryption-key": frozenset({"box2-dm-dh"}),
    "identity": frozenset({"po-box", "group", "fusion"}),
}
_QUERY_FORMATS = {"address": "multiserver", "experimental": ""}  # these carry a query where the others carry data
_OLD_SPELLINGS = {("feed", "ed25519"): "classic", ("message", "sha256"): "classic", ("blob", "sha256"): "classic"}
_URI_TYPES = {"@": "feed", "%": "message", "&": "blob"}


@dataclass(frozen=True, slots=True)
class Link:
    """An id of any kind, and what the writer of the link appended to it."""

    id: str
    query: dict[str, str]


@dataclass(frozen=True, slots=True)
class SsbUri:
    """A parsed SSB URI. It has either `data` (32 bytes) or a `query`; `format` is "" for the type "experimental"."""

    type: str
    format: str
    data: bytes
    query: dict[str, str]


def _decode(text: object, sigil: str, ends: frozenset[str]) -> bytes | None:
    if isinstance(text, str) and 52 <= len(text) <= 53 and text[0] == sigil and text[43:] in ends:
        try:
            return a2b_base64(text[1:45], strict_mode=True)
        except ValueError:  # a character outside the alphabet, or outside ASCII
            return None
    return None


def is_feed_id(text: object) -> bool:
    """Whether this is `@<44 base64>.ed25519`, canonical, with nothing around it."""
    return _decode(text, "@", _FEED_ENDS) is not None


def is_message_id(text: object) -> bool:
    """Whether this is `%<44 base64>.sha256`, canonical, with nothing around it."""
    return _decode(text, "%", _HASH_ENDS) is not None


def is_blob_id(text: object) -> bool:
    """Whether this is `&<44 base64>.sha256`, canonical, with nothing around it."""
    return _decode(text, "&", _HASH_ENDS) is not None


def feed_key(text: object) -> bytes:
    """The 32-byte public key of a feed id. Raises InvalidReference."""
    key = _decode(text, "@", _FEED_ENDS)
    if key is None:
        raise InvalidReference(f"{_shown(text)} is not a feed id")
    return key


def message_digest(text: object) -> bytes:
    """The 32-byte digest of a message id. Raises InvalidReference."""
    digest = _decode(text, "%", _HASH_ENDS)
    if digest is None:
        raise InvalidReference(f"{_shown(text)} is not a message id")
    return digest


def blob_digest(text: object) -> bytes:
    """The 32-byte digest of a blob id. Raises InvalidReference."""
    digest = _decode(text, "&", _HASH_ENDS)
    if digest is None:
        raise InvalidReference(f"{_shown(text)} is not a blob id")
    return digest


def feed_id(key: bytes) -> str:
    """The feed id of a 32-byte public key."""
    return "@" + b2a_base64(key, newline=False).decode("ascii") + ".ed25519"


def message_id(digest: bytes) -> str:
    """The message id of a 32-byte digest."""
    return "%" + b2a_base64(digest, newline=False).decode("ascii") + ".sha256"


def blob_id(digest: bytes) -> str:
    """The blob id of a 32-byte digest."""
    return "&" + b2a_base64(digest, newline=False).decode("ascii") + ".sha256"


def parse_link(text: object) -> Link:
    """An id of any kind, with or without a query. Raises InvalidReference."""
    if isinstance(text, str):
        bare, _, query = text.partition("?")
        if is_feed_id(bare) or is_message_id(bare) or is_blob_id(bare):
            # links in the wild carry the base64 of their unbox key unescaped: "+" is no space here
            return Link(bare, dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)))
    raise InvalidReference(f"{_shown(text)} is not a link")


def parse_uri(text: str) -> SsbUri:
    """An SSB URI of any known type and format, in the current or an old spelling. Raises InvalidReference."""
    if found := _URI.fullmatch(text):
        kind, form, data, query = (part or "" for part in found.groups())
        form = _OLD_SPELLINGS.get((kind, form), form)
        if data and not query and form in _URI_FORMATS.get(kind, ()) and data[42] in _LAST_CHARACTERS:
            return SsbUri(kind, form, urlsafe_b64decode(data), {})
        if query and not data and form == _QUERY_FORMATS.get(kind):
            return SsbUri(kind, form, b"", dict(parse_qsl(query, keep_blank_values=True)))
    raise InvalidReference(f"{_shown(text)} is not an SSB URI")


def to_uri(text: str) -> str:
    """The SSB URI of a feed, message or blob id. Raises InvalidReference."""
    if not (is_feed_id(text) or is_message_id(text) or is_blob_id(text)):
        raise InvalidReference(f"{_shown(text)} is not an id")
    return f"ssb:{_URI_TYPES[text[0]]}/classic/" + text[1:45].replace("+", "-").replace("/", "_")


def from_uri(text: str) -> str:
    """The feed, message or blob id that a URI of format "classic" stands for. Raises InvalidReference."""
    uri = parse_uri(text)
    if uri.format != "classic":
        raise InvalidReference(f"{_shown(text)} has no sigil form")
    return _FROM_DIGEST[uri.type](uri.data)


_FROM_DIGEST = {"feed": feed_id, "message": message_id, "blob": blob_id}


def _shown(value: object) -> str:
    """A stranger's value, short enough for a log line."""
    return repr(value[:80] if isinstance(value, str) else type(value).__name__)
