"""An operator's settings: where they come from, which one counts, and what is said when one is wrong."""

import base64
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pub.config import (
    Address,
    Ingest,
    Network,
    Settings,
    config_text,
    load,
    parse_duration,
    parse_size,
    reference_table,
    write_config,
)
from pub.config.settings import SETTINGS, VARIABLES
from pub.errors import ConfigError
from pub.protocol.shs import MAIN_NETWORK

KEY = base64.b64encode(bytes(range(32))).decode()


def from_file(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "config.yaml").write_text(text)
    return load(environ={}, data=tmp_path)


def refusal(tmp_path: Path, text: str) -> str:
    """What is said about a file with this text."""
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text)
    return str(caught.value)


# --- defaults and precedence --------------------------------------------------------------------------------


def test_nothing_set(tmp_path: Path) -> None:
    settings = load(environ={}, data=tmp_path)
    assert settings == Settings(data=tmp_path)
    assert (settings.network.host, settings.network.port, settings.network.sign) == ("", 8008, None)
    assert settings.network.key == MAIN_NETWORK
    assert settings.limits.outbound_bytes_per_peer == 4 * 2**20
    assert settings.limits.ingest_bytes == 16 * 2**20
    assert settings.limits.handshake_seconds == 5


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: file\ndescription: file\nnetwork: {port: 1, host: '::1'}\n")
    environ = {"PUB_DESCRIPTION": "environment", "PUB_NETWORK_PORT": "2", "HOME": "/", "PUBLIC": "not ours"}
    settings = load(environ=environ, data=tmp_path, flags={"network.port": "3"})
    assert (settings.name, settings.description) == ("file", "environment")
    assert settings.network == Network(host="::1", port=3)


def test_every_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {variable: str(SETTINGS[path].default) for variable, path in VARIABLES.items()}
    assert load(environ=environ, data=tmp_path) == Settings(data=tmp_path)
    assert VARIABLES["PUB_LIMITS_MAX_UNAUTHENTICATED_PER_ADDRESS"] == "limits.max_unauthenticated_per_address"


def test_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(environ={}).data == tmp_path / ".ssb-pub"
    assert load(environ={"PUB_DATA": "~/a"}).data == tmp_path / "a"
    assert load(environ={"PUB_DATA": "~/a"}, data="~/b").data == tmp_path / "b"
    monkeypatch.chdir(tmp_path)
    settings = load(environ={"PUB_DATA": ""}, data="c")
    assert settings.data == tmp_path / "c"
    assert (settings.secret, settings.socket) == (tmp_path / "c/secret", tmp_path / "c/socket")


def test_a_user_without_a_home_must_name_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigError, match="PUB_DATA"):
        load(environ={})


