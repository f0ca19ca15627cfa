"""How pages write times, durations, numbers and JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from laneway.platform import clock

UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))
LONGEST: Final = 200
"""Characters of a text in a table."""


def number(value: float | None) -> str:
    """A number with thin spaces between thousands; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(count: float, seconds: float) -> str:
    """So many in so many seconds, as a number a second; a dash for none."""
    per_second = count / seconds if seconds else 0.0
    if not per_second:
        return "–"
    return number(round(per_second)) if per_second >= 10 else f"{per_second:.1f}".replace("0.0", "<0.1")


def duration(seconds: float | None) -> str:
    """Seconds as a person writes them, with two units at most: 340 ms, 4.2 s, 5 min 3 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    if seconds < 0:
        return "0 s"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole, parts = round(seconds), list[str]()
    for size, unit in (*UNITS, (1, "s")):
        if whole >= size and len(parts) < 2:
            parts.append(f"{whole // size} {unit}")
            whole %= size
        elif parts:
            break
    return " ".join(parts)


def ago(moment: datetime | None) -> str:
    """How long ago a moment was, or in how much time it will be; a dash for None."""
    if moment is None:
        return "–"
    seconds = (clock.now() - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    text = duration(abs(seconds) if abs(seconds) < 10 else round(abs(seconds)))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def since(moment: datetime | None, until: datetime | None = None) -> str:
    """The time from a moment until another one; None: until now."""
    return "–" if moment is None else duration(((until or clock.now()) - moment).total_seconds())


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second; a dash for None."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def iso(value: datetime | None) -> str:
    """A time as programs read it."""
    return "" if value is None else value.isoformat()


def clip(text: Any, length: int = LONGEST) -> str:
    """A text in one line, cut after so many characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def pretty(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def plain_json(value: Any) -> str:
    """A value as JSON in one line, for people: a template escapes it as any text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def size(number_of_bytes: int | None) -> str:
    """Bytes as a person writes them: 0.9 MiB, 312 MiB, 1.4 GiB; a dash for None."""
    if number_of_bytes is None:
        return "–"
    mebibytes = number_of_bytes / 1_048_576
    if mebibytes >= 1000:
        return f"{mebibytes / 1024:.1f} GiB"
    return f"{mebibytes:.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.1f} MiB"


SHOWN: Final = (number, rate, duration, ago, since, moment, iso, clip, pretty, plain_json, size)
FILTERS: Final = {each.__name__: each for each in SHOWN}
"""The filters of the templates, by name."""
