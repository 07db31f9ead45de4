"""Secret handshake: two strangers prove who they are, and that both know the network key, in four messages.

The client must know the server's public key before it dials; the server learns the client's only from a proof that
nobody else can read. Neither is told why the other hung up: every failure looks the same on the wire.

1. client → server, 64 bytes: HMAC(K, a) ‖ a. K is the network key, a the client's ephemeral X25519 key.
2. server → client, 64 bytes: HMAC(K, b) ‖ b.
3. client → server, 112 bytes: the proof. A signature over K ‖ server key ‖ sha256(a·b), and the client's key, boxed.
4. server → client, 80 bytes: the acceptance. A signature over K ‖ proof ‖ sha256(a·b), boxed.

What the two share is K ‖ a·b ‖ a·B ‖ A·b (small letters ephemeral, capitals long-term). It grows while the handshake
goes on, and the key of every box is the sha256 of what there is by then. Each machine takes whole messages and returns
the next one to send; lengths are the constants below. Bytes that do not fit raise HandshakeError and nothing else, and
the machine must not be used any more. The rules are those of the SSB protocol guide ("Handshake").

Low-order points deserve their three refusals. A client that sends one as its ephemeral key makes a·b and a·B known to
everybody, and can then pass as the owner of a small-order identity key without knowing the server (Cremers and Jackson,
"Prime, Order Please"). libsodium refuses them today; we don't count on it.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from hashlib import sha256
from typing import ParamSpec, TypeVar

from nacl.bindings import (
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_secretbox,
    crypto_secretbox_open,
    crypto_sign_ed25519_pk_to_curve25519,
)

from pub.errors import HandshakeError
from pub.protocol.keys import SIGNATURE_BYTES, KeyPair, verify
from pub.protocol.refs import feed_id

MAIN_NETWORK = bytes.fromhex("d4a1cb88a66f02f8db635ce26441cc5dac1b08420ceaac230839b755845a9ffb")

KEY_BYTES = 32
HELLO_BYTES = 64
PROOF_BYTES = 112
ACCEPT_BYTES = 80

_HMAC_BYTES = 32  # crypto_auth of NaCl is HMAC-SHA-512, cut to half
_NONCE_BYTES = 24
_ONE_USE_NONCE = bytes(_NONCE_BYTES)  # safe because every key boxes one message only
_ZERO = bytes(KEY_BYTES)
_REMEMBERED_KEYS = 1024  # whose curve forms are kept, 300 bytes each: people come back, and one form takes 35 us

# Encodings of Ed25519 points whose order divides 8 (sign bit cleared), the ones not reduced mod p included.
_SMALL_ORDER = frozenset(
    bytes.fromhex(encoding)
    for encoding in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """What a finished handshake leaves: key (32 bytes) and first nonce (24 bytes) of each direction's box stream."""

    encrypt_key: bytes
    encrypt_nonce: bytes
    decrypt_key: bytes
    decrypt_nonce: bytes


class _Handshake:
    """What both roles do alike."""

    __slots__ = (
        "_ephemeral",
        "_keys",
        "_network_key",
        "_own_hello",
        "_peer_hello",
        "_shared",
        "_shared_hash",
        "session",
    )

    session: SessionKeys  # set by the last step

    def __init__(self, keys: KeyPair, network_key: bytes, ephemeral: bytes) -> None:
        if len(ephemeral) != KEY_BYTES:  # libsodium would read past its end
            raise ValueError(f"an ephemeral secret has {KEY_BYTES} bytes, not {len(ephemeral)}")
        self._keys = keys
        self._network_key = network_key
        self._ephemeral = ephemeral
        public = crypto_scalarmult_base(ephemeral)
        self._own_hello = _authenticator(network_key, public) + public

    def _open_hello(self, hello: bytes) -> None:
        public = hello[_HMAC_BYTES:]
        expected = _authenticator(self._network_key, public)
        if len(hello) != HELLO_BYTES or not hmac.compare_digest(hello[:_HMAC_BYTES], expected):
            raise HandshakeError("the peer's hello is not one for our network")
        self._peer_hello = hello
        secret = _agree(self._ephemeral, public)
        self._shared = self._network_key + secret
        self._shared_hash = sha256(secret).digest()

    @property
    def _peer_ephemeral(self) -> bytes:
        return self._peer_hello[_HMAC_BYTES:]

    def _box_key(self) -> bytes:
        return sha256(self._shared).digest()

    def _finish(self, peer_key: bytes) -> None:
        """Each direction is bound to its receiver: to the receiver's identity by key, to its hello by nonce."""
        secret = sha256(self._box_key()).digest()
        self.session = SessionKeys(
            encrypt_key=sha256(secret + peer_key).digest(),
            encrypt_nonce=self._peer_hello[:_NONCE_BYTES],
            decrypt_key=sha256(secret + self._keys.public).digest(),
            decrypt_nonce=self._own_hello[:_NONCE_BYTES],
        )


