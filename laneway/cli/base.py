"""What the commands share: the console, the platform, JSON output."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.platform.settings import Settings

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen(Console):
    """A console that shows control characters in untrusted text (responses, file names) as replacement marks."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, with a replacement mark for each control character."""
        return super().render_str(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")), **options)


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


def make_services() -> Platform:
    """The platform of the project's application, after its tables are migrated. Raises ConfigError."""
    from laneway.platform.application import application
    from laneway.platform.logging import configure_logging, quiet

    settings = read_settings()  # first, before the import of a module that reads settings
    configure_logging(quiet(settings.operation))
    application().upgrade(settings)
    return application().make_platform(settings)


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
