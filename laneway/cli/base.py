"""What the commands share: the console, the platform, JSON output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from laneway.cli.printable import printable

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.platform.settings import Settings


class Screen(Console):
    """A console that shows control characters in untrusted text (responses, file names) as replacement marks."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, with a replacement mark for each control character."""
        return super().render_str(printable(text), **options)


out = Screen(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False, highlight=False)
"""Prints ids, errors and file names unchanged, because none of them is markup."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Id = Annotated[str, typer.Argument(help="The task's id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show how many match, and which.")]


# The two functions import when they are called, so that the help of a command does not import the whole platform.
def read_settings() -> Settings:
    """The settings of the project's application. Raises ConfigError."""
    from laneway.platform.application import application

    return application().load_settings()


_made: list[Platform] = []
"""The platform of the command that runs."""
_missing: list[str] = []
"""What the command could not show, in sentences."""


def make_services() -> Platform:
    """The platform of the project's application, after its tables are migrated.

    Raises ConfigError, DatabaseUnavailable, and ForeignBroker for the broker of another installation.
    """
    from laneway.platform.application import application
    from laneway.platform.logging import configure_logging, quiet

    settings = read_settings()  # first, before the import of a module that reads settings
    configure_logging(quiet(settings.operation))
    application().upgrade(settings)
    platform = application().make_platform(settings)
    platform.installation.check_broker()
    _made[:], _missing[:] = [platform], []
    return platform


def say_missing(text: str) -> None:
    """Say at the end, on standard error, what the command could not show; its exit code is then not 0."""
    if text not in _missing:
        _missing.append(text)


def report_what_is_missing() -> int:
    """Say what the command could not show; returns 1 if there was something, else 0."""
    problem = _made[0].recorder.problem if _made else None
    if problem is not None:
        say_missing(f"This is what the database knows; newer events of tasks may be missing. {problem}")
    for text in _missing:
        typer.echo(text, err=True)
    code = 1 if _missing else 0
    _made.clear()
    _missing.clear()
    return code


def print_tasks(tasks: list[Any], *, as_json: bool) -> None:
    """Print tasks as a table or as JSON."""
    if as_json:
        return print_json([task.model_dump(mode="json") for task in tasks])
    from laneway.cli import views

    out.print(views.task_table(tasks) if tasks else "None.")
    return None


def print_json(data: Any) -> None:
    """Print JSON, for scripts."""
    typer.echo(json.dumps(data, indent=2))
