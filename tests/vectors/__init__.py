"""Vectors made with the reference implementation, one JSON file per subject (README.md says what each one is).

`load` reads a file once per test run. The value it returns is shared by every test: treat it as read-only.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@cache
def load(name: str) -> Any:
    """The content of `<name>.json`, for example `load("shs")`."""
    return json.loads((FOLDER / f"{name.removesuffix('.json')}.json").read_text(encoding="utf-8"))
