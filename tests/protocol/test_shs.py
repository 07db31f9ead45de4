import hmac
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_scalarmult,
    crypto_secretbox,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)

from pub.errors import HandshakeError
from pub.protocol import shs
from pub.protocol.keys import KeyPair
from pub.protocol.shs import ACCEPT_BYTES, HELLO_BYTES, MAIN_NETWORK, PROOF_BYTES, ClientHandshake, ServerHandshake
from tests.vectors import load

VECTORS = load("shs")
ALICE = KeyPair.generate(b"alice".ljust(32))
PUB = KeyPair.generate(b"the pub".ljust(32))
EPHEMERALS = b"alice once".ljust(32), b"the pub once".ljust(32)

# Identities of small order, each with both signs of x; the last three are encodings not reduced mod p.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


def ephemeral_of(seed: str) -> bytes:
    """The reference implementation derives its ephemeral keys from Ed25519 seeds."""
    return crypto_sign_ed25519_sk_to_curve25519(crypto_sign_seed_keypair(bytes.fromhex(seed))[1])


def server_of(case: dict[str, Any], ephemeral_seed: str | None = None) -> ServerHandshake:
    server = case["server"]
    keys = KeyPair.generate(bytes.fromhex(server["longterm_seed"]))
    ephemeral = ephemeral_of(ephemeral_seed or server["ephemeral_ed25519_seed"])
    return ServerHandshake(keys, bytes.fromhex(case["network_key"]), ephemeral)


def client_of(case: dict[str, Any]) -> ClientHandshake:
    client = case["client"]
    keys = KeyPair.generate(bytes.fromhex(client["longterm_seed"]))
    network_key, server_key = bytes.fromhex(case["network_key"]), bytes.fromhex(case["server"]["longterm_pk"])
    return ClientHandshake(keys, network_key, bytes.fromhex(client["ephemeral_sk_curve"]), server_key)


def session_of(handshake: ServerHandshake | ClientHandshake) -> dict[str, str]:
    names = ("encrypt_key", "encrypt_nonce", "decrypt_key", "decrypt_nonce")
    return {name: getattr(handshake.session, name).hex() for name in names}


def both() -> tuple[ClientHandshake, ServerHandshake]:
    alice = ClientHandshake(ALICE, MAIN_NETWORK, EPHEMERALS[0], PUB.public)
    return alice, ServerHandshake(PUB, MAIN_NETWORK, EPHEMERALS[1])


def hello_with(public: bytes) -> bytes:
    return hmac.digest(MAIN_NETWORK, public, "sha512")[:32] + public


def proof_with(server: ServerHandshake, content: bytes) -> bytes:
    """Message 3 with any content, from somebody who honestly says hello as alice's ephemeral key."""
    secrets = crypto_scalarmult(EPHEMERALS[0], server.receive_hello(both()[0].hello())[32:])
    secrets += crypto_scalarmult(PUB.curve_secret, both()[0].hello()[32:])
    return crypto_secretbox(content, bytes(24), sha256(MAIN_NETWORK + secrets).digest())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["note"])
def test_both_roles_speak_exactly_as_the_reference(case: dict[str, Any]) -> None:
    client, server = client_of(case), server_of(case)
    messages = [client.hello()]
    messages.append(server.receive_hello(messages[0]))
    messages.append(client.receive_hello(messages[1]))
    assert server.receive_proof(messages[2]).hex() == case["client"]["longterm_pk"]
    messages.append(server.accept())
    client.receive_accept(messages[3])
    assert [message.hex() for message in messages] == [case[f"msg{n}"] for n in (1, 2, 3, 4)]
    assert session_of(client) == case["client_out"]
    assert session_of(server) == case["server_out"]


@pytest.mark.parametrize("failure", VECTORS["failures"], ids=lambda case: f"{case['uses_case']} {case['note'][:40]}")
def test_the_side_that_must_refuse_does_so_at_the_right_message(failure: dict[str, Any]) -> None:
    case = VECTORS["cases"][failure["uses_case"]]
    steps: list[tuple[str, Callable[[bytes], object]]]
    if failure["role"] == "server":
        server = server_of(case, failure.get("server_ephemeral_ed25519_seed"))
        steps = [("msg1", server.receive_hello), ("msg3", server.receive_proof)]
    else:
        client = client_of(case)
        client.hello()
        steps = [("msg2", client.receive_hello), ("msg4", client.receive_accept)]
    verdict, message = failure["result"].split()[:2]
    for (name, step), received in zip(steps, failure["recv"], strict=False):
        if (verdict, message) == ("reject", name):
            with pytest.raises(HandshakeError):
                step(bytes.fromhex(received))
            return
        answer = step(bytes.fromhex(received))
    assert verdict == "accept"
    if failure["role"] == "server":
        assert isinstance(answer, bytes)
        assert failure["result"].endswith(f"remote={answer.hex()}")


def test_alice_and_the_pub_share_keys_that_nobody_prints() -> None:
    alice, pub = both()
    proof = alice.receive_hello(pub.receive_hello(alice.hello()))
    assert pub.receive_proof(proof) == ALICE.public
    alice.receive_accept(pub.accept())
    assert alice.session.encrypt_key == pub.session.decrypt_key
    assert alice.session.decrypt_nonce == pub.session.encrypt_nonce
    assert repr(alice.session.encrypt_key) not in repr(alice.session)


def test_alice_looking_for_another_pub_gets_no_answer_to_her_proof() -> None:
    _, pub = both()
    alice = ClientHandshake(ALICE, MAIN_NETWORK, EPHEMERALS[0], ALICE.public)
    with pytest.raises(HandshakeError):
        pub.receive_proof(alice.receive_hello(pub.receive_hello(alice.hello())))


