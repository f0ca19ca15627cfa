"""Queries over passages, including the full-text search.

A passage's score is the share of the question's words that it has; a synonym counts as the word. A word weighs more
the fewer passages have it (BM25's inverse document frequency). The database's own rank (bm25, ts_rank_cd), which
depends on how often and how close together the words occur, adds up to a tenth. So a score means the same on both
databases: 0 to 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    case,
    column,
    delete,
    desc,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.orm import Session

from app.db.fulltext import FTS_TABLE, SEARCH_COLUMN
from app.db.models import Document, Passage

RANK_SHARE: Final = 0.1
"""The part of a score that comes from the database's own rank."""
BATCH: Final = 500
"""Passages in one INSERT."""

_fts = table(FTS_TABLE, column("rowid"), column(FTS_TABLE))
_search = literal_column(f"passages.{SEARCH_COLUMN}", TSVECTOR)


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that matches a question; `score` is 0 to 1, higher is better."""

    document_id: str
    title: str
    position: int
    text: str
    score: float


def lock_document(session: Session, id: str, *, title: str, now: datetime) -> Document:
    """Create the document if it does not exist, and lock it against other writers until the transaction ends."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    values = {"id": id, "title": title, "digest": "", "passage_count": 0, "created_at": now, "updated_at": now}
    new = dialect.insert(Document).values(values)
    # The update changes nothing, but it locks the row. Otherwise the row could be deleted before it is read.
    session.execute(new.on_conflict_do_update(index_elements=[Document.id], set_={"id": new.excluded.id}))
    return session.scalars(select(Document).where(Document.id == id).with_for_update()).one()


def replace_passages(session: Session, document: Document, passages: Sequence[tuple[str, str | None]]) -> None:
    """Replace the document's passages (text, and the form that is indexed if it is another one), a batch at a time."""
    session.execute(delete(Passage).where(Passage.document_id == document.id))
    for start in range(0, len(passages), BATCH):
        batch = enumerate(passages[start : start + BATCH], start)
        rows = [{"document_id": document.id, "position": n, "text": t, "search_text": form} for n, (t, form) in batch]
        session.execute(insert(Passage), rows)
    document.passage_count = len(passages)


def delete_document(session: Session, id: str) -> bool:
    """Delete a document with its passages; returns False if it does not exist."""
    session.execute(delete(Passage).where(Passage.document_id == id))
    return session.scalar(delete(Document).where(Document.id == id).returning(Document.id)) is not None


def texts(session: Session, document_id: str, *, start: int, limit: int) -> list[tuple[int, str]]:
    """(position, text) of the passages of a document from a position on."""
    chosen = Passage.document_id == document_id, Passage.position >= start
    rows = session.execute(
        select(Passage.position, Passage.text).where(*chosen).order_by(Passage.position).limit(limit)
    )
    return [(position, text) for position, text in rows]


