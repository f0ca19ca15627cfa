"""Judges the search and the offline responder by questions over the example documents.

    python -m benchmarks.answers [--database postgresql+psycopg://…] [--failures]

Recall is the share of the questions for which a right passage is the first one found, or one of the first three.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from app.db.history import APPLICATION_HISTORY
from app.services.conversations.responders.offline import OfflineResponder
from benchmarks.answers.measure import Judgement, figures, ingest_examples, judge
from benchmarks.answers.questions import read_questions
from laneway.platform.db.migrate import PLATFORM_HISTORY, upgrade
from laneway.platform.db.session import Database


def main() -> None:
    """Ask the questions, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.answers", description=__doc__)
    parser.add_argument("--database", help="an empty database that may be filled; by default a new SQLite file")
    parser.add_argument("--failures", action="store_true", help="list what was not right")
    options = parser.parse_args()
    with _database(options.database) as database:
        judgements = judge(read_questions(), ingest_examples(database), OfflineResponder())
        dialect = database.engine.dialect.name
    console = Console(width=140)
    console.print(_table(judgements, dialect))
    if options.failures:
        _print_failures(console, judgements)


@contextmanager
def _database(url: str | None) -> Generator[Database]:
    with (
        TemporaryDirectory() as folder,
        closing(Database(url or f"sqlite:///{Path(folder) / 'answers.db'}")) as database,
    ):
        upgrade(database.url.render_as_string(hide_password=False), (PLATFORM_HISTORY, APPLICATION_HISTORY))
        yield database


def _table(judgements: Sequence[Judgement], dialect: str) -> Table:
    table = Table(
        "", "questions", "recall@1", "recall@3", "answer first", "answer in reply", "no false answer", box=None
    )
    table.title = f"Questions over the example documents, {dialect}"
    groups: dict[str, list[Judgement]] = {}
    for item in judgements:
        groups.setdefault(f"{item.question.purpose}, {item.question.kind}", []).append(item)
        groups.setdefault(item.question.purpose, []).append(item)
    for name, items in sorted([*groups.items(), ("all", list(judgements))], key=lambda group: group[0] == "all"):
        found = figures(items)
        shares = (found.recall_1, found.recall_3, found.answered_at_once, found.answered, found.silent)
        table.add_row(name, str(found.count), *("" if share is None else f"{share:.0%}" for share in shares))
    return table


def _print_failures(console: Console, judgements: Sequence[Judgement]) -> None:
    for item in judgements:
        right = item.answered_at_once and item.rank == 1 if item.question.answer else not item.cites
        if not right:
            console.print(f"\n{item.question.text} (passage: {item.rank})\n  {item.reply[:300]!r}", markup=False)


if __name__ == "__main__":
    main()
