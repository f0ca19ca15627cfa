"""How parts are examined: at once, each within its time, and none hides another; the report and its exit code."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from laneway.doctor.findings import Check, Diagnosis, Finding, Fine, Result, Severity, Unchecked, error, warning
from laneway.doctor.parts import REACHABLE, Part, examine
from laneway.doctor.report import as_data, as_text, exit_code

BAD = error("The disk is full.", why="Nothing is stored.", do="Free space.")
ODD = warning("It is late.", why="It gets dark.", do="Go home.")


def part(area: str, outcome: object) -> Part:
    """A part whose one check has this outcome."""
    return Part(area, lambda: outcome, lambda facts: (Check("only", lambda _: facts),))


def fail(problem: Exception) -> Any:
    raise problem


def outcomes(diagnosis: Diagnosis) -> dict[str, object]:
    return {result.area: result.outcome for result in diagnosis.results}


def test_a_part_that_does_not_answer_is_a_finding_and_the_others_are_checked() -> None:
    release = threading.Event()
    slow = Part("server", release.wait, lambda _: ())

    began = time.monotonic()
    found = outcomes(examine([slow, part("fleet", Fine("well"))], seconds=0.2))
    took = time.monotonic() - began
    release.set()

    assert took < 2
    assert found["fleet"] == Fine("well")
    late = found["server"]
    assert isinstance(late, Finding)
    assert (late.severity, late.found) == (Severity.ERROR, "The server did not answer within 0.2 s.")


def test_an_expected_error_is_explained_and_another_one_is_said() -> None:
    away = Part("server", lambda: fail(OSError("away")), lambda _: (), lambda _: BAD)
    broken = Part("fleet", lambda: fail(KeyError("x")), lambda _: ())

    found = examine([away, broken, part("celery", Fine("well"))])

    assert outcomes(found)["server"] == BAD
    assert outcomes(found)["fleet"] == Unchecked("KeyError: 'x'", failed=True)
    assert outcomes(found)["celery"] == Fine("well")
    assert {result.check for result in found.results} == {REACHABLE, "only"}


def test_a_rule_that_fails_hides_no_other() -> None:
    rules = (Check("first", lambda _: fail(ZeroDivisionError("x"))), Check("second", lambda _: BAD))

    first, second = examine([Part("celery", object, lambda _: rules)]).results

    assert first.outcome == Unchecked("the check failed: ZeroDivisionError: x", failed=True)
    assert second.outcome == BAD


@pytest.mark.parametrize(
    ("results", "code", "strict"),
    [
        ([Fine("x")], 0, 0),
        ([Fine("x"), Unchecked("not shown")], 0, 0),
        ([ODD], 0, 1),
        ([BAD, ODD, Unchecked("crashed", failed=True)], 1, 1),
        ([Unchecked("crashed", failed=True)], 2, 2),
    ],
)
def test_the_exit_code_tells_scripts_what_was_found(results: list[Any], code: int, strict: int) -> None:
    diagnosis = Diagnosis([Result("area", "check", outcome) for outcome in results])

    assert exit_code(diagnosis, strict=False) == code
    assert exit_code(diagnosis, strict=True) == strict


DIAGNOSIS = Diagnosis(
    [
        Result("clocks", "workers", ODD),
        Result("server", "room", BAD),
        Result("server", "login", Fine("redis://me:secret@host/0 wants one")),
        Result("fleet", "outbox", Unchecked("no database")),
    ]
)


def test_the_report_has_errors_first_and_counts_what_is_fine() -> None:
    text = as_text(DIAGNOSIS, width=80)

    assert text.splitlines() == [
        "ERROR  server: room",
        "    The disk is full.",
        "    Why: Nothing is stored.",
        "    Do:  Free space.",
        "",
        "WARNING  clocks: workers",
        "    It is late.",
        "    Why: It gets dark.",
        "    Do:  Go home.",
        "",
        "Fine: server 1 (--all lists them).",
        "Not checked: fleet: outbox: no database",
        "1 error, 1 warning, 1 fine, 1 not checked.",
    ]


def test_all_lists_what_is_fine_and_quiet_only_what_is_not() -> None:
    everything = as_text(DIAGNOSIS, width=80, everything=True)
    quiet = as_text(DIAGNOSIS, width=80, quiet=True)

    assert "fine  server: login: redis://host/0 wants one" in everything
    assert "secret" not in everything
    assert quiet.splitlines()[-1] == "    Do:  Go home."
    assert as_text(Diagnosis([Result("a", "b", Fine("c"))]), width=80, quiet=True) == ""


def test_the_report_for_scripts_has_everything() -> None:
    data = json.loads(json.dumps(as_data(DIAGNOSIS)))

    assert (data["errors"], data["warnings"]) == (1, 1)
    assert data["findings"][0] == {
        "area": "server",
        "check": "room",
        "severity": "error",
        "found": "The disk is full.",
        "why": "Nothing is stored.",
        "do": "Free space.",
    }
    assert [each["check"] for each in data["fine"]] == ["login"]
    assert data["not_checked"] == [{"area": "fleet", "check": "outbox", "reason": "no database"}]


def test_a_text_of_others_cannot_control_the_terminal() -> None:
    evil = error("name \x1b[2J\x07", why="w", do="d")

    assert "\x1b" not in as_text(Diagnosis([Result("a", "b", evil)]), width=80)
