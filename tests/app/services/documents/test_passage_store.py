"""Documents are stored, split and deleted; `test_fulltext_search.py` tests the search."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.settings import ROOT
from app.services.documents.extraction import errors
from app.services.documents.extraction.splitting import split
from app.services.documents.passage_store import IngestResult, PassageStore
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PermanentError
from tests.fixtures.document_desk import stored_documents

EXAMPLES = ROOT / "examples" / "documents"


@pytest.fixture
def passage_store(database: Database) -> PassageStore:
    return PassageStore(database)


def test_a_document_is_stored_once_and_the_same_text_again_changes_nothing(
    passage_store: PassageStore, database: Database
) -> None:
    first = passage_store.ingest(document_id="a", title="A", text="One.")
    (before,) = stored_documents(database)
    again = passage_store.ingest(document_id="a", title="A", text="One.\r\n")

    assert first == IngestResult("a", "A", passage_count=1, changed=True)
    assert again == IngestResult("a", "A", passage_count=1, changed=False)
    (after,) = stored_documents(database)
    assert (after.digest, after.updated_at) == (before.digest, before.updated_at)


def test_a_new_text_or_title_replaces_the_old_one(passage_store: PassageStore, database: Database) -> None:
    passage_store.ingest(document_id="a", title="A", text="One.")

    assert passage_store.ingest(document_id="a", title="B", text="One.").changed
    assert passage_store.ingest(document_id="a", title="B", text="Two.").changed
    (document,) = stored_documents(database)
    assert (document.title, document.passage_count) == ("B", 1)


def test_deleting_an_unknown_document_is_an_error(passage_store: PassageStore, database: Database) -> None:
    passage_store.ingest(document_id="a", title="A", text="One.")
    passage_store.delete("a")

    assert stored_documents(database) == []
    with pytest.raises(NotFound, match="document 'a'"):
        passage_store.delete("a")


@pytest.mark.parametrize("name", ["returns-and-refunds.md", "shipping-and-delivery.md", "warranty-and-repairs.md"])
def test_an_example_document_is_stored_under_its_name_and_heading(passage_store: PassageStore, name: str) -> None:
    result = passage_store.ingest_file(EXAMPLES / name)

    assert result.document_id == name
    assert result.title == name.removesuffix(".md").replace("-", " ").capitalize()
    assert result.passage_count >= 5


def test_a_text_file_without_a_heading_is_named_after_itself(passage_store: PassageStore, tmp_path: Path) -> None:
    path = tmp_path / "Opening hours.TXT"
    path.write_text("\ufeffWe are open on Sunday.", encoding="utf-8")

    assert passage_store.ingest_file(path).title == "Opening hours"
    assert passage_store.search("sunday")[0].text == "We are open on Sunday."


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("missing.md", None, errors.DocumentMissing),
        ("picture.png", b"x", errors.UnsupportedDocument),
        ("no-ending", b"x", errors.UnsupportedDocument),
        ("empty.md", b"", errors.DocumentEmpty),
        ("blank.txt", b" \n\t\n", errors.DocumentEmpty),
        ("latin.txt", "Größe".encode("latin-1"), errors.NotText),
        ("binary.txt", b"PK\x03\x04\x00\x00", errors.NotText),
        ("large.txt", b"a" * (10 * 1024 * 1024 + 1), errors.DocumentTooLarge),
    ],
)
def test_an_unusable_file_is_refused_by_name(
    passage_store: PassageStore,
    database: Database,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    error: type[PermanentError],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(error, match=name) as refused:
        passage_store.ingest_file(tmp_path / name)

    assert stored_documents(database) == []
    assert not refused.value.retryable
    assert str(tmp_path) not in str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301


def test_a_folder_is_not_a_document(passage_store: PassageStore, tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()

    with pytest.raises(errors.DocumentMissing):
        passage_store.ingest_file(tmp_path / "folder.md")


@pytest.mark.parametrize("text", ["", " \n ", "a\0b", "a\ud800b"])
def test_a_text_that_cannot_be_stored_is_refused(passage_store: PassageStore, text: str) -> None:
    with pytest.raises((errors.DocumentEmpty, errors.NotText)):
        passage_store.ingest(document_id="a", title="A", text=text)


@pytest.mark.parametrize(
    ("document_id", "title"), [("", "A"), ("a" * 201, "A"), ("a\0", "A"), ("a\n", "A"), ("a", ""), ("a", "A" * 301)]
)
def test_a_bad_name_is_refused(passage_store: PassageStore, document_id: str, title: str) -> None:
    with pytest.raises(errors.BadDocumentName):
        passage_store.ingest(document_id=document_id, title=title, text="Text.")


def test_a_refused_replacement_leaves_the_document_as_it_was(passage_store: PassageStore) -> None:
    passage_store.ingest(document_id="a", title="A", text="A saddle.")

    with pytest.raises(errors.DocumentEmpty):
        passage_store.ingest(document_id="a", title="A", text=" ")

    assert passage_store.search("saddle")


def test_a_large_document_is_stored(passage_store: PassageStore) -> None:
    text = "A sentence about bicycles and their wheels. " * 23_000

    assert 1_000 < passage_store.ingest(document_id="a", title="A", text=text).passage_count < 2_000


def test_a_passage_ends_at_a_heading_and_begins_with_it() -> None:
    section = "A sentence of some length that says something. " * 8

    passages = split(f"# Title\n\n## First\n{section}\n## Second\n{section}")

    assert [passage[: passage.index("A sentence")] for passage in passages] == [
        "# Title\n\n## First\n\n",
        "## Second\n\n",
    ]


def test_a_long_section_repeats_its_heading_and_is_cut_between_sentences() -> None:
    passages = split("## Wheels\n\n" + "This sentence is about wheels and rims and spokes. " * 60)

    assert len(passages) > 2
    assert all(passage.startswith("## Wheels\n\nThis sentence") and passage.endswith(".") for passage in passages)
    assert all(600 <= len(passage) <= 900 for passage in passages[:-1])


def test_paragraphs_are_kept_whole_while_the_passage_is_long_enough() -> None:
    paragraph = ("Spokes and rims. " * 20).strip()

    assert split("\n\n".join([paragraph] * 4)) == ["\n\n".join([paragraph] * 2)] * 2


def test_short_sections_share_a_passage() -> None:
    text = "# A\n\nShort.\n\n## B\n\nShort too.\n\n- one\n- two"

    assert split(text) == [text]


def test_a_comment_in_a_code_block_is_no_heading() -> None:
    text = "# A\n\n```\n# not a heading\n```\n\n" + "Words and more words. " * 60

    assert all(passage.startswith("# A\n\n") for passage in split(text))


def test_a_text_without_any_boundary_is_cut_as_well() -> None:
    assert [len(passage) for passage in split("x" * 2000)] == [778, 778, 444]
    assert split("") == []


@given(text=st.text(st.sampled_from("ab #.!\n-`~1)\t…é"), max_size=3000) | st.text())
def test_no_word_is_lost_and_no_passage_is_too_long(text: str) -> None:
    passages = split(text)

    assert all(0 < len(passage) <= 900 for passage in passages)
    short_words = {word for word in text.split() if len(word) < 100 and not word.startswith("#")}
    assert short_words <= {word for passage in passages for word in passage.split()} or "#" in text


def test_a_long_text_without_spaces_is_divided_between_its_sentences() -> None:
    text = "车架保修期为十一年。“刹车片不在保修范围内！”顾客可以退货吗？" * 60
    pieces = split(text)

    assert len(pieces) > 1
    assert "".join(pieces) == text
    assert all(piece.endswith(("。", "！”", "？")) for piece in pieces)
