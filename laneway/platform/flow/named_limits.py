"""Limits with names, which tasks share: as they are declared, as operators set them, and as the engine enforces them.

The database stores what operators set. Workers compare the engine with it every 5 s (`Broker.prepare`), as they do for
the limits of queues: an engine that lost its data gets its limits again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from laneway.engine import Engine, NamedLimit, NamedLimitState
from laneway.engine.keys import TASK_LIMIT
from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.broker import Broker
from laneway.platform.db.models import NamedLimitRow
from laneway.platform.db.queries import named_limits as queries
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, PlatformError
from laneway.platform.flow.task_flow import BadLimit, LimitValues, task_limit
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.schemas.limit import LimitSource, NamedLimitRequest, NamedLimitView

log = logger(__name__)
FEATURE: Final = "limits of tasks"


class NoSuchLimit(PlatformError):
    """No task uses a limit of this name."""

    title, status = "Unknown limit", 404
    name: str
    known: list[str]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"No task uses a limit {self.name!r}; limits: {known}, and {TASK_LIMIT}NAME for each task."


def declared_limits() -> dict[str, LimitValues | None]:
    """Name → what the tasks declare of it; None if they leave that to operators. Raises BadLimit if they differ."""
    found: dict[str, LimitValues | None] = {}
    for spec in registry.values():
        for limit in spec.flow.limits:
            known, values = found.get(limit.name), limit.values
            if known is not None and values is not None and known != values:
                raise BadLimit(limit.name, "tasks declare different values for it.")
            found[limit.name] = known or values
    return found


def wanted_limits(database: Database) -> dict[str, LimitValues]:
    """Name → what the limit has to let through: what an operator has set, or else what the tasks declare."""
    with database.reading() as session:
        stored = {row.name: _values(row) for row in queries.all_limits(session)}
    return {name: values for name, values in declared_limits().items() if values is not None} | stored


def enforce(engine: Engine, wanted: Mapping[str, LimitValues], queues: Mapping[str, Mapping[str, int]]) -> None:
    """Set the limits that the engine lacks or has with other values. `queues`: queue → its limits at the engine."""
    names = [*wanted, *(name for name in declared_limits() if name not in wanted)]
    for state in engine.named_limits(names) if names else ():
        limit = engine_limit(wanted.get(state.name))
        if not state.enforces(limit):
            engine.set_named_limit(state.name, limit)
            log.info("limit set at the broker", limit=state.name)
    by_name = any(name.startswith(TASK_LIMIT) for name in wanted)
    for queue, limits in queues.items():
        if bool(limits.get("task_limits")) is not by_name:
            engine.limit_task_names(queue, on=by_name)


def engine_limit(values: LimitValues | None) -> NamedLimit:
    """The limit in the engine's terms."""
    if values is None:
        return NamedLimit()
    return NamedLimit(rate=values.per_second, burst=values.burst, max_running=values.max_running)


