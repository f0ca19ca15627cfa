"""The output of a running task: chunks of text or JSON, which watchers of the task receive while it runs.

Chunks are sent in groups: one event of the task, and one round trip, for all chunks of `GROUP_SECONDS`. A thread sends
what waits when the task writes nothing further. A task that writes faster than `CHARACTERS_PER_SECOND` waits in
`write`, so that a journal that nobody records at the moment does not fill the broker.

Each chunk has a number, which counts from 0 within the attempt. A gap in the numbers says that the broker had no room
for an event.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any, Final, TypeAlias

from laneway.platform.errors import PermanentError, PlatformError, TaskCancelled
from laneway.platform.execution.outcomes import Attempt, AttemptSignal
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.sealing import Sealer

log = logger(__name__)

Report: TypeAlias = Callable[[dict[str, Any]], AttemptSignal]

GROUP_SECONDS: Final = 0.1
"""Seconds for which the first chunk of a group waits for others."""
GROUP_CHARACTERS: Final = 16_000
"""Characters of JSON at which a group is sent at once."""
AGAIN_SECONDS: Final = 1.0
"""Seconds after which a group is sent again that could not be sent."""
CHUNK_LIMIT: Final = 64_000
"""Characters of JSON that one chunk may have."""
OUTPUT_LIMIT: Final = 5_000_000
"""Characters of JSON that the output of an attempt may have."""
CHARACTERS_PER_SECOND: Final = 200_000.0
"""The most that an attempt sends in a second, after its first group."""


class OutputTooLarge(PermanentError):
    """A task writes more output than the platform keeps."""

    title = "Output too large"

    template = "{what} has {size} characters of JSON, more than {limit}: write less, or store it elsewhere."
    what: str
    size: int
    limit: int


class OutputWriter:
    """Collects the chunks of one attempt, and sends them in groups."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._waiting: list[Any] = []
        self._size, self._total, self._first = 0, 0, 0
        self._lock, self._sending = Lock(), Lock()
        self._sent_at, self._may_send_at = 0.0, 0.0
        self._signal = AttemptSignal.CONTINUE
        self._has_waiting, self._closed = Event(), Event()
        self._thread: Thread | None = None

    def write(self, chunk: Any) -> None:
        """Take a chunk. Raises TaskCancelled, OutputTooLarge, TypeError, ValueError, and what sending raises."""
        if chunk == "":
            return
        text = json.dumps(chunk, allow_nan=False)
        size = len(text)
        if size > CHUNK_LIMIT:
            raise OutputTooLarge("A chunk of the output", size, CHUNK_LIMIT)
        with self._lock:
            if self._total + size > OUTPUT_LIMIT:
                raise OutputTooLarge("The output of this attempt", self._total + size, OUTPUT_LIMIT)
            self._waiting.append(json.loads(text))  # a copy: the caller may change its own
            self._size, self._total = self._size + size, self._total + size
            is_full = self._size >= GROUP_CHARACTERS
        if is_full:
            sleep(max(0.0, self._may_send_at - monotonic()))
        if is_full or monotonic() - self._sent_at >= GROUP_SECONDS:
            self._send()
        else:
            self._send_later()
        if self._signal is not AttemptSignal.CONTINUE:
            raise TaskCancelled

    def close(self) -> None:
        """Send what waits, and end the thread. What cannot be sent is logged: the outcome of the task counts."""
        self._closed.set()
        self._has_waiting.set()
        try:
            self._send()
        except PlatformError as error:
            log.warning("the end of a task's output is lost", chunks=len(self._waiting), error=str(error))
        if self._thread is not None:
            self._thread.join()

    def _send_later(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name="laneway-output", daemon=True)
            self._thread.start()
        self._has_waiting.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._has_waiting.wait()
            self._has_waiting.clear()
            self._closed.wait(max(0.0, self._sent_at + GROUP_SECONDS - monotonic()))
            try:
                self._send()
            except PlatformError:  # it waits on, and the next chunk raises the error
                self._closed.wait(AGAIN_SECONDS)
                self._has_waiting.set()

    def _send(self) -> None:
        """Send what waits. If that fails, it waits on."""
        with self._sending:
            with self._lock:
                chunks, size, first = self._waiting, self._size, self._first
                self._waiting, self._size = [], 0
            if not chunks:
                return
            try:
                signal = self._report({"first": first, "chunks": chunks})
            except BaseException:
                with self._lock:
                    self._waiting, self._size = chunks + self._waiting, self._size + size
                raise
            now = monotonic()
            self._first, self._sent_at = first + len(chunks), now
            self._may_send_at = now + size / CHARACTERS_PER_SECOND
            self._signal = signal


def sealed_output(sealer: Sealer, attempt: Attempt, data: dict[str, Any]) -> dict[str, Any]:
    """The data of an event of the output, with its chunks encrypted if the task is. Raises KeysMissing."""
    spec = registry.get(attempt.name)
    return data if spec is None else {**data, "chunks": sealer.result(spec, data["chunks"])}
