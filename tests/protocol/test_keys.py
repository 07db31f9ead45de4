"""Key pairs and secret files: the reference implementation's answers, and what must never be seen."""

from binascii import b2a_base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from pub.errors import InvalidKey
from pub.protocol.keys import KeyPair, parse_secret, render_secret, verify
from tests.vectors import load

CASES = load("keys_secret_file")["cases"]
FILES = [(CASES[0], name) for name in CASES[0]["files"]]
ALICE = KeyPair.generate(bytes(range(32)))
BOB = KeyPair.generate(bytes(range(1, 33)))

seeds = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_seed_gives_the_keys_of_the_reference(case: dict[str, str]) -> None:
    keys = KeyPair.generate(bytes.fromhex(case["seed"]))
    assert keys.id == case["id"]
    assert keys.seed.hex() == case["seed"]
    assert crypto_scalarmult_base(keys.curve_secret).hex() == case["curve25519_pk"]
    assert case["private"] in render_secret(keys)
    assert case["public"] in render_secret(keys)


@pytest.mark.parametrize(("case", "name"), FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_secret_files_load_like_in_the_reference(case: dict[str, Any], name: str) -> None:
    text, loads_as = case["files"][name]["file"], case["files"][name]["loads_as"]
    if loads_as is None:
        with pytest.raises(InvalidKey):
            parse_secret(text)
    else:
        assert parse_secret(text).id == loads_as["id"]
        assert parse_secret(text).seed.hex() == case["seed"]


@given(seeds)
def test_a_written_secret_file_reads_back(seed: bytes) -> None:
    keys = KeyPair.generate(seed)
    assert parse_secret(render_secret(keys)).seed == seed


@pytest.mark.parametrize("field", ["public", "private", "id"])
def test_a_secret_file_pieced_together_from_two_is_refused(field: str) -> None:
    lines = render_secret(ALICE).splitlines()
    others = [line for line in render_secret(BOB).splitlines() if f'"{field}"' in line]
    mixed = [others[0] if f'"{field}"' in line else line for line in lines]
    assert mixed != lines
    with pytest.raises(InvalidKey):
        parse_secret("\n".join(mixed))


def test_a_secret_of_another_curve_is_refused() -> None:
    with pytest.raises(InvalidKey):
        parse_secret(render_secret(ALICE).replace('"curve": "ed25519"', '"curve": "k256"'))


@given(st.text())
@example('{"curve":"ed25519","private":"é","public":""}')
@example('{"curve":"ed25519","private":"AAAA.ed25519","public":""}')
@example('{"x":' + "[" * 100_000)
@example("\ud800")
def test_rubbish_raises_nothing_but_invalid_key(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_secret(text)


@given(st.binary(max_size=300))
def test_alice_signs_and_only_alice(data: bytes) -> None:
    signature = ALICE.sign(data)
    assert len(signature) == 64
    assert verify(ALICE.public, signature, data)
    assert not verify(BOB.public, signature, data)
    assert not verify(ALICE.public, signature, data + b"!")
    assert not verify(ALICE.public, BOB.sign(data), data)


def test_a_signature_may_not_borrow_from_the_data() -> None:
    signature = ALICE.sign(b"hello")
    assert not verify(ALICE.public, signature + b"h", b"ello")
    assert not verify(ALICE.public, signature[:63], signature[63:] + b"hello")


@given(st.binary(max_size=65), st.binary(max_size=65), st.binary(max_size=8))
@example(b"\x01" + bytes(31), b"\x01" + bytes(63), b"")  # a key of small order verifies anything, if it is let
def test_rubbish_does_not_verify_and_does_not_raise(public: bytes, signature: bytes, data: bytes) -> None:
    assert not verify(public, signature, data)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidKey):
        KeyPair.generate(bytes(length))


def test_a_key_pair_shows_its_id_alone() -> None:
    shown = f"{ALICE!r} {ALICE} {[ALICE]}"
    assert ALICE.id in shown
    for secret in (ALICE.seed, ALICE.curve_secret):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
        assert b2a_base64(secret).decode()[:20] not in shown


def test_a_refused_secret_file_is_not_quoted() -> None:
    secret = b2a_base64(ALICE.seed).decode()[:40]
    whole = render_secret(ALICE)
    for text in (whole.replace("}", ""), whole.replace(ALICE.id, BOB.id), secret):
        assert secret in text
        with pytest.raises(InvalidKey) as caught:
            parse_secret(text)
        assert secret not in str(caught.value)
        assert caught.value.__context__ is None  # a JSON error carries the text that it failed on
