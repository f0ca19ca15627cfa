"""What the commands share: the console, the services, JSON."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from laneway.cli import views
from laneway.platform.application import application
from laneway.platform.logging import configure_logging, quiet
from laneway.platform.platform import Platform
from laneway.platform.settings import Settings

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen(Console):
    """A console on which the words of strangers (answers of receivers, names of files) command nothing."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, with a mark in the place of each control character."""
        return super().render_str(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")), **options)


out = Screen(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False, highlight=False)
"""Ids, errors and names of files are shown as they are: none of them is markup."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Id = Annotated[str, typer.Argument(help="The task's id.")]


def read_settings() -> Settings:
    """The settings, or one readable error."""
    return application().load_settings()


def make_services() -> Platform:
    """The platform, on a database that is up to date."""
    settings = read_settings()  # before anything that reads settings when it is imported
    configure_logging(quiet(settings.operation))
    application().upgrade(settings)
    return application().make_platform(settings)


def print_tasks(tasks: list[Any], *, as_json: bool) -> None:
    """A table of tasks."""
    if as_json:
        return print_json([task.model_dump(mode="json") for task in tasks])
    out.print(views.task_table(tasks) if tasks else "None.")
    return None


def print_json(data: Any) -> None:
    """For scripts."""
    typer.echo(json.dumps(data, indent=2))
