"""Texts in every common encoding are read as browsers read them; a few broken bytes do not refuse a page."""

from __future__ import annotations

import pytest

from app.services.documents.extraction import errors
from app.services.documents.extraction.encodings import codec_of
from tests.fixtures.reading import read_here


def page(charset: str, text: str, encoding: str) -> bytes:
    return f'<html><meta charset="{charset}"><p>{text}'.encode(encoding)


@pytest.mark.parametrize(
    ("label", "text", "encoding"),
    [
        ("gb2312", "店长朱镕喆说：押金三百元", "gb18030"),
        ("GBK", "押金三百元€", "gb18030"),
        ("x-gbk", "押金", "gb18030"),
        ("big5", "車架保固十年", "big5hkscs"),
        ("x-sjis", "保証期間①は髙い", "cp932"),
        ("Shift_JIS", "保証期間①", "cp932"),
        ("euc-jp", "保証期間", "euc_jp"),
        ("ks_c_5601-1987", "보증 똠방", "cp949"),
        ("euc-kr", "보증 똠방", "cp949"),
        ("tis-620", "รับประกัน…", "cp874"),
        ("iso-8859-1", "Größe „5“ €", "cp1252"),
        ("us-ascii", "Größe", "cp1252"),
        ("iso-8859-9", "Güneş ığ“", "cp1254"),
        ("x-cp1251", "гарантия", "cp1251"),
        ("koi8-ru", "гарантия", "koi8-r"),
        ("x-mac-roman", "Größe", "mac-roman"),
        ("utf-16", "Größe", "utf-8"),
        ("unicode-1-1-utf-8", "Größe", "utf-8"),
    ],
)
def test_a_page_is_read_by_its_label_as_browsers_read_it(label: str, text: str, encoding: str) -> None:
    found = read_here("a.html", page(label, text, encoding))

    assert (found.text, found.problems) == (text, [])


def test_a_page_without_a_suffix_is_known_in_any_encoding() -> None:
    assert read_here("thing", page("gb2312", "押金三百元", "gb18030")).text == "押金三百元"


def test_an_unknown_label_is_told_and_the_page_read_as_utf8() -> None:
    found = read_here("a.html", page("nonsense", "Größe", "utf-8"))

    assert found.text == "Größe"
    assert found.problems == ["its encoding 'nonsense' is not known; it was read as UTF-8"]


@pytest.mark.parametrize("label", ["zlib", "rot13", "hex", "idna\0", "ø", " ", "x" * 4000])
def test_a_label_that_is_no_encoding_is_unknown(label: str) -> None:
    assert codec_of(label) is None


def test_one_bad_byte_is_replaced_and_told() -> None:
    found = read_here("a.txt", b"The warranty lasts eleven years, and the fr\xffame is covered by it for even more.")

    assert "eleven years" in found.text
    assert found.problems == ["a character is broken"]


def test_characters_that_somebody_else_replaced_are_no_problem() -> None:
    assert read_here("a.txt", "fr\ufffdme".encode()).problems == []


def test_a_text_in_another_encoding_is_refused_with_advice() -> None:
    with pytest.raises(errors.NotText, match="name its encoding in content_type"):
        read_here("a.txt", "Größe".encode("cp1252"))

    declared = read_here("a.txt", "Größe".encode("cp1252"), content_type='text/plain; Charset="windows-1252"')
    assert declared.text == "Größe"


def test_the_content_type_comes_before_the_page() -> None:
    content = page("utf-8", "Größe", "cp1252")

    assert read_here("a.html", content, content_type="text/html;charset=windows-1252").text == "Größe"
