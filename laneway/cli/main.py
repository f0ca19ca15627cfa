"""The command line: `laneway --help`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from laneway.cli import tasks, views
from laneway.cli.base import Id, Json, make_services, out, print_json, print_tasks, read_settings
from laneway.cli.dead_letters import dead
from laneway.cli.queues import queues
from laneway.cli.webhooks import callbacks
from laneway.cli.workflows import workflows
from laneway.platform.application import application
from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.schemas.statistics import LONGEST_WINDOW

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Laneway: a distributed task platform on Celery.",
)
cli.add_typer(dead, name="dead")
cli.add_typer(queues, name="queues")
cli.add_typer(callbacks, name="callbacks")
cli.add_typer(workflows, name="workflows")


@cli.command()
def up() -> None:
    """Start the whole platform: broker, migrations, workers, Beat, API, Flower. Ctrl-C stops it in good order."""
    from laneway.server.up import up as start

    raise typer.Exit(start(read_settings()))


@cli.command()
def down() -> None:
    """Stop the platform that `laneway up` started here."""
    from laneway.server.up import down as stop

    raise typer.Exit(stop(read_settings()))


@cli.command()
def broker() -> None:
    """Run the embedded Valkey in the foreground (for Procfile)."""
    from laneway.server.valkey import exec_broker

    exec_broker(read_settings())


@cli.command()
def prepare(wait: Annotated[float, typer.Option(help="Seconds to wait for broker and database.")] = 60) -> None:
    """Wait for broker and database, and bring the database's schema up to date."""
    from laneway.server.prepare import prepare as get_ready

    get_ready(read_settings(), wait_seconds=wait)


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
        return print_json(
            {
                "queues": {name: one.model_dump() for name, one in figures.items()},
                "alerts": [alert.message for alert in alerts],
                "window": lately.model_dump(mode="json"),
            }
        )
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
    from laneway.platform import clock

    counts = make_services().retention.sweep(now=clock.now(), task_hours=hours)
    if as_json:
        return print_json(counts)
    for kind, count in counts.items():
        out.print(f"{kind}: {count}")
    return None


for command in (
    tasks.search,
    tasks.attempts,
    tasks.watch,
    tasks.audit,
    tasks.flush,
    tasks.clear,
    tasks.worker,
):
    cli.command()(command)


def main() -> None:
    """Run a command; what goes wrong is one clear sentence and a non-zero exit code."""
    try:
        application().add_commands(cli)
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
