"""What the gate reports: findings with counts and examples, and notes.

A finding names no value of a payload: the report stands in the log of a pipeline. An example has the id of its task and
the form of its payload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

from laneway.platform.payload_store import is_stored
from laneway.platform.sealing import holds_sealed

EXAMPLES: Final = 3
"""Examples of each finding."""
MOST_FINDINGS: Final = 200
"""Further findings are only counted."""
MOST_FIELDS: Final = 12
"""Fields of a payload that an example shows."""
ENCRYPTED: Final = "encrypted"
LARGE: Final = "large payload"


class Kind(StrEnum):
    """What would fail."""

    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_QUEUE = "unknown_queue"
    PAYLOAD = "payload"
    UNREADABLE = "unreadable"
    WORKFLOW = "workflow"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one thing would fail. `subject`: the task's name, the queue, the workflow, the schedule."""

    kind: Kind
    subject: str
    text: str
    """A sentence without values of a payload."""


@dataclass(frozen=True, slots=True)
class Example:
    """One of the things that would fail, and the form of its payload."""

    id: str
    state: str
    payload: str = ""


@dataclass(slots=True)
class Finding:
    """Things that would fail for the same reason."""

    kind: Kind
    subject: str
    text: str
    number: int = 0
    states: dict[str, int] = field(default_factory=dict[str, int])
    examples: list[Example] = field(default_factory=list[Example])


@dataclass(slots=True)
class GateReport:
    """What was tried, and what would fail."""

    checked: dict[str, int] = field(default_factory=dict[str, int])
    """Kind of thing → how many were tried."""
    findings: list[Finding] = field(default_factory=list[Finding])
    not_listed: int = 0
    """Things that would fail and are in no finding, because there are too many different ones."""
    unchecked: dict[str, int] = field(default_factory=dict[str, int])
    """Reason → how many tasks could not be tried."""
    notes: list[str] = field(default_factory=list[str])
    """What changes with this code and does not fail."""

    @property
    def failing(self) -> int:
        """How many things would fail."""
        return sum(finding.number for finding in self.findings) + self.not_listed

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many things were tried."""
        self.checked[what] = self.checked.get(what, 0) + number

    def leave_out(self, reason: str) -> None:
        """Note that a task could not be tried."""
        self.unchecked[reason] = self.unchecked.get(reason, 0) + 1

    def add(self, problem: Problem, *, id: str, state: str, payload: dict[str, Any] | None = None) -> None:
        """Note that something would fail."""
        finding = self._finding(problem)
        if finding is None:
            self.not_listed += 1
            return
        finding.number += 1
        finding.states[state] = finding.states.get(state, 0) + 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(Example(id, state, "" if payload is None else form_of_payload(payload)))

    def _finding(self, problem: Problem) -> Finding | None:
        for finding in self.findings:
            if (finding.kind, finding.subject, finding.text) == (problem.kind, problem.subject, problem.text):
                return finding
        if len(self.findings) >= MOST_FINDINGS:
            return None
        self.findings.append(Finding(problem.kind, problem.subject, problem.text))
        return self.findings[-1]


def form_of_payload(payload: dict[str, Any]) -> str:
    """The fields of a payload and the kinds of their values, such as `name: text, lines: list of 2`."""
    if is_stored(payload):
        return LARGE
    if holds_sealed(payload):
        return ENCRYPTED
    fields = [f"{name}: {_form(value)}" for name, value in list(payload.items())[:MOST_FIELDS]]
    more = len(payload) - len(fields)
    return ", ".join(fields + ([f"and {more} more"] if more > 0 else []))


def _form(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"list of {len(cast('list[Any]', value))}"
    names: dict[type[object], str] = {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)
