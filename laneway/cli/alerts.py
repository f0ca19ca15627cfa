"""The commands of alerts."""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.cli.base import Json, out, print_models, source

commands = typer.Typer(name="alerts", no_args_is_help=True, help="Alerts: list them, and try their receivers.")


@commands.command("list")
def list_alerts(
    closed: Annotated[bool, typer.Option("--closed", help="Also the alerts that are over.")] = False,
    as_json: Json = False,
) -> None:
    """List the alerts, newest first: what is wrong, and what to do.

    In the project it looks for problems first; at a URL it shows the alerts of the last sweep.
    """
    found = source(as_json=as_json, reads=True).alerts(closed=closed)
    if as_json:
        return print_models(found)
    from laneway.cli import views

    for alert in found:
        out.print(views.alert_view(alert))
    return None if found else out.print("None.")


@commands.command("test")
def try_receivers(as_json: Json = False) -> None:
    """Send a test notice to each receiver, and show what it answered.

    Exit code 1: one of them did not take it.
    """
    answers = source(as_json=as_json).test_alerts()
    if as_json:
        print_models(answers)
    else:
        from laneway.cli import views

        for answer in answers:
            out.print(views.receiver_answer(answer))
    raise typer.Exit(0 if all(answer.sent for answer in answers) else 1)
