"""Invite codes: the reference implementation's verdicts, our differences from it by name, and secrecy."""

import re
from binascii import a2b_base64, b2a_base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pub.errors import InvalidInvite, InvalidKey
from pub.protocol.addresses import Address, format_address
from pub.protocol.invites import InviteCode, format_invite, guest_keys, parse_invite
from pub.protocol.refs import feed_id
from tests.vectors import load

CASES = load("refs_addresses_invites")["invites"]
SEED = bytes(range(100, 132))
SEED_TEXT = b2a_base64(SEED, newline=False).decode()
PUB = bytes(range(32))

# The reference calls this an invite, but nobody can redeem it.
NO_INVITE_FOR_US = {"multiserver without seed"}

seeds = st.binary(min_size=32, max_size=32)
places = st.sampled_from(
    [
        ("example.com", "net"),
        ("1.2.3.4", "net"),
        ("2001:db8::1", "net"),
        ("localhost", "net"),
        ("abcdefghijklmnop.onion", "onion"),
        ("example.com", "ws"),
        ("example.com", "wss"),
    ]
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["note"])
def test_codes_agree_with_the_reference(case: dict[str, Any]) -> None:
    if not case["isInvite"] or case["note"] in NO_INVITE_FOR_US:
        with pytest.raises(InvalidInvite):
            parse_invite(case["code"])
        return
    invite = parse_invite(case["code"])
    assert format_address(invite.address) == case["parsed"]["remote"]
    assert feed_id(invite.address.key) == case["parsed"]["key"]
    if "seed" in case:
        assert invite.seed == a2b_base64(case["seed"])


@pytest.mark.parametrize("case", [case for case in CASES if "seed" in case], ids=lambda case: case["note"])
def test_guest_keys_agree_with_the_reference(case: dict[str, Any]) -> None:
    assert guest_keys(a2b_base64(case["seed"])).id == case["guest_id"]


@pytest.mark.parametrize(
    "note",
    ["legacy, domain", "legacy, IPv4", "legacy, IPv6 without brackets (JS form)", "legacy onion", "multiserver ws url"],
)
def test_codes_are_written_as_the_reference_reads_them(note: str) -> None:
    for case in CASES:
        if case["note"] == note:
            invite = parse_invite(case["code"])
            assert format_invite(invite.address, invite.seed) == case["code"]


@given(places, st.integers(1, 65535), st.binary(min_size=32, max_size=32), seeds)
def test_a_written_code_reads_back(place: tuple[str, str], port: int, key: bytes, seed: bytes) -> None:
    address = Address(place[0], port, key, place[1])
    assert parse_invite(format_invite(address, seed)) == InviteCode(address, seed)
    assert parse_invite(f"{format_address(address)}:{b2a_base64(seed).decode().strip()}#to=x") == InviteCode(
        address, seed
    )


def test_the_first_address_with_a_seed_is_taken() -> None:
    key = feed_id(PUB)[1:45]
    code = f"net:a.com:1~shs:{key};tunnel:x~shs:{key}:{SEED_TEXT};net:b.com:2~shs:{key}:{SEED_TEXT}"
    assert parse_invite(code) == InviteCode(Address("b.com", 2, PUB), SEED)


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_code_with_a_port_that_does_not_exist_is_refused(port: int) -> None:
    for code in (f"a.com:{port}:{feed_id(PUB)}~{SEED_TEXT}", f"net:a.com:{port}~shs:{feed_id(PUB)[1:45]}:{SEED_TEXT}"):
        with pytest.raises(InvalidInvite):
            parse_invite(code)


def test_a_guest_needs_a_whole_seed() -> None:
    with pytest.raises(InvalidKey):
        guest_keys(SEED[:31])


@given(st.text())
@example("a.com:8008:" + feed_id(PUB) + "~" + "é" * 44)
@example("a.com:8008:" + feed_id(PUB) + "~" + "=" * 44)
@example("a.com:8008:" + feed_id(PUB) + "~" + "A" * 44)
def test_rubbish_raises_nothing_but_invalid_invite(text: str) -> None:
    with pytest.raises(InvalidInvite):
        parse_invite(text)


CODES = [format_invite(Address("a.com", 1, PUB, transport), SEED) for transport in ("net", "ws")]


@given(st.sampled_from(CODES), st.integers(0, 140), st.text(alphabet="~:;#!@. A=é", max_size=2))
def test_a_misspelt_code_is_not_quoted_in_the_refusal(code: str, place: int, text: str) -> None:
    misspelt = code[:place] + text + code[place + 1 :]
    try:
        parse_invite(misspelt)
    except InvalidInvite as caught:
        shown, context = str(caught), caught.__context__
    else:
        return  # still a code, of another place or seed
    assert shown == "this is not an invite code"
    assert context is None


def test_an_invite_does_not_show_its_seed() -> None:
    invite = parse_invite(CODES[0])
    shown = f"{invite!r} {invite} {guest_keys(SEED)!r}"
    assert "a.com" in shown
    for secret in (SEED_TEXT[:20], SEED.hex(), repr(SEED)[2:-1]):
        assert not re.search(re.escape(secret), shown)
