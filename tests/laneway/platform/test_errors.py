"""Every error survives pickling and has a text and a status."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

import app
import laneway
from laneway.engine.errors import LanewayError
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
    "tuple[tuple[str, str], ...]": (("cron", "wrong"),),
    "list[str]": ["field: wrong", "other: missing"],
    "bool": True,
    "Path": "somewhere",
    "object": "anything",
    "dict[str, str]": {"ada@example.com": "550 unknown"},
    "datetime": datetime(2026, 11, 30, 12, tzinfo=UTC),
}


STARTERS = (
    *("app.main", "laneway.server.child", "laneway.server.drill.worker_app", "laneway.platform.db.migrations"),
    *("app.db.migrations", ".__main__"),
)
"""Modules whose import has an effect."""


@cache
def all_errors() -> list[type[LanewayError]]:
    """Every error class of the library and of the application."""
    for package in (app, laneway):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(STARTERS) and not module.name.endswith(STARTERS):
                importlib.import_module(module.name)
    found: list[type[LanewayError]] = [LanewayError]
    for kind in found:
        own = [sub for sub in kind.__subclasses__() if sub.__module__.startswith(("app.", "laneway."))]
        found += [sub for sub in own if sub not in found]
    return found


def platform_errors() -> list[type[PlatformError]]:
    """The error classes that the API may return."""
    return [kind for kind in all_errors() if issubclass(kind, PlatformError)]


def made(kind: type[LanewayError]) -> LanewayError:
    """An error of this class, with a sample for each field."""
    kinds: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        kinds |= inspect.get_annotations(base)
    samples = [SAMPLES[kinds[name]] for name in kind._fields]  # pyright: ignore[reportPrivateUsage]
    return kind(*(samples or ["something happened"]))


def test_an_error_with_the_wrong_arguments_names_its_fields() -> None:
    wrong: Any = QueueFull
    for arguments, named in (((), {}), (("q", 5, 6), {}), (("q",), {"size": 5}), (("q",), {"queue": "q"})):
        with pytest.raises(TypeError, match="QueueFull takes queue, limit"):
            wrong(*arguments, **named)
    assert QueueFull("q", limit=5).args == ("q", 5)


def test_an_error_survives_pickling_with_its_text_and_fields() -> None:
    assert len(all_errors()) > 100
    for kind in all_errors():
        error = made(kind)
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
            assert type(again) is kind
            assert str(again) == str(error), kind
            assert vars(again) == vars(error), kind
            assert again.args == error.args, kind
            assert getattr(again, "retry_after", None) == getattr(error, "retry_after", None), kind


def test_an_error_has_a_sentence_a_title_and_a_status() -> None:
    for kind in platform_errors():
        error = made(kind)
        assert str(error).strip(), kind
        assert "object at 0x" not in str(error), kind
        assert kind.title, kind
        assert 400 <= kind.status < 600, kind


def test_a_retry_helps_for_retryable_errors_only() -> None:
    for kind in platform_errors():
        assert kind.retryable or not issubclass(kind, RetryableError), kind
        assert not (kind.retryable and issubclass(kind, PermanentError)), kind


def test_some_errors_carry_the_seconds_to_wait() -> None:
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
