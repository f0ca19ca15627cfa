"""`laneway drill`: disturb something on purpose, and see what becomes of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway.cli.base import Json, out, print_json, say_error
from laneway.cli.times import duration
from laneway.schemas.choices import Disturbance

if TYPE_CHECKING:
    from laneway.server.drill.report import DrillReport

commands = typer.Typer()

MOST_NAMED = 10


@commands.command()
def drill(
    kind: Annotated[Disturbance, typer.Argument(help="What to do.", show_choices=True)],
    tasks: Annotated[int, typer.Option(min=20, max=10_000, help="The number of tasks before the disturbance.")] = 200,
    lease: Annotated[
        float | None, duration("The lease of the drill's workers: 5s, 1m. Default: TASK_LEASE_SECONDS.")
    ] = None,
    own_broker: Annotated[
        bool, typer.Option("--own-broker", help="Start a broker for the drill; restart-broker and partition always do.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Allow it where ENVIRONMENT is production.")] = False,
    as_json: Json = False,
) -> None:
    """Disturb workers or a broker on purpose, and say what became of numbered tasks.

    kill-worker kills a worker, stop-worker stops one warmly, restart-broker kills a broker and starts it again,
    partition cuts a worker off. The drill has a queue, tasks and workers of its own, and a broker of its own where it
    disturbs that. It touches nothing else, and removes what it made.

    Exit code 0: passed; 1: a task was lost, ran again without a reason, or the recovery took too long.
    """
    from laneway.cli.base import read_settings
    from laneway.platform.logging import configure_logging, quiet
    from laneway.server.drill.bench import Load
    from laneway.server.drill.drill import Drill

    settings = read_settings()
    configure_logging(quiet(settings.operation))
    planned = Drill(settings, kind, load=Load(tasks), lease=lease, own_broker=own_broker)
    report = planned.run(say_error, allowed=yes)
    if as_json:
        from dataclasses import asdict

        print_json(asdict(report) | {"passed": report.passed, "verdict": report.verdict})
    else:
        _print(report)
    raise typer.Exit(0 if report.passed else 1)


def _print(report: DrillReport) -> None:
    from laneway.cli.tables import Fields

    recovery = report.recovery_seconds
    table = Fields()
    table.add("drill", f"{report.drill}: {report.did}")
    table.add("broker", report.broker)
    table.add("tasks", f"{report.submitted} submitted, {report.done} done")
    table.add("lost", _numbers(report.lost))
    table.add("duplicated", _numbers(report.duplicated))
    table.add("begun again", f"{_numbers(report.begun_again)} ({report.at_risk} tasks were at risk)")
    table.add("recovery", "-" if recovery is None else f"{recovery:.1f} s (at most {report.limit_seconds:g} s)")
    table.add("took", f"{report.seconds:.1f} s")
    table.add("verdict", report.verdict)
    out.print(table)


def _numbers(numbers: list[int]) -> str:
    if not numbers:
        return "0"
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    return f"{len(numbers)} (numbers {named}{', …' if len(numbers) > MOST_NAMED else ''})"
