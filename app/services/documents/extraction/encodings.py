"""The encodings of texts: by byte order mark, by declaration, or UTF-8.

A declaration is read as browsers read it (WHATWG, Encoding): many labels mean a larger encoding than their own
standard. A page that says "gb2312" has characters of GBK, and one that says "iso-8859-1" has those of cp1252.
"""

from __future__ import annotations

import codecs
from typing import Final

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks. Those of UTF-32 come first, because one of them begins like one of UTF-16."""

_LABELS: Final = {
    **dict.fromkeys(("unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8", "utf8mb4"), "utf-8"),
    **dict.fromkeys(("utf-16", "utf-16le", "utf-16be", "unicode", "ucs-2", "iso-10646-ucs-2", "csunicode"), "utf-8"),
    **dict.fromkeys(("chinese", "csgb2312", "csiso58gb231280", "gb_2312", "gb_2312-80", "x-gbk"), "gb18030"),
    **dict.fromkeys(("big5-hkscs", "cn-big5", "csbig5", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("x-sjis", "windows-31j", "ms932", "ms_kanji", "csshiftjis", "shift-jis"), "cp932"),
    **dict.fromkeys(("x-euc-jp", "cseucpkdfmtjapanese"), "euc_jp"),
    **dict.fromkeys(("cseuckr", "csksc56011987", "korean", "ks_c_5601-1989", "ksc5601", "windows-949"), "cp949"),
    **dict.fromkeys(("dos-874", "windows-874", "tis620"), "cp874"),
    **dict.fromkeys(("x-mac-roman", "macintosh", "mac", "csmacintosh"), "mac-roman"),
    **dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac-cyrillic"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "logical", "visual"), "iso8859-8"),
    **dict.fromkeys(("koi8-ru", "koi", "koi8"), "koi8-r"),
    **{f"x-cp125{number}": f"cp125{number}" for number in range(9)},
    "x-user-defined": "cp1252",
}
"""Labels of the web that Python does not know, or knows otherwise. A UTF-16 page without a mark is really UTF-8,
because its declaration could be read."""
_WIDER: Final = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-16": "utf-8",
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
    "utf-32": "utf-8",
    "utf-7": "utf-8",
}
"""Python's codecs, and the encoding in which such pages are written."""


def codec_of(label: str) -> str | None:
    """The name of the codec that reads texts with this label; None for a label that nobody knows."""
    label = label.strip().strip("\"'").lower()
    if label in _LABELS:
        return _LABELS[label]
    try:
        codec = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    if not codec._is_text_encoding:  # such as "zlib" and "rot13"
        return None
    return _WIDER.get(codec.name, codec.name)


def mark_of(content: bytes) -> tuple[bytes, str] | None:
    """The byte order mark with which the content begins, and its encoding."""
    return next(((mark, name) for mark, name in MARKS if content.startswith(mark)), None)
