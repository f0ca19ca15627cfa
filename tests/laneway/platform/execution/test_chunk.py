"""Chunk tasks: what may be declared, and what the return value of the function means for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from celery import _state

import laneway.testing
from laneway import Chunk, ChunkContext, Context, Limit, task
from laneway.platform.errors import PermanentError, RetryableError, TaskCancelled, TaskSnoozed
from laneway.platform.execution.chunk import split
from laneway.platform.execution.local_platform import LocalPlatform
from laneway.platform.execution.outcomes import Completed, Raised, Snoozed, Stopped
from laneway.platform.execution.task import PlatformTask
from laneway.platform.flow.chunk import BadChunk, chunk_note, chunk_of_note
from laneway.platform.registry import BadTask, registry
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState

NAME = "test_chunk_task"
SMALL = Chunk(size=3, seconds=1)


class Away(RetryableError):
    """A server is away."""

    template = "away"


class Refused(PermanentError):
    """A server refuses."""

    template = "refused"


class Mail(Payload):
    """A payload."""

    to: str
    tenant: str = "a"


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Remove what a test registers."""
    yield
    registry.remove(NAME)
    for app in _state._get_active_apps():  # pyright: ignore[reportPrivateUsage]
        app.tasks.pop(NAME, None)


def declare(work: Callable[..., Any], **options: Any) -> PlatformTask:
    return task(queue="maintenance", name=NAME, **({"chunk": SMALL} | options))(work)


def fine(payloads: list[Mail]) -> None: ...


def one_payload(payload: Mail) -> None: ...


def two_lists(payloads: list[Mail], others: list[Mail]) -> None: ...


def of_texts(payloads: list[str]) -> None: ...


def of_a_context(ctx: Context, payloads: list[Mail]) -> None: ...


def one_result(payloads: list[Mail]) -> dict[str, int]:
    return {"n": len(payloads)}


