"""Does one drill: refuses where it could touch real work, prepares the bench, disturbs, judges, and cleans up.

1. A drill has a queue, tasks and workers of its own, and signals only processes that it has started. No worker of the
   installation serves its queue, and its workers serve no other queue.
2. `kill-worker` and `stop-worker` use the broker of the installation, as any worker does. `restart-broker` and
   `partition` disturb a broker, so they start one of their own, in a temporary folder.
3. Nothing of a drill is in the database.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from laneway._masking import without_login
from laneway.platform.application import application
from laneway.platform.db.queries.unfinished import has_table
from laneway.platform.errors import PlatformError
from laneway.platform.settings import Settings
from laneway.schemas.choices import Disturbance
from laneway.server.drill import disturbances
from laneway.server.drill.app import Plan
from laneway.server.drill.bench import PREFIX, Bench, Load, Say, bench
from laneway.server.drill.processes import DrillBroker
from laneway.server.drill.relay import Relay
from laneway.server.drill.report import DrillReport, Observation, judge

MEMORY_SHARE: Final = 0.6
"""A broker that uses more of its memory gets no drill: at 80 % it accepts no tasks."""
OWN_BROKER: Final = "its own"
SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class DrillRefused(PlatformError):
    """The drill could touch real work."""

    template = "The drill is refused: {reason}"
    reason: str


class Drill:
    """One drill on an installation."""

    def __init__(
        self, settings: Settings, kind: Disturbance, *, load: Load, lease: float | None = None, own_broker: bool = False
    ) -> None:
        """`lease`: seconds; None: TASK_LEASE_SECONDS. `own_broker`: use none of the installation's servers."""
        self._settings, self._kind, self._load = settings, kind, load
        self._lease = lease or settings.tasks.lease_seconds
        self._is_own = own_broker or kind in (Disturbance.RESTART_BROKER, Disturbance.PARTITION)

    def run(self, say: Say, *, allowed: bool = False) -> DrillReport:
        """Do it. `allowed`: somebody has agreed to a drill in production. Raises DrillRefused, DrillFailed."""
        if self._settings.operation.is_production and not allowed:
            raise DrillRefused("ENVIRONMENT is production. Repeat it with --yes if a drill may run here.")
        with _interruptible():
            return self._run_on_own_broker(say) if self._is_own else self._run_on_installation(say)

    def _run_on_installation(self, say: Say) -> DrillReport:
        if not self._settings.redis.on_engine:
            raise DrillRefused("the broker is not the delivery engine; --own-broker starts one for the drill.")
        platform = application().make_platform(self._settings)
        try:
            if has_table(platform.database, "task_runs"):
                platform.installation.refuse_foreign_broker()
        finally:
            platform.close()
        url = self._settings.redis.broker_url
        with bench(self._plan(url), self._load, say) as made:
            used, limit = made.engine.memory()
            if limit and used > MEMORY_SHARE * limit:
                share = f"{100 * used / limit:.0f} %"
                raise DrillRefused(f"the broker uses {share} of its memory, and the drill would add to it.")
            return self._judged(made, disturbances.PLAIN[self._kind], say, broker=without_login(url))

    def _run_on_own_broker(self, say: Say) -> DrillReport:
        with ExitStack() as stack:
            broker = DrillBroker(Path(stack.enter_context(TemporaryDirectory(prefix=PREFIX))))
            stack.callback(broker.kill)
            broker.start()
            made = stack.enter_context(bench(self._plan(broker.url), self._load, say))
            match self._kind:
                case Disturbance.RESTART_BROKER:
                    return self._judged(made, disturbances.restart_broker, say, broker)
                case Disturbance.PARTITION:
                    relay = Relay(broker.port)
                    stack.callback(relay.close)
                    return self._judged(made, disturbances.partition, say, relay)
                case _:
                    return self._judged(made, disturbances.PLAIN[self._kind], say)

    def _judged(self, made: Bench, disturb: Any, say: Say, *more: object, broker: str = OWN_BROKER) -> DrillReport:
        say(f"The drill {self._kind.value} begins: {self._load.tasks} tasks, a lease of {self._lease:g} s.")
        began = time.monotonic()
        seen: Observation = disturb(made, *more)
        seconds = time.monotonic() - began
        return judge(self._kind, made.entries, seen, submitted=made.submitted, broker=broker, seconds=seconds)

    def _plan(self, url: str) -> Plan:
        keys = self._settings.keys
        ring = str(keys.ring_path) if keys.signs else None
        return Plan(url, "", self._lease, "", key_ring=ring, signing=keys.signing if keys.signs else None)


@contextmanager
def _interruptible() -> Generator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
