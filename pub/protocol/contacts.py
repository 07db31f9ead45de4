"""Contact messages: how an author says whom they follow and whom they block.

`{"type": "contact", "contact": <feed id>, "following"?: true, "blocking"?: true, "flagged"?: …}` sets one edge of the
follow graph. The last message of an author about a target wins and replaces all that was said before: fields are not
merged, so `{"blocking": false}` alone also ends a follow.
"""

from typing import Any

import msgspec

from pub.errors import InvalidReference
from pub.protocol.refs import feed_key

FOLLOW = 1
BLOCK = -1
UNFOLLOW = -2


class Contact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One edge: `target` is the 32-byte key of a feed, `value` is FOLLOW, BLOCK or UNFOLLOW."""

    target: bytes
    value: int


def parse_contact(content: dict[str, Any]) -> Contact | None:
    """The edge that this content sets; None if it is not about a contact, or the contact is no feed id."""
    if content.get("type") != "contact":
        return None
    try:
        target = feed_key(content.get("contact"))
    except InvalidReference:
        return None
    if _is_truthy(content.get("blocking")) or _is_truthy(content.get("flagged")):
        return Contact(target, BLOCK)
    return Contact(target, FOLLOW if content.get("following") is True else UNFOLLOW)


def _is_truthy(value: object) -> bool:
    """As JavaScript sees it: empty objects and arrays are true."""
    return isinstance(value, (dict, list)) or bool(value)
