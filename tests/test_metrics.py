"""What a scrape reads, and what the rest of the pub asks of its metrics."""

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pub import metrics as words
from pub.ingest.batch import NotStored
from pub.metrics import LIMITS, METHODS, PREFIX, RECEIVED, Metrics, reference_table
from pub.net.peer import DISCONNECT_REASONS
from pub.net.roles import Role
from pub.protocol.arrivals import Expectation
from pub.service.wiring import METHODS as WIRED
from pub.store.invites import InviteState

DOCUMENT = (Path(__file__).parents[1] / "docs" / "METRICS.md").read_text()
TABLE = DOCUMENT.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->")[0]
ID_OR_ADDRESS = re.compile(r"[@%&/=]|\d{2}|\.\w+\.")


def scraped(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample of a scrape by its name."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def documented() -> dict[str, dict[str, set[str]]]:
    """Of each metric of the table the words that each label takes."""
    found = {}
    for line in TABLE.splitlines()[2:]:
        name, _kind, labels, _meaning = (cell.strip() for cell in line.strip("|").split("|"))
        pairs = (label.partition(": ") for label in labels.split("; ") if label)
        found[name.strip("`")] = {label: set(values.split(", ")) - {""} for label, _, values in pairs}
    return found


# --- the document --------------------------------------------------------------------------------------------


def test_the_table_is_made_from_the_code() -> None:
    assert reference_table() == TABLE


def test_a_scrape_shows_what_the_table_says_and_nothing_else() -> None:
    shown: dict[str, dict[str, set[str]]] = {}
    table = documented()
    for name, samples in scraped(Metrics()).items():
        known = name if name in table else re.sub("_(bucket|sum|count)$", "", name)
        labels = shown.setdefault(known, {})
        for pairs, _value in samples:
            for label, value in pairs.items():
                labels.setdefault(label, set()).update({value} if label != "le" else set())
    assert shown == table


def test_the_text_below_the_table_names_only_what_exists() -> None:
    table, below = documented(), DOCUMENT.partition("<!-- /metrics -->")[2]
    known = {value for labels in table.values() for values in labels.values() for value in values} | table.keys()
    for word in re.findall(r"`(\w+)`", below):
        assert word in known or f"{PREFIX}{word}" in known, word


def test_names_say_what_they_count_in_base_units() -> None:
    for name in documented():
        assert re.fullmatch(r"(ssb_pub|process|python_gc)_[a-z_]+", name)
        assert not re.search(r"_(ms|milliseconds|kb|mb|kilobytes|percent|minutes|hours)(_|$)", name)


def test_no_label_has_room_for_an_id_an_address_or_a_code() -> None:
    values = [value for labels in documented().values() for words in labels.values() for value in words]
    assert [value for value in values if ID_OR_ADDRESS.search(value) or len(value) > 32] == []


# --- words that others count by ------------------------------------------------------------------------------


def test_a_fresh_pub_shows_every_child_at_zero() -> None:
    ours = {name: samples for name, samples in scraped(Metrics()).items() if name.startswith(PREFIX)}
    del ours[f"{PREFIX}build_info"]
    assert {value for samples in ours.values() for _labels, value in samples} == {0}


def test_the_words_others_count_by_are_known() -> None:
    assert {failure.value for failure in NotStored} < set(RECEIVED)
    assert {each.name.lower() for each in Expectation} - {"next"} < set(RECEIVED)
    assert {reason for _fault, reason in DISCONNECT_REASONS} < set(words.DISCONNECTS)
    assert {role.value for role in Role} == set(words.ROLES)
    assert set(InviteState) - {InviteState.OPEN} < set(words.REDEMPTIONS)


def test_the_methods_are_those_of_the_pub() -> None:
    assert {".".join(name) for name in WIRED} == set(METHODS) - {words.OTHER}
    answered = {".".join(name) for name, method in WIRED.items() if method.type in ("sync", "async")}
    assert answered == set(words.ANSWERED_METHODS)


# --- use -----------------------------------------------------------------------------------------------------


def test_two_pubs_in_one_process_do_not_add_up() -> None:
    here, there = Metrics(), Metrics()
    here.sent.inc(3)
    here.connections.labels("incoming", "member").inc()
    assert here.value("messages_sent_total") == 3
    assert here.value("connections") == 1
    assert there.value("messages_sent_total") == 0
    assert there.value("connections") == 0


def test_a_value_by_its_labels() -> None:
    metrics = Metrics()
    metrics.received.labels("fork").inc(2)
    metrics.received.labels("gap").inc()
    assert metrics.value("messages_received_total", result="fork") == 2
    assert metrics.value("messages_received_total", result="stored") == 0
    assert metrics.value("messages_received_total") == 3


def test_a_metric_that_does_not_exist_has_no_value() -> None:
    with pytest.raises(ValueError, match="not enough"):
        Metrics().value("messages_eaten_total")


def test_a_tally_is_taken_over_once() -> None:
    metrics = Metrics()
    tally = metrics.tally
    tally.sent_messages += 2
    tally.received_bytes += 10
    assert metrics.value("messages_sent_total") == 2
    tally.sent_messages += 1
    assert metrics.value("messages_sent_total") == 3
    assert metrics.value("transferred_bytes_total", direction="received") == 10
    assert metrics.value("transferred_bytes_total", direction="sent") == 0


def test_limits_hit_leaves_out_those_never_hit() -> None:
    metrics = Metrics()
    assert metrics.limits_hit() == {}
    metrics.limit_hits.labels("idle_seconds").inc()
    metrics.limit_hits.labels("unauthenticated").inc(4)
    assert metrics.limits_hit() == {"unauthenticated": 4, "idle_seconds": 1}
    assert metrics.limits_hit().keys() < set(LIMITS)
