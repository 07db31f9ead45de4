"""Messages of every kind that people and their programs publish; each stresses another corner of the format."""

from typing import Any

MESSAGE_ID = "%" + "A" * 43 + "=.sha256"
BLOB_ID = "&" + "B" * 42 + "A=.sha256"
LONGEST = 8192  # characters of the indented message with its signature: the network's limit


# half of a character: legal JSON, and legal on the network, but db2 stores text as UTF-8 and cannot hold it
LONE_SURROGATE = {"type": "post", "text": "half \ud83d of a turtle"}


def every_kind(author: str, friend: str) -> list[dict[str, Any]]:
    """Contents for one feed; the private and the longest message need the client's help and are not among them."""
    return [
        {"type": "contact", "contact": friend, "following": True},
        {"type": "contact", "contact": friend, "following": False, "blocking": False},
        {"type": "about", "about": author, "name": "Ålïcé ✨", "description": 'tab\t nl\n quote" back\\ \x01 \x7f'},
        {"type": "post", "text": "plain"},
        {"type": "post", "text": "日本語 עברית 🐢👩‍👩‍👧‍👦 \u2028\u2029 \ufeff e\u0301 \U0010ffff", "channel": "ünï"},
        {"type": "post", "text": "reply", "root": MESSAGE_ID, "branch": [MESSAGE_ID], "mentions": []},
        {"type": "post", "text": "picture", "mentions": [{"link": BLOB_ID, "name": "x.png", "size": 12}]},
        {"type": "vote", "vote": {"link": MESSAGE_ID, "value": 1, "expression": "♥"}},
        {"type": "odd", "numbers": [1.5, 1.5e-7, 1e-6, 1e21, 1e20, 2**53 + 1, -12.75, 0, -0.0, 0.1, 1 / 3, 5e-324]},
        {"type": "odd", "largest": 1.7976931348623157e308, "half": 4503599627370497.5, "nothing": None, "yes": True},
        {"type": "odd", "empty": [{}, [], "", [[[]]], {"a": [{}]}]},
        {"type": "odd-keys", "10": 1, "2": 2, "b": 3, "a": 4, "01": 5, "4294967294": 6, "4294967295": 7, "-1": 8},
        {"type": "odd-keys", "": "empty", "ключ": 1, "with space": 1, "nested": {"1": 1, "0": 0}, "\n": "line"},
        {"type": "post", "text": "é" * 3000},
        {"type": "x" * 52, "text": "the longest type"},
        {"type": "🐢x", "text": "the shortest type"},
    ]
