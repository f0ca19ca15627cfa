"""Asks every question and judges what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from app.core.settings import ROOT
from app.services.conversations.responders import Responder, SourcePassage
from app.services.documents.extraction.kinds import claimed_kind
from app.services.documents.extraction.reading import Limits
from app.services.documents.extraction.runner import extract
from app.services.documents.passage_store import TEXT_SUFFIXES, PassageStore
from benchmarks.answers.questions import Question
from laneway.platform.db.session import Database
from laneway.platform.settings import ChildSettings

EXAMPLES = ROOT / "examples" / "documents"
LIMITS = Limits(file_bytes=10_000_000, text_bytes=1_000_000, pages=100, seconds=60, memory_bytes=2**30)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the search and the responder made of one question."""

    question: Question
    rank: int | None
    """The place of the first right passage, from 1; None if it was not found."""
    reply: str
    cites: bool

    @property
    def answered(self) -> bool:
        """Whether the reply has the answer."""
        return self.question.is_answered_by(self.reply)

    @property
    def answered_at_once(self) -> bool:
        """Whether the first quotation of the reply has the answer."""
        return self.question.is_answered_by(self.reply.partition("[1]")[0])


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares over some questions: 0 to 1, None where no question counts."""

    count: int
    recall_1: float | None
    recall_3: float | None
    answered_at_once: float | None
    answered: float | None
    silent: float | None
    """The share of the questions without an answer in which the reply cites nothing."""


def ingest_examples(database: Database) -> PassageStore:
    """Store the example documents in a database that has the schema."""
    store = PassageStore(database)
    for path in sorted(EXAMPLES.iterdir()):
        if path.suffix in TEXT_SUFFIXES:
            store.ingest_file(path)
        else:
            _ingest(store, database, path)
    return store


def judge(questions: Iterable[Question], store: PassageStore, responder: Responder) -> list[Judgement]:
    """Ask every question."""
    return [_judge(question, store, responder) for question in questions]


def figures(judgements: Sequence[Judgement]) -> Figures:
    """The shares over these questions."""
    with_answer = [item for item in judgements if item.question.answer]
    without = [item for item in judgements if not item.question.answer]
    return Figures(
        len(judgements),
        _share([item.rank == 1 for item in with_answer]),
        _share([item.rank is not None and item.rank <= 3 for item in with_answer]),
        _share([item.answered_at_once for item in with_answer]),
        _share([item.answered for item in with_answer]),
        _share([not item.cites for item in without]),
    )


def _ingest(store: PassageStore, database: Database, path: Path) -> None:
    with TemporaryDirectory() as folder, TemporaryFile(dir=folder) as file:
        file.write(path.read_bytes())
        text = extract(
            file,
            name=path.name,
            claimed=claimed_kind(None, path.name),
            limits=LIMITS,
            folder=Path(folder),
            report=lambda _percent, _message: None,
            children=ChildSettings.model_validate({}),
        )
    with database.transaction() as session:
        store.store(session, document_id=path.name, title=text.title, digest=text.digest, pieces=text.passages)


def _judge(question: Question, store: PassageStore, responder: Responder) -> Judgement:
    found = store.search(question.text)
    passages = [SourcePassage(item.document_id, item.title, item.position, item.text, item.score) for item in found]
    ranks = (rank for rank, item in enumerate(found, 1) if question.is_in(item.document_id, item.text))
    reply = responder.reply(question.text, history=[], passages=passages)
    return Judgement(question, next(ranks, None), reply.text, bool(reply.sources))


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
