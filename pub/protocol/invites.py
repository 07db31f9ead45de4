"""Invite codes: an address to dial and the seed of the guest key to dial it with.

Whoever holds a code may use it, so a code is a secret: the seed stays out of every repr and exception text. The pub
keeps only the guest's public key; it recognises a guest by the key its secret handshake was made with.

Two spellings are in use. The older one, `host:port:@key.ed25519~seed`, is read by every client; the newer one is a
multiserver address whose `shs` layer has the seed as second item, `net:host:port~shs:key:seed`.
"""

from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field

from pub.errors import InvalidInvite, InvalidReference
from pub.protocol.addresses import Address, format_address, from_layers, parse_legacy, parse_multiserver
from pub.protocol.keys import SEED_BYTES, KeyPair
from pub.protocol.refs import feed_id

_SEED_CHARACTERS = 44


@dataclass(frozen=True, slots=True)
class InviteCode:
    """The pub to dial and the seed (32 bytes, secret) of the guest's key pair."""

    address: Address
    seed: bytes = field(repr=False)


def parse_invite(text: str) -> InviteCode:
    """Reads either spelling; a redirect (`#…`) at the end is dropped. Raises InvalidInvite.

    White space and quotes around a code are refused: whoever takes a code from a person strips them first.
    """
    code, _, _ = text.partition("#")
    invite = _parse_old(code) or _parse_multiserver(code)
    if invite is None:
        raise InvalidInvite("this is not an invite code")
    return invite


def format_invite(address: Address, seed: bytes) -> str:
    """The spelling that most clients read.

    For TCP that is the older one. An IPv6 host is written without brackets, `2001:db8::1:8008:@…`: the JavaScript
    clients, which are most, refuse brackets; go-ssb writes them. No spelling suits all: announce a DNS name instead.
    For web sockets it is the multiserver spelling.
    """
    secret = b2a_base64(seed, newline=False).decode("ascii")
    if address.transport in ("ws", "wss"):
        return f"{format_address(address)}:{secret}"
    return f"{address.host}:{address.port}:{feed_id(address.key)}~{secret}"


def guest_keys(seed: bytes) -> KeyPair:
    """The key pair that a guest redeems a code with. Raises InvalidKey if the seed has not 32 bytes."""
    return KeyPair.generate(seed)


def _parse_old(code: str) -> InviteCode | None:
    place, _, secret = code.partition("~")
    address, seed = parse_legacy(place), _decode_seed(secret)
    return InviteCode(address, seed) if address and seed else None


def _parse_multiserver(code: str) -> InviteCode | None:
    try:
        addresses = parse_multiserver(code)
    except InvalidReference:
        return None
    for layers in addresses:
        if (address := from_layers(layers)) and (seed := _decode_seed("".join(layers[1][2:3]))):
            return InviteCode(address, seed)
    return None


def _decode_seed(text: str) -> bytes | None:
    # Unlike in ids, the unused bits are not checked: the text is never compared, only decoded.
    if len(text) != _SEED_CHARACTERS:
        return None
    try:
        seed = a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return seed if len(seed) == SEED_BYTES else None
