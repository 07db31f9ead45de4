"""From nothing to a running pub: init and run."""

import gc
from typing import TYPE_CHECKING

import click

from pub.cli.options import Place, common, pass_place
from pub.cli.output import print_json
from pub.errors import ExitCode

if TYPE_CHECKING:
    from pub.service import Started

EXIT_CODES = {
    ExitCode.STOPPED: "It was asked to stop (SIGTERM or SIGINT).",
    ExitCode.USAGE: "The command line is wrong.",
    ExitCode.UNAVAILABLE: "It can't listen on its address and port now.",
    ExitCode.BUG: "A bug of the pub; its traceback is in the log.",
    ExitCode.SYSTEM: "A verifying process was killed, most likely because memory ran out.",
    ExitCode.STORE: "The data folder can't be used: in use, damaged, of another version, or the disk fails.",
    ExitCode.STALLED: "The pub stood still; the stacks of all threads and tasks are in the log.",
    ExitCode.CONFIG: "A setting or the secret file is wrong.",
}


def _exit_codes() -> str:
    lines = [f"  {code:<3} {meaning}" for code, meaning in EXIT_CODES.items()]
    advice = f"After {ExitCode.USAGE:d} and {ExitCode.CONFIG:d} a restart changes nothing; otherwise start it again."
    return "\n".join(["\b", "Exit codes:", *lines, "", advice])


@click.command()
@common
@pass_place
def init(place: Place) -> None:
    """Make the data folder, the pub's identity and a commented settings file, without starting anything."""
    from pub.service import prepare  # the whole pub: other commands start faster without it

    settings = place.settings()
    is_new = not settings.secret.exists()
    keys = prepare(settings)
    if place.as_json:
        print_json({"id": keys.id, "data": str(settings.data), "created": is_new})
    elif is_new:
        click.echo(f"Made the pub {keys.id} in {settings.data}. Look at config.yaml there, then: ssb-pub run")
    else:
        click.echo(f"{settings.data} already holds the pub {keys.id}; its identity was left as it is.")


@click.command(epilog=_exit_codes())
@common
@click.option("--host", help="Address to listen on; default: every interface.")
@click.option("--port", help="TCP port to listen on; default 8008.")
@click.option("--address-host", metavar="HOST", help="Host that goes into invite codes.")
@click.option("--name", help="What the pub calls itself.")
@click.option("--description", metavar="TEXT", help="What the pub says about itself.")
@click.option("--log-format", metavar="auto|console|json", help="How log lines look; default auto.")
@pass_place
def run(place: Place, /, **options: str | None) -> None:
    """Run the pub until it is told to stop. Makes all it needs on the first start."""
    gc.disable()  # nothing of what a module makes is garbage, and to look for it takes a tenth of the time
    from pub.service import main

    gc.enable()
    paths = {"host": "network.host", "port": "network.port", "address_host": "address.host", "log_format": "log.format"}
    flags = {paths.get(name, name): value for name, value in options.items() if value is not None}
    announce = _announce_json if place.as_json else _announce
    click.get_current_context().exit(main(place.settings(flags), announce))


def _announce_json(started: "Started") -> None:
    notes = list(started.notes)
    print_json({"id": started.id, "address": started.address, "invite": started.invite, "notes": notes})


def _announce(started: "Started") -> None:
    click.echo(f"This pub is {started.id}")
    if started.address is not None:
        click.echo(f"Its address is {started.address}")
    if started.invite is not None:
        click.echo(f"The first invite code is {started.invite}")
    for note in started.notes:
        click.echo(note)
