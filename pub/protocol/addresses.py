"""Where to dial a peer: multiserver addresses, the older `host:port:key`, and what pub messages announce.

A multiserver address is `addr(;addr)*`, each `layer(~layer)*`, each `name(:data)*`; `!` escapes `! ~ : ;`. What we dial
is a transport (`net`, `onion`, `ws`, `wss`) with the secret handshake on top: `net:example.com:8008~shs:<key>`. An IPv6
host is written without brackets, since the port is always the last item. Web sockets are written as URLs.

Addresses come from strangers, so host and port are checked here: a host is an IP address, `localhost` or a domain name
of two labels or more (a bare word would resolve inside the operator's own network), a port is a number in 1..65535.
Exception texts never quote an address, because the text may turn out to be an invite code, and that is a secret.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from pub.errors import InvalidReference
from pub.protocol.refs import feed_id, feed_key, is_feed_id

DEFAULT_PORT = 8008
MAX_PORT = 65535
MAX_DOMAIN = 253  # DNS: longer names cannot be asked for

_MULTISERVER = re.compile(r"(?:[\"-~]|![!~:;])*")
_PIECE = re.compile(r"!?[!~:;]|[^!~:;]+")
_NAME = re.compile(r"[a-z][a-z0-9-]+")
_URL = re.compile(r"(wss?)://(.*)", re.DOTALL)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # "_" is against the rules of host names, but in use
_REGISTERED = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_REGISTERED}\.(?![0-9]+\.?\Z){_REGISTERED}\.?")
_HOST_PREFIXES = {"net": "", "onion": "", "ws": "//", "wss": "//"}

Layer = list[str]  # one layer of a multiserver address: its name, then its data


@dataclass(frozen=True, slots=True)
class Address:
    """A peer we can dial: its public key (32 bytes) and a bare host, that is without brackets and not an URL."""

    host: str
    port: int
    key: bytes
    transport: str = "net"

    def __str__(self) -> str:
        return format_address(self)


def format_address(address: Address) -> str:
    """The multiserver address, for example `net:example.com:8008~shs:<key>`."""
    host = _HOST_PREFIXES[address.transport] + address.host
    return f"{address.transport}:{host}:{address.port}~shs:{feed_id(address.key)[1:45]}"


def parse_address(text: str) -> Address:
    """The first address in a text that we can dial. Raises InvalidReference."""
    address = parse_legacy(text) or next(filter(None, map(from_layers, parse_multiserver(text))), None)
    if address is None:
        raise InvalidReference("not an address that we can dial")
    return address


def parse_pub_address(value: object) -> Address:
    """The `address` of a pub message: `{host, port, key}`, or a text for `parse_address`. Raises InvalidReference."""
    if isinstance(value, str):
        return parse_address(value)
    if isinstance(value, dict):
        host, port = value.get("host"), _whole(value.get("port"))
        if isinstance(host, str) and (address := _from_url(host, port, value.get("key"))):
            return address
    raise InvalidReference("the address of a pub message has no valid host, port and key")


def parse_announcement(content: dict[str, Any]) -> str | None:
    """The address that this content of a pub message announces, in normal form; None if there is none to dial."""
    if content.get("type") != "pub":
        return None
    try:
        return format_address(parse_pub_address(content.get("address")))
    except InvalidReference:
        return None


def parse_legacy(text: str) -> Address | None:
    """`host:port:@key.ed25519`, where a missing port means 8008, or None. The host may be an URL or IPv6."""
    host, *port_and_key = text.rsplit(":", 2)
    if len(port_and_key) != 2:
        return None
    port, key = port_and_key
    return _from_url(host, _port(port) if port else DEFAULT_PORT, key)


def parse_multiserver(text: str) -> list[list[Layer]]:
    """Every layer of every address in a text, unescaped, whether or not we can dial it. Raises InvalidReference."""
    if not _MULTISERVER.fullmatch(text):
        raise InvalidReference("not a multiserver address")
    addresses = [[[""]]]
    for piece in _PIECE.findall(text):
        match piece:
            case ";":
                addresses.append([[""]])
            case "~":
                addresses[-1].append([""])
            case ":":
                addresses[-1][-1].append("")
            case _:
                addresses[-1][-1][-1] += piece.removeprefix("!")
    if not all(_NAME.fullmatch(layer[0]) for address in addresses for layer in address):
        raise InvalidReference("not a multiserver address")
    return addresses


def from_layers(layers: list[Layer]) -> Address | None:
    """One parsed multiserver address as one that we can dial, or None: another transport, host, port or key."""
    match layers:
        case [[transport, *hosts, port], ["shs", key, *_], *_] if transport in _HOST_PREFIXES:
            host, prefix = ":".join(hosts), _HOST_PREFIXES[transport]
            if host.startswith(prefix):
                return _checked(transport, host.removeprefix(prefix), _port(port), f"@{key}.ed25519")
    return None


def _from_url(host: str, port: int, key: object) -> Address | None:
    """The forms without a transport of their own: it shows in the host."""
    if url := _URL.fullmatch(host):
        return _checked(url[1], url[2], port, key)
    return _checked("onion" if host.endswith(".onion") else "net", host, port, key)


def _checked(transport: str, host: str, port: int, key: object) -> Address | None:
    if _is_host(host) and 1 <= port <= MAX_PORT and is_feed_id(key):
        return Address(host, port, feed_key(key), transport)
    return None


def _is_host(text: str) -> bool:
    if len(text) > MAX_DOMAIN:
        return False
    if text == "localhost" or _DOMAIN.fullmatch(text):
        return True
    try:
        parsed = ip_address(text)
    except ValueError:
        return False
    return not (isinstance(parsed, IPv6Address) and parsed.scope_id)  # a zone means something on its own host only


def _port(text: str) -> int:
    """The number in a text of plain digits; 0, which is no port, for everything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0


def _whole(number: object) -> int:
    """A JSON number as a port; 0, which is no port, for fractions, texts and everything else."""
    if type(number) is int:  # not bool
        return number
    return int(number) if isinstance(number, float) and number.is_integer() else 0
