"""Ed25519 identities: key pairs, signatures and the secret file.

A feed is its public key. The secret of 64 bytes is seed ‖ public key, which is both what libsodium signs with and what
the secret file holds. Nothing here ever puts a seed or a secret into a repr or an exception text: they end up in logs.
"""

import re
from binascii import a2b_base64, b2a_base64
from typing import Literal

import msgspec
from nacl.bindings import (
    crypto_sign,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from pub.errors import InvalidKey
from pub.protocol.refs import feed_id

SEED_BYTES = 32
SIGNATURE_BYTES = 64

_SUFFIX = ".ed25519"
_COMMENT = re.compile(r"\s*#[^\n]*")


class KeyPair:
    """The identity of one feed.

    `public` (32 bytes) and `id` ("@….ed25519") name it. `seed` (32 bytes) and `curve_secret` (32 bytes: the X25519 key
    that the secret handshake uses) are secret.
    """

    __slots__ = ("_secret", "curve_secret", "id", "public", "seed")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public = public
        self.id = feed_id(public)
        self.seed = secret[:SEED_BYTES]
        self._secret = secret
        self.curve_secret: bytes = crypto_sign_ed25519_sk_to_curve25519(secret)

    @classmethod
    def generate(cls, seed: bytes) -> "KeyPair":
        """The key pair of a seed of 32 random bytes. Raises InvalidKey."""
        if len(seed) != SEED_BYTES:
            raise InvalidKey(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(*crypto_sign_seed_keypair(seed))

    def __repr__(self) -> str:
        return f"<KeyPair {self.id}>"

    def sign(self, data: bytes) -> bytes:
        """The detached signature of 64 bytes."""
        signed: bytes = crypto_sign(data, self._secret)
        return signed[:SIGNATURE_BYTES]


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is that of `public` over `data`; False, never an exception, for malformed input."""
    # libsodium takes signature and data as one buffer: a longer "signature" would borrow from the data.
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + data, public)
    except (CryptoError, ValueError):
        return False
    return True


class _SecretFile(msgspec.Struct):
    curve: Literal["ed25519"]
    private: str
    public: str
    id: str | None = None


def parse_secret(text: str) -> KeyPair:
    """The key pair in the text of a secret file. Raises InvalidKey.

    The form is that of every SSB implementation: `#` starts a comment anywhere, what remains is one JSON object. `id`
    may be missing. All fields must tell of one key: a file pieced together from two would publish under a wrong name.
    """
    keys = _decode_secret(text)
    if keys is None:  # raised outside of the handler: what failed to parse would hang on the exception as its context
        raise InvalidKey("this is not a secret file, or its keys do not belong together")
    return keys


def _decode_secret(text: str) -> KeyPair | None:
    try:
        file = msgspec.json.decode(_COMMENT.sub("", text), type=_SecretFile)
        keys = KeyPair.generate(a2b_base64(file.private.removesuffix(_SUFFIX))[:SEED_BYTES])
    except (msgspec.MsgspecError, ValueError, RecursionError, InvalidKey):
        return None
    is_one_key = (
        file.private == _tagged(keys.seed + keys.public)
        and file.public == _tagged(keys.public)
        and file.id in (keys.id, None)
    )
    return keys if is_one_key else None


def render_secret(keys: KeyPair) -> str:
    """The text of a secret file, to be written once, for its owner's eyes only."""
    fields = _SecretFile("ed25519", _tagged(keys.seed + keys.public), _tagged(keys.public), keys.id)
    json = msgspec.json.format(msgspec.json.encode(fields), indent=2).decode("ascii")
    return f"""\
# This is the SECRET of your pub. Whoever has it is your pub: never show it to anyone.
# Keep a copy offline, but never run it in two places at once: the feed would fork, and a forked feed is dead.
{json}
#
# The only part of this file that is safe to share is the public name:
#
#   {keys.id}
"""


def _tagged(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii") + _SUFFIX
