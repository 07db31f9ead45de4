"""What a scrape reads, and what the rest of the pub asks of its metrics."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pub.ingest.ingest import NotStored
from pub.metrics import DIALS, DISCONNECTS, HANDSHAKES, LIMITS, RECEIVED, REDEMPTIONS, Metrics
from pub.net.peer import DISCONNECT_REASONS

LABELS = {
    "ssb_pub_handshakes_total": ("result", HANDSHAKES),
    "ssb_pub_messages_received_total": ("result", RECEIVED),
    "ssb_pub_invite_redemptions_total": ("result", REDEMPTIONS),
    "ssb_pub_disconnects_total": ("reason", DISCONNECTS),
    "ssb_pub_dials_total": ("result", DIALS),
    "ssb_pub_limit_hits_total": ("limit", LIMITS),
}


def scraped(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample of a scrape by its name, without the times of creation."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def test_a_fresh_pub_shows_every_metric_at_zero() -> None:
    samples = scraped(Metrics())
    assert set(samples) == {
        *LABELS,
        "ssb_pub_internal_errors_total",
        "ssb_pub_messages_sent_total",
        "ssb_pub_messages_published_total",
        "ssb_pub_forks_total",
        "ssb_pub_full_disks_total",
        "ssb_pub_connections",
    }
    assert {value for children in samples.values() for _labels, value in children} == {0}


@pytest.mark.parametrize("name", LABELS)
def test_every_label_is_there_before_it_is_needed(name: str) -> None:
    label, values = LABELS[name]
    assert [labels for labels, _value in scraped(Metrics())[name]] == [{label: value} for value in values]


def test_two_pubs_in_one_process_do_not_add_up() -> None:
    here, there = Metrics(), Metrics()
    here.sent.inc(3)
    here.connections.inc()
    assert here.value("messages_sent_total") == 3
    assert here.value("connections") == 1
    assert there.value("messages_sent_total") == 0
    assert there.value("connections") == 0


def test_a_value_by_its_label() -> None:
    metrics = Metrics()
    metrics.received.labels("fork").inc(2)
    assert metrics.value("messages_received_total", result="fork") == 2
    assert metrics.value("messages_received_total", result="stored") == 0


def test_limits_hit_leaves_out_those_never_hit() -> None:
    metrics = Metrics()
    assert metrics.limits_hit() == {}
    metrics.limit_hits.labels("idle_seconds").inc()
    metrics.limit_hits.labels("unauthenticated").inc(4)
    assert metrics.limits_hit() == {"unauthenticated": 4, "idle_seconds": 1}


def test_the_words_others_count_by_are_known() -> None:
    assert {failure.value for failure in NotStored} < set(RECEIVED)
    assert {reason for _fault, reason in DISCONNECT_REASONS} < set(DISCONNECTS)
