"""The platform of this process, made at its first use."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laneway.platform.platform import Platform

_of_context: ContextVar[Any] = ContextVar("platform", default=None)
_make: Callable[[], Platform] | None = None
_current: Platform | None = None


def use_platform(make: Callable[[], Platform]) -> None:
    """Set how this process makes its platform. `current_platform` makes it at its first call."""
    global _make  # noqa: PLW0603 - one platform a process
    _make = make


def current_platform() -> Platform:
    """The platform of this process. Raises RuntimeError before `use_platform` was called."""
    global _current  # noqa: PLW0603
    if (of_context := _of_context.get()) is not None:
        return of_context
    if _current is None:
        if _make is None:
            raise RuntimeError("There is no platform: call laneway.platform.current.use_platform first.")
        _current = _make()
    return _current


def is_platform_known() -> bool:
    """Whether somebody has said how this process makes its platform."""
    return _make is not None or _current is not None or _of_context.get() is not None


def known_platform() -> Platform | None:
    """The platform of this process; None if nobody has said how to make it."""
    return current_platform() if is_platform_known() else None


def drop_inherited_platform() -> None:
    """Make a forked child create a platform of its own: two processes must not share a connection.

    The parent's database connections are dropped without being closed, because closing them would end them for the
    parent as well. The delivery engine notices a fork by itself.
    """
    inherited = known_platform()
    if inherited is not None and "database" in inherited.__dict__:
        inherited.database.engine.dispose(close=False)
    forget_platform()


@contextmanager
def platform_for_this_context(platform: object) -> Generator[None]:
    """While the block runs, an object is the platform of this thread or task of an event loop: for tests."""
    token = _of_context.set(platform)
    try:
        yield
    finally:
        _of_context.reset(token)


@contextmanager
def replaced_platform(platform: Platform) -> Generator[None]:
    """While the block runs, this is the platform of the process, in all its threads: for tests."""
    global _current  # noqa: PLW0603
    before, _current = _current, platform
    try:
        yield
    finally:
        _current = before


def forget_platform() -> Platform | None:
    """Drop the platform, so that the next use makes a new one; a forked child needs that. Returns the old one."""
    global _current
    old, _current = _current, None
    return old
