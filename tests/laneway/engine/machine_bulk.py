"""The rules of the state machine for what is done to many tasks at once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from laneway.engine import Engine
from laneway.engine.waiting_messages import cancel_many, reprioritise
from tests.laneway.engine.model import Model

queues = st.sampled_from(("a", "a", "b"))
versions = st.sampled_from((None, 1, 1_800_000_000_000_001))


class BulkRules(RuleBasedStateMachine):
    """Drawn with the rules of `EngineMachine`."""

    engine: Engine
    model: Model

    def _tasks(self, queue: str) -> list[str]:
        return sorted({m.message.task_id for m in self.model.queue(queue).messages.values()} | {"unknown"})

    @rule(queue=queues, data=st.data(), priority=st.sampled_from((0, 4, 9)))
    def reprioritise(self, queue: str, data: st.DataObject, priority: int) -> None:
        tasks = data.draw(st.lists(st.sampled_from(self._tasks(queue)), max_size=3))
        codes = reprioritise(self.engine, queue, tasks, priority=priority)
        assert codes == self.model.reprioritise(queue, tasks, priority)

    @rule(queue=queues, data=st.data(), version=versions)
    def cancel_many(self, queue: str, data: st.DataObject, version: int | None) -> None:
        tasks = data.draw(st.lists(st.sampled_from(self._tasks(queue)), max_size=2))
        results = cancel_many(self.engine, queue, [(task, version) for task in tasks])
        expected = [self.model.cancel(queue, task, version) for task in tasks]
        assert [(result.removed, result.marked, result.dead) for result in results] == expected