def test_a_file_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("name: other\n")
    assert load(environ={"PUB_CONFIG": str(file)}, data=tmp_path).name == "other"
    assert load(environ={}, data=tmp_path, config=file).name == "other"
    with pytest.raises(ConfigError, match="there is no such file"):
        load(environ={}, data=tmp_path, config=tmp_path / "missing.yaml")


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("network: {prot: 1}", "network.prot is no setting of the pub; did you mean network.port?"),
        ("nam: x", "nam is no setting of the pub; did you mean name?"),
        ("handshake_seconds: 3", "did you mean limits.handshake_seconds?"),
        ("port: 1", "did you mean network.port or address.port or operations.port?"),
        ("zebra: 1", "zebra is no setting of the pub"),
        ("network: {host: {deep: 1}}", "network.host: {'deep': 1} is not allowed"),
        ("network: 8008", "network is a section"),
        ("data: /tmp", "data cannot be set here; use --data or PUB_DATA"),
        ("config: /tmp", "config cannot be set here"),
        ("network: {port: 99999}", "network.port: 99999 is not allowed, it must be a whole number, 0 to 65535"),
        ("network: {port: 8008.5}", "network.port: 8008.5 is not allowed"),
        ("network: {port: true}", "network.port: True is not allowed"),
        ("name: 2024", "name: 2024 is not allowed, it must be text, in quotes"),
        ("log: {level: loud}", "'loud' is not allowed, it must be one of debug, info, warning, error"),
        ("limits: {idle_seconds: 0}", "limits.idle_seconds: 0 is not allowed"),
        ("limits: {ingest_bytes: 4 potatoes}", "limits.ingest_bytes: '4 potatoes' is not allowed"),
        ("limits: {ingest_bytes: .nan}", "limits.ingest_bytes: nan is not allowed"),
        ("limits: {max_connections: 0}", "limits.max_connections: 0 is not allowed"),
        ("address: {host: 'https://pub.example'}", "'https://pub.example' is not allowed, it must be an IP address"),
        ("address: {host: 'pub.example:8008'}", "'pub.example:8008' is not allowed"),
        ("address: {host: '0.0.0.0'}", "'0.0.0.0' is not allowed"),
        ("address: {host: pub}", "'pub' is not allowed, it must be an IP address or a DNS name with a dot"),
        ("- a\n- b", "must hold `key: value` lines"),
        ("name: a\nname: b", "line 2: name is given twice"),
        ("network: {port: 1}\nnetwork: {port: 2}", "network is given twice"),
        ("name: [", "line 1"),
        ("name: !!python/object:os.system x", "line 1: could not determine a constructor"),
        ("? [a]\n: b", "line 1"),
        ("name: \x01", "control characters"),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_value(tmp_path: Path, text: str, said: str) -> None:
    text = refusal(tmp_path, text)
    assert text.startswith(str(tmp_path / "config.yaml"))
    assert said in text


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(environ={}, data=tmp_path)


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes("name: Grün".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(environ={}, data=tmp_path)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PUB_NETWORK_PROT": "1"}, "PUB_NETWORK_PROT is no setting of the pub; did you mean PUB_NETWORK_PORT?"),
        ({"PUB_DATE": "/x"}, "did you mean PUB_DATA?"),
        ({"PUB_NETWORK_PORT": ""}, "PUB_NETWORK_PORT (network.port): '' is not allowed"),
        ({"PUB_NETWORK_PORT": "80a"}, "PUB_NETWORK_PORT (network.port): '80a' is not allowed"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ=environ, data=tmp_path)
    assert str(caught.value).startswith("environment: ")
    assert said in str(caught.value)


def test_a_wrong_flag_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"command line: network\.port: '-1' is not allowed"):
        load(environ={}, data=tmp_path, flags={"network.port": "-1"})


def test_keys_are_never_shown(tmp_path: Path) -> None:
    text = refusal(tmp_path, f"network: {{sign: '{KEY[:-4]}'}}")
    assert "network.sign: the value is not allowed, it must be 32 bytes in base64" in text
    assert KEY[:8] not in text
    settings = from_file(tmp_path, f"network: {{sign: '{KEY}', key: '{KEY}'}}")
    assert settings.network.sign == settings.network.key == bytes(range(32))
    assert "sign=" not in repr(settings)
    assert "key=" not in repr(settings)


def test_empty_keys_and_sections_keep_their_defaults(tmp_path: Path) -> None:
    assert from_file(tmp_path, "network:\nname:\naddress:\n  host:\n") == Settings(data=tmp_path)
    assert from_file(tmp_path, "") == Settings(data=tmp_path)


# --- what follows from settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "public"),
    [
        *((host, host) for host in ("127.0.0.1", "2001:db8::1", "localhost", "pub.example", "my_pub.example.org")),
        *((host, None) for host in ("", "0.0.0.0", "::", "pub", "10.0.0.300", "fe80::1%eth0")),  # noqa: S104
        ("[::1]", "::1"),
    ],
)
def test_invite_codes_carry_the_address_listened_on_if_it_is_one(tmp_path: Path, host: str, public: str | None) -> None:
    settings = load(environ={"PUB_NETWORK_HOST": host}, data=tmp_path)
    assert settings.public_host == public
    assert replace(settings, address=Address(host="other.example")).public_host == "other.example"


def test_invite_codes_carry_the_port_listened_on_unless_told_another(tmp_path: Path) -> None:
    settings = Settings(tmp_path, network=Network(port=9000))
    assert settings.public_port == 9000
    assert replace(settings, address=Address(port=443)).public_port == 443


def test_one_verifying_process_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        assert Ingest().worker_count == expected
    assert Ingest(workers=7).worker_count == 7


