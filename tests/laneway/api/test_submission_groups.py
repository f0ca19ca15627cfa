"""The groups in which the API accepts submissions: an outcome for each, and nobody waits for ever. No server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar, copy_context
from threading import Event

import pytest

from laneway.api.submission_groups import MAX_GROUP, SubmissionGroups
from laneway.platform.errors import Overloaded
from laneway.platform.submission.submit_call import SubmitCall
from laneway.schemas.history import TaskRequest
from laneway.schemas.task import TaskHandle, TaskState

caller: ContextVar[str] = ContextVar("caller")
SOON = 20.0
"""Seconds: more than any of this takes."""


class Desk:
    """Accepts groups, and waits in the middle of a group while it is closed."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.open = Event()
        self.open.set()
        self.began = Event()
        self.broken = False
        self.collected = SubmissionGroups(self.accept)

    def accept(self, calls: Sequence[SubmitCall]) -> list[TaskHandle | Exception]:
        names = [call.context.run(caller.get) for call in calls]
        self.groups.append(names)
        self.began.set()
        assert self.open.wait(SOON)
        if self.broken:
            raise RuntimeError("broken")
        return [KeyError(name) if name.startswith("bad") else handle(name) for name in names]

    async def submit(self, name: str, seconds: float = SOON) -> TaskHandle:
        caller.set(name)
        return await self.collected.submit(TaskRequest(name="any"), copy_context(), seconds)

    async def submit_behind_another(self, names: Sequence[str]) -> list[str]:
        """Submit `first`, and these while it is being accepted; returns the outcomes of these."""
        self.open.clear()
        first = asyncio.create_task(self.submit("first"))
        await asyncio.to_thread(self.began.wait, SOON)
        tasks = [asyncio.create_task(self.submit(name)) for name in names]
        await asyncio.sleep(0)  # each of them waits now
        self.open.set()
        await first
        return await outcomes(*tasks)


def handle(name: str) -> TaskHandle:
    return TaskHandle(task_id=name, state=TaskState.PENDING, created=True)


async def outcomes(*waits: Awaitable[TaskHandle]) -> list[str]:
    found = await asyncio.gather(*waits, return_exceptions=True)
    return [one.task_id if isinstance(one, TaskHandle) else repr(one) for one in found]


def test_one_alone_is_accepted_at_once_and_those_that_come_meanwhile_form_the_next_group() -> None:
    desk = Desk()

    assert asyncio.run(desk.submit_behind_another(["a", "bad", "c"])) == ["a", "KeyError('bad')", "c"]
    assert desk.groups == [["first"], ["a", "bad", "c"]]


def test_a_group_has_a_largest_size() -> None:
    desk = Desk()
    names = [f"n{number}" for number in range(MAX_GROUP + 1)]

    assert asyncio.run(desk.submit_behind_another(names)) == names
    assert [len(group) for group in desk.groups] == [1, MAX_GROUP, 1]


def test_who_waits_too_long_is_refused_and_is_not_accepted_later() -> None:
    desk = Desk()

    async def run() -> str:
        desk.open.clear()
        first = asyncio.create_task(desk.submit("first"))
        await asyncio.to_thread(desk.began.wait, SOON)
        with pytest.raises(Overloaded):
            await desk.submit("late", seconds=0.05)
        desk.open.set()
        await first
        return (await desk.submit("next")).task_id

    assert asyncio.run(run()) == "next"
    assert desk.groups == [["first"], ["next"]]


def test_whoever_is_being_accepted_is_not_told_that_nothing_was_done() -> None:
    desk = Desk()

    async def run() -> str:
        desk.open.clear()
        first = asyncio.create_task(desk.submit("first", seconds=0.05))
        await asyncio.to_thread(desk.began.wait, SOON)
        with pytest.raises(Overloaded):
            await desk.submit("late", seconds=0.1)
        desk.open.set()
        return (await first).task_id

    assert asyncio.run(run()) == "first"


def test_an_error_of_the_whole_group_is_the_outcome_of_each_and_the_next_group_is_accepted() -> None:
    desk = Desk()

    async def run() -> list[str]:
        desk.broken = True
        found = await outcomes(desk.submit("a"), desk.submit("b"))
        desk.broken = False
        return found + await outcomes(desk.submit("c"))

    assert asyncio.run(run()) == ["RuntimeError('broken')", "RuntimeError('broken')", "c"]


def test_an_application_that_starts_again_on_another_event_loop_accepts_again() -> None:
    desk = Desk()

    async def interrupted() -> None:
        desk.open.clear()
        task = asyncio.create_task(desk.submit("first"))
        await asyncio.to_thread(desk.began.wait, SOON)
        task.cancel()

    asyncio.run(interrupted())
    assert asyncio.run(outcomes_of(desk)) == ["again"]
    desk.open.set()


async def outcomes_of(desk: Desk) -> list[str]:
    desk.open.set()
    return await outcomes(desk.submit("again"))
