"""The submissions of an event loop, accepted in groups by one thread.

Nobody waits for a group to fill. A submission that finds no work in progress starts at once, alone; those that come in
while the thread works form the next group.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Final, TypeAlias

from laneway.platform.errors import Overloaded
from laneway.platform.submission.outside import outside_submission
from laneway.platform.submission.submit_call import SubmitCall
from laneway.schemas.history import TaskRequest
from laneway.schemas.task import TaskHandle

MAX_GROUP: Final = 100
"""Submissions in one group."""
Outcome: TypeAlias = TaskHandle | Exception
Waiting: TypeAlias = tuple[SubmitCall, asyncio.Future[TaskHandle], asyncio.TimerHandle]
"""A submission, its outcome, and what ends its wait for the thread."""


class SubmissionGroups:
    """Accepts submissions; for the coroutines of one event loop at a time.

    `accept` runs in the thread, and returns one outcome per call, in order.
    """

    def __init__(self, accept: Callable[[Sequence[SubmitCall]], Sequence[Outcome]]) -> None:
        self._accept = accept
        self._loop: asyncio.AbstractEventLoop | None = None

    async def submit(self, request: TaskRequest, context: Context, seconds: float) -> TaskHandle:
        """Accept a request in its context. Raises what refuses the submission.

        Raises Overloaded if the thread does not get to it in these seconds: nothing was done then. Once the thread has
        it, the limits of the work itself bound the wait.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the first call, or the application was started again
            self._loop, self._busy = loop, False
            self._waiting: deque[Waiting] = deque()
            self._thread = ThreadPoolExecutor(1, "laneway-submissions")
        outcome: asyncio.Future[TaskHandle] = loop.create_future()
        timer = loop.call_later(seconds, _settle, outcome, Overloaded(seconds))
        self._waiting.append((SubmitCall(lambda: outside_submission(request), context), outcome, timer))
        if not self._busy:
            self._start(loop)
        try:
            return await outcome
        finally:
            timer.cancel()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread accept what waits now, except those that nobody waits for any more."""
        group: list[Waiting] = []
        while self._waiting and len(group) < MAX_GROUP:
            waiting = self._waiting.popleft()
            if not waiting[1].done():
                waiting[2].cancel()
                group.append(waiting)
        self._busy = bool(group)
        if group:
            self._thread.submit(self._work, loop, group)

    def _work(self, loop: asyncio.AbstractEventLoop, group: Sequence[Waiting]) -> None:
        try:
            outcomes = self._accept([call for call, _, _ in group])
        except Exception as error:  # noqa: BLE001 - raised in every call of the group
            outcomes = [error] * len(group)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._hand_out, loop, group, outcomes)

    def _hand_out(self, loop: asyncio.AbstractEventLoop, group: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
        self._start(loop)
        for (_, future, _), outcome in zip(group, outcomes, strict=True):
            _settle(future, outcome)


def _settle(future: asyncio.Future[TaskHandle], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
