"""The stored feeds, and which of them are forked."""

from typing import Any

import click

from pub.cli.asking import read_all
from pub.cli.options import Place, common, pass_place
from pub.cli.output import moment, print_json, print_table


@click.command()
@common
@click.option("--forked", is_flag=True, help="Only feeds whose author signed two messages for one place, with proofs.")
@pass_place
def feeds(place: Place, forked: bool) -> None:
    """List the feeds that are stored."""
    found = read_all(place.settings(), ("feeds",), {"forked": forked})
    if place.as_json:
        print_json(found)
    elif not found:
        click.echo("No feed is forked." if forked else "Nothing is stored yet.")
    elif forked:
        columns = ("id", "messages", "forked at", "found", "ours", "theirs")
        print_table(columns, ((f["id"], f["sequence"], *_fork_cells(f["forked"])) for f in found))
    else:
        print_table(("id", "messages", "state"), ((f["id"], f["sequence"], f["state"]) for f in found))


def _fork_cells(fork: dict[str, Any]) -> tuple[object, ...]:
    return fork["sequence"], moment(fork["found"]), fork["ours"]["key"], fork["theirs"]["key"]
