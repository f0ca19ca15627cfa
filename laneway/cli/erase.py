"""`laneway erase`: remove the data of one person, from library and application."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli.base import DryRun, Json, make_services, out, print_json
from laneway.cli.target import target
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.platform.erasure.erasure import ErasureReport

commands = typer.Typer()
LONGEST_LINE: Final = 1_000


@commands.command()
def erase(
    subject: Annotated[
        str,
        typer.Option(
            help="The person: an e-mail address, a phone number or an id. -: read it from standard input, where other "
            "users and the history of the shell do not see it."
        ),
    ],
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    wait: Annotated[float, duration("How long running tasks may take to stop: 30s, 5m.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Remove the data of one person, from library and application.

    That is: tasks with payloads, results, events and attempts, dead letters, workflows, outbound webhooks, what the
    broker holds, and what the application stores.

    The audit log keeps a proof without the data. The printed receipt shows together with the subject that the proof is
    about this person (`laneway audit-log prove`); it is stored nowhere. Exit code 1: tasks still run, repeat it later.
    """
    target.require_local()
    person = sys.stdin.readline(LONGEST_LINE).strip() if subject == "-" else subject
    erasure = make_services().erasure
    if not (yes or dry_run):
        _print(erasure.run(person, dry_run=True))
        typer.confirm("Remove all of this? It cannot be undone.", abort=True)
    report = erasure.run(person, dry_run=dry_run, wait=wait)
    if as_json:
        return print_json(asdict(report))
    return _print(report)


def _print(report: ErasureReport) -> None:
    found = {kind: number for kind, number in report.counts.items() if number}
    verb = "Found" if report.dry_run else "Removed"
    counts = ", ".join(f"{kind.replace('_', ' ')}: {number}" for kind, number in found.items())
    out.print(f"{verb}: {counts or 'nothing'}.")
    for kind, ids in report.examples.items() if report.dry_run else ():
        out.print(f"  {kind}: {', '.join(ids)}")
    for sentence in report.elsewhere:
        out.print(f"Left: {sentence}")
    if report.entry is not None:
        out.print(f"Proof: entry {report.entry} of the audit log; receipt {report.receipt}")
