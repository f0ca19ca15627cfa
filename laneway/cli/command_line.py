"""The command line: its commands, and how it reports errors.

A command's module is imported when the command is run, so that `laneway --help` stays quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from laneway.cli.base import report_what_is_missing

COMMANDS: Final = {
    "new": (
        "laneway.cli.new",
        "Write a small, complete project.",
    ),
    "up": (
        "laneway.cli.processes",
        "Start the whole platform: broker, workers, Beat, API and Flower. Ctrl-C stops it.",
    ),
    "down": ("laneway.cli.processes", "Stop the platform that `laneway up` started in this project."),
    "worker": ("laneway.cli.processes", "Run one worker in the foreground. Ctrl-C stops it gracefully."),
    "broker": ("laneway.cli.processes", "Run the embedded Valkey in the foreground."),
    "prepare": ("laneway.cli.processes", "Wait for broker and database, then create or migrate the tables."),
    "stats": ("laneway.cli.operations", "Show the queues, recent success and times, and open alerts."),
    "submit": ("laneway.cli.submit", "Submit a task by its name."),
    "search": ("laneway.cli.tasks", "Find tasks, newest first."),
    "status": ("laneway.cli.tasks", "Show one task: its state, progress, result or error, and why it waits."),
    "active": ("laneway.cli.tasks", "List the tasks that run now."),
    "attempts": (
        "laneway.cli.tasks",
        "Show each attempt of a task: worker, times and outcome, then its error with the traceback.",
    ),
    "watch": ("laneway.cli.tasks", "Follow a task until it ends: its progress, its log lines and its outcome."),
    "cancel": ("laneway.cli.tasks", "Cancel a task. A waiting task never runs; a running task is asked to stop."),
    "retry": ("laneway.cli.tasks", "Run a finished task again, as a new attempt of the same task."),
    "dead": ("laneway.cli.dead_letters", "Dead letters: tasks that failed for good and are kept."),
    "queues": ("laneway.cli.queues", "Queues: show and set rate limits and limits of running tasks; pause and resume."),
    "callbacks": ("laneway.cli.webhooks", "Outbound webhooks: the log of deliveries, and their receivers."),
    "workflows": ("laneway.cli.workflows", "Workflows: start, show, signal, cancel and retry them."),
    "adopt": ("laneway.cli.adopt", "Take over a Celery project: review its settings, count its messages, move them."),
    "audit": ("laneway.cli.operations", "Count all tasks that were ever accepted, and name those that are missing."),
    "flush": ("laneway.cli.operations", "Cancel all waiting tasks of a queue. Running tasks go on."),
    "clear": ("laneway.cli.operations", "Delete old finished tasks together with their history."),
    "cleanup": ("laneway.cli.operations", "Delete all data that is older than its retention period, now."),
}
"""Command → the module that defines it in its `commands`, and the first line of its help."""


def load_command(name: str) -> Any:
    """Import a command of the library."""
    commands: typer.Typer = importlib.import_module(COMMANDS[name][0]).commands
    return get_command(commands) if commands.info.name == name else get_group(commands).commands[name]


class LazyGroup(TyperGroup):
    """Lists the commands without importing them, and imports only the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, summary) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary))

    def list_commands(self, ctx: Any) -> list[str]:
        """The library's commands and, in a project, those that its application adds."""
        if _is_project():
            self.add_application_commands()
        return super().list_commands(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is run. Raises ConfigError for an unknown command outside a project."""
        if args[0] in COMMANDS:
            self.add_command(load_command(args[0]), args[0])
        else:
            self.add_application_commands()
        return super().resolve_command(ctx, args)

    def add_application_commands(self) -> None:
        """Add the commands of the project's application. Raises ConfigError."""
        from laneway.platform.application import application

        added = typer.Typer()
        application().add_commands(added)
        for name, command in get_group(added).commands.items():
            self.add_command(command, name)


def _is_project() -> bool:
    """Whether the current folder belongs to a project. It imports no project, so that the help stays quick."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "laneway.toml").exists():
            return True
        if (folder / "pyproject.toml").exists():
            return "laneway" in tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("tool", {})
    return False


cli = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"laneway {version('laneway')}")
        raise typer.Exit


@cli.callback()
def laneway(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    r"""Laneway: a distributed task platform on Celery.

    Run it in a project: a folder whose pyproject.toml has a section \[tool.laneway].
    """


def run() -> None:
    """Run a command. An error is one sentence on standard error, with exit code 1, or 2 for invalid settings.

    A command that could show only what the database knows ends with exit code 1 as well, so that a script notices it.
    """
    try:
        cli()
    except SystemExit as end:
        missing = report_what_is_missing()
        sys.exit(end.code or missing)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - every error becomes one sentence
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print an error in one sentence; returns the exit code. Re-raises an unexpected error when LOG_LEVEL is DEBUG."""
    from laneway.platform.errors import ConfigError, PlatformError

    if isinstance(error, PlatformError):
        typer.echo(str(error), err=True)
        return 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        file = f" {error.filename}" if error.filename else ""
        typer.echo(f"Writing{file} failed: the disk, or a quota on it, is full. Free space on it.", err=True)
        return 1
    if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
        raise error
    first_line = str(error).strip().partition("\n")[0]
    typer.echo(f"{type(error).__name__}: {first_line} (set LOG_LEVEL=DEBUG to see the traceback)", err=True)
    return 1
