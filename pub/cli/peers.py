"""Other pubs and everyone connected: connect, forget, peers."""

from typing import Any

import click

from pub.cli.asking import change, read
from pub.cli.options import Place, common, pass_place
from pub.cli.output import moment, print_json, print_table, span

CONNECTED = ("id", "direction", "role", "connected for", "feeds in", "feeds out", "address")
KNOWN = ("address", "source", "state", "failures", "last reached", "next try")


@click.command()
@common
@click.argument("address")
@pass_place
def connect(place: Place, address: str) -> None:
    """Dial the peer at ADDRESS (net:HOST:PORT~shs:KEY) now, and stay connected to it from now on."""
    answer = change(place.settings(), ("conn", "connect"), [address.strip()])
    if place.as_json:
        print_json(answer)
    elif answer["connected"]:
        click.echo(f"Connected to {answer['id']}.")
    else:
        click.echo(f"Not connected to {answer['id']}: {answer['reason']}.", err=True)
        click.echo(f"The pub goes on trying; to end that: ssb-pub forget {answer['address']}", err=True)
    click.get_current_context().exit(0 if answer["connected"] else 1)


@click.command()
@common
@click.argument("address")
@pass_place
def forget(place: Place, address: str) -> None:
    """Dial ADDRESS no more, and end the connection to it."""
    answer = change(place.settings(), ("conn", "forget"), [address.strip()])
    if place.as_json:
        print_json(answer)
    else:
        click.echo(f"Forgot {answer['address']}.")


@click.command()
@common
@pass_place
def peers(place: Place) -> None:
    """Show who is connected, and whom the pub dials."""
    answer = read(place.settings(), ("conn", "peers"))
    if place.as_json:
        print_json(answer)
        return
    if answer["connected"]:
        print_table(CONNECTED, map(_connected_row, answer["connected"]))
    else:
        click.echo("Nobody is connected.")
    if answer["known"]:
        click.echo()
        print_table(KNOWN, map(_known_row, answer["known"]))


def _connected_row(peer: dict[str, Any]) -> tuple[object, ...]:
    on_its_way = peer["receiving"], peer["sending"]
    return peer["id"], peer["direction"], peer["role"], span(peer["seconds"]), *on_its_way, peer["address"]


def _known_row(record: dict[str, Any]) -> tuple[object, ...]:
    next_try = None if record["state"] == "connected" else moment(record["next_try"])
    last = moment(record["last_success"])
    return record["address"], record["source"], record["state"], record["failures"], last, next_try