class ServerHandshake(_Handshake):
    """The side that was dialled: receive_hello, receive_proof, accept. `ephemeral` is 32 random bytes, used once."""

    __slots__ = ("_client_key", "_proof")

    def receive_hello(self, hello: bytes) -> bytes:
        """Takes message 1, returns message 2."""
        self._open_hello(hello)
        return self._own_hello

    def receive_proof(self, boxed: bytes) -> bytes:
        """Takes message 3, returns the client's public key: proved to be the client's, but not let in yet."""
        self._shared += _agree(self._keys.curve_secret, self._peer_ephemeral)
        self._proof = _open(boxed, PROOF_BYTES, self._box_key())
        signature, self._client_key = self._proof[:SIGNATURE_BYTES], self._proof[SIGNATURE_BYTES:]
        curve_key = _curve_key(self._client_key)
        _check(self._client_key, signature, self._network_key + self._keys.public + self._shared_hash)
        self._shared += _agree(self._ephemeral, curve_key)
        return self._client_key

    def accept(self) -> bytes:
        """Lets the client in: returns message 4 and sets `session`. To refuse it, close without a word instead."""
        signature = self._keys.sign(self._network_key + self._proof + self._shared_hash)
        self._finish(self._client_key)
        return _seal(signature, self._box_key())


class ClientHandshake(_Handshake):
    """The side that dials: hello, receive_hello, receive_accept. `ephemeral` is 32 random bytes, used once."""

    __slots__ = ("_proof", "_server_key")

    def __init__(self, keys: KeyPair, network_key: bytes, ephemeral: bytes, server_key: bytes) -> None:
        super().__init__(keys, network_key, ephemeral)
        self._server_key = server_key

    def hello(self) -> bytes:
        """Message 1."""
        return self._own_hello

    def receive_hello(self, hello: bytes) -> bytes:
        """Takes message 2, returns message 3."""
        self._open_hello(hello)
        self._shared += _agree(self._ephemeral, _curve_key(self._server_key))
        signature = self._keys.sign(self._network_key + self._server_key + self._shared_hash)
        self._proof = signature + self._keys.public
        boxed = _seal(self._proof, self._box_key())
        self._shared += _agree(self._keys.curve_secret, self._peer_ephemeral)
        return boxed

    def receive_accept(self, boxed: bytes) -> None:
        """Takes message 4 and sets `session`."""
        signature = _open(boxed, ACCEPT_BYTES, self._box_key())
        _check(self._server_key, signature, self._network_key + self._proof + self._shared_hash)
        self._finish(self._server_key)


def _authenticator(network_key: bytes, public: bytes) -> bytes:
    return hmac.digest(network_key, public, "sha512")[:_HMAC_BYTES]


def _refusing(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Any exception of a crypto library means that the peer's bytes are bad: it becomes a HandshakeError."""

    @wraps(call)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return call(*args, **kwargs)
        except HandshakeError:
            raise
        except Exception as error:
            raise HandshakeError(f"{call.__name__.strip('_')}: {error}") from error

    return guarded


@_refusing
def _agree(secret: bytes, public: bytes) -> bytes:
    """X25519. A low-order `public` gives zero whatever the secret is: no agreement at all."""
    shared = crypto_scalarmult(secret, public)
    if hmac.compare_digest(shared, _ZERO):
        raise HandshakeError(f"the peer sent a low-order key: {public.hex()}")
    return shared


@lru_cache(_REMEMBERED_KEYS)
@_refusing
def _curve_key(public: bytes) -> bytes:
    """The X25519 form of an Ed25519 identity. (One that was refused is not remembered.)"""
    if public[:-1] + bytes([public[-1] & 0x7F]) in _SMALL_ORDER:
        raise HandshakeError(f"{feed_id(public)} is an identity of small order: it belongs to nobody")
    return crypto_sign_ed25519_pk_to_curve25519(public)


@_refusing
def _check(public: bytes, signature: bytes, data: bytes) -> None:
    if not verify(public, signature, data):
        raise HandshakeError(f"the signature is not one of {feed_id(public)} over this handshake")


@_refusing
def _open(boxed: bytes, length: int, key: bytes) -> bytes:
    if len(boxed) != length:
        raise HandshakeError(f"a message of {length} bytes was due, not of {len(boxed)}")
    return crypto_secretbox_open(boxed, _ONE_USE_NONCE, key)


@_refusing
def _seal(plain: bytes, key: bytes) -> bytes:
    return crypto_secretbox(plain, _ONE_USE_NONCE, key)
