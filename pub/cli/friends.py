"""Whom the pub follows and blocks: follow, unfollow, block, unblock."""

from typing import Any

import click

from pub.cli.asking import change
from pub.cli.options import Place, common, pass_place
from pub.cli.output import print_json


def _decide(place: Place, name: tuple[str, ...], feed: str, options: dict[str, Any], done: str) -> None:
    answer = change(place.settings(), name, [feed, options])
    if place.as_json:
        print_json({"id": feed, "message": answer["key"]})
    else:
        click.echo(f"{done} {feed}.")


@click.command()
@common
@click.argument("feed")
@pass_place
def follow(place: Place, feed: str) -> None:
    """Follow FEED: keep its messages, and those of whom it follows."""
    _decide(place, ("friends", "follow"), feed, {"state": True}, "The pub now follows")


@click.command()
@common
@click.argument("feed")
@pass_place
def unfollow(place: Place, feed: str) -> None:
    """No longer follow FEED; what is stored of it stays."""
    _decide(place, ("friends", "follow"), feed, {"state": False}, "The pub no longer follows")


@click.command()
@common
@click.argument("feed")
@click.option("--reason", default="", metavar="TEXT", help="Why; everyone can read it.")
@pass_place
def block(place: Place, feed: str, reason: str) -> None:
    """Block FEED: it may not connect, and nothing more of it is taken in or passed on."""
    _decide(place, ("friends", "block"), feed, {"state": True, "reason": reason}, "The pub now blocks")


@click.command()
@common
@click.argument("feed")
@pass_place
def unblock(place: Place, feed: str) -> None:
    """No longer block FEED; it is not followed by that."""
    _decide(place, ("friends", "block"), feed, {"state": False}, "The pub no longer blocks")
