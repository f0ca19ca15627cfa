"""Commands that start and stop processes: up, down, worker, prepare."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from laneway.cli.base import Json, act_as_user, read_settings, say_error

commands = typer.Typer()

DEFAULT_POOL = "prefork"


@commands.command()
def up(
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart workers, Beat and API when the project's code changes.")
    ] = False,
) -> None:
    """Start the whole platform: broker, workers, Beat, API and Flower. Ctrl-C stops it.

    It creates or migrates the tables, and restarts processes that die.

    On Ctrl-C the workers finish their running tasks. After a second Ctrl-C these tasks return to their queues.
    """
    from laneway.platform.logging import configure_logging, quiet
    from laneway.server.up import up as start

    settings = read_settings()
    configure_logging(quiet(settings.operation))  # of this process; those that it starts log as the settings say
    act_as_user()
    raise typer.Exit(start(settings, reload=reload))


@commands.command()
def down() -> None:
    """Stop the platform that `laneway up` started in this project."""
    from laneway.server.up import down as stop

    raise typer.Exit(stop(read_settings()))


@commands.command()
def prepare(
    wait: Annotated[float, typer.Option(help="Seconds to wait for each of them.")] = 60,
    adopt_broker: Annotated[
        bool, typer.Option("--adopt-broker", help="Take over the broker of an installation whose database is lost.")
    ] = False,
) -> None:
    """Wait for broker and database, then create or migrate the tables.

    It refuses a broker that another installation uses.
    """
    from laneway.platform.settings import settings_warnings
    from laneway.server.prepare import prepare as wait_and_migrate

    settings = read_settings()
    for warning in settings_warnings(settings):
        say_error(f"warning: {warning}")
    wait_and_migrate(settings, wait_seconds=wait, adopt_broker=adopt_broker)


@commands.command()
def worker(
    group: Annotated[
        str | None, typer.Option("--group", help="Run the worker that the application declares under this name.")
    ] = None,
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", "--queues", "-Q", help="Serve this queue; several with commas. Default: all queues."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "--worker-id", "-n", help="The worker's name before @host. Default: worker-PROCESS_ID."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", "-P", help="prefork (default), threads, solo, gevent or eventlet.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Tasks at a time. Default: one per processor.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="What the worker has, such as gpu, for tasks that need it; several times."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run one worker in the foreground. Ctrl-C stops it gracefully.

    With --group it runs a worker that the application declares, with the declared queues and concurrency.

    Without --group, the other options describe the worker. When it ends, it prints what it did.
    """
    if labels:
        os.environ["WORKER_LABELS"] = ",".join(labels)
    if group is None:
        return _exec_worker(queues or [], name or _own_name(), pool or DEFAULT_POOL, concurrency, as_json=as_json)
    if queues or name or pool or concurrency or as_json:
        raise typer.BadParameter(
            "--group cannot be combined with --queue, --name, --pool, --concurrency or --json: "
            "the application declares how the worker of a group runs"
        )
    return _exec_group_worker(group)


def _own_name() -> str:
    """A name that no other worker of this machine has: two of one name are taken for one."""
    return f"worker-{os.getpid()}"


def _exec_group_worker(group: str) -> None:
    """Replace this process with the worker, so that the worker receives its signals."""
    from laneway.server.processes import program, worker_command, worker_group

    settings = read_settings()
    argv = list(worker_command(settings, worker_group(group)))
    os.execvp(program(argv[0]), argv)  # noqa: S606


def _exec_worker(queues: list[str], name: str, pool: str, concurrency: int | None, *, as_json: bool) -> None:
    """Replace this process with the worker, so that the worker receives its signals."""
    read_settings()  # names what is wrong with them, and refuses a platform at a URL
    celery = ["-q", "worker", "-Q", ",".join(_served(queues)), "-n", f"{name}@%h", "-P", pool]
    if concurrency is not None:
        celery += ["-c", str(concurrency)]
    argv = [sys.executable, "-m", "laneway.cli.worker", *(["--json"] if as_json else []), *celery]
    os.execv(sys.executable, argv)  # noqa: S606


def _served(options: list[str]) -> list[str]:
    """The queues that the options name, each once; all queues if there are no options. Raises BadParameter."""
    from laneway.platform.application import application
    from laneway.platform.queues import queues as declared

    application().declare_queues()
    served = list(dict.fromkeys(",".join(options).split(","))) if options else list(declared)
    unknown = [queue for queue in served if queue not in declared]
    if unknown:
        raise typer.BadParameter(f"unknown queue: {', '.join(unknown)}; the queues are {', '.join(declared)}")
    return served
