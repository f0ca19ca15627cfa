"""The parts of `laneway doctor` for the project in the current folder."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any, Final

from laneway.adopt.project import Project
from laneway.doctor import database_rules, fleet_rules, server_rules, settings_rules
from laneway.doctor.celery_rules import AREA as CELERY
from laneway.doctor.findings import Outcome, Unchecked, error
from laneway.doctor.parts import Part
from laneway.doctor.plain import absent_part, celery_part, server_part, versions_part
from laneway.doctor.settings_rules import SettingsFacts
from laneway.platform.application import Application
from laneway.platform.diagnosis.database_facts import NoFile, collect_database
from laneway.platform.diagnosis.fleet_facts import collect_fleet
from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.queues import queues
from laneway.platform.settings import Settings, settings_warnings

NO_SETTINGS: Final = "the settings are not valid"


def platform_parts(application: Application, settings: Settings | ConfigError) -> list[Part]:
    """All parts. With settings that are not valid, only what needs none. Raises ConfigError for broken tasks."""
    if isinstance(settings, ConfigError):
        told = SettingsFacts(problems=[line.strip(" -") for line in str(settings).splitlines()[1:]] or [str(settings)])
        others = (server_rules.AREA, database_rules.AREA, fleet_rules.AREA, CELERY)
        return [_settings_part(told), versions_part(), *(absent_part(area, NO_SETTINGS) for area in others)]
    app: Any = application.celery_app()
    platform, project = application.make_platform(settings, app=app), Project(app)
    slots = [group.concurrency or settings.operation.worker_concurrency for group in queues.workers]
    database = partial(
        collect_database,
        platform.database,
        platform.migrations,
        installation=platform.installation,
        worker_slots=slots,
    )
    return [
        _settings_part(settings_facts(settings)),
        versions_part(),
        server_part(project),
        Part(database_rules.AREA, database, database_rules.checks_for, explain_database),
        Part(
            fleet_rules.AREA,
            partial(collect_fleet, platform, app, version=version("laneway")),
            lambda _: fleet_rules.CHECKS,
            explain_fleet,
        ),
        celery_part(project, is_platform=True),
    ]


def settings_facts(settings: Settings) -> SettingsFacts:
    """What the rules need of the settings."""
    return SettingsFacts(
        misspelt=settings_warnings(settings),
        is_production=settings.operation.is_production,
        exceptions=sorted(settings.safety.names),
        signs=settings.keys.signs,
        alert_backlog=settings.alerts.backlog,
        max_queue_size=settings.tasks.max_queue_size,
        lease_seconds=settings.tasks.lease_seconds,
        status_hours=settings.tasks.status_expiry_hours,
        keep_days=settings.storage.keep_tasks,
        log_level=settings.operation.log_level,
    )


def _settings_part(facts: SettingsFacts) -> Part:
    return Part(settings_rules.AREA, lambda: facts, settings_rules.checks_for)


def explain_database(problem: Exception) -> Outcome | None:
    """What an error of asking the database means."""
    if isinstance(problem, NoFile):
        return error(str(problem), why="Nothing can be accepted.", do="laneway prepare")
    if isinstance(problem, PlatformError):
        return error(
            f"{problem}",
            why="Nothing is accepted (503); workers go on with tasks that need no database.",
            do="Start it, or correct DATABASE_URL or DATA_DIR.",
        )
    return None


def explain_fleet(problem: Exception) -> Outcome | None:
    """The fleet is stored in the database."""
    return Unchecked(f"the database cannot be asked: {problem}") if isinstance(problem, PlatformError) else None
