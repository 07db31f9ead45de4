"""Invite codes: made and revoked by the running pub, listed at any time."""

import time
from typing import Any

import click

from pub.cli.asking import change, read
from pub.cli.options import Place, common, duration, pass_place
from pub.cli.output import moment, print_json, print_table


@click.group()
@common
def invite() -> None:
    """Make, list and revoke invite codes."""


@invite.command()
@common
@click.option("--uses", type=click.IntRange(min=1), default=1, show_default=True, help="How many people it admits.")
@click.option("--expires", callback=duration, metavar="30d", help="How long it is good for; for ever if not given.")
@click.option("--note", metavar="TEXT", help="Reminds you whom it is for; the pub's public follow message carries it.")
@pass_place
def create(place: Place, uses: int, expires: float | None, note: str | None) -> None:
    """Make an invite code."""
    until = None if expires is None else int((time.time() + expires) * 1000)
    request = {"uses": uses, "expires": until, "note": note, "details": True}
    made = change(place.settings(), ("invite", "create"), [request])
    if place.as_json:
        print_json(made)
        return
    click.echo(made["code"])
    people = "one person" if made["uses"] == 1 else f"{made['uses']} people"
    click.echo(f"It admits {people} and expires: {moment(made['expires'])}.", err=True)


@invite.command(name="list")
@common
@pass_place
def list_codes(place: Place) -> None:
    """Show every code that was made, by its id; the codes themselves are not kept."""
    records: list[dict[str, Any]] = read(place.settings(), ("invite", "list"))
    if place.as_json:
        print_json(records)
    elif not records:
        click.echo("No invite code has been made yet.")
    else:
        print_table(("id", "state", "used", "created", "expires", "note"), map(_row, records))


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    used = f"{record['used']} of {record['uses']}"
    return record["id"], record["state"], used, moment(record["created"]), moment(record["expires"]), record["note"]


@invite.command()
@common
@click.argument("code", metavar="ID_OR_CODE")
@pass_place
def revoke(place: Place, code: str) -> None:
    """Make a code useless; whoever used it before stays a member."""
    revoked = change(place.settings(), ("invite", "revoke"), [code.strip(" \t\n\"'")])
    if place.as_json:
        print_json(revoked)
    else:
        click.echo(f"Revoked {revoked['id']}.")
