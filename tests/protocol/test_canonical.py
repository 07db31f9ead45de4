"""The normal form: the reference engine's answers, and the fast path against its slow specification."""

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.errors import InvalidJson
from pub.protocol import canonical
from pub.protocol.canonical import MAX_DEPTH, Canonical, compact, indented, low_bytes, normalise, number_text, parse
from pub.protocol.refs import message_id
from tests.vectors import load

CASES = load("json_serialisation")["cases"]


def normalise_slowly(raw: bytes) -> Canonical:
    value = parse(raw)
    return Canonical(value, compact(value).encode(), indented(value).encode())


def wire(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["in_hex"]) if "in_hex" in case else case["in"].encode()


@pytest.mark.parametrize("case", [case for case in CASES if "parse_error" not in case], ids=wire)
def test_prints_as_the_reference_engine_does(case: dict[str, Any]) -> None:
    for form in (normalise(wire(case)), normalise_slowly(wire(case))):
        hashed = low_bytes(form.indented)
        assert form.indented.decode() == case["out"]
        assert form.compact.decode() == case["compact"]
        assert hashlib.sha256(form.indented).hexdigest() == case["sign_bytes_sha256"]
        assert message_id(hashlib.sha256(hashed).digest()) == case["id_hash"]
        assert len(hashed) == case["len_utf16"]


@pytest.mark.parametrize("case", [case for case in CASES if "parse_error" in case], ids=wire)
def test_refuses_what_the_reference_engine_refuses(case: dict[str, Any]) -> None:
    for way in (normalise, parse):
        with pytest.raises(InvalidJson):
            way(wire(case))


# --- the fast path equals the specification ---------------------------------------------------------------

digits = st.text("0123456789", min_size=1, max_size=22)
integers = digits.map(lambda text: text.lstrip("0") or "0")
numbers = st.one_of(
    st.builds("{}{}{}{}".format, st.sampled_from(["", "-"]), integers, st.just(""), st.just("")),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "-"]),
        integers,
        st.one_of(st.just(""), digits.map(".{}".format)),
        st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 330)),
    ),
    st.builds("{}.{}".format, integers, digits),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(1e-5, 1e16).map(repr),
    st.sampled_from(["-0", "-0.0", "1.0", "1e400", "9007199254740992", "9007199254740993", "-9007199254740993"]),
    st.sampled_from(["0.0001", "0.00010001", "999999999999999.9", "1000000000000000.5", "1e21", "1e-6", "1e-7"]),
)
units = st.one_of(
    st.sampled_from(["\\u2028", "\\u0000", "\\u001F", "\\uD83D", "\\uDE00", "\\uD83D\\uDE00", "\\u0031", "\\/", '\\"']),
    st.sampled_from([*"09.:,[]{}eE-/<\x7f é€\u2028\U0001f600\ufffd٠²", "\\\\", "\\b", "\\f", "\\n", "\\r", "\\t"]),
    st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]),
)
strings = st.lists(units, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
indexes = st.sampled_from(
    ["0", "1", "7", "10", "01", "-1", "1.0", "4294967294", "4294967295", "99999999999", "1e3", "٠"]
)
keys = st.one_of(strings, indexes.map('"{}"'.format), st.sampled_from(['""', '"a"', '"b"', '"__proto__"']))
spaces = st.sampled_from(["", "", "", "", " ", "\n\t", "\r"])


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.builds("{}{}".format, spaces, values), max_size=4)
    members = st.lists(st.builds("{1}{0}:{2}{0}".format, spaces, keys, values), max_size=5)
    return st.one_of(items.map(lambda them: f"[{','.join(them)}]"), members.map(lambda them: f"{{{','.join(them)}}}"))


texts = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"])), containers, max_leaves=12
).map(str.encode)


def outcome(way: Any, raw: bytes) -> Any:
    try:
        form = way(raw)
    except InvalidJson:
        return "refused"
    return repr(form.value), form.compact, form.indented


@settings(max_examples=40, deadline=None)
@given(texts)
def test_the_fast_path_gives_what_the_specification_gives(raw: bytes) -> None:
    assert outcome(normalise, raw) == outcome(normalise_slowly, raw) != "refused"


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(texts)
def test_the_fast_path_gives_what_the_specification_gives_at_length(raw: bytes) -> None:
    assert outcome(normalise, raw) == outcome(normalise_slowly, raw) != "refused"


@settings(max_examples=40, deadline=None)
@given(texts, st.data())
def test_damaged_text_is_refused_by_both_or_read_the_same(raw: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw)))
    patch = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from(list('{}[],:"\\0.e- \x0b\x00')).map(str.encode)))
    damaged = raw[:place] + patch + raw[place + data.draw(st.integers(0, 2)) :]
    assert outcome(normalise, damaged) == outcome(normalise_slowly, damaged)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40))
def test_garbage_is_refused_by_both_or_read_the_same(raw: bytes) -> None:
    assert outcome(normalise, raw) == outcome(normalise_slowly, raw)


@settings(max_examples=40, deadline=None)
@given(texts)
def test_a_normal_form_is_its_own_normal_form(raw: bytes) -> None:
    form = normalise(raw)
    assert normalise(form.compact).compact == form.compact
    assert normalise(form.indented).indented == form.indented


def test_ordinary_messages_never_take_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "parse", None)
    text = {
        "sequence": 7,
        "timestamp": 1600507153859.002,
        "content": {"type": "post", "text": "grüße\n😀", "a": [{}, []]},
    }
    assert normalise(json.dumps(text).encode()).value == text


# --- numbers ----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_numbers_read_back_as_the_same_double(number: float) -> None:
    text = number_text(number)
    assert float(text) == number
    assert ("e" in text) == (number != 0 and not 1e-6 <= abs(number) < 1e21)
    assert not text.endswith(".0")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_json_has_no_word_for_infinity(number: float) -> None:
    assert compact([number]) == "[null]"


@pytest.mark.parametrize("text", ["1", "1.0", "1e0", "10E-1"])
def test_spellings_of_a_small_integer_are_one_python_int(text: str) -> None:
    assert parse(text.encode()) == 1
    assert type(parse(text.encode())) is int


def test_half_characters_side_by_side_are_one_character() -> None:
    assert compact("\ud83d\ud83d\ude00\ude00") == '"\\ud83d\U0001f600\\ude00"'


def test_what_json_cannot_say_is_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="bytes"):
        compact({"key": b"bytes"})


# --- depth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [normalise, normalise_slowly])
@pytest.mark.parametrize("leaf", ["", "{}", "1e3", '"\\ud800"'])
def test_max_depth(way: Any, leaf: str) -> None:
    depth = MAX_DEPTH - (leaf == "{}")
    assert way(f"{'[' * depth}{leaf}{']' * depth}".encode()).value
    for more in (1, 2, 900, 100_000):
        with pytest.raises(InvalidJson, match="nested deeper than 64"):
            way(f"{'[' * (depth + more)}{leaf}{']' * (depth + more)}".encode())


def test_max_depth_is_what_a_message_can_hold() -> None:
    assert len(indented(parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH))) == 8192
