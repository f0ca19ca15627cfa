"""The clock of the platform: always UTC, always with a time zone. A test may replace it (`replaced`)."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime


def _system_time() -> datetime:
    return datetime.now(UTC)


_source: Callable[[], datetime] = _system_time


def now() -> datetime:
    """The current time, in UTC."""
    return _source()


def source() -> Callable[[], datetime]:
    """The function that `now` asks."""
    return _source


@contextmanager
def replaced(source: Callable[[], datetime]) -> Generator[None]:
    """While the block runs, `now` returns what `source` returns, in all threads of this process: for tests."""
    global _source  # noqa: PLW0603 - one clock a process
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before


def aware(moment: datetime | None) -> datetime | None:
    """Return the time with a time zone; a time without one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
