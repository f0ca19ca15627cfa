"""What one run of `laneway adopt` does: ask the workers, find the lists, count or move, and report."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kombu.exceptions import OperationalError

from laneway.adopt.drain import Counted, Decide, Drain
from laneway.adopt.inventory import FoundList, OtherKeys, find_lists, find_other_keys
from laneway.adopt.mover import Mover
from laneway.adopt.old_workers import OldWorkers, ask_workers
from laneway.adopt.project import AnotherRun, NotOnRedis, Project, Unreachable, WorkersAnswer
from laneway.adopt.rules import REVOKED, ProjectRules, UnackedRules
from laneway.adopt.stock_lists import StockLists
from laneway.engine.engine import Engine
from laneway.engine.errors import ServerLost
from laneway.engine.script_runner import ScriptRunner

LOCK_MS: Final = 15_000
BINDING_DEADLINES: Final = "_kombu.binding_deadlines"
"""Where kombu keeps until when the bindings of queues that expire are kept."""


@dataclass(frozen=True)
class Choice:
    """What the operator wants. `to`: the engine's server; None: that of the broker. `queues`: further ones to take."""

    apply: bool = False
    take_unacked: bool = False
    to: str | None = None
    queues: tuple[str, ...] = ()
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Platform:
    """What the platform adds: its engine, the rules of its registry, and its queues.

    `prepare` sets the limits of the queues before messages are moved. `make_room` records the journals.
    """

    engine: Engine
    decide: Decide
    queues: tuple[str, ...]
    prepare: Callable[[], object]
    make_room: Callable[[], object]


@dataclass(slots=True)
class Survey:
    """The outcome of a run. `moved_ever` counts all runs, also those that were killed."""

    applied: bool
    workers: OldWorkers
    revoked: frozenset[str]
    sources: list[tuple[Counted, str]] = field(default_factory=list[tuple[Counted, str]])
    """What was found in each list, and in the delivered messages; and why the app's workers do not read it."""
    unread: list[FoundList] = field(default_factory=list[FoundList])
    other: OtherKeys | None = None
    moved_ever: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def agrees(self) -> bool:
        """Whether the numbers before and after agree, so that nobody else used the lists meanwhile."""
        return all(not counted.unexplained for counted, _why in self.sources) if self.applied else True


class Adoption:
    """One run for a project."""

    def __init__(
        self, project: Project, choice: Choice, *, platform: Platform | None = None, progress: Callable[[int], object]
    ) -> None:
        if not project.is_on_redis:
            raise NotOnRedis(project.scheme or "unknown")
        self._project, self._choice, self._platform, self._progress = project, choice, platform, progress
        self._old = project.connect(None)
        if platform is not None:
            self._engine = platform.engine
        else:
            self._engine = self._old if choice.to is None else project.connect(choice.to)

    def run(self) -> Survey:
        """Count, and move with `apply`. Raises Unreachable, WorkersAnswer, AnotherRun."""
        try:
            self._old.time()
            self._engine.check() if self._choice.apply else self._engine.time()
            source = self._source_runner()
            lists = StockLists(source, self._project.layout)
            workers = ask_workers(self._project.stock_app())
            self._forget_ping(lists)
        except (ServerLost, OperationalError, OSError) as error:
            raise Unreachable("The server", str(error)) from error
        survey = Survey(self._choice.apply, workers, workers.revoked | self._choice.revoked)
        mover = Mover(self._engine, source)
        if self._choice.apply and self._platform is not None:
            self._platform.prepare()
        if self._choice.apply and not mover.is_atomic and workers.names:
            raise WorkersAnswer(", ".join(workers.names))
        with self._lock(mover):
            self._go_through(lists, mover, survey)
        survey.moved_ever = mover.moved_ever()
        survey.other = find_other_keys(
            lists, self._results(), schedule_prefix=str(self._project.conf.get("redbeat_key_prefix") or "redbeat:")
        )
        return survey

    def close(self) -> None:
        """Close the connections."""
        self._old.close()
        if self._platform is None:
            self._engine.close()

    def _known(self, workers: OldWorkers) -> frozenset[str]:
        known = frozenset(self._choice.queues) | workers.queues | self._project.declared | self._project.routed
        return known | frozenset(self._platform.queues if self._platform else ())

    def _go_through(self, lists: StockLists, mover: Mover, survey: Survey) -> None:
        known = self._known(survey.workers)
        found, survey.unread = find_lists(lists, known)
        decide = self._decide(survey.revoked, [each.source.step for each in found])
        unacked = UnackedRules(
            decide, known, survey.workers, self._choice.take_unacked, self._project.layout.visibility_timeout
        )
        used = mover if self._choice.apply else None
        room = self._platform.make_room if self._platform else None
        progress = self._progress_of(mover)
        drains = [Drain(lists, rules, used, progress=progress, make_room=room) for rules in (unacked, decide)]
        survey.sources.append((drains[0].run(lists.unacked), ""))  # these came before those that wait
        for each in found:
            survey.sources.append((drains[1].run(each.source), each.why))
        if used is not None and not mover.is_atomic:
            mover.forget_notes()

    def _decide(self, revoked: Collection[str], found_steps: list[int]) -> Decide:
        if self._platform is not None:
            decide = self._platform.decide
            return lambda found: REVOKED if found.task_id in revoked else decide(found)
        steps = tuple(sorted({*self._project.layout.steps, *found_steps}))
        return ProjectRules(self._project, steps, revoked)

    def _source_runner(self) -> ScriptRunner:
        """The engine's own runner when the same database holds kombu's keys."""
        old, new = self._old.runner, self._engine.runner
        if old is new or _place(old) == _place(new):
            return new
        return old

    def _forget_ping(self, lists: StockLists) -> None:
        """Delete what kombu remembers of the exchange of the answers, unless other clients have it, too."""
        exchange = f"reply.{self._project.conf.control_exchange}.pidbox"
        if not lists.bindings(exchange):
            lists.runner.call("ZREM", f"{self._project.layout.prefix}{BINDING_DEADLINES}", exchange)

    def _results(self) -> ScriptRunner | None:
        url = str(self._project.app.backend_cls or self._project.conf.result_backend or "").rpartition("+")[2]
        if not url.startswith(("redis://", "rediss://", "unix://", "socket://")):
            return None
        engine = Engine.from_url(url)
        try:
            engine.time()
        except (ServerLost, OSError):
            return None
        return engine.runner

    # --- only one run between two servers

    @contextmanager
    def _lock(self, mover: Mover) -> Generator[None]:
        if mover.is_atomic or not self._choice.apply:
            yield
            return
        self._token = secrets.token_hex(8)
        if self._engine.runner.call("SET", self._lock_key, self._token, "NX", "PX", LOCK_MS) is None:
            raise AnotherRun
        try:
            yield
        finally:
            self._engine.runner.call("DEL", self._lock_key)

    def _progress_of(self, mover: Mover) -> Callable[[int], object]:
        if mover.is_atomic or not self._choice.apply:
            return self._progress

        def progress(number: int) -> None:
            self._engine.runner.call("PEXPIRE", self._lock_key, LOCK_MS)
            self._progress(number)

        return progress

    @property
    def _lock_key(self) -> str:
        return f"{self._engine.keys.key_prefix}laneway:adopt-lock"


def _place(runner: ScriptRunner) -> tuple[str, int]:
    """The run id of the server, and the database."""
    info: Any = runner.call("INFO", "server")
    run_id = next((line for line in info.decode(errors="replace").splitlines() if line.startswith("run_id:")), "")
    return run_id, int(runner.pool.connection_kwargs.get("db") or 0)
