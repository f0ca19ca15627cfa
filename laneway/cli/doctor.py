"""`laneway doctor`: what is set up wrongly, why it matters, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway.cli.base import Json
from laneway.cli.target import UsageError, target
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.doctor.parts import Part

commands = typer.Typer()


@commands.command()
def doctor(
    app: Annotated[
        str | None,
        typer.Argument(help="A Celery app without the platform, as `celery -A` takes it. Default: this project."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list what is fine.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but findings.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also for warnings.")] = False,
    timeout: Annotated[float, duration("The time that each area has to answer: 5s, 1m.")] = 15,
    as_json: Json = False,
) -> None:
    """Look for what is set up wrongly or does not work: settings, servers, workers, versions, clocks.

    It changes nothing. Exit code 0: no error; 1: at least one; 2: something could not be checked.
    """
    if everything and quiet:
        raise typer.BadParameter("give either --all or --quiet")
    target.require_local()
    from laneway.adopt.project import AdoptError
    from laneway.doctor.command import Choice, parts_of, report

    choice = Choice(as_json, everything, quiet, strict, timeout)
    try:
        parts = _project_parts() if app is None else parts_of(app)
    except AdoptError as error:
        raise UsageError(str(error)) from error
    raise typer.Exit(report(parts, choice))


def _project_parts() -> list[Part]:
    """The parts of the project in this folder. Raises ConfigError if there is none, or its tasks cannot be imported."""
    from laneway.platform.application import application
    from laneway.platform.diagnosis.parts import platform_parts
    from laneway.platform.errors import ConfigError
    from laneway.platform.logging import configure_logging, quiet

    project = application()
    try:
        settings = project.load_settings()
    except ConfigError as error:
        return platform_parts(project, error)
    configure_logging(quiet(settings.operation))
    return platform_parts(project, settings)
