"""Kinds of values: what an operator may write for a setting, and what we make of it.

From YAML a value comes typed, from the environment and the command line as text; both are read alike.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
FLAG_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
SIZE_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _quantity(value: object, units: Mapping[str, int]) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = float(value), ""
    elif isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())):
        number, unit = float(match[1]), match[2].lower()
    else:
        raise ValueError(f"{value!r} is no quantity")
    if unit not in units or not 0 <= number < 1e15:
        raise ValueError(f"{value!r} is out of range or has an unknown unit")
    return number * units[unit]


def parse_duration(value: object) -> float:
    """Seconds from `90`, `"90s"`, `"15m"`, `"12h"`, `"30d"` or `"2w"`; ValueError for anything else."""
    return _quantity(value, DURATION_UNITS)


def parse_size(value: object) -> int:
    """Bytes from `4096`, `"64KiB"`, `"4MiB"` (powers of 1024) or `"4MB"` (of 1000); ValueError for anything else."""
    return int(_quantity(value, SIZE_UNITS))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    value.encode()  # refuses what no file can hold, as bytes of the environment that are no UTF-8
    return value


def _host(value: object) -> str:
    host = _text(value).strip().removeprefix("[").removesuffix("]")
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif not re.fullmatch(r"[A-Za-z0-9._-]*", host):
        raise ValueError("not a host")
    return host


def _public_host(value: object) -> str:
    host = _host(value)
    if host and not is_public(host):
        raise ValueError("nobody can dial this")
    return host


def is_public(host: str) -> bool:
    """Whether clients dial `host`: one IP address, localhost, or a name with a dot; bare words mean another machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")
        return host == "localhost" or bool(last[0] and last[2] and not last[2].isdigit())
    return not (address.is_unspecified or getattr(address, "scope_id", None))


_ADDRESS = re.compile(r"net:[^~;,\s]+:[0-9]{1,5}~shs:[A-Za-z0-9+/]{43}=")


def _addresses(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError("neither a list nor text")
    addresses = tuple(filter(None, (_text(item).strip() for item in items)))
    if not all(map(_ADDRESS.fullmatch, addresses)):
        raise ValueError("not an address")
    return addresses


def _network_key(value: object) -> bytes:
    key = base64.b64decode(_text(value), validate=True)
    if len(key) != 32:
        raise ValueError("not 32 bytes")
    return key


def _optional_key(value: object) -> bytes | None:
    return _network_key(value) if value != "" else None


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How one sort of value is read: `read` raises ValueError unless the value is what `allowed` says."""

    allowed: str
    read: Callable[[object], T]
    hidden: bool = False  # never shown in errors and reprs


def whole(low: int, high: int = 2**31 - 1) -> Kind[int]:
    def read(value: object) -> int:
        number = int(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise ValueError("out of range")
        return number

    return Kind(f"a whole number, {low} to {high}", read)


def one_of(*choices: str) -> Kind[str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError("no such choice")
        return str(value)

    return Kind("one of " + ", ".join(choices), read)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in FLAG_WORDS:
        return FLAG_WORDS[value.lower()]
    raise ValueError("neither yes nor no")


def _positive(kind: Kind[T]) -> Kind[T]:
    def read(value: object) -> T:
        quantity = kind.read(value)
        if not quantity:
            raise ValueError("zero")
        return quantity

    return Kind(kind.allowed, read)


TEXT = Kind("text, in quotes where YAML would take it for something else", _text)
HOST = Kind("an IP address or a DNS name, without port and scheme, or nothing", _host)
PUBLIC_HOST = Kind("an IP address or a DNS name with a dot, without port and scheme, or nothing", _public_host)
PORT = whole(0, 65535)
FLAG = Kind("yes or no", _flag)
KEY = Kind("32 bytes in base64", _network_key, hidden=True)
OPTIONAL_KEY = Kind("32 bytes in base64, or nothing", _optional_key, hidden=True)
ADDRESSES = Kind(
    "addresses such as net:pub.example.org:8008~shs:KEY, in a list or with commas between",
    _addresses,
    hidden=True,  # what is no address may be an invite code
)
DURATION = _positive(Kind("seconds, or a duration such as 90s, 15m, 12h or 30d, above zero", parse_duration))
SIZE = _positive(Kind("bytes, or a size such as 64KiB or 4MiB, above zero", parse_size))