def titles(session: Session, *, limit: int) -> list[str]:
    """Titles of documents with passages, those stored last first, each once."""
    newest = func.max(Document.updated_at)
    query = select(Document.title).where(Document.passage_count > 0).group_by(Document.title)
    return list(session.scalars(query.order_by(newest.desc(), Document.title).limit(limit)))


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a question: the words that count as this one, and its weight."""

    words: tuple[str, ...]
    weight: float
    """The share of a full score that a passage gets for it."""


def weigh(
    session: Session, words: Mapping[str, tuple[str, ...]], *, uncertain: Collection[str] = ()
) -> dict[str, Term]:
    """The words of a question that some passage has, each given by its key with its synonyms, weighed by their rarity.

    A word that no passage has counts as the rarest: the weights of the others then add up to less than 1. If its key is
    in `uncertain`, it may be no word, and does not count.
    """
    if not words:
        return {}
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    count = _sqlite_count if on_sqlite else _postgresql_count
    rows = session.execute(union_all(*(count(key, synonyms) for key, synonyms in words.items()))).all()
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    total = session.scalar(select(func.sum(Document.passage_count))) or 0
    rarity = {key: log(1 + max(0.5, total - count + 0.5) / (count + 0.5)) for key, count in counts.items()}
    full = sum(value for key, value in rarity.items() if counts[key] or key not in uncertain)
    return {key: Term(words[key], rarity[key] / full) for key, count in counts.items() if count}


def search(session: Session, terms: Sequence[Term], *, limit: int) -> list[FoundPassage]:
    """The passages that have at least one of the terms, best first. Words are never parsed as query operators."""
    if not terms:
        return []
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    scored = (_sqlite_scores if on_sqlite else _postgresql_scores)(terms).order_by(desc("score"), "id")
    best = scored.limit(limit).subquery("best")
    return [FoundPassage(*row) for row in session.execute(_with_texts(best)).all()]


def _with_texts(best: FromClause) -> Select[str, str, int, str, float]:
    return (
        select(Document.id, Document.title, Passage.position, Passage.text, best.c.score)
        .join_from(best, Passage, Passage.id == best.c.id)
        .join(Document, Document.id == Passage.document_id)
        .order_by(best.c.score.desc(), Passage.id)
    )


def _score(coverage: ColumnElement[float], rank: ColumnElement[float]) -> ColumnElement[float]:
    return ((1 - RANK_SHARE) * coverage + RANK_SHARE * rank / (1 + rank)).label("score")


def _matches(*words: str) -> ColumnElement[bool]:
    """FTS5's MATCH for any of the words. Double quotes keep every character from being an operator."""
    quoted = ('"' + word.replace('"', '""') + '"' for word in words)
    return _fts.c[FTS_TABLE].op("MATCH", is_comparison=True)(" OR ".join(quoted))


def _sqlite_count(key: str, words: Sequence[str]) -> Select[str, int]:
    return select(literal(key), func.count()).select_from(_fts).where(_matches(*words))


def _sqlite_scores(terms: Sequence[Term]) -> Select[int, float]:
    hits = union_all(
        *(
            select(_fts.c.rowid.label("id"), literal(term.weight).label("weight")).where(_matches(*term.words))
            for term in terms
        )
    ).subquery("hits")
    coverage = select(hits.c.id, func.sum(hits.c.weight).label("coverage")).group_by(hits.c.id).cte("coverage")
    rank = -func.bm25(literal_column(FTS_TABLE))
    # bm25 works only inside the index's own query, so SQLite must not merge that query into the join.
    ranked = select(_fts.c.rowid.label("id"), rank.label("rank")).where(_matches(*_all_words(terms))).cte("ranked")
    ranked = ranked.prefix_with("MATERIALIZED", dialect="sqlite")
    return select(ranked.c.id, _score(coverage.c.coverage, ranked.c.rank)).join_from(
        ranked, coverage, coverage.c.id == ranked.c.id
    )


def _query(words: Sequence[str]) -> ColumnElement[Any]:
    """A tsquery for any of the words; `plainto_tsquery` has no operators."""
    any_of_them: ColumnElement[Any] = literal_column("''::tsquery", TSQUERY)
    for word in words:
        plain = func.plainto_tsquery(literal_column("'english'::regconfig"), word, type_=TSQUERY)
        any_of_them = any_of_them.op("||")(plain)
    return any_of_them


def _postgresql_count(key: str, words: Sequence[str]) -> Select[str, int]:
    return select(literal(key), func.count()).select_from(Passage).where(_search.op("@@")(_query(words)))


def _postgresql_scores(terms: Sequence[Term]) -> Select[int, float]:
    coverage: ColumnElement[float] = literal(0.0)
    for term in terms:
        coverage = coverage + case((_search.op("@@")(_query(term.words)), term.weight), else_=0.0)
    any_of_them = _query(_all_words(terms))
    return select(Passage.id, _score(coverage, func.ts_rank_cd(_search, any_of_them))).where(
        _search.op("@@")(any_of_them)
    )


def _all_words(terms: Sequence[Term]) -> list[str]:
    return list(dict.fromkeys(word for term in terms for word in term.words))
