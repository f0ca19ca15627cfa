"""The command line: `laneway --help`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app import cli_views as views
from app.core.config import Settings, load_settings
from app.core.errors import ConfigError, PermanentError, PlatformError, WrongState
from app.schemas.task import State
from app.services.container import Services

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Laneway: a distributed task platform on Celery.")  # fmt: skip
dead = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that failed for good, kept to be looked at.")
cli.add_typer(dead, name="dead")

out = Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False, highlight=False)
"""Ids, errors and names of files are shown as they are: none of them is markup."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Id = Annotated[str, typer.Argument(help="The task's id.")]
DEAD = (State.DEAD_LETTER, State.FAILED)


@cli.command()
def up() -> None:
    """Start the whole platform: broker, migrations, workers, Beat, API, Flower. Ctrl-C stops it in good order."""
    from app.dev.up import up as start

    raise typer.Exit(start(_settings()))


@cli.command()
def down() -> None:
    """Stop the platform that `laneway up` started here."""
    from app.dev.up import down as stop

    raise typer.Exit(stop(_settings()))


@cli.command()
def broker() -> None:
    """Run the embedded Valkey in the foreground (for Procfile)."""
    from app.dev.valkey import exec_broker

    exec_broker(_settings())


@cli.command()
def prepare(wait: Annotated[float, typer.Option(help="Seconds to wait for broker and database.")] = 60) -> None:
    """Wait for broker and database, and bring the database's schema up to date."""
    from app.dev.prepare import prepare as get_ready

    get_ready(_settings(), wait_seconds=wait)


@cli.command()
def demo() -> None:
    """Send real work through the running platform (or start one for it), and show what became of it."""
    from app.dev.demo import run

    raise typer.Exit(run(_settings(), out))


@cli.command()
def ingest(paths: Annotated[list[Path], typer.Argument(help="Markdown or text files, or folders of them.")]) -> None:
    """Add documents that replies may cite; one that is known already is replaced."""
    services, refused = _services(), 0
    for path in views.documents_in(paths):
        try:
            found = services.knowledge.ingest_file(path)
        except PermanentError as error:
            refused += 1
            typer.echo(str(error), err=True)
            continue
        out.print(f"{found.document_id}: {found.passage_count} passages" + ("" if found.changed else " (unchanged)"))
    if refused:
        raise typer.Exit(1)


@cli.command()
def stats(as_json: Json = False) -> None:
    """What waits, runs and is dead, per queue; and what is wrong."""
    services = _services()
    services.alerts.sweep()  # the scheduled sweep needs a worker, and there may be none
    queues, alerts = services.tasks.queues(), services.alerts.listing()
    if as_json:
        return _print_json({"queues": {name: figures.model_dump() for name, figures in queues.items()},
                            "alerts": [alert.message for alert in alerts]})  # fmt: skip
    out.print(views.queue_table(queues))
    for alert in alerts:
        out.print(views.alert_line(alert.message, since=alert.opened_at))
    return None


@cli.command()
def status(id: Id, as_json: Json = False) -> None:
    """One task: state, progress, result or error, and why it waits."""
    found = _services().tasks.status(id)
    if as_json:
        return _print_json(found.model_dump(mode="json"))
    out.print(views.task_details(found))
    return None


@cli.command()
def active(as_json: Json = False) -> None:
    """What is being worked on now."""
    _print_tasks(_services().tasks.active(), as_json=as_json)


@cli.command()
def cancel(id: Id) -> None:
    """Stop a task: a waiting one never runs, a running one is interrupted within seconds."""
    answer = _services().tasks.cancel(id)
    out.print("Cancelled; it will not run." if answer.cancelled else "It is running and was asked to stop.")


@cli.command()
def retry(id: Id) -> None:
    """Run a finished task again, under its own id."""
    _services().tasks.retry(id)
    out.print(f"Queued again: {id}")


@cli.command()
def cleanup() -> None:
    """Delete what is older than its retention, now."""
    from app.core import clock

    for kind, count in _services().retention.sweep(now=clock.now()).items():
        out.print(f"{kind}: {count}")


@dead.command("list")
def dead_list(
    failed: Annotated[
        bool, typer.Option("--failed", help="Permanent failures too, not only exhausted retries.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: Json = False,
) -> None:
    """The dead letters, newest first."""
    states = DEAD if failed else (State.DEAD_LETTER,)
    _print_tasks(_services().tasks.dead(states=states, limit=limit), as_json=as_json)


@dead.command("show")
def dead_show(id: Id, as_json: Json = False) -> None:
    """One dead letter with its payload, error and traceback."""
    run = _services().tasks.details(id)
    if as_json:
        return _print_json(views.raw(run))
    out.print(views.dead_details(run))
    return None


@dead.command("requeue")
def dead_requeue(
    ids: Annotated[list[str] | None, typer.Argument(help="Task ids.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
) -> None:
    """Send dead letters round again."""
    if everything == bool(ids):
        raise typer.BadParameter("name the task ids, or say --all")
    tasks = _services().tasks
    chosen = [task.task_id for task in tasks.dead(limit=10_000)] if everything else ids or []
    for id in chosen:
        state = tasks.details(id).state
        if state not in DEAD:
            raise WrongState(id, state, "requeued: it is no dead letter")
    for id in chosen:
        tasks.retry(id)
        out.print(f"Queued again: {id}")
    out.print(f"{len(chosen)} dead letters queued again.")


def main() -> None:
    """Run a command; what goes wrong is one clear sentence and a non-zero exit code."""
    try:
        cli()
    except ConfigError as error:
        sys.exit(_fail(str(error), 2))
    except PlatformError as error:
        sys.exit(_fail(str(error), 1))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        first = str(error).strip().partition("\n")[0]
        sys.exit(_fail(f"{type(error).__name__}: {first} (LOG_LEVEL=DEBUG shows where)", 1))


def _fail(sentence: str, code: int) -> int:
    typer.echo(sentence, err=True)
    return code


def _settings() -> Settings:
    return load_settings()


def _services() -> Services:
    config = _settings()  # before anything that reads settings when it is imported
    from app.core.celery_app import celery_app
    from app.core.logging import configure_logging, quiet
    from app.db.migrate import upgrade

    configure_logging(quiet(config.operation))
    upgrade(config.storage.url)
    return Services(config, celery_app)


def _print_tasks(tasks: list[Any], *, as_json: bool) -> None:
    if as_json:
        return _print_json([task.model_dump(mode="json") for task in tasks])
    out.print(views.task_table(tasks) if tasks else "None.")
    return None


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2))
