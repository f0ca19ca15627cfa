"""The command line: its commands, and how it reports errors.

A command's module is imported when the command is run, so that `laneway --help` stays quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from laneway.cli.base import close_sources, report_what_is_missing
from laneway.cli.failures import report
from laneway.cli.project import commands_of, find_project
from laneway.cli.target import choose

COMPLETING: Final = "_LANEWAY_COMPLETE"
"""The variable that the shell sets when it asks for completions."""

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
    "broker": ("laneway.cli.broker", "Run the embedded Valkey, or give a broker its users (`broker users`)."),
    "prepare": ("laneway.cli.processes", "Wait for broker and database, then create or migrate the tables."),
    "stats": ("laneway.cli.operations", "Show the queues, recent success and times, and open alerts."),
    "top": (
        "laneway.cli.top",
        "Watch queues, running tasks, dead letters and workers in the terminal.",
    ),
    "alerts": ("laneway.cli.alerts", "Alerts: list them, and try their receivers."),
    "submit": ("laneway.cli.submit", "Submit a task by its name."),
    "tasks": (
        "laneway.cli.bulk",
        "Tasks: list, show and follow them; cancel, retry, replay and reprioritise one or many.",
    ),
    "search": ("laneway.cli.tasks", "Find tasks, newest first."),
    "status": ("laneway.cli.tasks", "Show one task: its state, progress, result or error, and why it waits."),
    "why": (
        "laneway.cli.why",
        "Say why a task waits: every cause, the strongest first; and when it will probably start and end.",
    ),
    "active": ("laneway.cli.tasks", "List the tasks that run now."),
    "attempts": (
        "laneway.cli.tasks",
        "Show each attempt of a task: worker, times and outcome, then its error with the traceback.",
    ),
    "watch": ("laneway.cli.tasks", "Follow a task until it ends: its progress, its log lines and its outcome."),
    "events": ("laneway.cli.events", "Show the events of all tasks, or of a selection; follow them."),
    "output": (
        "laneway.cli.events",
        "Print what a task writes (`ctx.write`): texts as they are, other values as one line of JSON each.",
    ),
    "cancel": ("laneway.cli.tasks", "Cancel a task. A waiting task never runs; a running task is asked to stop."),
    "retry": ("laneway.cli.tasks", "Run a finished task again, as a new attempt of the same task."),
    "signal": ("laneway.cli.signal", "Send a signal to a task. It is kept until the task waits for it."),
    "workers": (
        "laneway.cli.workers",
        "List the workers: version, host, queues, running tasks, last report.",
    ),
    "dead": ("laneway.cli.dead_letters", "Dead letters: tasks that failed for good and are kept."),
    "queues": ("laneway.cli.queues", "Queues: show and set rate limits and limits of running tasks; pause and resume."),
    "batches": (
        "laneway.cli.batches",
        "Batches, groups of tasks that end together: list, show, close and cancel them.",
    ),
    "limits": ("laneway.cli.limits", "Limits that tasks share: show them, set and remove them."),
    "schedules": (
        "laneway.cli.schedules",
        "Schedules: list and show them, make and change them, pause, resume and run them.",
    ),
    "callbacks": ("laneway.cli.webhooks", "Outbound webhooks: the log of deliveries, and their receivers."),
    "workflows": ("laneway.cli.workflows", "Workflows: start, show, signal, pause, cancel and retry them."),
    "sessions": ("laneway.cli.sessions", "Sessions of people: list them, and end those of one person."),
    "tokens": ("laneway.cli.tokens", "Tokens of the API: create, list, rotate and revoke them."),
    "keys": ("laneway.cli.keys", "Keys that sign messages and encrypt payloads: create, list, rotate and remove them."),
    "adopt": ("laneway.cli.adopt", "Take over a Celery project: review its settings, count its messages, move them."),
    "doctor": (
        "laneway.cli.doctor",
        "Look for what is set up wrongly or does not work: settings, servers, workers, versions, clocks.",
    ),
    "gate": (
        "laneway.cli.gate",
        "Before a roll-out: try this code on everything that waits, and say what would fail.",
    ),
    "drill": (
        "laneway.cli.drill",
        "Disturb workers or a broker on purpose, and say what became of numbered tasks.",
    ),
    "audit": ("laneway.cli.operations", "Count all tasks that were ever accepted, and name those that are missing."),
    "audit-log": (
        "laneway.cli.audit_log",
        "The audit log: who did what; check that nobody changed it.",
    ),
    "erase": ("laneway.cli.erase", "Remove the data of one person, from library and application."),
    "flush": ("laneway.cli.operations", "Cancel all waiting tasks of a queue. Running tasks go on."),
    "clear": ("laneway.cli.operations", "Delete old finished tasks together with their history."),
    "cleanup": ("laneway.cli.operations", "Delete all data that is older than its retention period, now."),
}
"""Command → the module that defines it in its `commands`, and the first line of its help."""


def load_command(name: str) -> Any:
    """Import a command of the library."""
    module = importlib.import_module(COMMANDS[name][0])
    for group in (module.commands, getattr(module, name, None)):  # a module may have a group beside its commands
        if isinstance(group, typer.Typer) and group.info.name == name:
            return get_command(group)
    return get_group(module.commands).commands[name]


class LazyGroup(TyperGroup):
    """Lists the commands without importing them, and imports only the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, summary) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary))

    def list_commands(self, ctx: Any) -> list[str]:
        """The library's commands and, in a project, those that its application adds."""
        self._add_application_commands()
        return super().list_commands(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is run. An unknown one is answered with the most similar name."""
        if args[0] in COMMANDS:
            self.add_command(load_command(args[0]), args[0])
        else:
            self._add_application_commands()
        return super().resolve_command(ctx, args)

    def _add_application_commands(self) -> None:
        """Add the commands of the project's application. Raises ConfigError."""
        folder = find_project()
        add = commands_of(folder) if folder else None
        if add is None:
            return
        added = typer.Typer()
        add(added)
        for name, command in get_group(added).commands.items():
            self.add_command(command, name)


cli = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"laneway {version('laneway')}")
        raise typer.Exit


@cli.callback()
def laneway(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", help="Use the platform at this address over HTTP. Default: LANEWAY_URL.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", help="The token for --url. Default: LANEWAY_TOKEN, which other users cannot see."),
    ] = None,
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Use database and broker in this process, also if the project's API runs here."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    r"""Laneway: a distributed task platform on Celery.

    Run it in a project (a folder whose pyproject.toml has a section \[tool.laneway], or with a laneway.toml), or give
    the address of a platform.
    """
    del version
    choose(url, token, ctx.invoked_subcommand or "", direct=direct)


def run() -> None:
    """Run a command. An error is one sentence on standard error; the exit codes are those of `failures`.

    A command that could show only what the database knows ends with exit code 1 as well, so that a script notices it.
    """
    try:
        cli(prog_name="laneway")
    except SystemExit as end:
        missing = report_what_is_missing()
        sys.exit(end.code or missing)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - every error becomes one sentence
        if COMPLETING in os.environ:  # a completion prints no error
            sys.exit(1)
        sys.exit(report(error))
    finally:
        close_sources()
