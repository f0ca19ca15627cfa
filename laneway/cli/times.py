"""Times as people write and read them: durations (`10m`, `2h`, `1d12h`), moments, and `3 min ago`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import typer

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
EXAMPLES: Final = "90 (seconds), 1.5s, 10m, 2h, 1h30m, 1d or 2w"
LONGEST: Final = 100 * 366 * UNITS["d"]
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def seconds(text: str | float) -> float:
    """A duration in seconds, as people write it: 90, 1.5s, 10m, 2h, 1h30m, 1d. Raises BadParameter with examples."""
    written = str(text)  # the default of an option is a number
    found: float | None = None
    if _NUMBER.fullmatch(written):
        found = float(written)
    elif _DURATION.fullmatch(written):
        found = sum(float(number) * UNITS[unit] for number, unit in _PART.findall(written))
    if found is None:
        raise typer.BadParameter(f"{written!r} is no duration. Write for example {EXAMPLES}.")
    if found > LONGEST:
        raise typer.BadParameter(f"{written!r} is longer than 100 years.")
    return found


def duration(help: str, *names: str) -> Any:
    """An option whose value is a duration; the command gets seconds."""
    return typer.Option(*names, parser=seconds, metavar="DURATION", help=help)


def moment(text: str | datetime) -> datetime:
    """A point in time: a duration (`2h`: two hours ago), or a date with or without a time, local if it has no zone.

    Raises BadParameter with examples.
    """
    written = str(text)
    if _NUMBER.fullmatch(written) is None:  # a bare number could be seconds, or a time since 1970
        try:
            return datetime.fromisoformat(written).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            if _DURATION.fullmatch(written):
                return datetime.now(UTC) - timedelta(seconds=seconds(written))
    raise typer.BadParameter(
        f"{written!r} is no time. Write for example 2h (two hours ago), 2026-01-31, 2026-01-31T09:30 (local time) "
        "or 2026-01-31T08:30Z."
    )


def moment_option(help: str) -> Any:
    """An option whose value is a point in time; the command gets an aware datetime."""
    return typer.Option(parser=moment, metavar="TIME", help=help)


def local(at: datetime) -> str:
    """A time in the zone of this machine, to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime, *, now: datetime | None = None) -> str:
    """How long ago a time was, or in how long it is: `3 min ago`, `in 2 h`."""
    passed = ((now or datetime.now(UTC)) - at).total_seconds()
    text = span(abs(passed))
    return f"{text} ago" if passed >= 0 else f"in {text}"


def span(length: float) -> str:
    """A duration in one unit: `0 s`, `3 min`, `2 h`, `5 d`."""
    for unit, name in (("d", "d"), ("h", "h"), ("m", "min")):
        if length >= UNITS[unit]:
            return f"{int(length // UNITS[unit])} {name}"
    return f"{int(length)} s"


def written(length: float) -> str:
    """A duration as an option takes it: 3600 → `1h`, 90 → `1m30s`, 0.5 → `0.5s`."""
    parts: list[str] = []
    for unit in ("d", "h", "m"):
        number, length = divmod(length, UNITS[unit])
        parts += [f"{number:.0f}{unit}"] if number else []
    return "".join(parts) + (f"{length:g}s" if length or not parts else "")
