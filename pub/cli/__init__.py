"""The command `ssb-pub`: one module per group of commands.

A command reads settings, asks the running pub over its control socket (or the data folder when it is down) and answers
with one line of JSON or with words. What an operator can mend is one red sentence and an exit code; a traceback is
always a bug of ours.
"""

from typing import Any, NoReturn

import click

from pub.cli.feeds import feeds
from pub.cli.friends import block, follow, unblock, unfollow
from pub.cli.invite import invite
from pub.cli.lifecycle import init, run
from pub.cli.options import common
from pub.cli.output import shown
from pub.cli.peers import connect, forget, peers
from pub.cli.reports import health, members, status, version, whoami
from pub.errors import OperatorError, RpcError


class Program(click.Group):
    """The group of all commands; the one place where errors become sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click calls it."""
        try:
            return super().invoke(ctx)
        except OperatorError as error:
            _fail(ctx, str(error), error.exit_code)
        except RpcError as error:
            _fail(ctx, f"the pub refuses: {error.message}", 1)


def _fail(context: click.Context, message: str, exit_code: int) -> NoReturn:
    click.secho(f"Error: {shown(message)}", err=True, fg="red")
    context.exit(exit_code)


@click.group(cls=Program)
@common
def main() -> None:
    """An always-on Secure Scuttlebutt pub server."""


for command in (
    init,
    run,
    whoami,
    status,
    health,
    invite,
    members,
    feeds,
    follow,
    unfollow,
    block,
    unblock,
    peers,
    connect,
    forget,
    version,
):
    main.add_command(command)
