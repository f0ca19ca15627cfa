"""Checks the declaration of a task: a mistake is reported when the module is imported, not when the task runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from celery import Task

from laneway.platform.registry import BadTask
from laneway.schemas.payload import Payload

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def payload_type(work: Callable[..., Any], *, task: str) -> type[Payload]:
    """Return the annotated type of the second parameter of a task's function. Raises BadTask."""
    if inspect.iscoroutinefunction(work) or inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        raise BadTask(task, "its function must be a plain one: not async, and without yield.")
    parameters = list(inspect.signature(work).parameters.values())
    if len(parameters) != 2 or any(parameter.kind not in _POSITIONAL for parameter in parameters):
        problem = f"its function must have two parameters, (self, payload); it has {inspect.signature(work)}."
        raise BadTask(task, problem)
    try:
        hints = get_type_hints(work)
    except NameError as error:
        raise BadTask(task, f"the type of its payload cannot be read ({error}); import it at run time.") from error
    name = parameters[1].name
    if name not in hints:
        raise BadTask(task, f"its parameter {name!r} has no type; annotate it with a laneway.Payload.")
    if isinstance(hints[name], type) and issubclass(hints[name], Task):
        raise BadTask(task, f"its parameters are in the wrong order: the running task, {name!r}, comes first.")
    return hints[name]


def checked_retries(retries: int | None, *, task: str) -> int | None:
    """The number of retries. Raises BadTask when it is negative."""
    if retries is not None and retries < 0:
        raise BadTask(task, f"retries={retries} is negative; 0 means that it is never retried.")
    return retries


def checked_delays(delays: Sequence[float] | None, *, task: str) -> tuple[float, ...] | None:
    """The seconds before each retry. Raises BadTask when there are none, or a negative one."""
    if delays is None:
        return None
    if not delays or any(delay < 0 for delay in delays):
        raise BadTask(task, f"delays={list(delays)} must be seconds before each retry: at least one, none negative.")
    return tuple(delays)


def checked_aliases(aliases: Sequence[str], *, task: str) -> tuple[str, ...]:
    """The earlier names of a task. Raises BadTask for a single text, of which each letter would be a name."""
    if isinstance(aliases, str):
        raise BadTask(task, f"aliases={aliases!r} must be a list of names: ({aliases!r},).")
    return tuple(aliases)
