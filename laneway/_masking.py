"""`masked` hides what may be secret in the addresses of a text, wherever addresses are shown.

1. The login before the host.
2. Values of parameters, in query and fragment, that have the name of a secret or 20 characters or more.
3. Parts of the path that look like secrets (`looks_secret`), or that follow a folder with the name of a secret.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "[redacted]"
LEAST: Final = 16
"""A part of a path with fewer characters is no secret: it could be guessed, or is a word or a number."""
LONGEST_WORD: Final = 20
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]*@")
_ADDRESS: Final = re.compile(r"(?<=://)[^\s\"'<>]+")
_NAMES: Final = r"token|secret|key|sig|signature|password|auth|code"
_PARAMETER: Final = re.compile(
    rf"([?&#](?:[\w.-]{{0,64}}(?:{_NAMES})=|[\w.-]{{0,64}}=(?=[^&\s#\"']{{20}})))[^&\s#\"']+", re.IGNORECASE
)
_FOLDER: Final = re.compile(r"(?<=/)[^/?#]+")
_NAMED: Final = re.compile(rf"(?:.*[-_.])?(?:{_NAMES})s?", re.IGNORECASE)
_PARTS: Final = re.compile(r"[-_.~:+=%@,;!$*()]+")
_WORD: Final = re.compile(rf"[A-Z]?[a-z]{{1,{LONGEST_WORD}}}|[A-Z]{{1,12}}|v?[0-9]{{1,4}}")


def masked(text: str) -> str:
    """The text, with what may be secret in its addresses hidden."""
    if "://" not in text:
        return text
    return _ADDRESS.sub(lambda found: _masked_address(found[0]), _LOGIN.sub("", text))


def shown_address(url: str) -> str:
    """The address of a server, without its login and its parameters."""
    return masked(url.partition("?")[0])


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
