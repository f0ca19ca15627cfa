"""Full-text search: one suite with the same results on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text, update
from sqlalchemy.orm import Session

from app.core.settings import ROOT
from app.db import fulltext
from app.db.models import Base, Passage
from app.db.queries import passages
from app.db.queries.passages import FoundPassage
from app.services.documents.passage_store import PassageStore
from laneway.platform.db.models import Base as PlatformBase
from laneway.platform.db.session import Database
from tests.fixtures.budget import budget
from tests.fixtures.document_desk import stored_documents

EXAMPLES = ROOT / "examples" / "documents"
OPERATORS = [*"\"'*()^:-+{}|&!\\;%", "<->", "\0", "\ud800", "bicycle", "OR", "NEAR", "not"]
HOSTILE = [
    'bicycle"',
    '"',
    '""',
    "bicycle OR",
    "NOT bicycle",
    "AND AND",
    "bicycle NEAR(refund, 2)",
    "text:bicycle",
    "^bicycle",
    "bicycle*",
    "bicy*",
    "{text}: bicycle",
    "bicycle'); DROP TABLE passages; --",
    "bicycle & | ! refund",
    "bicycle <-> refund",
    "bicycle:*ABCD",
    "\\bicycle",
    "'bicycle",
    "(((((bicycle",
    "%s %(a)s :a ?",
    "bicycle\0refund",
    "bicycle \ud800",
    "bicycle " + "x" * 5000,
]


@pytest.fixture
def passage_store(database: Database) -> PassageStore:
    return PassageStore(database)


@pytest.fixture
def shop(passage_store: PassageStore) -> PassageStore:
    """The store with the three example documents."""
    for path in sorted(EXAMPLES.glob("*.md")):
        passage_store.ingest_file(path)
    return passage_store


@pytest.mark.parametrize(
    ("question", "document", "answer"),
    [
        ("How long do I have to return a bicycle?", "returns-and-refunds.md", "30 days"),
        ("when does my refund arrive", "returns-and-refunds.md", "three working days"),
        ("What does delivery to Norway cost?", "shipping-and-delivery.md", "119 euros"),
        ("I want to change the delivery address of my order", "shipping-and-delivery.md", "until the goods have left"),
        ("is the frame covered by a warranty, and for how many years?", "warranty-and-repairs.md", "ten years"),
        ("How much is a puncture repair with a new tube?", "warranty-and-repairs.md", "19 euros"),
        ("what are your opening hours on saturday", "warranty-and-repairs.md", "10:00 to 16:00"),
    ],
)
def test_a_question_finds_the_passage_that_answers_it_first(
    shop: PassageStore, question: str, document: str, answer: str
) -> None:
    best = shop.search(question)[0]

    assert best.document_id == document
    assert answer in " ".join(best.text.split())


def test_other_forms_of_a_word_are_found(passage_store: PassageStore) -> None:
    passage_store.ingest(document_id="a", title="A", text="The refund is paid when we inspected the bicycle.")

    for word in ("refund", "refunds", "Refunded", "REFUNDING", "inspects", "bicycles"):
        assert [found.document_id for found in passage_store.search(word)] == ["a"], word


def test_a_result_has_its_position_and_score(passage_store: PassageStore) -> None:
    content = "# Care\n\nClean the rims.\n\n# Squeaking\n\nAdjust the pads."
    passage_store.ingest(document_id="a", title="Brakes", text=content)

    (found,) = passage_store.search("squeaking pads")

    assert found == FoundPassage("a", "Brakes", 0, content, found.score)
    assert 0.8 <= found.score <= 1


def test_a_passage_with_all_words_comes_before_one_that_repeats_a_single_word(passage_store: PassageStore) -> None:
    passage_store.ingest(
        document_id="repeats", title="R", text="Brake brake brake brake brake brake brake brake brake."
    )
    passage_store.ingest(document_id="answers", title="A", text="A squeaking brake needs new pads.")
    passage_store.ingest(document_id="other", title="O", text="Pads are sold in pairs.")

    found = passage_store.search("new pads for a squeaking brake")

    assert {passage.document_id for passage in found} == {"answers", "other", "repeats"}
    assert found[0].document_id == "answers"
    assert found[0].score > 2 * found[1].score


def test_a_rare_word_weighs_more_than_a_common_one(passage_store: PassageStore) -> None:
    for number in range(20):
        passage_store.ingest(document_id=f"common-{number}", title="C", text=f"A bicycle of model {number}.")
    passage_store.ingest(document_id="rare", title="R", text="The derailleur is behind.")

    assert passage_store.search("bicycle derailleur")[0].document_id == "rare"


def test_a_passage_that_repeats_a_word_ranks_higher_if_all_else_is_equal(passage_store: PassageStore) -> None:
    passage_store.ingest(
        document_id="once", title="1", text="The chain and the saddle and the lamp, the pump and the bell."
    )
    passage_store.ingest(document_id="often", title="2", text="The chain of chains: a chain and a chain on the chain.")

    assert [found.document_id for found in passage_store.search("chain")] == ["often", "once"]


def test_words_that_no_passage_has_lower_the_score(shop: PassageStore) -> None:
    sure, unsure = shop.search("puncture repair")[0], shop.search("puncture repair submarine periscope torpedo")[0]

    assert sure.score > 0.8
    assert unsure.score < sure.score / 2


def test_a_question_without_content_finds_nothing(shop: PassageStore) -> None:
    for nothing in ("", "   ", "the and of", "hello, can you help?", "?!…", "_", "🚲", "\0", "zzzxqy"):
        assert shop.search(nothing) == [], nothing


def test_the_limit_is_kept_and_bounded(passage_store: PassageStore) -> None:
    for number in range(60):
        passage_store.ingest(document_id=f"{number}", title="T", text=f"Spoke {number}.")

    assert len(passage_store.search("spoke", limit=3)) == 3
    assert len(passage_store.search("spoke", limit=0)) == 1
    assert len(passage_store.search("spoke", limit=10_000)) == 50


def test_query_syntax_in_a_question_is_only_text(shop: PassageStore, database: Database) -> None:
    for question in HOSTILE:
        assert bool(shop.search(question)) == ("bicycle" in question), question
    assert len(stored_documents(database)) == 3


def test_a_synonym_finds_a_passage(passage_store: PassageStore) -> None:
    passage_store.ingest(document_id="a", title="A", text="The guarantee on frames is ten years.")
    passage_store.ingest(document_id="b", title="B", text="Frames come in three colours.")

    found = passage_store.search("warranties for a frame")

    assert [passage.document_id for passage in found] == ["a", "b"]
    assert found[0].score > 2 * found[1].score


def test_the_best_sentence_decides_between_passages_with_the_same_words(passage_store: PassageStore) -> None:
    apart = "A battery is charged in winter, too. Nobody rides then. The warranty is for frames."
    together = "The warranty of the battery is two years. Nobody rides in snow. Frames come in colours."
    passage_store.ingest(document_id="apart", title="A", text=apart)
    passage_store.ingest(document_id="together", title="T", text=together)

    assert [found.document_id for found in passage_store.search("warranty battery")] == ["together", "apart"]


def test_the_titles_are_those_of_documents_that_can_be_cited_the_newest_first(passage_store: PassageStore) -> None:
    for number in range(4):
        passage_store.ingest(document_id=f"d{number}", title=f"Title {number % 3}", text=f"gear {number}")

    assert passage_store.titles(limit=2) == ["Title 0", "Title 2"]


def test_operators_do_not_narrow_a_question(shop: PassageStore) -> None:
    plain = shop.search("puncture refund")

    assert shop.search("puncture NOT refund") == plain
    assert shop.search("puncture & !refund") == plain
    assert shop.search("+puncture -refund") == plain


def test_the_query_treats_no_word_as_an_operator(passage_store: PassageStore, database: Database) -> None:
    passage_store.ingest(document_id="a", title="A", text="The saddle is made of leather.")

    for word in ('chain" OR "saddle', "chain OR saddle", "chain | saddle", "sadd*", "NOT", '"', ")", "a:b", "!chain"):
        with database.reading() as session:
            assert _found(session, word) == [], word
            assert _found(session, word, "leather"), word


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text() | st.lists(st.sampled_from(OPERATORS)).map("".join))
def test_any_text_is_a_valid_question(passage_store: PassageStore, question: str) -> None:
    passage_store.ingest(document_id="a", title="A", text="A bicycle, or near it; not far.")

    for found in passage_store.search(question):
        assert 0 <= found.score <= 1


@settings(
    max_examples=budget(short=30, long=500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda s: s.strip()))
def test_any_text_can_be_stored(passage_store: PassageStore, content: str) -> None:
    assert passage_store.ingest(document_id="any", title="Any", text=content + " marker").passage_count == 1
    assert [found.document_id for found in passage_store.search("marker")] in (["any"], [])


def test_a_very_long_question_is_cut_to_its_first_words(passage_store: PassageStore) -> None:
    passage_store.ingest(document_id="a", title="A", text="gear")
    words = [f"word{number}" for number in range(100_000)]

    assert passage_store.search(" ".join(["gear", *words]))
    assert passage_store.search(" ".join([*words, "gear"])) == []


def test_changed_and_deleted_text_is_no_longer_found(passage_store: PassageStore) -> None:
    passage_store.ingest(document_id="a", title="A", text="velodrome")
    passage_store.ingest(document_id="a", title="A", text="pump track")
    assert passage_store.search("velodrome") == []
    assert passage_store.search("track")

    passage_store.delete("a")
    assert passage_store.search("track") == []


def test_a_document_among_two_thousand_passages_is_found(passage_store: PassageStore) -> None:
    filler = "\n\n".join(f"Paragraph {n}: gears, frames and wheels. " + "Nothing more. " * 45 for n in range(2000))
    assert passage_store.ingest(document_id="large", title="Large", text=filler).passage_count >= 2000
    passage_store.ingest(document_id="needle", title="Needle", text="The bottom bracket of the tandem creaks.")

    begun = time.monotonic()
    found = passage_store.search("the tandem creaks when I change gears", limit=5)

    assert found[0].document_id == "needle"
    assert len(found) == 5
    assert time.monotonic() - begun < 2


def test_a_reader_sees_all_of_the_old_document_or_all_of_the_new(passage_store: PassageStore) -> None:
    versions = [
        "\n\n".join(f"sprocket {word} {n} " + "filling words " * 60 for n in range(40)) for word in ("old", "new")
    ]
    passage_store.ingest(document_id="a", title="A", text=versions[0])

    with _reading_all_the_time(passage_store) as seen:
        for turn in range(1, 21):
            passage_store.ingest(document_id="a", title="A", text=versions[turn % 2])

    assert len(seen) > 1
    assert set(seen) <= {("old", 40), ("new", 40)}


def test_two_writers_of_one_document_leave_one_of_the_two_texts(
    passage_store: PassageStore, database: Database
) -> None:
    texts = [_forty_passages("chain"), _forty_passages("belt")] * 4

    def ingest(content: str) -> bool:
        return passage_store.ingest(document_id="a", title="A", text=content).changed

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(ingest, texts))

    (document,) = stored_documents(database)
    assert document.passage_count == 40
    assert sorted([len(passage_store.search("chain", limit=50)), len(passage_store.search("belt", limit=50))]) == [
        0,
        40,
    ]


def test_a_second_writer_waits_until_the_first_is_done(postgresql_database: Database) -> None:
    passage_store = PassageStore(postgresql_database)
    passage_store.ingest(document_id="a", title="A", text="old saddle")
    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.transaction() as session:
            document = passages.lock_document(session, "a", title="A", now=datetime.now(UTC))
            passages.replace_passages(session, document, [("first saddle", None), ("first chain", None)])
            second = pool.submit(passage_store.ingest, document_id="a", title="A", text="second saddle")
            _wait_until_somebody_waits_for_a_lock(postgresql_database)
        assert second.result(10).changed

    assert [found.text for found in passage_store.search("saddle chain")] == ["second saddle"]


def test_the_index_is_filled_from_the_stored_passages_and_can_be_dropped(
    passage_store: PassageStore, database: Database
) -> None:
    passage_store.ingest(document_id="a", title="A", text="velodrome")
    with database.engine.begin() as connection:
        fulltext.drop_index(connection)
        connection.execute(update(Passage).values(text="pump track"))
        fulltext.create_index(connection)

    assert passage_store.search("track")
    assert passage_store.search("velodrome") == []
    with database.transaction() as session:
        session.execute(update(Passage).values(text="saddle bag"))
    assert passage_store.search("saddle")
    assert passage_store.search("track") == []


def test_only_the_index_differs_between_the_database_and_the_models(database: Database) -> None:
    found = inspect(database.engine)
    tables = {name for name in found.get_table_names() if not fulltext.is_index_object(name)}
    columns = {column["name"] for column in found.get_columns("passages")}

    assert tables - {"laneway_version", "app_version"} == {*Base.metadata.tables, *PlatformBase.metadata.tables}
    assert {name for name in columns if not fulltext.is_index_object(name)} == set(Passage.__table__.columns.keys())


def test_accents_do_not_matter_on_sqlite(sqlite_database: Database) -> None:
    passage_store = PassageStore(sqlite_database)
    passage_store.ingest(document_id="a", title="A", text="Das Café am Velodrom.")

    assert passage_store.search("cafe")
    assert passage_store.search("CAFE\u0301")


def test_the_postgresql_index_is_used(postgresql_database: Database) -> None:
    with postgresql_database.transaction() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = session.execute(text("EXPLAIN SELECT id FROM passages WHERE search @@ plainto_tsquery('english', 'x')"))
        assert fulltext.SEARCH_INDEX in "\n".join(row[0] for row in plan)


def _found(session: Session, *words: str) -> list[FoundPassage]:
    terms = passages.weigh(session, {word: (word,) for word in words})
    return passages.search(session, list(terms.values()), limit=5)


def _wait_until_somebody_waits_for_a_lock(database: Database) -> None:
    deadline = time.monotonic() + 10
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while time.monotonic() < deadline:
        with database.reading() as session:
            if session.scalar(waiting):
                return
    pytest.fail("nobody waits for a lock")


def _forty_passages(beginning: str) -> str:
    return "\n\n".join(f"{beginning} {number} " + "filling words " * 60 for number in range(40))


@contextmanager
def _reading_all_the_time(passage_store: PassageStore) -> Generator[list[tuple[str, int]]]:
    """Search in a thread while the block runs; yields (version, number of passages) of each search."""
    seen: list[tuple[str, int]] = []
    first, stop = threading.Event(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            texts = [found.text for found in passage_store.search("sprocket", limit=50)]
            versions = {content.split()[1] for content in texts}
            seen.append(("+".join(sorted(versions)), len(texts)))
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert first.wait(10)
        yield seen
    finally:
        stop.set()
        reader.join()
