"""The command `laneway doctor`. Without the packages of the platform it examines a Celery app by its name."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laneway.adopt.project import AdoptError, load_project
from laneway.doctor.parts import SECONDS, Part, examine
from laneway.doctor.plain import plain_parts
from laneway.doctor.report import as_data, as_text, exit_code
from laneway.engine.errors import EngineError

WIDEST = 120
"""Columns of the report at a wide terminal, or in a file."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How the report is made and printed."""

    as_json: bool = False
    everything: bool = False
    quiet: bool = False
    strict: bool = False
    seconds: float = SECONDS


def parts_of(name: str) -> list[Part]:
    """The parts of a Celery app, named as `celery -A` takes it. Raises NoApp."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return plain_parts(load_project(name))


def report(parts: Sequence[Part], choice: Choice) -> int:
    """Examine, print the report, and return the exit code."""
    diagnosis = examine(parts, seconds=choice.seconds)
    if choice.as_json:
        text = json.dumps(as_data(diagnosis), indent=2)
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDEST
        text = as_text(diagnosis, width=min(columns, WIDEST), everything=choice.everything, quiet=choice.quiet)
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    return exit_code(diagnosis, strict=choice.strict)


def main(words: Sequence[str]) -> int:
    """Run the command without the platform's packages; an error is one sentence on standard error, with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="laneway doctor",
        description="Examine a Celery app on Redis or Valkey: its settings, its server, its workers, versions, clocks. "
        "A project of the platform needs pip install 'laneway[platform]'.",
    )
    parser.add_argument("app", help="The Celery app, as `celery -A` takes it.")
    parser.add_argument("--json", action="store_true", help="Print JSON, for scripts.")
    parser.add_argument("--all", action="store_true", help="Also list what is fine.")
    parser.add_argument("--quiet", action="store_true", help="Print nothing but findings.")
    parser.add_argument("--strict", action="store_true", help="Exit code 1 also for warnings.")
    parser.add_argument("--timeout", type=float, default=SECONDS, help="Seconds for each area. Default: 15.")
    given = parser.parse_args(list(words))
    try:
        parts = parts_of(given.app)
    except (AdoptError, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return report(parts, Choice(given.json, given.all, given.quiet, given.strict, given.timeout))
