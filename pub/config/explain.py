"""What the declarations say to people: the commented file of the first start, and the README's table."""

import json
import os
from pathlib import Path

from pub.config.settings import DEFAULT_FOLDER, FILE_NAME, SETTINGS, VARIABLES

HEADER = """\
# Settings of this pub. Every key below shows its default: take away the # in front of it to change it.
# The environment (PUB_NETWORK_PORT=8008) goes before this file, the command line before both.
"""


def _yaml(default: str | int) -> str:
    return json.dumps(default)


def config_text() -> str:
    """The file written on first start: every setting commented out, with its sentence and its default."""
    text, section = HEADER, ""
    for path, declared in SETTINGS.items():
        name, _, key = path.rpartition(".")
        if name != section:
            section = name
            text += f"\n{name}:"
        indent = "  " if name else ""
        text += f"\n{indent}# {declared.sentence}\n{indent}#{key}: {_yaml(declared.default)}\n"
    return text


def write_config(folder: Path) -> bool:
    """Put the commented file into the data folder; False if there is one already, which is left alone."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # may get network.sign
    except FileExistsError:
        return False
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(config_text())
    return True


def reference_table() -> str:
    """Every setting as a Markdown table, for the README."""
    rows = [
        ("`data`", "`PUB_DATA`", f"`{DEFAULT_FOLDER}`", "Folder of the pub; also `--data`, not in the file."),
        ("`config`", "`PUB_CONFIG`", f"`<data>/{FILE_NAME}`", "The file; also `--config`, not in the file."),
    ]
    for variable, path in VARIABLES.items():
        declared = SETTINGS[path]
        rows.append((f"`{path}`", f"`{variable}`", f"`{_yaml(declared.default)}`", declared.sentence))
    header = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*header, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