# --- peers to dial ------------------------------------------------------------------------------------------

HARBOUR, ISLAND = (f"net:{host}:8008~shs:{KEY}" for host in ("harbour.example", "2001:db8::1"))


@pytest.mark.parametrize(
    ("written", "peers"),
    [
        (f"['{HARBOUR}', '{ISLAND}']", (HARBOUR, ISLAND)),
        (f"'{HARBOUR}, {ISLAND},'", (HARBOUR, ISLAND)),
        (f"'{HARBOUR}'", (HARBOUR,)),
        ("[]", ()),
        ("''", ()),
    ],
)
def test_peers_are_a_list_or_have_commas_between(tmp_path: Path, written: str, peers: tuple[str, ...]) -> None:
    assert from_file(tmp_path, f"connections: {{peers: {written}}}").connections.peers == peers


def test_peers_from_the_environment(tmp_path: Path) -> None:
    settings = load(environ={"PUB_CONNECTIONS_PEERS": f"{HARBOUR},{ISLAND}"}, data=tmp_path)
    assert settings.connections.peers == (HARBOUR, ISLAND)


@pytest.mark.parametrize(
    "wrong",
    ["harbour.example", f"ws://harbour.example:80~shs:{KEY}", f"{HARBOUR}:{KEY}", f"harbour.example:8008:@{KEY}~{KEY}"],
)
def test_what_is_no_peer_is_refused_and_not_shown_for_it_may_be_an_invite(tmp_path: Path, wrong: str) -> None:
    text = refusal(tmp_path, f"connections: {{peers: ['{wrong}']}}")
    assert "connections.peers: the value is not allowed, it must be addresses such as net:" in text
    assert KEY not in text


@pytest.mark.parametrize("wrong", ["7", "{a: b}", "[7]", "[[]]", "true"])
def test_peers_of_another_kind_are_refused(tmp_path: Path, wrong: str) -> None:
    assert "connections.peers" in refusal(tmp_path, f"connections: {{peers: {wrong}}}")


# --- quantities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90), (1.5, 1.5), ("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000), (" 2 W ", 1209600)],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"), [(4096, 4096), ("64KiB", 65536), ("4 MiB", 4194304), ("4mb", 4000000), ("1.5GiB", 1610612736)]
)
def test_sizes(written: object, size: int) -> None:
    assert parse_size(written) == size


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_whatever_is_written_is_a_quantity_or_refused(written: object) -> None:
    for parse in (parse_duration, parse_size):
        with suppress(ValueError):
            assert 0 <= parse(written) < 1e25


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.dictionaries(st.text(), st.text(), max_size=2)),
)
def test_whatever_is_set_gives_settings_or_a_config_error(path: str, value: object) -> None:
    with suppress(ConfigError):
        load(environ={}, data="/nowhere", flags={path: value})


# --- what is generated --------------------------------------------------------------------------------------


def test_the_commented_file_sets_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path, config_text()) == Settings(data=tmp_path)


def test_the_commented_file_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    lines = config_text().split("\n")
    uncommented = "\n".join(line.replace("#", "", 1) if "# " not in line else line for line in lines)
    document = yaml.safe_load(uncommented)
    shown = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in document.items()
        for key in (value if isinstance(value, dict) else [section])
    }
    assert shown == set(SETTINGS)
    assert from_file(tmp_path, uncommented) == Settings(data=tmp_path)
    assert all(f"# {declared.sentence}" in config_text() for declared in SETTINGS.values())


def test_the_commented_file_is_written_once(tmp_path: Path) -> None:
    assert write_config(tmp_path)
    file = tmp_path / "config.yaml"
    assert file.read_text() == config_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("name: mine\n")
    assert not write_config(tmp_path)
    assert file.read_text() == "name: mine\n"


def test_the_reference_table_has_every_setting() -> None:
    lines = reference_table().splitlines()
    for variable, path in VARIABLES.items():
        (row,) = [line for line in lines if f"`{variable}`" in line]
        assert row.startswith(f"| `{path}` |")
        assert SETTINGS[path].sentence in row
    assert all(line.count("|") == 5 for line in lines)
    assert {"`PUB_DATA`", "`PUB_CONFIG`"} <= {line.split(" | ")[1] for line in lines[2:]}
