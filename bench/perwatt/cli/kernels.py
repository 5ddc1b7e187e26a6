"""``perwatt kernels``: kernels by themselves: choices among them, their cost without a chip, what they do on one."""

from __future__ import annotations

import click

from perwatt.cli._kernels_choices import choices
from perwatt.cli._kernels_cost import cost
from perwatt.cli._kernels_floors import floors
from perwatt.cli._kernels_selftest import selftest
from perwatt.cli._kernels_versus import versus


@click.group("kernels", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show choices and costs of kernels, and test them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


command.add_command(choices)
command.add_command(cost)
command.add_command(floors)
command.add_command(selftest)
command.add_command(versus)
