"""Every error survives pickling, says what happened, and knows its status."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from typing import Any

import pytest

import app
from laneway.platform.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    InvalidPayload,
    PermanentError,
    PlatformError,
    QueueFull,
    RetryableError,
    TaskCancelled,
    UpstreamError,
)

SAMPLES: dict[str, Any] = {
    "str": "something",
    "str | None": "something",
    "int": 7,
    "int | None": 7,
    "float": 2.5,
    "float | None": 2.5,
    "list[str]": ["field: wrong", "other: missing"],
    "bool": True,
    "Path": "somewhere",
    "dict[str, str]": {"ada@example.com": "550 unknown"},
}


def all_errors() -> list[type[PlatformError]]:
    """Every error class of the platform; the modules that start something when imported have none."""
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if not module.name.startswith(("app.db.migrations", "app.main", "laneway.server.child")):
            importlib.import_module(module.name)
    found: list[type[PlatformError]] = [PlatformError]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub not in found and sub.__module__.startswith("app.")]
    return found


def made(kind: type[PlatformError]) -> PlatformError:
    if kind.__init__ is Exception.__init__:
        return kind("something happened")
    parameters = list(inspect.signature(kind).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return kind("something happened")
    named = {one.name: SAMPLES[str(one.annotation)] for one in parameters if one.kind is one.KEYWORD_ONLY}
    return kind(*(SAMPLES[str(one.annotation)] for one in parameters if one.name not in named), **named)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_text_and_fields(kind: type[PlatformError]) -> None:
    error = made(kind)

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.args == error.args
        assert again.retry_after == error.retry_after


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_has_a_sentence_a_title_and_a_status(kind: type[PlatformError]) -> None:
    error = made(kind)

    assert str(error).strip()
    assert "object at 0x" not in str(error)
    assert kind.title
    assert 400 <= kind.status < 600


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_whether_a_retry_can_help_follows_the_tree(kind: type[PlatformError]) -> None:
    assert kind.retryable or not issubclass(kind, RetryableError)
    assert not (kind.retryable and issubclass(kind, PermanentError))


def test_errors_that_know_when_to_come_back_say_so() -> None:
    assert QueueFull("q", 5).retry_after == 10
    assert BrokerUnavailable("away").retry_after == DatabaseUnavailable("away").retry_after == 5
    assert UpstreamError("crm", "busy").retry_after is None
    assert UpstreamError("crm", "busy", 30).retry_after == 30


def test_an_invalid_payload_lists_every_problem() -> None:
    assert str(InvalidPayload("some_task", ["a: missing", "b: too long"])) == (
        "The payload of some_task is not valid: a: missing; b: too long"
    )


def test_a_cancellation_is_not_caught_by_task_code() -> None:
    assert not issubclass(TaskCancelled, Exception)
    assert isinstance(pickle.loads(pickle.dumps(TaskCancelled())), TaskCancelled)  # noqa: S301
