"""What a check says: that something is fine, a finding, or why it could not be checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

F = TypeVar("F")


class Severity(StrEnum):
    """How bad a finding is. `ERROR`: tasks are lost, refused or stand still. `WARNING`: they may be, some day."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fine:
    """Something is as it should be. `text`: what it is, in a few words."""

    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something is not as it should be. `do`: one command or one setting."""

    severity: Severity
    found: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something could not be checked, and the reason. `failed`: it should have been possible."""

    reason: str
    failed: bool = False


Outcome = Fine | Finding | Unchecked
"""What a rule returns; None when it does not apply."""


def error(found: str, *, why: str, do: str) -> Finding:
    """A finding that must be dealt with."""
    return Finding(Severity.ERROR, found, why, do)


def warning(found: str, *, why: str, do: str) -> Finding:
    """A finding that should be dealt with."""
    return Finding(Severity.WARNING, found, why, do)


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """One rule. `needs`: the facts without which it cannot judge, because a server does not show them."""

    name: str
    judge: Callable[[F], Outcome | None]
    needs: tuple[str, ...] = ()

    def run(self, facts: F) -> Outcome | None:
        """Judge the facts. None: the check does not apply here."""
        missing = [name for name in self.needs if getattr(facts, name) is None]
        if missing:
            return Unchecked(f"not shown to this login: {', '.join(missing)}")
        return self.judge(facts)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one check of an area."""

    area: str
    check: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was checked."""

    results: Sequence[Result] = field(default_factory=list[Result])

    def findings(self, *severities: Severity) -> list[Result]:
        """The findings of these severities, or all."""
        wanted = severities or tuple(Severity)
        return [each for each in self.results if isinstance(each.outcome, Finding) and each.outcome.severity in wanted]

    @property
    def fine(self) -> list[Result]:
        """What is fine."""
        return [each for each in self.results if isinstance(each.outcome, Fine)]

    @property
    def unchecked(self) -> list[Result]:
        """What could not be checked."""
        return [each for each in self.results if isinstance(each.outcome, Unchecked)]


def run_checks(area: str, checks: Iterable[Check[Any]], facts: object) -> list[Result]:
    """Run the checks of an area. A rule that fails is reported as not checked: it hides no other."""
    results: list[Result] = []
    for check in checks:
        try:
            outcome = check.run(facts)
        except Exception as problem:  # noqa: BLE001 - the report names it
            outcome = Unchecked(f"the check failed: {type(problem).__name__}: {problem}", failed=True)
        if outcome is not None:
            results.append(Result(area, check.name, outcome))
    return results
