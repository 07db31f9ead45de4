"""What the dashboard shows: rows of panels, each with a title, one sentence, a unit and its PromQL.

Everything is of the one pub that the variables ``job`` and ``instance`` choose. Times are shown as the middle and the
slowest hundredth. ``generate.py`` makes Grafana's JSON of it.
"""

from dataclasses import dataclass
from typing import Literal

ONE_PUB = 'job="$job",instance="$instance"'
PEERS = 'role=~"member|stranger"'  # guests leave after one call, and control is the pub itself and its operator
DISHONEST = 'result=~"bad_signature|too_large|invalid|invalid_first"'
STORED = 'result="stored"'
NOT_ANSWERED = 'result!="answered"'
STATS_IN_A_ROW = 8

Kind = Literal["graph", "stacked", "stat", "text", "states"]
Steps = tuple[tuple[float | None, str], ...]
IS_SO: Steps = ((None, "red"), (1, "green"))


@dataclass(frozen=True)
class Panel:
    """``queries`` are pairs of an expression and the legend of its series."""

    title: str
    sentence: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "graph"
    steps: Steps = ((None, "blue"),)
    """From which value on which colour; ``None``: from the lowest."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def of(name: str, *matchers: str) -> str:
    """A metric of the pub itself."""
    return plain(f"ssb_pub_{name}", *matchers)


def plain(name: str, *matchers: str) -> str:
    return f"{name}{{{','.join((ONE_PUB, *matchers))}}}"


def rate(name: str, *matchers: str) -> str:
    return f"rate({of(name, *matchers)}[$__rate_interval])"


def quantiles(histogram: str) -> tuple[tuple[str, str], ...]:
    buckets = f"sum by (le) ({rate(f'{histogram}_bucket')})"
    return tuple((f"histogram_quantile({q}, {buckets})", legend) for q, legend in ((0.5, "middle"), (0.99, "p99")))


def mean(histogram: str) -> str:
    return f"{rate(f'{histogram}_sum')} / ({rate(f'{histogram}_count')} > 0)"


OVERVIEW = Row(
    "Overview",
    (
        Panel("Up", "Did Prometheus reach the pub?", "bool_yes_no", ((plain("up"), ""),), "stat", IS_SO),
        Panel("Ready", "Do all checks below pass?", "bool_yes_no", ((of("ready"), ""),), "stat", IS_SO),
        Panel(
            "Peers",
            "Members, strangers and other pubs that are connected now.",
            "none",
            ((f"sum({of('connections', PEERS)})", ""),),
            "stat",
        ),
        Panel(
            "Messages",
            "New messages stored per second.",
            "mps",
            ((rate("messages_received_total", STORED), ""),),
            "stat",
        ),
        Panel(
            "Stored share",
            "How much of what peers sent was new; the rest came twice, was not wanted or not right.",
            "percentunit",
            ((f"sum({rate('messages_received_total', STORED)}) / (sum({rate('messages_received_total')}) > 0)", ""),),
            "stat",
        ),
        Panel(
            "Lag",
            "How late the event loop is at its slowest hundredth: what everybody waits for.",
            "s",
            (quantiles("event_loop_lag_seconds")[1],),
            "stat",
            ((None, "green"), (0.1, "orange"), (1, "red")),
        ),
        Panel(
            "Disk",
            "Room on the disk of the data folder.",
            "bytes",
            ((of("disk_free_bytes"), ""),),
            "stat",
            ((None, "red"), (512 << 20, "orange"), (2 << 30, "green")),
        ),
        Panel("Version", "Which release runs.", "string", ((of("build_info"), "{{version}}"),), "text"),
        Panel(
            "Checks",
            "What /readyz found when it was last asked, at least every 15 seconds.",
            "bool_yes_no",
            ((of("check_passed"), "{{check}}"),),
            "states",
            IS_SO,
        ),
    ),
)

PEERS_ROW = Row(
    "Peers",
    (
        Panel(
            "Connections",
            "Authenticated connections by who dialled and what they may do.",
            "none",
            ((of("connections"), "{{direction}} {{role}}"),),
            "stacked",
        ),
        Panel(
            "Handshakes",
            "Who dialled us, by how it ended; a port scan is failed or timeout, own are the pub's own checks.",
            "cps",
            ((rate("handshakes_total"), "{{result}}"),),
        ),
        Panel(
            "Handshake time",
            "From the connection of who dialled us to the proven key, two round trips included.",
            "s",
            quantiles("handshake_seconds"),
        ),
        Panel(
            "In their handshake",
            "Connections that have not proven a key yet (bound: limits.max_unauthenticated), and failed ones held.",
            "none",
            ((of("connections_unauthenticated"), "unauthenticated"), (of("connections_held"), "held")),
        ),
        Panel(
            "Disconnects",
            "Connections ended, by reason; goodbye and hangup are normal.",
            "cps",
            ((rate("disconnects_total"), "{{reason}}"),),
        ),
        Panel(
            "Dials",
            "Other pubs that this pub dialled, by what came of it.",
            "cps",
            ((rate("dials_total"), "{{result}}"),),
        ),
        Panel(
            "Bytes",
            "Exchanged with peers, before encryption.",
            "Bps",
            ((rate("transferred_bytes_total"), "{{direction}}"),),
        ),
    ),
)

REPLICATION = Row(
    "Replication",
    (
        Panel(
            "Messages received",
            "What peers sent, by what became of it.",
            "mps",
            ((rate("messages_received_total"), "{{result}}"),),
            "stacked",
        ),
        Panel(
            "Messages no honest client sends",
            "Bad signatures and broken rules: somebody's bug, or somebody's try.",
            "mps",
            ((rate("messages_received_total", DISHONEST), "{{result}}"),),
        ),
        Panel(
            "Messages sent",
            "Sent to peers, and published on the pub's own feed.",
            "mps",
            ((rate("messages_sent_total"), "sent"), (rate("messages_published_total"), "published")),
        ),
        Panel(
            "Time to pass on",
            "From a message's commit to its first sending, where a peer waited for it.",
            "s",
            quantiles("resend_seconds"),
        ),
        Panel(
            "Feeds",
            "Feeds in each state; a feed can be in several, and awaited ones are on their way.",
            "none",
            ((of("feeds"), "{{state}}"),),
        ),
        Panel("Messages in the store", "All messages of all feeds.", "short", ((of("messages"), "messages"),)),
        Panel(
            "Sessions",
            "Peers that replicate by EBT, and those that seem to be too old for it.",
            "none",
            ((of("ebt_sessions"), "EBT"), (of("legacy_peers"), "without EBT")),
        ),
        Panel(
            "Forks",
            "Feeds found to have two continuations since the pub started: a key was used in two places.",
            "none",
            ((of("forks_total"), "forks"),),
        ),
    ),
)

RPC = Row(
    "RPC",
    (
        Panel(
            "Requests",
            "Requests of peers and of the command line, by method.",
            "reqps",
            ((f"sum by (method) ({rate('rpc_requests_total')}) > 0", "{{method}}"),),
        ),
        Panel(
            "Requests not answered",
            "Refused by the method, forbidden for the role, unknown, or left by who asked.",
            "reqps",
            ((f"sum by (result) ({rate('rpc_requests_total', NOT_ANSWERED)})", "{{result}}"),),
        ),
        Panel(
            "Answer time",
            "From a request to its answer, each method at its slowest hundredth.",
            "s",
            (
                (
                    f"histogram_quantile(0.99, sum by (le, method) ({rate('rpc_request_seconds_bucket')}))",
                    "{{method}}",
                ),
            ),
        ),
        Panel(
            "Under way",
            "Requests being answered, and open streams of either side.",
            "none",
            ((of("rpc_requests_in_flight"), "requests"), (of("rpc_streams"), "streams")),
        ),
    ),
)

INVITES = Row(
    "Invites",
    (
        Panel(
            "Redemptions per hour",
            "Calls of invite.use in the hour before, by result.",
            "none",
            ((f"increase({of('invite_redemptions_total')}[1h])", "{{result}}"),),
        ),
        Panel("Open codes", "Codes that somebody can still use.", "none", ((of("invites_open"), "open"),)),
        Panel("Members", "Who was ever admitted by a code.", "none", ((of("members"), "members"),)),
    ),
)

STORE = Row(
    "Store",
    (
        Panel(
            "Commit time",
            "Transactions from begin to fsync: how slow the disk is.",
            "s",
            quantiles("commit_seconds"),
        ),
        Panel(
            "Messages per commit",
            "Messages that share one transaction on the mean; more under load.",
            "short",
            ((mean("commit_messages"), "messages"),),
        ),
        Panel(
            "Commit errors",
            "Transactions that were undone, by reason, and how often the disk turned out to be full.",
            "cps",
            ((rate("commit_errors_total"), "{{reason}}"), (rate("full_disks_total"), "full disk")),
        ),
        Panel(
            "Oldest transactions",
            "Age of the oldest read and of the write under way; both should be over in a blink.",
            "s",
            (
                (of("store_oldest_reader_seconds"), "read"),
                (of("commit_under_way_seconds"), "write"),
            ),
        ),
        Panel(
            "Size",
            "Pages in use, the file they lie in, and the address space, which doubles by itself and is no disk.",
            "bytes",
            (
                (of("store_used_bytes"), "used"),
                (of("store_file_bytes"), "file"),
                (of("store_mapped_bytes"), "mapped"),
            ),
        ),
        Panel(
            "Free pages",
            "Room inside the file that is used before it grows.",
            "short",
            ((of("store_free_pages"), "pages"),),
        ),
        Panel(
            "Disk",
            "Room on the disk, its size, and the floor below which the pub is not ready.",
            "bytes",
            (
                (of("disk_free_bytes"), "free"),
                (of("disk_size_bytes"), "size"),
                (of("disk_floor_bytes"), "floor"),
            ),
        ),
    ),
)

SATURATION = Row(
    "Saturation",
    (
        Panel(
            "Event-loop lag",
            "How late a task is woken that asked to be four times a second.",
            "s",
            quantiles("event_loop_lag_seconds"),
        ),
        Panel(
            "Waiting to be stored",
            "Messages waiting to be verified or written.",
            "short",
            ((of("verify_queue_messages"), "messages"),),
        ),
        Panel(
            "Share of bounds used",
            "At 100 % peers have to wait or are turned away.",
            "percentunit",
            (
                (f"sum({of('connections')}) / sum({of('connections_limit')})", "connections"),
                (f"{of('ingest_bytes')} / {of('ingest_limit_bytes')}", "waiting messages"),
                (f"{plain('process_open_fds')} / {plain('process_max_fds')}", "file descriptors"),
            ),
        ),
        Panel(
            "Bounds hit",
            "How often something was held back or turned away, by the bound; those never hit are left out.",
            "cps",
            ((f"{rate('limit_hits_total')} > 0", "{{limit}}"),),
        ),
        Panel(
            "CPU",
            "Cores in use by the pub and by all that verify signatures.",
            "percentunit",
            ((rate("cpu_seconds_total"), "{{process}}"),),
            "stacked",
        ),
        Panel(
            "Memory",
            "Anonymous is what the processes need; resident counts cached pages of the store as well.",
            "bytes",
            (
                (of("anonymous_memory_bytes"), "{{process}} anonymous"),
                (of("resident_memory_bytes"), "{{process}} resident"),
            ),
        ),
        Panel(
            "Processes and tasks",
            "Processes that run, and tasks in the event loop: a few for each peer.",
            "none",
            ((of("processes"), "processes: {{process}}"), (of("tasks"), "tasks")),
        ),
        Panel(
            "Time since the start",
            "A saw with short teeth is a pub that crashes again and again.",
            "s",
            ((f"time() - {plain('process_start_time_seconds')}", "running"),),
        ),
        Panel("Log", "Lines written, by level.", "cps", ((rate("log_lines_total"), "{{level}}"),)),
        Panel(
            "Internal errors",
            "Bugs of the pub since it started; should be 0, and the log has their tracebacks.",
            "none",
            ((of("internal_errors_total"), "errors"),),
        ),
    ),
)

ROWS = (OVERVIEW, PEERS_ROW, REPLICATION, RPC, INVITES, STORE, SATURATION)
