"""The command `laneway adopt`. It needs nothing of the extra `platform`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from laneway.adopt.project import AdoptError, NotOnRedis, Project, load_project
from laneway.adopt.report import as_data, has_problems, settings_text, survey_text
from laneway.adopt.settings_review import review
from laneway.adopt.survey import Adoption, Choice, Platform
from laneway.engine.errors import EngineError

PROGRESS_SECONDS: Final = 2.0
MakePlatform = Callable[[], tuple[Project, Platform]]


class NotAReport(AdoptError):
    """The file of `--revoked` is no report."""

    template = "{path} is no report of `laneway adopt --json`: {reason}"
    path: str
    reason: str


def make_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="laneway adopt",
        description="Take over a Celery project: say what its settings mean here, count its messages on Redis, and "
        "with --apply move them into the engine. Without --apply nothing is changed.",
    )
    parser.add_argument("app", nargs="?", help="The Celery app, as `celery -A` takes it. Default: [tool.laneway].")
    parser.add_argument("--apply", action="store_true", help="Move the messages.")
    parser.add_argument(
        "--take-unacked",
        action="store_true",
        help="Also move messages that were delivered and not acknowledged. While old workers answer, only those whose "
        "visibility timeout is over.",
    )
    parser.add_argument("--from", dest="old", metavar="URL", help="Where the messages are. Default: the app's broker.")
    parser.add_argument("--to", metavar="URL", help="The new server. Default: the app's broker.")
    parser.add_argument(
        "--queue", action="append", default=[], metavar="NAME", help="Also move this queue; repeatable."
    )
    parser.add_argument(
        "--revoked", metavar="FILE", help="A report of --json, made while the old workers ran: leave its revoked tasks."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON, for scripts.")
    return parser


def run(words: Sequence[str], *, make_platform: MakePlatform | None = None) -> int:
    """Run the command and return its exit code: 0; 1 for numbers that do not agree or a setting that cannot work.

    `make_platform` makes the platform of the project in the current folder. Raises AdoptError, EngineError.
    """
    parser = make_parser()
    arguments = parser.parse_args(list(words))
    platform = None
    if arguments.app is None:
        if make_platform is None:
            parser.error("name the app, for example `laneway adopt shop.celery:app`")
        if arguments.to is not None:
            parser.error("--to is for an app by name: the platform's server is a setting of the project")
        project, platform = make_platform()
    else:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        project = load_project(arguments.app)
    return _report(Project(project.app, arguments.old), arguments, platform)


def main(words: Sequence[str], *, make_platform: MakePlatform | None = None) -> int:
    """Run the command; an error is one sentence on standard error, with exit code 1."""
    try:
        return run(words, make_platform=make_platform)
    except (AdoptError, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _report(project: Project, arguments: argparse.Namespace, platform: Platform | None) -> int:
    rows = review(project)
    if not arguments.json:
        _say(f"{settings_text(rows)}\n")
    try:
        adoption = Adoption(project, _choice(arguments), platform=platform, progress=Progress())
    except NotOnRedis as error:
        if arguments.apply:
            raise
        _say(json.dumps(as_data(rows, None), indent=2) if arguments.json else str(error))
        return 1
    try:
        survey = adoption.run()
    finally:
        adoption.close()
    _say(json.dumps(as_data(rows, survey), indent=2) if arguments.json else survey_text(survey))
    return 0 if survey.agrees and not has_problems(rows) else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _choice(arguments: argparse.Namespace) -> Choice:
    return Choice(
        apply=arguments.apply,
        take_unacked=arguments.take_unacked,
        to=arguments.to,
        queues=tuple(arguments.queue),
        revoked=_revoked(arguments.revoked) if arguments.revoked else frozenset(),
    )


def _revoked(path: str) -> frozenset[str]:
    try:
        report: Any = json.loads(Path(path).read_text("utf-8"))
        return frozenset(str(id) for id in cast("list[object]", report["revoked"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NotAReport(path, str(error)) from error


class Progress:
    """Says on standard error how many messages were looked at, every few seconds of a long run."""

    def __init__(self) -> None:
        self._began = self._said = 0.0
        self._number = 0

    def __call__(self, number: int) -> None:
        """Count the messages of a page."""
        now = time.monotonic()
        if not self._number:
            self._began = self._said = now
        self._number += number
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            rate = self._number / (now - self._began)
            sys.stderr.write(f"{self._number:,} messages, {rate:,.0f}/s\n")
