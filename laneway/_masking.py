"""`masked` hides what may be secret in the addresses of a text, wherever addresses are shown.

1. The login before the host.
2. Values of parameters, in query and fragment, that have the name of a secret or 20 characters or more.
3. Parts of the path that look like secrets (`looks_secret`), or that follow a folder with the name of a secret.

`without_secrets` also hides what stands under the name of a secret in a dict, and `masked_repr` does so in the text of
one, in an error or in a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, cast

HIDDEN: Final = "[redacted]"
LEAST: Final = 16
"""A part of a path with fewer characters is no secret: it could be guessed, or is a word or a number."""
LONGEST_WORD: Final = 20
KNOWN_NAMES, LONGEST_KNOWN = 4096, 64
"""So many names, of at most so many characters, are remembered: most log lines have the same ones."""
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]*@")
_ADDRESS: Final = re.compile(r"(?<=://)[^\s\"'<>]+")
_NAMES: Final = r"token|secret|key|sig|signature|password|auth|code"
_PARAMETER: Final = re.compile(
    rf"([?&#](?:[\w.-]{{0,64}}(?:{_NAMES})=|[\w.-]{{0,64}}=(?=[^&\s#\"']{{20}})))[^&\s#\"']+", re.IGNORECASE
)
_FOLDER: Final = re.compile(r"(?<=/)[^/?#]+")
_NAMED: Final = re.compile(rf"(?:.*[-_.])?(?:{_NAMES})s?", re.IGNORECASE)
_PARTS: Final = re.compile(r"[-_.~:+=%@,;!$*()]+")
SECRET_NAMES: Final = re.compile(
    r"secret|password|token$|api[-_]?key|google_key|authorization|signature|^(kw)?args$", re.IGNORECASE
)
"""Names whose values are hidden. Celery adds the arguments of a failed task to its log lines as `args` and `kwargs`;
they may contain texts of customers and addresses with tokens."""
_NAMED_VALUE: Final = re.compile(
    r"(?:(?:secret|passw(?:or)?d|api[-_]?key|google_key|authorization|signature)[\w.-]{0,64}|token)"
    r"\\?['\"]?[ \t]{0,2}(?::|=(?!=))[ \t]{0,2}(?:(?:bearer|basic)[ ]{1,2})?",
    re.IGNORECASE | re.ASCII,
)
"""The end of the name of a secret, and what stands between it and the value, in Python, JSON, headers and settings."""
_TOKEN: Final = re.compile(
    r"\blaneway_[0-9A-Za-z]{46}\b|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=\b[Bb]earer )[\w.~+/=-]{8,}", re.ASCII
)
"""Tokens of Laneway, JSON Web Tokens, and what follows `Bearer`."""
_HINTS: Final = ("secret", "passw", "token", "key", "authorization", "signature", "bearer", "eyj", "laneway_")
"""In lower case, each text has one of them that the two expressions above find something in."""
_WORD: Final = re.compile(rf"[A-Z]?[a-z]{{1,{LONGEST_WORD}}}|[A-Z]{{1,12}}|v?[0-9]{{1,4}}")


def masked(text: str) -> str:
    """The text, with what may be secret in its addresses hidden."""
    if "://" not in text:
        return text
    return _ADDRESS.sub(lambda found: _masked_address(found[0]), _LOGIN.sub("", text))


def shown_address(url: str) -> str:
    """The address of a server, without its login and its parameters."""
    return masked(url.partition("?")[0])


def without_secrets(value: Any, *, of_text: Callable[[str], str] = masked) -> Any:
    """Return the value with hidden secrets: what stands under the name of a secret, and what `of_text` hides."""
    if isinstance(value, str):
        return of_text(value)
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {
            name: HIDDEN if _is_secret_name(str(name)) else without_secrets(item, of_text=of_text)
            for name, item in items
        }
    if isinstance(value, list):
        return [without_secrets(item, of_text=of_text) for item in cast("list[Any]", value)]
    return value


def _is_secret_name(name: str) -> bool:
    return _is_known_secret(name) if len(name) <= LONGEST_KNOWN else SECRET_NAMES.search(name) is not None


@lru_cache(KNOWN_NAMES)
def _is_known_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


def masked_repr(text: str) -> str:
    """The text of a value, an error or a traceback, with hidden secrets: tokens, and as `without_secrets`."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return masked(text)
    parts, at = list[str](), 0
    for found in _NAMED_VALUE.finditer(text):
        if found.start() >= at and (end := _end_of_value(text, found.end())) > found.end():
            parts += text[at : found.end()], HIDDEN
            at = end
    return masked(_TOKEN.sub(HIDDEN, "".join([*parts, text[at:]])))


def without_login(text: str) -> str:
    """The text without the logins in its addresses."""
    return _LOGIN.sub("", text)


def looks_secret(part: str) -> bool:
    """Whether a part of a path may be a secret: long, with letters, and not made of words and short numbers."""
    if len(part) < LEAST or part.isdigit():
        return False
    return not all(_WORD.fullmatch(each) for each in _PARTS.split(part) if each)


def _masked_address(address: str) -> str:
    ends = [index for mark in "?#" if (index := address.find(mark)) >= 0]
    end = min(ends, default=len(address))
    return _masked_path(address[:end]) + _PARAMETER.sub(rf"\1{HIDDEN}", address[end:])


def _masked_path(path: str) -> str:
    named = False

    def hide(found: re.Match[str]) -> str:
        nonlocal named
        hidden, named = named or looks_secret(found[0]), bool(_NAMED.fullmatch(found[0]))
        return HIDDEN if hidden else found[0]

    return _FOLDER.sub(hide, path)


def _end_of_value(text: str, start: int) -> int:
    """Where a value ends that begins here: before a space, a comma or a closing bracket that is not in it."""
    quote, depth, at = "", 0, start
    while at < len(text):
        character = text[at]
        if quote:
            at += character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}" and depth:
            depth -= 1
        elif not depth and (character in ")]},;&" or character.isspace()):
            break
        at += 1
    return min(at, len(text))
