"""The parts of a Celery app without the platform. They need nothing of the extra `platform`."""

from __future__ import annotations

from typing import Final

from kombu.exceptions import OperationalError

from laneway.adopt.project import Project
from laneway.doctor import celery_rules, fleet_rules, server_rules, version_rules
from laneway.doctor.celery_facts import CeleryFacts, collect_celery
from laneway.doctor.findings import Outcome, Unchecked, error
from laneway.doctor.fleet_rules import FleetFacts
from laneway.doctor.parts import Part
from laneway.doctor.plain_fleet import collect_plain_fleet
from laneway.doctor.server_facts import ServerFacts, collect_server
from laneway.doctor.version_facts import collect_versions
from laneway.engine.engine import Engine
from laneway.engine.errors import EngineError, LoginRefused

CONNECT_SECONDS: Final = 3.0
NOT_REDIS: Final = "the broker is not Redis or Valkey"
NO_PLATFORM: Final = "needs a project of the platform (a section [tool.laneway])"


def versions_part() -> Part:
    """The versions in this environment."""
    return Part(version_rules.AREA, collect_versions, lambda _: version_rules.CHECKS)


def celery_part(project: Project, *, is_platform: bool) -> Part:
    """The settings of a Celery app, whose tasks are imported."""

    def collect() -> CeleryFacts:
        return collect_celery(project, is_platform=is_platform)

    return Part(celery_rules.AREA, collect, lambda _: celery_rules.CHECKS)


def server_part(project: Project, engine: Engine | None = None) -> Part:
    """The server of the queues. `engine`: one that is there already; it is else made from the app's settings."""

    def collect() -> ServerFacts:
        if not project.is_on_redis:
            raise NotHere(NOT_REDIS)
        return collect_server(engine or connect(project), project.broker_url)

    return Part(server_rules.AREA, collect, lambda _: server_rules.CHECKS, explain_server)


def fleet_part(project: Project) -> Part:
    """The workers that answer, and the queues."""

    def collect() -> FleetFacts:
        return collect_plain_fleet(project, connect(project) if project.is_on_redis and project.is_installed else None)

    def explain(problem: Exception) -> Outcome | None:
        if isinstance(problem, EngineError | OperationalError | OSError):
            return Unchecked(f"the broker cannot be asked: {problem}")
        return None

    return Part(fleet_rules.AREA, collect, lambda _: fleet_rules.CHECKS, explain)


def plain_parts(project: Project) -> list[Part]:
    """All parts of a Celery app. The others need the platform, and say so."""
    return [
        versions_part(),
        celery_part(project, is_platform=False),
        server_part(project),
        fleet_part(project),
        absent_part("database", NO_PLATFORM),
        absent_part("settings", NO_PLATFORM),
    ]


class NotHere(Exception):
    """An area does not exist here; the text says why."""


def absent_part(area: str, reason: str, *, failed: bool = False) -> Part:
    """A part that cannot be checked. `failed`: it should have been possible."""

    def collect() -> None:
        raise NotHere(reason)

    return Part(area, collect, lambda _: (), lambda problem: Unchecked(str(problem), failed))


def connect(project: Project) -> Engine:
    """An engine for the app's broker that does not wait long."""
    engine = project.connect(None)
    for name in ("socket_timeout", "socket_connect_timeout"):
        given = engine.runner.pool.connection_kwargs.get(name)
        engine.runner.pool.connection_kwargs[name] = min(given or CONNECT_SECONDS, CONNECT_SECONDS)
    return engine


def explain_server(problem: Exception) -> Outcome | None:
    """What an error of asking the server means."""
    if isinstance(problem, NotHere):
        return Unchecked(str(problem))
    if isinstance(problem, LoginRefused):
        return error(
            f"The server refuses the login: {problem}",
            why="No program can send or fetch tasks.",
            do="Correct the user and the password in REDIS_URL and REDIS_PASSWORD (a plain Celery app: broker_url).",
        )
    if isinstance(problem, EngineError | OSError):
        return error(
            f"The server cannot be reached: {problem}",
            why="Accepted tasks wait in the database, and nothing is fetched; without the platform a submission fails.",
            do="Start it (laneway up, or laneway broker), or correct REDIS_URL and REDIS_PORT.",
        )
    return None
