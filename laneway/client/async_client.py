"""The client for programs with an event loop (asyncio or trio)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import anyio
import httpx2

from laneway.client import calls
from laneway.client.answers import checked_json, read_event, read_feed_event
from laneway.client.calls import Call, Options, Payload, Seconds, Selection
from laneway.client.connection import (
    RECONNECT_SECONDS,
    STREAM_SILENCE_SECONDS,
    connection,
    read_answer,
    request_options,
    unreachable,
)
from laneway.client.errors import ClientError, Unreachable, WaitTimeout
from laneway.client.retrying import Retrying
from laneway.schemas.choices import EventKindName
from laneway.schemas.feed import POSITION, FeedEvent, OutputChunk, chunks_of
from laneway.schemas.history import TaskRequest
from laneway.schemas.task import FINISHED, STOPPING, CancelResponse, EventView, TaskDetails, TaskHandle
from laneway.schemas.task_signal import TaskSignalResponse

if TYPE_CHECKING:
    from laneway.schemas.batch import BatchHandle, BatchView

T = TypeVar("T")


class AsyncClient:
    """Uses a platform over HTTP, like `Client`. Tasks of one event loop may share it.

    `url` and `token` default to LANEWAY_URL and LANEWAY_TOKEN. `timeout`: seconds until one request must be answered.
    `retry_seconds`: for how long a request is repeated while the platform is away or its queue is full; a repeat never
    makes a second task. Every call may raise a ClientError.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 10, retry_seconds: float = 30
    ) -> None:
        self._connection = connection(url, token, timeout, retry_seconds)
        self._http = httpx2.AsyncClient(**self._connection.options())

    @property
    def url(self) -> str:
        """The address of the platform."""
        return self._connection.url

    async def submit(self, name: str, payload: Payload | None = None, **options: Unpack[Options]) -> TaskHandle:
        """Submit a task by its registered name; returns its receipt. For the options see `calls.Options`."""
        return await self.send(calls.submit(calls.task_request(name, payload, **options)))

    async def submit_many(self, requests: Sequence[TaskRequest]) -> list[TaskHandle]:
        """Submit many tasks (`task_request`): all are accepted, or none. Returns their receipts, in order."""
        return (await self.send(calls.submit_many(requests))).tasks

    async def make_batch(self, tasks: Sequence[TaskRequest] = (), **fields: Any) -> BatchHandle:
        """Make a batch with its first tasks (`task_request`): all of it is accepted, or nothing.

        `fields`: those of `POST /batches`, such as `description`, `on_success` and `keep_open`.
        """
        from laneway.client import batch_calls

        return await self.send(batch_calls.create_batch(batch_calls.batch_request(tasks=list(tasks), **fields)))

    async def batch(self, id: str) -> BatchView:
        """Return a batch with its progress."""
        from laneway.client import batch_calls

        return await self.send(batch_calls.batch(id))

    async def add_to_batch(self, id: str, requests: Sequence[TaskRequest]) -> list[TaskHandle]:
        """Submit more tasks into a batch: all are accepted, or none. Returns their receipts, in order."""
        from laneway.client import batch_calls

        return (await self.send(batch_calls.add_batch_tasks(id, requests))).tasks

    async def close_batch(self, id: str) -> BatchView:
        """Let an open batch end with the last of its tasks."""
        from laneway.client import batch_calls

        return await self.send(batch_calls.close_batch(id))

    async def get(self, id: str) -> TaskDetails:
        """Return a task: payload, state, progress, result or error, attempts, times."""
        return await self.send(calls.get(id))

    async def wait(self, id: str, timeout: Seconds = 60) -> TaskDetails:  # noqa: ASYNC109 - as in `Client`
        """Wait until a task is over, whatever its outcome. Raises WaitTimeout."""
        seconds = calls.seconds(timeout)
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            task = await self.send(calls.get(id, wait=min(left, calls.LONGEST_WAIT)))
            if task.status in FINISHED:
                return task
            if time.monotonic() >= deadline:
                raise WaitTimeout(task, seconds)

    async def events(self, id: str, *, after: int = 0, follow: bool = True) -> AsyncIterator[EventView]:
        """Follow a task: yield its events after this one as they come, until it is over.

        A lost connection is made again, and no event is missed or repeated. `follow=False`: only those that exist now.
        """
        retrying = Retrying(self._connection.retry_seconds)
        while True:
            before, stops = after, False
            try:
                async with self._stream(calls.events_path(id, follow=follow), after) as stream:
                    async for event in stream:
                        if stops := event.event == STOPPING:
                            break
                        view = read_event(event.data)
                        after = view.id
                        yield view
                if stops:  # another process of the platform takes over, or the same one when it has started again
                    await anyio.sleep(RECONNECT_SECONDS)
                if stops or after > before:  # perhaps cut: only a stream without events is the last one
                    retrying = Retrying(self._connection.retry_seconds)
                    continue
                if not follow or (await self.get(id)).status in FINISHED:
                    return
                raise Unreachable(f"The platform at {self.url} ended the event stream of a task that goes on")
            except Unreachable as error:
                await anyio.sleep(retrying.pause_after(error, repeatable=True))

    async def output(self, id: str, *, after: int = 0, follow: bool = True) -> AsyncIterator[OutputChunk]:
        """Yield the chunks that a task writes (`ctx.write`) as they come, until it is over.

        `after`: the `event_id` of the last chunk that you have. Connections are made again as by `events`.
        """
        async for event in self.events(id, after=after, follow=follow):
            if event.kind == EventKindName.OUTPUT:
                for chunk in chunks_of(event):
                    yield chunk

    async def feed(
        self, *, after: int | None = None, last: int = 0, follow: bool = True, **selection: Unpack[Selection]
    ) -> AsyncIterator[FeedEvent]:
        """Follow the events of all tasks, or of a selection: yield those after this one as they come, without end.

        Without `after` it begins with the `last` events, or now. A lost connection is made again, and no event is
        missed or repeated. An event of the kind `gone` says that events up to the id `data["before"]` were deleted
        before they came. `follow=False`: only the events that exist now.
        """
        retrying = Retrying(self._connection.retry_seconds)
        while True:
            try:
                async with self._stream(calls.feed_path(selection, last=last, follow=follow), after) as stream:
                    async for event in stream:
                        retrying = Retrying(self._connection.retry_seconds)
                        view = read_feed_event(event.data)
                        after = int(event.id) if event.id.isdecimal() else after
                        if view.kind != POSITION:
                            yield view
                if not follow:
                    return
                await anyio.sleep(RECONNECT_SECONDS)
            except ClientError as error:
                await anyio.sleep(retrying.pause_after(error, repeatable=True))

    async def cancel(self, id: str) -> CancelResponse:
        """Cancel a task. A waiting task never runs; a running task is asked to stop."""
        return await self.send(calls.cancel(id))

    async def retry(self, id: str) -> TaskHandle:
        """Run a finished task again, as a new attempt of the same task."""
        return await self.send(calls.retry(id))

    async def signal(
        self, id: str, name: str, data: dict[str, Any] | None = None, *, key: str | None = None
    ) -> TaskSignalResponse:
        """Send a signal to a task. It is kept until the task waits for it. `key` tells several of one name apart."""
        return await self.send(calls.signal(id, name, data=data or {}, key=key))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, call: Call[T]) -> T:
        """Send a call for which there is no method, such as one of `operator_calls`; returns its answer."""
        retrying = Retrying(self._connection.retry_seconds)
        while True:
            try:
                return read_answer(call, await self._request(call))
            except ClientError as error:
                await anyio.sleep(retrying.pause_after(error, repeatable=call.repeatable))

    async def _request(self, call: Call[Any]) -> httpx2.Response:
        try:
            return await self._http.request(call.method, call.path, **request_options(call, self._connection.timeout))
        except httpx2.HTTPError as error:
            raise unreachable(self._connection, error) from error

    @asynccontextmanager
    async def _stream(self, path: str, after: int | None = None) -> AsyncGenerator[httpx2.EventSource]:
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        timeout = httpx2.Timeout(self._connection.timeout, read=STREAM_SILENCE_SECONDS)
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    checked_json(response.status_code, await response.aread(), response.headers.get("Retry-After"))
                yield httpx2.EventSource(response)
        except httpx2.HTTPError as error:
            raise unreachable(self._connection, error) from error
