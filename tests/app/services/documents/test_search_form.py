"""Words are found in every script, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.documents.passage_store import PassageStore
from app.services.documents.search_form import indexed_form
from app.services.integrations.language.scripts import with_pieces
from laneway.platform.db.session import Database

TEXTS = {
    "chinese-frame": "车架保修期为十一年，刹车片不在保修范围内。",
    "chinese-return": "顾客可以在三十天内退货。退货时请出示收据。运费由顾客承担。",
    "japanese-frame": "フレームの保証期間は11年です。",
    "japanese-return": "返品は30日以内に領収書を添えてお願いします。",
    "korean-frame": "프레임의 보증기간은 십일 년입니다.",
    "korean-return": "반품은 삼십 일 이내에 영수증과 함께 가능합니다.",
    "thai-frame": "เฟรมมีการรับประกันสิบเอ็ดปี",
    "thai-return": "ลูกค้าสามารถคืนสินค้าภายในสามสิบวัน",
    "english": "The ﬁrst certiﬁcate costs ½ crown. The frame has a war-\nranty of ２０ months for iPhone手机 holders.",
}


@pytest.fixture
def store(database: Database) -> PassageStore:
    store = PassageStore(database)
    for id, text in TEXTS.items():
        store.ingest(document_id=id, title=id, text=text)
    return store


@pytest.mark.parametrize(
    ("question", "id"),
    [
        ("车架保修期多长？", "chinese-frame"),
        ("刹车片", "chinese-frame"),
        ("谁承担运费？", "chinese-return"),
        ("フレームの保証は何年ですか", "japanese-frame"),
        ("ﾌﾚｰﾑ", "japanese-frame"),
        ("返品できますか", "japanese-return"),
        ("보증기간이 얼마나 되나요?", "korean-frame"),
        ("반품할 수 있나요?", "korean-return"),
        ("รับประกันกี่ปี", "thai-frame"),
        ("คืนสินค้าได้ไหม", "thai-return"),
        ("certificate", "english"),
        ("certiﬁcates", "english"),
        ("warranty", "english"),
        ("20 months", "english"),
        ("手机", "english"),
        ("iphone", "english"),
        ("机", "english"),
    ],
)
def test_a_question_finds_its_passage_first(store: PassageStore, question: str, id: str) -> None:
    found = store.search(question)

    assert found[0].document_id == id
    assert found[0].score > 0.2


def test_the_passage_is_cited_as_it_is_written(store: PassageStore) -> None:
    assert store.search("刹车片")[0].text == TEXTS["chinese-frame"]
    assert store.search("certificate")[0].text == TEXTS["english"].replace("ﬁ", "fi")


def test_changed_and_deleted_text_in_another_form_is_no_longer_found(store: PassageStore) -> None:
    store.ingest(document_id="chinese-frame", title="t", text="车铃")
    assert [found.document_id for found in store.search("刹车片")] == []
    assert store.search("车铃")
    store.delete("chinese-frame")
    assert store.search("车铃") == []


def test_a_long_question_without_spaces_is_searched_for(store: PassageStore) -> None:
    assert store.search("请问" * 40 + "刹车片")[:0] == []
    assert store.search("刹车片" + "请问一下这个问题的答案是什么" * 20)[0].document_id == "chinese-frame"


def test_plain_text_is_indexed_as_it_is() -> None:
    assert indexed_form("The warranty lasts eleven years.\nÄpfel, naïve; гарантия") is None


@given(st.text())
def test_every_word_of_a_text_that_is_asked_for_is_in_its_indexed_form(text: str) -> None:
    form = indexed_form(text)
    words = set((form if form is not None else text).split())

    asked = set(with_pieces(normalize("NFKC", text)).split())
    assert asked <= words | {word for word in asked if "-" in word}
