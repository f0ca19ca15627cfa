"""The form of a token: `laneway_`, 40 random letters and digits, and a checksum of 6.

Scanners of secrets find a token by its prefix and tell it from other text by its checksum. So does the platform: it
refuses a mistyped token without a look into the database. The regular expression for a scanner is `SCANNER_PATTERN`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from typing import Final
from zlib import crc32

PREFIX: Final = "laneway_"
ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM: Final = 40
"""Random characters: 238 bits."""
CHECKSUM: Final = 6
SCANNER_PATTERN: Final = rf"\b{PREFIX}[0-9A-Za-z]{{{RANDOM + CHECKSUM}}}\b"
_FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM + CHECKSUM}}}", re.ASCII)


def make_token() -> str:
    """Return a new token."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return PREFIX + random + _checksum(random)


def is_well_formed(token: str) -> bool:
    """Whether a text is a token that was made here, or one with a checksum that is as good."""
    if not _FORM.fullmatch(token):
        return False
    return token[-CHECKSUM:] == _checksum(token[len(PREFIX) : -CHECKSUM])


def digest_of(token: str) -> str:
    """Return what is stored of a token. One round of SHA-256 is enough, because a token has 238 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(random: str) -> str:
    """CRC-32 in base 62, as GitHub's tokens have it."""
    number, digits = crc32(random.encode()), ""
    for _ in range(CHECKSUM):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