@pytest.mark.parametrize(
    ("work", "options", "problem"),
    [
        (one_payload, {}, "takes one list of payloads"),
        (two_lists, {}, "takes one list of payloads"),
        (of_texts, {}, "takes one list of payloads"),
        (of_a_context, {}, "may be a laneway.ChunkContext, not a Context"),
        (one_result, {}, "returns None, or a list with one entry for each payload"),
        (fine, {"chunk": 100}, "chunk must be a laneway.Chunk"),
        (fine, {"chunk": Chunk(size=3, seconds=1, by="town")}, "'town', of its chunks, is not a field of Mail"),
        (fine, {"chunk": Chunk(size=3, seconds=1, by="to"), "key": "to"}, "lets one task run at a time"),
        (fine, {"chunk": Chunk(size=3, seconds=1, by="to"), "encrypted": True}, "it is encrypted"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    work: Callable[..., Any], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadTask, match=problem):
        declare(work, **options)


def test_a_chunk_context_needs_a_chunk() -> None:
    def work(ctx: ChunkContext, payload: Mail) -> None: ...

    with pytest.raises(BadTask, match=r"declare it with chunk=Chunk"):
        declare(work, chunk=None)


@pytest.mark.parametrize(("size", "seconds"), [(1, 1), (1001, 1), (5, 0), (5, 601)])
def test_a_chunk_has_bounds(size: int, seconds: float) -> None:
    with pytest.raises(BadChunk):
        Chunk(size=size, seconds=seconds)


def test_a_chunk_task_is_submitted_as_any_other_one() -> None:
    declared = declare(fine)
    assert declared.declaration.payload_of((), {"to": "ada"}) == {"to": "ada"}
    assert declared.spec.payload is Mail
    assert declared([Mail(to="ada")]) is None


def test_the_entries_of_a_list_decide_about_each_task() -> None:
    error = Away()
    entries = [{"sent": True}, None, error, TaskCancelled(), TaskSnoozed(5, "later"), Mail(to="ada")]
    assert split(entries, len(entries), time_limit=1) == [
        Completed({"sent": True}),
        Completed(None),
        Raised(error),
        Stopped(),
        Snoozed(5, "later"),
        Completed({"to": "ada", "tenant": "a"}),
    ]
    assert split(None, 2, time_limit=1) == [Completed(None)] * 2


@pytest.mark.parametrize(
    ("returned", "problem"),
    [([None], "1 entries for 2 payloads"), ({"n": 2}, "returned dict"), ([None, 3], "the task returned int")],
)
def test_what_is_no_result_for_each_task_is_an_error(returned: object, problem: str) -> None:
    last = split(returned, 2, time_limit=1)[-1]
    assert isinstance(last, Raised)
    assert problem in str(last.error)


def test_each_task_of_a_chunk_has_its_own_retries_and_end() -> None:
    sizes = list[int]()

    def send(ctx: ChunkContext, payloads: list[Mail]) -> list[dict[str, Any] | Exception | None]:
        sizes.append(len(payloads))
        errors = {"away": Away(), "refused": Refused()}
        return [errors.get(item.payload.to, {"attempt": item.attempt, "first": ctx.id}) for item in ctx.items]

    runs = laneway.testing.run_many(
        declare(send, retries=1), [{"to": "ada"}, Mail(to="away"), {"to": "refused"}, {"to": "bob"}]
    )

    states = [run.state for run in runs]
    assert states == [TaskState.COMPLETED, TaskState.DEAD_LETTER, TaskState.FAILED, TaskState.COMPLETED]
    assert [len(run.attempts) for run in runs] == [1, 2, 1, 1]
    assert runs[0].result == {"attempt": 1, "first": runs[0].task_id}
    assert sizes == [3, 2], "the one that failed runs again with other neighbours"


def test_an_error_of_the_function_is_that_of_each_task() -> None:
    def send(payloads: list[Mail]) -> None:
        raise Away

    runs = laneway.testing.run_many(declare(send, retries=1), [{"to": "ada"}, {"to": "bob"}])
    assert [(run.state, len(run.attempts)) for run in runs] == [(TaskState.DEAD_LETTER, 2)] * 2


def test_a_limit_learns_once_from_the_error_of_a_chunk_and_each_task_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, closed = [429, 200], list[tuple[str, float]]()

    def send(payloads: list[Mail]) -> None:
        request = httpx.Request("GET", "https://mail.example.com")
        response = httpx.Response(answers.pop(0), headers={"Retry-After": "7"}, request=request)
        response.raise_for_status()

    def block(_: LocalPlatform, name: str, seconds: float, *, key: str) -> None:
        closed.append((name + key, seconds))

    monkeypatch.setattr(LocalPlatform, "block_limit", block)
    limit = Limit("mail", rate=10, learn=True)
    runs = laneway.testing.run_many(declare(send, limits=[limit]), [{"to": "ada"}, {"to": "bob"}])

    for run in runs:
        assert run.state == TaskState.COMPLETED
        assert [attempt.state for attempt in run.attempts] == [TaskState.SCHEDULED, TaskState.COMPLETED]
    assert closed == [("mail", 7.0)]


def test_a_chunk_task_runs_alone_where_nothing_is_gathered() -> None:
    def send(ctx: ChunkContext, payloads: list[Mail]) -> list[dict[str, str]]:
        ctx.log.info("sending")
        return [{"to": payload.to} for payload in payloads]

    declared = declare(send)
    done = laneway.testing.run(declared, {"to": "ada"})
    assert (done.result, done.log) == ({"to": "ada"}, ["sending"])
    assert declared.apply(kwargs={"to": "bob"}).get() == {"to": "bob"}


def test_messages_are_gathered_by_a_field() -> None:
    declared = declare(fine, chunk=Chunk(size=3, seconds=1, by="tenant"))
    group = declared.chunk_group
    assert group((), {"to": "ada", "tenant": "x"}) == group((), {"to": "bob", "tenant": "x"})
    assert group((), {"to": "ada", "tenant": "x"}) != group((), {"to": "ada", "tenant": "y"})
    assert group((), {"stored": "elsewhere"}) != group((), {"stored": "elsewhere"})


@pytest.mark.parametrize("note", ["", "{}", "[]", "3", "not JSON"])
def test_a_note_without_a_chunk_says_nothing(note: str) -> None:
    assert chunk_of_note(note) == {}


def test_a_note_names_the_chunk() -> None:
    assert chunk_of_note(chunk_note({"id": "a", "size": 2})) == {"chunk": {"id": "a", "size": 2}}
