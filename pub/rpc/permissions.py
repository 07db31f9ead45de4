"""Who may call what. Anything not listed here is for the control socket and the pub's own key alone."""

from pub.net.roles import Peer, Role

STRANGER = frozenset(
    {
        ("manifest",),
        ("createHistoryStream",),
        ("ebt", "replicate"),
        ("blobs", "createWants"),
        ("gossip", "ping"),
    }
)
MEMBER = STRANGER | {("whoami",)}
GUEST = frozenset({("invite", "use"), ("getAddress",)})

ALLOWED = {Role.STRANGER: STRANGER, Role.MEMBER: MEMBER, Role.GUEST: GUEST}


def is_allowed(peer: Peer, name: tuple[str, ...]) -> bool:
    """May ``peer`` call ``name``? Those with all rights are told later that a method does not exist."""
    return peer.role is Role.CONTROL or name in ALLOWED[peer.role]
