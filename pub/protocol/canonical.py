"""The normal form of JSON: what `JSON.stringify(JSON.parse(text))` of ECMAScript gives, to the last byte.

Classic messages are signed and hashed over text that a JavaScript engine prints, so every peer has to print like one.
This file holds it twice:

* `parse`, `compact` and `indented` are the specification. They follow ECMAScript step by step and are slow.
* `normalise` gives exactly the same and is fast. msgspec reads and prints nearly all JSON as JavaScript does; where it
  does not (lone surrogates, integers beyond 2**53, floats printed with an exponent or `.0`, keys that are array
  indexes, deep nesting) the value is not *plain* and takes the slow way. A decoder error of msgspec decides nothing:
  the specification has the last word on what is JSON.

Numbers are IEEE doubles. For comfort an integral one up to 2**53 becomes a Python `int`, so `1.0`, `1e0` and `1` are
the same value; -0 becomes 0, which prints the same.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from pub.errors import InvalidJson

# A value nested d deep prints as at least 2 * d**2 units when indented: 64 fills the 8192 units of a message.
MAX_DEPTH = 64

MAX_SAFE = 2**53  # every integer up to here is a double of its own
_SAFE_DIGITS = 15  # so many characters never say a larger one
MAX_INDEX = 2**32 - 2  # ECMAScript: the largest array index

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_SURROGATES = re.compile("([\ud800-\udbff][\udc00-\udfff])|[\ud800-\udfff]")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Canonical(msgspec.Struct, frozen=True, gc=False):
    """A parsed value with both of its normal forms, as UTF-8."""

    value: Any
    compact: bytes
    indented: bytes


# --- the specification ------------------------------------------------------------------------------------


def parse(raw: bytes) -> Any:
    """The value of JSON text as `JSON.parse` sees it; invalid UTF-8 becomes U+FFFD. Raises InvalidJson."""
    try:
        value = _DECODER.decode(raw.decode("utf-8", "replace"))
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from None
    except RecursionError:
        raise InvalidJson(f"nested deeper than {MAX_DEPTH}") from None
    if _is_deep(value):
        raise InvalidJson(f"nested deeper than {MAX_DEPTH}")
    return value


def compact(value: Any) -> str:
    """`JSON.stringify(value)`: the form that is stored and sent."""
    return _text(value, "", "", ":")


def indented(value: Any) -> str:
    """`JSON.stringify(value, null, 2)`: the form that is signed, hashed and measured."""
    return _text(value, "\n", "  ", ": ")


def number_text(number: float) -> str:
    """ECMAScript `Number::toString`, and `null` for what JSON has no number for."""
    number = float(number)
    if not math.isfinite(number):
        return "null"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    digits, point = _shortest(abs(number))
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _shortest(number: float) -> tuple[str, int]:
    """The fewest digits that read back as `number`, and where the point stands: 0.digits times ten to the point."""
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    return digits.rstrip("0"), point


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= MAX_SAFE else number


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _SAFE_DIGITS else _number(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=_refuse_constant)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                below.extend(node.values())
            elif type(node) is list:
                below.extend(node)
        level = below
    return any(type(node) in (dict, list) for node in level)


def _text(value: Any, newline: str, step: str, colon: str) -> str:
    """`newline` is what starts a line at the depth of `value`: nothing at all in the compact form."""
    if isinstance(value, str):
        return _quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return number_text(value)
    inner = newline + step
    if isinstance(value, dict):
        return _join("{", [_quote(k) + colon + _text(v, inner, step, colon) for k, v in _members(value)], newline, step)
    if isinstance(value, list):
        return _join("[", [_text(item, inner, step, colon) for item in value], newline, step)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _join(bracket: str, parts: list[str], newline: str, step: str) -> str:
    closing = {"{": "}", "[": "]"}[bracket]
    if not parts:
        return bracket + closing
    inner = newline + step
    return bracket + inner + f",{inner}".join(parts) + newline + closing


def _quote(text: str) -> str:
    return _SURROGATES.sub(_quote_surrogates, json.dumps(text, ensure_ascii=False))


def _quote_surrogates(match: re.Match[str]) -> str:
    """A pair is one character, even where Python text holds it in two halves; a lone surrogate is escaped."""
    pair = match[1]
    return pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le") if pair else f"\\u{ord(match[0]):x}"


def _is_index(key: str) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) <= MAX_INDEX


def _members(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """ECMAScript OrdinaryOwnPropertyKeys: array indexes ascending, then the others as they were inserted."""
    for key in sorted(filter(_is_index, value), key=int):
        yield key, value[key]
    for key, member in value.items():
        if not _is_index(key):
            yield key, member


# --- the fast path ----------------------------------------------------------------------------------------


def normalise(raw: bytes) -> Canonical:
    """Parse and print in both forms, exactly as the specification does. Raises InvalidJson."""
    try:
        value = _decode(raw)
        if not _is_plain(value):
            return _normalise_slowly(raw)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _normalise_slowly(raw)
    text = _encode(value)
    return Canonical(value, text, msgspec.json.format(text, indent=2))


def _normalise_slowly(raw: bytes) -> Canonical:
    value = parse(raw)
    return Canonical(value, compact(value).encode(), indented(value).encode())


def _is_plain(value: Any) -> bool:
    """Whether msgspec prints this value as ECMAScript does, and it is not nested so deep that a closer look is needed.

    Between 1e-4 and 1e15 both print a float without exponent, with the fewest digits; an integral one gets `.0`.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is dict:
                if any(map(str.isdecimal, node)):
                    return False
                below.extend(node.values())
            elif kind is list:
                below.extend(node)
            elif (kind is int and not -MAX_SAFE <= node <= MAX_SAFE) or (
                kind is float and (node.is_integer() or not 1e-4 < abs(node) < 1e15)
            ):
                return False
        if not below:
            return True
        level = below
    return False


def low_bytes(text: bytes) -> bytes:
    """The low byte of every UTF-16 unit of UTF-8 `text`: what a message id hashes. Its length counts the units."""
    return text if text.isascii() else text.decode().encode("utf-16-le")[::2]