class NamedLimits:
    """Stores and reads the limits that tasks share."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def listing(self) -> list[NamedLimitView]:
        """Every limit that tasks use, or that an operator has set, by name."""
        with self._database.reading() as session:
            rows = {row.name: row for row in queries.all_limits(session)}
        declared = declared_limits()
        names = sorted(declared.keys() | rows.keys())
        states = self._states(names)
        return [_view(name, rows.get(name), declared.get(name), states.get(name)) for name in names]

    def of(self, name: str) -> NamedLimitView:
        """One limit. Raises NoSuchLimit."""
        self._check_known(name)
        found = next((limit for limit in self.listing() if limit.name == name), None)
        return found or _view(name, None, None, self._states([name]).get(name))

    def put(self, name: str, request: NamedLimitRequest) -> NamedLimitView:
        """Set all values of a limit. An unreachable broker gets them later. Raises NoSuchLimit, Unsupported."""
        self._broker.require_engine(FEATURE)
        self._check_known(name)
        values = LimitValues(
            rate=request.rate, per=request.per_seconds, burst=request.burst, max_running=request.max_running
        )
        with self._database.transaction() as session:
            before = queries.find(session, name)
            shown = _shown(_values(before)) if before else None
            queries.save(session, name=name, updated_at=clock.now(), **_columns(values))
            record(session, "limit.set", ("limit", name), before=shown, after=_shown(values))
        log.info("limit set", limit=name, **asdict(values))
        self._enforce()
        return self.of(name)

    def remove(self, name: str) -> NamedLimitView:
        """Let a limit be what the tasks declare, or let everything through. Raises NoSuchLimit, Unsupported."""
        self._broker.require_engine(FEATURE)
        with self._database.transaction() as session:
            before = queries.find(session, name)
            if before is not None:
                record(session, "limit.remove", ("limit", name), before=_shown(_values(before)), after=None)
                queries.remove(session, name)
        if before is None:
            self._check_known(name)
        elif name.startswith(TASK_LIMIT) and (engine := self._broker.engine) is not None:
            self._at_the_broker(lambda: engine.set_named_limit(name, None))
        self._enforce()
        return self.of(name)

    def _enforce(self) -> None:
        wanted = wanted_limits(self._database)

        def set_all() -> None:
            engine = self._broker.require_engine(FEATURE)
            enforce(engine, wanted, {stats.queue: stats.limits for stats in engine.stats(self._broker.queues)})

        self._at_the_broker(set_all)

    def _at_the_broker(self, change: Any) -> None:
        try:
            with self._broker.guarded():
                change()
        except BrokerUnavailable as error:
            log.warning("the broker does not have the limits yet", error=str(error))

    def _states(self, names: list[str]) -> dict[str, NamedLimitState]:
        if self._broker.engine is None or not names:
            return {}
        try:
            with self._broker.guarded():
                return {state.name: state for state in self._broker.engine.named_limits(names)}
        except BrokerUnavailable:
            return {}

    def _check_known(self, name: str) -> None:
        known = {*declared_limits(), *(task_limit(task) for task in registry)}
        if name in known:
            return
        with self._database.reading() as session:
            if any(row.name == name for row in queries.all_limits(session)):
                return
        raise NoSuchLimit(name, sorted(declared_limits()))


def _values(row: NamedLimitRow) -> LimitValues:
    return LimitValues(rate=row.rate, per=row.per_seconds, burst=row.burst, max_running=row.max_running)


def _columns(values: LimitValues) -> dict[str, Any]:
    return {
        "rate": values.rate,
        "per_seconds": values.per,
        "burst": values.burst,
        "max_running": values.max_running,
    }


_shown = _columns
"""As the audit log shows it."""


def _view(
    name: str, row: NamedLimitRow | None, declared: LimitValues | None, state: NamedLimitState | None
) -> NamedLimitView:
    values = _values(row) if row else declared
    source = LimitSource.OPERATOR if row else LimitSource.CODE if declared else LimitSource.NOBODY
    users = [spec for spec in registry.values() if any(limit.name == name for limit in spec.flow.limits)]
    if name.startswith(TASK_LIMIT):
        own = registry.get(name.removeprefix(TASK_LIMIT))
        users = [own] if own else []
    names = [spec.name for spec in users] or ([name.removeprefix(TASK_LIMIT)] if name.startswith(TASK_LIMIT) else [])
    return NamedLimitView(
        name=name,
        source=source,
        tasks=sorted(names),
        queues=sorted({*(spec.queue for spec in users), *(state.waiting_in if state else ())}),
        updated_at=row.updated_at if row else None,
        running=state.running if state else None,
        waiting=state.waiting if state else None,
        blocked_until=_moment(state.blocked_until, 1000) if state else None,
        opens_at=_opens_at(state) if state else None,
        in_force=state.enforces(engine_limit(values)) if state else None,
        **_columns(values or LimitValues()),
    )


def _opens_at(state: NamedLimitState) -> datetime | None:
    times = (_moment(state.blocked_until, 1000), _moment(state.opens_at, 1_000_000))
    return max((each for each in times if each is not None), default=None)


def _moment(number: int | None, per_second: int) -> datetime | None:
    return None if number is None else datetime.fromtimestamp(number / per_second, UTC)
