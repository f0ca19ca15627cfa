"""The command line: `laneway --help`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.console import operate, views
from app.console.base import Id, Json, make_services, out, print_json, print_tasks, read_settings
from app.console.callbacks import callbacks
from app.console.dead import dead
from app.console.queues import queues
from app.console.workflows import workflows
from app.core.errors import ConfigError, PermanentError, PlatformError
from app.schemas.statistics import LONGEST_WINDOW

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Laneway: a distributed task platform on Celery.")  # fmt: skip
cli.add_typer(dead, name="dead")
cli.add_typer(queues, name="queues")
cli.add_typer(callbacks, name="callbacks")
cli.add_typer(workflows, name="workflows")


@cli.command()
def up() -> None:
    """Start the whole platform: broker, migrations, workers, Beat, API, Flower. Ctrl-C stops it in good order."""
    from app.dev.up import up as start

    raise typer.Exit(start(read_settings()))


@cli.command()
def down() -> None:
    """Stop the platform that `laneway up` started here."""
    from app.dev.up import down as stop

    raise typer.Exit(stop(read_settings()))


@cli.command()
def broker() -> None:
    """Run the embedded Valkey in the foreground (for Procfile)."""
    from app.dev.valkey import exec_broker

    exec_broker(read_settings())


@cli.command()
def prepare(wait: Annotated[float, typer.Option(help="Seconds to wait for broker and database.")] = 60) -> None:
    """Wait for broker and database, and bring the database's schema up to date."""
    from app.dev.prepare import prepare as get_ready

    get_ready(read_settings(), wait_seconds=wait)


@cli.command()
def demo() -> None:
    """Send real work through the running platform (or start one for it), and show what became of it."""
    from app.dev.demo import run

    raise typer.Exit(run(read_settings(), out))


@cli.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="PDF, Word, HTML, Markdown or text files, or folders of them.")],
) -> None:
    """Add documents that replies may cite; one that is known already is replaced."""
    services, refused = make_services(), 0
    for path in views.documents_in(paths):
        try:
            found = services.documents.ingest_file(path)
        except PermanentError as error:
            refused += 1
            typer.echo(str(error), err=True)
            continue
        passages = "1 passage" if found.passage_count == 1 else f"{found.passage_count} passages"
        out.print(f"{found.document_id}: {passages}" + ("" if found.changed else " (unchanged)"))
    if refused:
        raise typer.Exit(1)


@cli.command()
def stats(
    window: Annotated[float, typer.Option(min=1, max=LONGEST_WINDOW, help="Seconds up to now.")] = 3600,
    queue: Annotated[str | None, typer.Option(help="In the window this queue only.")] = None,
    type: Annotated[str | None, typer.Option(help="In the window this task only.")] = None,
    as_json: Json = False,
) -> None:
    """What waits, runs and is dead, per queue; how it went lately; and what is wrong."""
    services = make_services()
    services.alerts.sweep()  # the scheduled sweep needs a worker, and there may be none
    figures, alerts = services.tasks.queues(), services.alerts.listing()
    lately = services.statistics.window(window, queue=queue, name=type)
    if as_json:
        return print_json({"queues": {name: one.model_dump() for name, one in figures.items()},
                            "alerts": [alert.message for alert in alerts],
                            "window": lately.model_dump(mode="json")})  # fmt: skip
    out.print(views.queue_table(figures))
    if lately.types:
        out.print("", views.window_table(lately))
    for alert in alerts:
        out.print(views.alert_line(alert.message, since=alert.opened_at))
    return None


@cli.command()
def status(id: Id, as_json: Json = False) -> None:
    """One task: state, progress, result or error, and why it waits."""
    found = make_services().tasks.status(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    out.print(views.task_details(found))
    return None


@cli.command()
def active(as_json: Json = False) -> None:
    """What is being worked on now."""
    print_tasks(make_services().tasks.active(), as_json=as_json)


@cli.command()
def cancel(id: Id, as_json: Json = False) -> None:
    """Stop a task: a waiting one never runs, a running one is asked to stop, and interrupted after a time of grace."""
    answer = make_services().tasks.cancel(id)
    if as_json:
        return print_json(answer.model_dump(mode="json"))
    out.print("Cancelled; it will not run." if answer.cancelled else "It is running and was asked to stop.")
    return None


@cli.command()
def retry(id: Id, as_json: Json = False) -> None:
    """Run a finished task again, as a new attempt of the same record."""
    handle = make_services().tasks.retry(id)
    if as_json:
        return print_json(handle.model_dump(mode="json"))
    out.print(f"Queued again: {id}")
    return None


@cli.command()
def cleanup(
    hours: Annotated[float | None, typer.Option(min=0, help="Tasks that ended longer ago; else as configured.")] = None,
    as_json: Json = False,
) -> None:
    """Delete what is older than its retention, now."""
    from app.core import clock

    counts = make_services().retention.sweep(now=clock.now(), task_hours=hours)
    if as_json:
        return print_json(counts)
    for kind, count in counts.items():
        out.print(f"{kind}: {count}")
    return None


for command in (
    operate.search,
    operate.attempts,
    operate.watch,
    operate.audit,
    operate.flush,
    operate.clear,
    operate.worker,
):
    cli.command()(command)


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
