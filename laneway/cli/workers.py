"""The command workers."""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.cli.base import Json, out, print_models, source

commands = typer.Typer()


@commands.command()
def workers(
    everything: Annotated[
        bool, typer.Option("--all", help="Also the workers that ended without signing off, such as killed ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the workers: version, host, queues, running tasks, last report."""
    found = [worker for worker in source(as_json=as_json, reads=True).workers() if worker.alive or everything]
    if as_json:
        return print_models(found)
    from laneway.cli import views

    return out.print(views.worker_table(found) if found else "None.")