def test_mallory_cannot_present_the_signature_of_alice_as_her_own() -> None:
    _, pub = both()
    mallory = KeyPair.generate(b"mallory".ljust(32))
    proof = proof_with(pub, ALICE.sign(MAIN_NETWORK + PUB.public + bytes(32)) + mallory.public)
    with pytest.raises(HandshakeError, match="signature"):
        pub.receive_proof(proof)


def test_a_server_that_knows_everything_but_its_own_secret_is_refused() -> None:
    alice, pub = both()
    alice.receive_hello(pub.receive_hello(alice.hello()))
    impostor = crypto_secretbox(bytes(64), bytes(24), alice._box_key())
    with pytest.raises(HandshakeError, match="signature"):
        alice.receive_accept(impostor)


@pytest.mark.parametrize("identity", SMALL_ORDER)
def test_an_identity_of_small_order_is_refused_even_if_libsodium_took_it(
    identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # any message "verifies" under such a key in a lax verifier
    monkeypatch.setattr(shs, "verify", lambda *_: True)
    monkeypatch.setattr(shs, "crypto_sign_ed25519_pk_to_curve25519", lambda _: both()[0].hello()[32:])
    _, pub = both()
    proof = proof_with(pub, bytes([1, *bytes(63)]) + bytes.fromhex(identity))
    with pytest.raises(HandshakeError, match="small order"):
        pub.receive_proof(proof)
    dialler = ClientHandshake(ALICE, MAIN_NETWORK, EPHEMERALS[0], bytes.fromhex(identity))
    with pytest.raises(HandshakeError, match="small order"):
        dialler.receive_hello(pub.receive_hello(dialler.hello()))


@pytest.mark.parametrize("identity", SMALL_ORDER)
def test_an_identity_of_small_order_is_refused_by_libsodium_too(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shs, "_SMALL_ORDER", frozenset())
    _, pub = both()
    with pytest.raises(HandshakeError):
        pub.receive_proof(proof_with(pub, bytes([1, *bytes(63)]) + bytes.fromhex(identity)))


@pytest.mark.parametrize("is_lax", [False, True], ids=["libsodium refuses", "libsodium gives zeros"])
def test_low_order_ephemeral_keys_are_refused_twice(is_lax: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_lax:
        monkeypatch.setattr(shs, "crypto_scalarmult", lambda *_: bytes(32))
    alice, pub = both()
    with pytest.raises(HandshakeError, match="low-order" if is_lax else "agree"):
        pub.receive_hello(hello_with(bytes(32)))
    with pytest.raises(HandshakeError, match="low-order" if is_lax else "agree"):
        alice.receive_hello(hello_with(bytes(32)))


def test_an_ephemeral_secret_of_the_wrong_length_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ServerHandshake(PUB, MAIN_NETWORK, b"short")


@pytest.mark.parametrize("length", [0, 31, HELLO_BYTES - 1, HELLO_BYTES + 1])
def test_a_hello_of_another_length_is_refused(length: int) -> None:
    alice, pub = both()
    public = bytes(range(1, 65))[: max(length - 32, 0)]
    with pytest.raises(HandshakeError):
        pub.receive_hello(hello_with(public)[:length])
    with pytest.raises(HandshakeError):
        alice.receive_hello(hello_with(public)[:length])


@pytest.mark.parametrize("missing", [1, -1])
def test_a_boxed_message_of_another_length_is_refused_unopened(missing: int) -> None:
    alice, pub = both()
    alice.receive_hello(pub.receive_hello(alice.hello()))
    with pytest.raises(HandshakeError, match="112 bytes"):
        pub.receive_proof(bytes(PROOF_BYTES - missing))
    with pytest.raises(HandshakeError, match="80 bytes"):
        alice.receive_accept(bytes(ACCEPT_BYTES - missing))


@settings(max_examples=60, deadline=None)
@given(public=st.binary(max_size=40), proof=st.binary(max_size=PROOF_BYTES + 1))
def test_garbage_to_the_server_raises_only_handshake_errors(public: bytes, proof: bytes) -> None:
    _, pub = both()
    try:
        pub.receive_hello(hello_with(public))
    except HandshakeError:
        pub.receive_hello(both()[0].hello())
    with pytest.raises(HandshakeError):
        pub.receive_proof(proof)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(min_size=96, max_size=96) | st.binary(max_size=130))
def test_any_content_of_a_well_boxed_proof_raises_only_handshake_errors(content: bytes) -> None:
    _, pub = both()
    proof = proof_with(pub, content)
    with pytest.raises(HandshakeError):
        pub.receive_proof(proof)


@settings(max_examples=60, deadline=None)
@given(
    public=st.binary(max_size=40), acceptance=st.binary(max_size=ACCEPT_BYTES + 1), server_key=st.binary(max_size=33)
)
def test_garbage_to_the_client_raises_only_handshake_errors(
    public: bytes, acceptance: bytes, server_key: bytes
) -> None:
    alice, pub = both()
    try:
        alice.receive_hello(hello_with(public))
    except HandshakeError:
        alice.receive_hello(pub.receive_hello(alice.hello()))
    with pytest.raises(HandshakeError):
        alice.receive_accept(acceptance)


@settings(max_examples=30, deadline=None)
@given(server_key=st.binary(max_size=40))
def test_dialling_a_key_that_is_none_raises_only_handshake_errors(server_key: bytes) -> None:
    _, pub = both()
    alice = ClientHandshake(ALICE, MAIN_NETWORK, EPHEMERALS[0], server_key)
    with suppress(HandshakeError):
        alice.receive_hello(pub.receive_hello(alice.hello()))
