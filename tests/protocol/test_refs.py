"""Ids, links and SSB URIs: the reference implementation's verdicts, our differences from it by name, and properties."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pub.errors import InvalidReference
from pub.protocol import refs
from tests.vectors import load

VECTORS = load("refs_addresses_invites")
DIGEST = "sI92g34zK7VW/d7kuLAjYhDIytQ5FFUUtgfZd19A5bI="
URL_DIGEST = "sI92g34zK7VW_d7kuLAjYhDIytQ5FFUUtgfZd19A5bI="

# The reference calls these feed ids. None of them can author a message: its signature check fails.
NOT_A_FEED_FOR_US = {
    f"@{DIGEST}.sha256",
    "@s2HU55w7cr9o9kEJdbb5OD7nBrHX9jlPNRM0qUHtrnE=.sha256",
    "@9P25ciQq8C0W+s4YeNOcIeW1ECninqwNbynXXB+0Bj4=.sha256",
    f"@{DIGEST}Xed25519",  # any character passes for the dot
}
# The reference calls these URIs; the data has not 32 bytes.
NOT_A_URI_FOR_US = {
    f"ssb:feed/classic/{DIGEST}",  # "/" of plain base64 splits the data in two
    f"ssb:feed/classic/{URL_DIGEST}x",
}
# The reference calls this a link and then fails to parse it.
LINK_WITH_EMPTY_QUERY = f"&{DIGEST}.sha256?"

digests = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from(
    [
        (refs.feed_id, refs.feed_key, refs.is_feed_id),
        (refs.message_id, refs.message_digest, refs.is_message_id),
        (refs.blob_id, refs.blob_digest, refs.is_blob_id),
    ]
)
Kind = tuple[Callable[[bytes], str], Callable[[object], bytes], Callable[[object], bool]]


def is_accepted(parse: Callable[[Any], object], text: object) -> bool:
    try:
        parse(text)
    except InvalidReference:
        return False
    return True


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["ref"])
def test_ids_agree_with_the_reference(case: dict[str, Any]) -> None:
    ref, is_different = case["ref"], case["ref"] in NOT_A_FEED_FOR_US
    assert refs.is_feed_id(ref) == (case["isFeed"] and not is_different)
    assert refs.is_message_id(ref) == case["isMsg"]
    assert refs.is_blob_id(ref) == case["isBlob"]
    assert is_accepted(refs.parse_link, ref) == (case["isLink"] and not is_different)
    if is_different:
        assert case["isFeed"]  # else the list of differences is out of date


@pytest.mark.parametrize("case", [c for c in VECTORS["cases"] if c["isLink"]], ids=lambda case: case["ref"])
def test_links_split_like_in_the_reference(case: dict[str, Any]) -> None:
    if case["ref"] in NOT_A_FEED_FOR_US:
        return
    link, theirs = refs.parse_link(case["ref"]), case["parseLink"]
    if case["ref"] == LINK_WITH_EMPTY_QUERY:
        assert theirs is None
        theirs = {"link": f"&{DIGEST}.sha256"}
    assert link == refs.Link(theirs["link"], theirs.get("query", {}))


def test_an_unescaped_unbox_key_survives() -> None:
    assert refs.parse_link(f"&{DIGEST}.sha256?unbox=a+b/c=.boxs").query == {"unbox": "a+b/c=.boxs"}


@pytest.mark.parametrize("pair", VECTORS["uri_pairs"], ids=lambda pair: pair["sigil"])
def test_ids_convert_to_uris_and_back(pair: dict[str, str]) -> None:
    assert refs.to_uri(pair["sigil"]) == pair["uri"]
    assert refs.from_uri(pair["uri"]) == pair["back"]


@pytest.mark.parametrize("case", VECTORS["uris"], ids=lambda case: case["uri"])
def test_uris_agree_with_the_reference(case: dict[str, Any]) -> None:
    is_different = case["uri"] in NOT_A_URI_FOR_US
    assert is_accepted(refs.parse_uri, case["uri"]) == (case["isSSBURI"] and not is_different)
    if is_different:
        assert case["isSSBURI"]
        return
    if not case["isSSBURI"]:
        return
    uri = refs.parse_uri(case["uri"])
    names = (uri.type, uri.format)
    assert (names == ("feed", "classic")) == case["isClassicFeedSSBURI"]
    assert (names == ("message", "classic")) == case["isClassicMessageSSBURI"]
    assert (names == ("blob", "classic")) == case["isClassicBlobSSBURI"]
    assert (names == ("feed", "bendybutt-v1")) == case["isBendyButtV1FeedSSBURI"]
    assert (names == ("message", "bendybutt-v1")) == case["isBendyButtV1MessageSSBURI"]
    assert (names == ("feed", "indexed-v1")) == case["isIndexedV1FeedSSBURI"]
    assert (names == ("address", "multiserver")) == case["isAddressSSBURI"]
    assert (names == ("experimental", "")) == case["isExperimentalSSBURI"]
    if case["decompose"] != "error":
        assert names == (case["decompose"]["type"], case["decompose"]["format"])
        assert refs.feed_id(uri.data) == f"@{case['decompose']['data']}.ed25519"


@pytest.mark.parametrize(
    "spelling", ["ssb:feed/ed25519/", "ssb://feed/ed25519/", "ssb:feed:ed25519:", "ssb://feed/classic/"]
)
def test_old_spellings_of_uris_name_the_same_feed(spelling: str) -> None:
    assert refs.from_uri(spelling + URL_DIGEST) == f"@{DIGEST}.ed25519"


def test_an_http_invite_uri_carries_its_query() -> None:
    uri = refs.parse_uri("ssb:experimental?action=claim-http-invite&invite=abc&postTo=https%3A%2F%2Fx.example%2Fclaim")
    assert uri.data == b""
    assert uri.query == {"action": "claim-http-invite", "invite": "abc", "postTo": "https://x.example/claim"}


@pytest.mark.parametrize(
    "text",
    [
        f"ssb:feed/classic/{URL_DIGEST[:42]}J=",  # not canonical
        f"ssb:feed/classic/{URL_DIGEST}?x=1",
        "ssb:feed/classic",
        "ssb:feed/classic?x=1",
        "ssb:experimental",
        "ssb:address/other?multiserverAddress=x",
        f"ssb:feed/classic/{URL_DIGEST}\n",
    ],
)
def test_uris_that_say_too_much_or_too_little_are_refused(text: str) -> None:
    assert not is_accepted(refs.parse_uri, text)


def test_only_classic_ids_have_a_sigil_form() -> None:
    assert not is_accepted(refs.from_uri, f"ssb:feed/bendybutt-v1/{URL_DIGEST}")
    assert not is_accepted(refs.to_uri, f"@{DIGEST}.sha256")


@given(kinds, digests)
def test_an_id_is_the_one_spelling_of_its_digest(kind: Kind, digest: bytes) -> None:
    encode, decode, is_id = kind
    text = encode(digest)
    assert decode(text) == digest
    assert is_id(text)
    assert refs.from_uri(refs.to_uri(text)) == text
    assert refs.parse_link(text) == refs.Link(text, {})


@given(kinds, digests, st.integers(0, 52), st.characters())
def test_a_changed_id_is_another_id_or_none(kind: Kind, digest: bytes, place: int, char: str) -> None:
    encode, decode, is_id = kind
    text = encode(digest)
    changed = text[:place] + char + text[place + 1 :]
    if is_id(changed):
        assert encode(decode(changed)) == changed
    else:
        assert not is_accepted(decode, changed)


@settings(max_examples=50)
@given(st.one_of(st.text(), st.none(), st.booleans(), st.integers(), st.binary(), st.lists(st.text())))
@example("@" + "=" * 43 + "A=.ed25519")
@example("@" + "é" * 42 + "A=.ed25519")
@example("@" + "\ud800" * 42 + "A=.ed25519")
def test_rubbish_is_refused_whatever_its_type(value: object) -> None:
    for is_id in (refs.is_feed_id, refs.is_message_id, refs.is_blob_id):
        assert not is_id(value)
    for decode in (refs.feed_key, refs.message_digest, refs.blob_digest, refs.parse_link):
        assert not is_accepted(decode, value)


@given(st.text().map(lambda tail: f"ssb:{tail}"))
@example("ssb:experimental?\ud800=%ff&&=")
@example("ssb:address/multiserver?" + "a&" * 5000)
def test_rubbish_uris_raise_nothing_but_invalid_reference(text: str) -> None:
    is_accepted(refs.parse_uri, text)
    is_accepted(refs.from_uri, text)
    is_accepted(refs.to_uri, text)
