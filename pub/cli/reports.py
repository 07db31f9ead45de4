"""What a pub is and how it does: whoami, status, health, members, version."""

from typing import Any

import click

from pub import __version__
from pub.cli.asking import read, read_all
from pub.cli.options import Place, common, pass_place
from pub.cli.output import moment, print_json, print_table, shown, span
from pub.errors import OperatorError
from pub.net.control import ask


@click.command()
@common
@pass_place
def whoami(place: Place) -> None:
    """Show the pub's id."""
    answer = read(place.settings(), ("whoami",))
    if place.as_json:
        print_json(answer)
    else:
        click.echo(answer["id"])


@click.command()
@common
@pass_place
def status(place: Place) -> None:
    """Show how the pub is doing."""
    answer = {"running": True, **read(place.settings(), ("status",))}
    if place.as_json:
        print_json(answer)
    else:
        print_table(("", ""), _facts(answer))


def _facts(answer: dict[str, Any]) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("id", answer["id"]),
        ("name", answer["name"]),
        ("address", answer["address"] or ("none: set address.host" if answer["running"] else "none in the settings")),
        ("state", _state(answer)),
        ("version", answer["version"]),
        ("members", answer["members"]),
        ("feeds", f"{answer['feeds']}, {answer['forked']} of them forked" if answer["forked"] else answer["feeds"]),
        ("messages", answer["messages"]),
    ]
    if answer["running"]:
        hits = ", ".join(f"{limit} {count}" for limit, count in answer["limit_hits"].items())
        facts += [
            ("peers", answer["peers"]),
            ("internal errors", answer["internal_errors"]),
            ("limits hit", hits or "none"),
        ]
    return facts


def _state(answer: dict[str, Any]) -> str:
    if not answer["running"]:
        return "not running"
    state = f"{'ready' if answer['ready'] else 'starting'}, up {span(answer['uptime'])}"
    stopped = [f"; {what} stopped: {answer[what]}" for what in ("storing", "publishing") if answer[what]]
    return state + "".join(stopped)


@click.command()
@common
@pass_place
def health(place: Place) -> None:
    """Have the running pub check itself: exit code 0 if it is ready for its members, 1 if not."""
    try:
        answer = ask(place.settings().socket, ("health",), [])
    except OperatorError as error:  # whatever its own exit code: container engines know 0 and 1
        answer = {"ready": False, "checks": [{"name": "running", "passed": False, "reason": str(error)}]}
    if place.as_json:
        print_json(answer)
    else:
        failed = [f"{check['name']}: {check['reason']}" for check in answer["checks"] if not check["passed"]]
        click.echo("\n".join(map(shown, failed)) or "ready")
    click.get_current_context().exit(0 if answer["ready"] else 1)


@click.command()
@common
@pass_place
def members(place: Place) -> None:
    """List whom the pub has admitted."""
    records = read_all(place.settings(), ("members",), {})
    if place.as_json:
        print_json(records)
    elif not records:
        click.echo("Nobody has joined yet.")
    else:
        print_table(
            ("id", "joined", "invite", "note"),
            ((r["id"], moment(r["joined"]), r["invite"], r["note"]) for r in records),
        )


@click.command()
@common
@pass_place
def version(place: Place) -> None:
    """Show the version of this program."""
    if place.as_json:
        print_json({"version": __version__})
    else:
        click.echo(__version__)
