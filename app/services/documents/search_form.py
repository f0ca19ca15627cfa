"""The form in which passages are indexed, the same for every database; questions are divided in the same way.

- Compatibility characters become plain ones (Unicode NFKC): "½" and "ﬁ", full-width letters, half-width katakana.
- Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese have no spaces between words, or endings on them. Their runs
  become overlapping pieces: 保修期 is indexed as 保, 修, 期, 保修 and 修期, and asked for as 保修 and 修期.
- A word that is divided at the end of a line is indexed as one word, too.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

from app.services.integrations.language.scripts import with_pieces

_DIVIDED: Final = re.compile(r"([^\W\d_]{2,})[-\u2010\u00ac]\n\s*([^\W\d_]{2,})")


def indexed_form(text: str) -> str | None:
    """The text as it is indexed; None if that is the text itself."""
    form = with_pieces(_DIVIDED.sub(r"\1-\2 \1\2", normalize("NFKC", text)), shorter=True)
    return None if form == text else form
