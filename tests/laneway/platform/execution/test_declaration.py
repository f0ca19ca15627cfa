"""A task that cannot work is refused when it is declared, with an error that names the mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from laneway.platform.execution.task import PlatformTask, task
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
    registry.remove(NAME)


def declare(work: Callable[..., Any], **options: Any) -> PlatformTask:
    return task(queue="maintenance", name=NAME, **options)(work)


def test_a_function_with_a_running_task_and_a_payload_is_a_task() -> None:
    def greet(self: PlatformTask, payload: Greeting) -> dict[str, str]:
        """Greet somebody."""
        return {"id": self.id, "name": payload.name}

    greeting = declare(greet, key="name", retries=2, delays=[1, 5])

    assert (greeting.name, greeting.__doc__) == (NAME, "Greet somebody.")
    assert greeting.spec is registry[NAME]
    assert (greeting.spec.payload, greeting.spec.key) == (Greeting, "name")
    assert (greeting.spec.max_retries, greeting.spec.delays) == (2, (1, 5))


def without_parameters() -> None: ...


def with_the_task_only(_self: PlatformTask) -> None: ...


def with_three_parameters(_self: PlatformTask, _payload: Greeting, _more: int) -> None: ...


def with_a_keyword_only_payload(_self: PlatformTask, *, _payload: Greeting) -> None: ...


def with_any_arguments(*_args: object, **_kwargs: object) -> None: ...


@pytest.mark.parametrize(
    "work",
    [
        without_parameters,
        with_the_task_only,
        with_three_parameters,
        with_a_keyword_only_payload,
        with_any_arguments,
    ],
)
def test_a_function_with_other_parameters_is_refused_with_its_signature(work: Callable[..., Any]) -> None:
    with pytest.raises(BadTask, match=r"must have two parameters, \(self, payload\); it has \(") as refused:
        declare(work)

    assert NAME in str(refused.value)


async def asynchronous(_self: PlatformTask, _payload: Greeting) -> None: ...


def generator(_self: PlatformTask, _payload: Greeting) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("work", [asynchronous, generator])
def test_a_function_that_would_not_run_when_called_is_refused(work: Callable[..., Any]) -> None:
    with pytest.raises(BadTask, match="not async, and without yield"):
        declare(work)


def test_parameters_in_the_wrong_order_are_refused() -> None:
    def swapped(_payload: Greeting, _self: PlatformTask) -> None: ...

    with pytest.raises(BadTask, match="in the wrong order: the running task, '_self', comes first"):
        declare(swapped)


def test_a_payload_without_a_type_is_refused() -> None:
    def untyped(_self: PlatformTask, _payload: Greeting) -> None: ...

    untyped.__annotations__.clear()

    with pytest.raises(BadTask, match="its parameter '_payload' has no type"):
        declare(untyped)


def test_a_payload_that_is_no_model_is_refused() -> None:
    def with_dict(_self: PlatformTask, _payload: dict[str, Any]) -> None: ...

    with pytest.raises(BadTask, match="is not a pydantic model"):
        declare(with_dict)


def test_negative_retries_are_refused() -> None:
    """The first attempt would count as one too many, and become a dead letter that never ran."""
    with pytest.raises(BadTask, match="retries=-1 is negative"):
        declare(greet, retries=-1)


@pytest.mark.parametrize("delays", [[], [1, -1]])
def test_delays_that_no_retry_could_use_are_refused(delays: list[float]) -> None:
    with pytest.raises(BadTask, match="must be seconds before each retry"):
        declare(greet, delays=delays)


def greet(_self: PlatformTask, _payload: Greeting) -> None: ...
