"""Multiserver and pub addresses: the reference implementation's verdicts and our differences from it by name."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pub.errors import InvalidReference
from pub.protocol.addresses import (
    Address,
    format_address,
    parse_address,
    parse_announcement,
    parse_multiserver,
    parse_pub_address,
)
from pub.protocol.refs import feed_id, feed_key
from tests.vectors import load

VECTORS = load("refs_addresses_invites")
KEY = "LSECEyzl7bvURmZDlPAoOre66ueoitMrknsqT+ajk5o="
KEY_BYTES = feed_key(f"@{KEY}.ed25519")

# The reference takes a bare word of hexadecimal digits for an IPv6 address.
HOSTS_NOT_FOR_US = {f"net:a:1~shs:{KEY};ws:b:2~shs:{KEY}"}
# The reference takes these ports of pub messages for good.
PORTS_NOT_FOR_US: list[object] = [-1, "8008"]

hosts = st.one_of(
    st.ip_addresses().filter(lambda ip: ip.version == 4 or "%" not in str(ip)).map(str),
    st.from_regex(r"\A[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?\.[a-z]{2,6}\Z").filter(lambda host: host[-6:] != ".onion"),
    st.just("localhost"),
)
addresses = st.one_of(
    st.builds(
        Address,
        hosts,
        st.integers(1, 65535),
        st.binary(min_size=32, max_size=32),
        st.sampled_from(["net", "ws", "wss"]),
    ),
    st.just(Address("abcdefghijklmnop.onion", 8008, KEY_BYTES, "onion")),
)


def accepted(text: str) -> Address | None:
    try:
        return parse_address(text)
    except InvalidReference:
        return None


def as_reference(address: Address | None) -> dict[str, Any] | None:
    if address is None:
        return None
    url = f"{address.transport}://" if address.transport in ("ws", "wss") else ""
    return {"host": url + address.host, "port": address.port, "key": feed_id(address.key)}


@pytest.mark.parametrize("case", VECTORS["addresses"], ids=lambda case: case["address"])
def test_addresses_we_can_dial_agree_with_the_reference(case: dict[str, Any]) -> None:
    theirs = case["parseAddress"] if case["isAddress"] else None  # its parser alone takes anything with two colons
    if case["address"] in HOSTS_NOT_FOR_US:
        assert theirs
        theirs = None
    assert as_reference(accepted(case["address"])) == (theirs or None)


@pytest.mark.parametrize("case", VECTORS["addresses"], ids=lambda case: case["address"])
def test_layers_of_addresses_agree_with_the_reference(case: dict[str, Any]) -> None:
    if case["decode"] == "error":
        assert not case["multiserver_check"]
        with pytest.raises(InvalidReference):
            parse_multiserver(case["address"])
        return
    theirs = [[[layer["name"], *layer["data"]] for layer in address] for address in case["decode"]]
    assert parse_multiserver(case["address"]) == theirs
    keys = [layer[1] for layer in theirs[0] if layer[0] == "shs"]
    assert case["key"] == (f"@{keys[0]}.ed25519" if keys else None)


@pytest.mark.parametrize("case", VECTORS["pub_addresses"], ids=lambda case: str(case["pub_address"]))
def test_addresses_in_pub_messages_agree_with_the_reference(case: dict[str, Any]) -> None:
    value = case["pub_address"]
    if not case["isAddress"] or value.get("port") in PORTS_NOT_FOR_US:
        with pytest.raises(InvalidReference):
            parse_pub_address(value)
    else:
        assert format_address(parse_pub_address(value)) == case["multiserver"]
        assert parse_pub_address(case["multiserver"]) == parse_pub_address(value)


@pytest.mark.parametrize(
    "port", [0, 65536, True, 80.5, float("nan"), float("inf"), "", None, [8008], *PORTS_NOT_FOR_US]
)
def test_a_pub_address_needs_a_port_that_exists(port: object) -> None:
    with pytest.raises(InvalidReference):
        parse_pub_address({"host": "example.com", "port": port, "key": f"@{KEY}.ed25519"})


def test_a_port_parsed_as_a_float_is_the_same_port() -> None:
    value = {"host": "example.com", "port": 8008.0, "key": f"@{KEY}.ed25519"}
    assert str(parse_pub_address(value)) == f"net:example.com:8008~shs:{KEY}"


@pytest.mark.parametrize(
    "host",
    [
        "-a.com",
        "a-.com",
        "a..com",
        "1.2.3",
        "1.2.3.256",
        "a" * 64 + ".com",
        "a." * 127 + "com",
        "fe80::1%eth0",
        "a.com\n",
    ],
)
def test_a_host_that_cannot_exist_is_refused(host: str) -> None:
    assert accepted(f"net:{host}:8008~shs:{KEY}") is None
    assert accepted(f"{host}:8008:@{KEY}.ed25519") is None


@pytest.mark.parametrize("port", ["0", "65536", "-1", "+80", "8_0", " 80", "０８", "0x50", "1e3", "800800"])
def test_a_port_in_a_text_is_plain_digits(port: str) -> None:
    assert accepted(f"net:example.com:{port}~shs:{KEY}") is None
    assert accepted(f"example.com:{port}:@{KEY}.ed25519") is None


@pytest.mark.parametrize(
    "host", ["my_pub.example.com", "example.com.", "xn--bcher-kva.example", "a.b", "::", "::ffff:1.2.3.4"]
)
def test_a_host_in_use_is_taken(host: str) -> None:
    assert accepted(f"net:{host}:8008~shs:{KEY}") == Address(host, 8008, KEY_BYTES)
    assert accepted(f"{host}:8008:@{KEY}.ed25519") == Address(host, 8008, KEY_BYTES)


@pytest.mark.parametrize(
    "text", ["net:a!b~noauth", "net:a b~noauth", "net:é~noauth", "net:a\n~noauth", "Net:a~noauth", "n:a"]
)
def test_text_outside_the_multiserver_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_multiserver(text)


def test_the_first_address_we_can_dial_is_taken() -> None:
    texts = f"unix:/run/socket~noauth;tunnel:@x:@y~shs:{KEY};wss://b.com:443~shs:{KEY};net:c.com:8008~shs:{KEY}"
    assert accepted(texts) == Address("b.com", 443, KEY_BYTES, "wss")


def test_escaped_separators_are_data() -> None:
    assert parse_multiserver("unix:/run/a!:b!~c!;d!!:e~noauth") == [[["unix", "/run/a:b~c;d!", "e"], ["noauth"]]]


@settings(max_examples=40)
@given(addresses)
def test_a_written_address_reads_back(address: Address) -> None:
    assert parse_address(format_address(address)) == address
    assert parse_pub_address(format_address(address)) == address
    assert parse_pub_address(as_reference(address)) == address


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "port", "key"]), inner),
    max_leaves=6,
)


@given(json_values)
def test_rubbish_in_pub_messages_raises_nothing_but_invalid_reference(value: object) -> None:
    with pytest.raises(InvalidReference):
        parse_pub_address(value)


@given(
    st.lists(st.sampled_from([*"!~:;@", "net", "ws", "//", "shs", "a.com", "::1", "80", KEY, ".ed25519", "\n", "é"]))
)
@example(["a." * 2000])
@example(["a" * 5000, ":80:@", KEY, ".ed25519"])
def test_pieces_of_addresses_raise_nothing_but_invalid_reference(pieces: list[str]) -> None:
    address = accepted("".join(pieces))
    assert address is None or parse_address(str(address)) == address


def test_a_refused_address_is_not_quoted() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_address(f"net:example.com:0~shs:{KEY}:{KEY}")  # an invite in the wrong field
    assert KEY not in str(caught.value)


# --- announcements ------------------------------------------------------------------------------------------


def test_an_announcement_is_told_in_normal_form() -> None:
    where = {"host": "pub.example", "port": 8008, "key": f"@{KEY}.ed25519"}
    expected = f"net:pub.example:8008~shs:{KEY}"
    assert parse_announcement({"type": "pub", "address": where}) == expected
    assert parse_announcement({"type": "pub", "address": f"pub.example:8008:@{KEY}.ed25519"}) == expected
    assert parse_announcement({"type": "post", "address": where}) is None
    assert parse_announcement({"type": "pub"}) is None


def test_the_seed_of_an_invite_does_not_travel_on() -> None:
    text = parse_announcement({"type": "pub", "address": f"net:pub.example:8008~shs:{KEY}:{KEY}"})
    assert text == f"net:pub.example:8008~shs:{KEY}"


@given(json_values)
def test_whatever_is_announced_can_be_dialled_or_is_nothing(value: Any) -> None:
    text = parse_announcement({"type": "pub", "address": value})
    assert text is None or format_address(parse_address(text)) == text


@given(addresses)
def test_what_is_announced_is_what_is_read(address: Address) -> None:
    text = parse_announcement({"type": "pub", "address": format_address(address)})
    assert text is not None
    assert parse_address(text) == address
