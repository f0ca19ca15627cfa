"""What `laneway doctor` prints, and its exit code."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from laneway._masking import masked
from laneway._printable import printable
from laneway.doctor.findings import Diagnosis, Finding, Fine, Result, Severity, Unchecked

FINE: Final = 0
FOUND: Final = 1
NOT_CHECKED: Final = 2
INDENT: Final = "    "


def exit_code(diagnosis: Diagnosis, *, strict: bool) -> int:
    """1 for an error, with `strict` also for a warning; 2 if something could not be checked that should be; else 0."""
    if diagnosis.findings(*(Severity if strict else (Severity.ERROR,))):
        return FOUND
    failed = any(isinstance(each.outcome, Unchecked) and each.outcome.failed for each in diagnosis.results)
    return NOT_CHECKED if failed else FINE


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """The report for scripts."""
    return {
        "findings": [_finding(each.area, each.check, each.outcome) for each in _sorted(diagnosis)],
        "fine": [
            {"area": each.area, "check": each.check, "text": _clean(each.outcome.text)}
            for each in diagnosis.fine
            if isinstance(each.outcome, Fine)
        ],
        "not_checked": [
            {"area": each.area, "check": each.check, "reason": _clean(each.outcome.reason)}
            for each in diagnosis.unchecked
            if isinstance(each.outcome, Unchecked)
        ],
        "errors": len(diagnosis.findings(Severity.ERROR)),
        "warnings": len(diagnosis.findings(Severity.WARNING)),
    }


def as_text(diagnosis: Diagnosis, *, width: int, everything: bool = False, quiet: bool = False) -> str:
    """The report for people. `everything`: also each check that is fine. `quiet`: nothing but the findings."""
    lines: list[str] = []
    for each in _sorted(diagnosis):
        lines += [*_finding_lines(each, width), ""]
    if not quiet:
        lines += _fine_lines(diagnosis, width, everything=everything)
        lines += _unchecked_lines(diagnosis, width)
        lines.append(_total(diagnosis))
    return printable("\n".join(lines)).rstrip()


def _sorted(diagnosis: Diagnosis) -> list[Result]:
    """The findings, errors first."""
    return [*diagnosis.findings(Severity.ERROR), *diagnosis.findings(Severity.WARNING)]


def _finding(area: str, check: str, outcome: object) -> dict[str, str]:
    assert isinstance(outcome, Finding)  # noqa: S101 - `findings` returns these only
    texts = {"found": outcome.found, "why": outcome.why, "do": outcome.do}
    return {"area": area, "check": check, "severity": outcome.severity.value} | {
        name: _clean(text) for name, text in texts.items()
    }


def _finding_lines(result: Result, width: int) -> Iterator[str]:
    told = _finding(result.area, result.check, result.outcome)
    yield f"{told['severity'].upper()}  {result.area}: {result.check}"
    yield from _wrapped(told["found"], width)
    yield from _wrapped(f"Why: {told['why']}", width)
    yield from _wrapped(f"Do:  {told['do']}", width)


def _fine_lines(diagnosis: Diagnosis, width: int, *, everything: bool) -> Iterator[str]:
    if everything:
        for each in diagnosis.fine:
            if isinstance(each.outcome, Fine):
                yield from _wrapped(f"fine  {each.area}: {each.check}: {_clean(each.outcome.text)}", width, indent="")
        yield ""
    elif diagnosis.fine:
        counted = Counter(each.area for each in diagnosis.fine)
        listed = ", ".join(f"{area} {number}" for area, number in counted.items())
        yield from _wrapped(f"Fine: {listed} (--all lists them).", width, indent="")


def _unchecked_lines(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    for each in diagnosis.unchecked:
        if isinstance(each.outcome, Unchecked):
            yield from _wrapped(
                f"Not checked: {each.area}: {each.check}: {_clean(each.outcome.reason)}", width, indent=""
            )


def _total(diagnosis: Diagnosis) -> str:
    errors, warnings = (len(diagnosis.findings(severity)) for severity in (Severity.ERROR, Severity.WARNING))
    parts = [_count(errors, "error"), _count(warnings, "warning"), f"{len(diagnosis.fine)} fine"]
    if diagnosis.unchecked:
        parts.append(f"{len(diagnosis.unchecked)} not checked")
    return ", ".join(parts) + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def _wrapped(text: str, width: int, *, indent: str = INDENT) -> list[str]:
    """Lines of the width; commands are not broken at their hyphens."""
    return textwrap.wrap(
        text,
        max(40, width),
        initial_indent=indent,
        subsequent_indent=INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _clean(text: str) -> str:
    """One line, without passwords."""
    return " ".join(masked(text).split())
