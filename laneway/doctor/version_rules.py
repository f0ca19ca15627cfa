"""The rules for versions: of Python, of the packages that Laneway needs, and combinations that do not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from laneway.doctor.findings import Check, Fine, Outcome, error, warning
from laneway.doctor.version_facts import VersionFacts, fulfils

AREA: Final = "versions"
OLDEST_PYTHON: Final = (3, 11)
NEWEST_PYTHON: Final = (3, 14)


@dataclass(frozen=True, slots=True)
class BadCombination:
    """Packages that do not work together: name → the versions that are meant."""

    packages: dict[str, str]
    why: str
    do: str


BAD_COMBINATIONS: Final = (
    BadCombination(
        {"celery": ">=5.7", "kombu": "<5.7"},
        "Celery 5.7 uses what kombu has only since 5.7.",
        "pip install 'kombu>=5.7,<5.8'",
    ),
    BadCombination(
        {"kombu": "<5.4"},
        "After a lost connection a worker on kombu's Redis transport may stop fetching, without a word.",
        "pip install 'kombu>=5.7,<5.8'",
    ),
    BadCombination(
        {"celery": ">=5.6.3", "redis": "<5.3"},
        "Waiting for results fails after a lost connection: Celery calls what redis-py has only since 5.3.",
        "pip install 'redis>=8,<9'",
    ),
    BadCombination(
        {"kombu": ">=5.6", "redis": "<5"},
        "kombu passes connection options that this redis-py does not have, and no worker starts.",
        "pip install 'redis>=8,<9'",
    ),
    BadCombination(
        {"redis": "==4.5.5"},
        "This redis-py loses connections of Celery's result backend.",
        "pip install 'redis>=8,<9'",
    ),
    BadCombination(
        {"redis": ">=6", "hiredis": "<3.2"},
        "redis-py does not use this hiredis, and reads replies in Python, several times slower.",
        "pip install 'redis[hiredis]>=8,<9'",
    ),
)


def python(facts: VersionFacts) -> Outcome:
    found = ".".join(map(str, facts.python))
    if facts.python < OLDEST_PYTHON:
        return error(f"Python is {found}.", why="Laneway needs Python 3.11.", do="Use Python 3.11 or newer.")
    if facts.python > NEWEST_PYTHON:
        return warning(
            f"Python is {found}.",
            why="Celery names no support for it yet; billiard depends on details of Python.",
            do=f"Use Python {'.'.join(map(str, NEWEST_PYTHON))} for workers.",
        )
    return Fine(f"Python {found}")


def requirements(facts: VersionFacts) -> Outcome:
    wrong = [
        f"{name} is {found or 'missing'} (needed: {wanted})"
        for name, wanted in facts.required.items()
        if not (found := facts.packages.get(name, "")) or not fulfils(found, wanted)
    ]
    if not wrong:
        listed = [f"{name} {facts.packages[name]}" for name in ("laneway", *facts.required) if name in facts.packages]
        return Fine(", ".join(listed))
    wanted = " ".join(f"'{name}{wanted}'" for name, wanted in facts.required.items())
    return error(
        f"{'; '.join(wrong)}.",
        why="The engine replaces parts of Celery and kombu, and these parts differ between versions.",
        do=f"pip install {wanted}",
    )


def combinations(facts: VersionFacts) -> Outcome:
    for bad in BAD_COMBINATIONS:
        found = {name: facts.packages.get(name, "") for name in bad.packages}
        if all(version and fulfils(version, bad.packages[name]) for name, version in found.items()):
            together = " with ".join(f"{name} {version}" for name, version in found.items())
            return error(f"{together} is known not to work.", why=bad.why, do=bad.do)
    return Fine("no combination that is known not to work")


def zones(facts: VersionFacts) -> Outcome:
    if facts.has_zones:
        return Fine("time zones are there")
    return error(
        "The data of time zones is missing.",
        why="Celery and schedules with a zone fail at their start; slim images leave it out.",
        do="pip install tzdata",
    )


CHECKS: Final = (
    Check("Python", python),
    Check("packages", requirements),
    Check("combinations", combinations),
    Check("time zones", zones),
)
