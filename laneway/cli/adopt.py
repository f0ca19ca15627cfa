"""`laneway adopt`: take over a Celery project. Its arguments are those of `laneway.adopt.command`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # the definitions of commands do not import Celery
    from laneway.adopt.project import Project
    from laneway.adopt.survey import Platform

commands = typer.Typer()


@commands.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def adopt(context: typer.Context) -> None:
    """Take over a Celery project: review its settings, count its messages, move them."""
    from laneway.adopt import command

    raise typer.Exit(command.main(context.args, make_platform=_make_platform))


def _make_platform() -> tuple[Project, Platform]:
    """The platform of the project in this folder. Raises ConfigError, DatabaseUnavailable, ForeignBroker."""
    from laneway.adopt.project import Project
    from laneway.adopt.survey import Platform
    from laneway.cli.base import make_services
    from laneway.platform.application import application
    from laneway.platform.operations.intake import CELERY_DEFAULT, decide

    services = make_services()
    engine = services.broker.require_engine("taking over the messages of a Celery project")
    queues = (*services.broker.queues, CELERY_DEFAULT)
    platform = Platform(engine, decide, queues, services.broker.prepare, services.recorder.catch_up)
    return Project(application().celery_app()), platform
