"""`laneway gate`: what would fail if the code in this folder were rolled out now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from laneway.cli.base import Json, out, print_json
from laneway.cli.target import target

if TYPE_CHECKING:
    from laneway.platform.gate.findings import GateReport

commands = typer.Typer()

FAILS, UNCHECKED = 1, 2


@commands.command()
def gate(as_json: Json = False) -> None:
    """Before a roll-out: try this code on everything that waits, and say what would fail.

    Run it with the new code, on the database and the broker of the live installation. It looks at waiting, scheduled,
    running and dead tasks, at running workflows and at schedules, and changes nothing.

    Exit code 0: nothing would fail; 1: something would; 2: something could not be tried.
    """
    target.require_local()
    report = _look()
    if as_json:
        from dataclasses import asdict

        print_json(asdict(report) | {"failing": report.failing})
    else:
        _print(report)
    raise typer.Exit(FAILS if report.failing else UNCHECKED if report.unchecked else 0)


def _look() -> GateReport:
    """Try everything, and show at a terminal how far it is. It neither migrates tables nor records events."""
    from rich.console import Console

    from laneway.cli.base import act_as_user, read_settings
    from laneway.cli.tasks import progress_bar
    from laneway.platform.application import application
    from laneway.platform.gate.gate import Gate
    from laneway.platform.logging import configure_logging, quiet

    settings = read_settings()
    configure_logging(quiet(settings.operation))
    act_as_user()
    app = application().celery_app()
    platform, screen = application().make_platform(settings, app=app), Console(stderr=True)
    try:
        with progress_bar(screen, disabled=not screen.is_terminal) as bar:
            row = bar.add_task("tasks tried", total=None)
            return Gate(platform, app).look(lambda done, total: bar.update(row, total=total, completed=done))
    finally:
        platform.close()


def _print(report: GateReport) -> None:
    for finding in report.findings:
        where = ", ".join(f"{number} {state}" for state, number in finding.states.items())
        out.print(f"{finding.kind.value}  {finding.subject}: {finding.number} ({where})", style="bold")
        out.print(f"    {finding.text}")
        for example in finding.examples:
            out.print(f"    {example.id}" + (f"  {example.payload}" if example.payload else ""))
    if report.not_listed:
        out.print(f"… and {report.not_listed} more, for other reasons")
    for reason, number in report.unchecked.items():
        out.print(f"not tried: {number}. {reason}")
    for note in report.notes:
        out.print(f"note: {note}")
    tried = ", ".join(f"{number} {what}" for what, number in report.checked.items()) or "nothing"
    out.print(f"Tried: {tried}. " + (f"{report.failing} would fail." if report.failing else "Nothing would fail."))
