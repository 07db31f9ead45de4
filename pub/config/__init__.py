"""Settings: built-in defaults < YAML file < PUB_* environment < command line.

A setting is declared once, as a field of a frozen dataclass in `settings.py`: its kind (how it is read, what is
allowed), its default as an operator would write it, and one sentence. The loader, the commented file written on first
start and the table in the README are all derived from these declarations.

The dotted path names a setting everywhere: `network.port` is `port:` below `network:` in the file, `PUB_NETWORK_PORT`
in the environment. Nothing unknown is accepted in silence: a misspelt key that is ignored is a limit that is not
there. The data folder holds the file, so it is the one setting the file cannot give.
"""

from pub.config.explain import config_text, reference_table, write_config
from pub.config.kinds import parse_duration, parse_size
from pub.config.loading import load
from pub.config.settings import Address, Connections, Ingest, Invites, Limits, Log, Network, Replication, Settings

__all__ = [
    "Address",
    "Connections",
    "Ingest",
    "Invites",
    "Limits",
    "Log",
    "Network",
    "Replication",
    "Settings",
    "config_text",
    "load",
    "parse_duration",
    "parse_size",
    "reference_table",
    "write_config",
]
