"""A task that cannot work is refused when it is declared, with an error that names the mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Annotated, Any

import pytest
from celery import _state
from pydantic import BaseModel, Field, ValidationError

from laneway import Context, task
from laneway.platform.execution.task import PlatformTask
from laneway.platform.queues import Lane, Queues
from laneway.platform.registry import BadTask, registry
from laneway.schemas.payload import Payload

NAME = "test_declared_task"


class Greeting(Payload):
    """A payload."""

    name: str


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Remove what a test registers."""
    yield
    forget()


def forget() -> None:
    registry.remove(NAME)
    for app in _state._get_active_apps():  # pyright: ignore[reportPrivateUsage]
        app.tasks.pop(NAME, None)


def declare(work: Callable[..., Any], **options: Any) -> PlatformTask:
    return task(queue="maintenance", name=NAME, **options)(work)


def test_a_function_with_a_running_task_and_a_payload_is_a_task() -> None:
    def greet(ctx: Context, payload: Greeting) -> dict[str, str]:
        """Greet somebody."""
        return {"id": ctx.id, "name": payload.name}

    greeting = declare(greet, key="name", retries=2, delays=[1, 5])

    assert (greeting.name, greeting.__doc__) == (NAME, "Greet somebody.")
    assert greeting.spec is registry[NAME]
    assert (greeting.spec.payload, greeting.spec.key) == (Greeting, "name")
    assert (greeting.spec.max_retries, greeting.spec.delays) == (2, (1, 5))


class Size(BaseModel):
    """A model that is a parameter of a task among others."""

    width: int


Rated = Annotated[int, Field(ge=1, le=5)]


def plain(stars: Rated, by: str | None, *, size: Size, json: str = "a", tags: Sequence[str] = ()) -> None: ...


def test_plain_parameters_are_the_fields_of_a_payload() -> None:
    """One of them has the name of a method of pydantic; that is no mistake of a task's author."""
    payload = declare(plain, key="by").spec.payload

    made = payload.model_validate({"stars": 5, "by": None, "size": {"width": 1}})
    assert dict(made) == {"stars": 5, "by": None, "size": Size(width=1), "json": "a", "tags": ()}
    schema = payload.model_json_schema()
    assert schema["required"] == ["stars", "by", "size"]
    assert (schema["additionalProperties"], schema["properties"]["stars"]["maximum"]) == (False, 5)
    for wrong in ({"stars": 6}, {"colour": "red"}, {"size": {"width": "wide"}}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            payload.model_validate({"stars": 5, "by": None, "size": {"width": 1}, **wrong})


def nothing() -> None: ...


def with_the_task_only(ctx: Context) -> None: ...


@pytest.mark.parametrize("work", [nothing, with_the_task_only])
def test_a_function_without_parameters_has_an_empty_payload(work: Callable[..., Any]) -> None:
    assert declare(work).spec.payload.model_json_schema()["properties"] == {}


def only_by_position(x: int, /) -> None: ...


def any_positional(*rest: int) -> None: ...


def any_keywords(ctx: Context, x: int, **more: int) -> None: ...


def without_a_type(ctx: Context, x) -> None: ...  # type: ignore[no-untyped-def]


def untyped_context(ctx, payload: Greeting) -> None: ...  # type: ignore[no-untyped-def]


def underscore(_x: int) -> None: ...


def swapped(payload: Greeting, ctx: Context) -> None: ...


class Handle:
    """No model."""


def not_json(handle: Handle) -> None: ...


def reserved(model_dump: int) -> None: ...


def returns_a_number(x: int) -> int:
    return x


def returns_a_list(x: int) -> list[int]:
    return [x]


def unknown_name(x: NoSuchType) -> None: ...  # noqa: F821 # type: ignore[name-defined]


async def asynchronous(payload: Greeting) -> None: ...


def generator(payload: Greeting) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (only_by_position, "its parameter 'x' cannot be given by its name"),
        (any_positional, r"its parameter '\*rest' cannot be given by its name"),
        (any_keywords, r"its parameter '\*\*more' cannot be given by its name"),
        (without_a_type, "its parameter 'x' has no type; annotate it"),
        (untyped_context, "its parameter 'ctx' has no type; annotate it. `ctx: laneway.Context` is the running task"),
        (underscore, "its parameter '_x' begins with an underscore"),
        (swapped, "in the wrong order: the running task, 'ctx', comes first"),
        (not_json, "its parameters cannot be sent as JSON: .*Handle"),
        (reserved, "its parameters cannot be sent as JSON: .*model_dump"),
        (returns_a_number, "it returns int; a result is a JSON object: return a dict, a pydantic model or None"),
        (returns_a_list, "it returns list"),
        (unknown_name, "'NoSuchType' is not defined.*import it at the top of the module"),
        (asynchronous, r"is async: make it a plain one that runs the coroutine, `return asyncio.run\(...\)`"),
        (generator, "has a yield: it would not run when it is called"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_with_the_reason(work: Callable[..., Any], problem: str) -> None:
    with pytest.raises(BadTask, match=problem) as refused:
        declare(work)

    assert NAME in str(refused.value)
    assert NAME not in registry


def test_a_task_without_a_queue_gets_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.platform.registry.queues", declared := Queues())
    declared.declare({"mail": Lane.HIGH, "default": Lane.LOW, "reports": Lane.LOW}, ())
    assert task(name=NAME)(nothing).spec.queue == "default"
    forget()
    declared.declare({"mail": Lane.HIGH}, ())
    assert task(name=NAME)(nothing).spec.queue == "mail"
    declared.declare({"mail": Lane.HIGH, "reports": Lane.LOW}, ())
    with pytest.raises(BadTask, match="it names no queue, and no queue is called 'default'; declared queues: mail, "):
        task(name=NAME)(nothing)


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(BadTask, match="@task has no option 'que'"):
        declare(greet, que="mail")


def test_a_program_that_is_its_own_task_module_is_told_so() -> None:
    declare(greet)
    twice = FunctionType(nothing.__code__, globals(), "nothing")
    twice.__module__, twice.__annotations__ = "__main__", {}
    with pytest.raises(BadTask, match="both run as a program and imported: submit tasks from another file"):
        declare(twice)


def test_negative_retries_are_refused() -> None:
    """The first attempt would count as one too many, and become a dead letter that never ran."""
    with pytest.raises(BadTask, match="retries=-1 is negative"):
        declare(greet, retries=-1)


@pytest.mark.parametrize("delays", [[], [1, -1]])
def test_delays_that_no_retry_could_use_are_refused(delays: list[float]) -> None:
    with pytest.raises(BadTask, match="must be seconds before each retry"):
        declare(greet, delays=delays)


def greet(payload: Greeting) -> None: ...
