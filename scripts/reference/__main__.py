"""Write the reference: `python -m scripts.reference` makes docs/reference, which is not kept in the repository."""

from __future__ import annotations

import sys
from typing import Final

from app.core.settings import ROOT
from scripts.reference.commands_page import commands_page
from scripts.reference.decisions_page import decisions_page
from scripts.reference.http_page import http_page
from scripts.reference.problems_page import problems_page
from scripts.reference.python_page import python_page
from scripts.reference.settings_page import settings_page

PAGES: Final = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "http.md": http_page,
    "errors.md": problems_page,
    "python.md": python_page,
    "decisions.md": lambda: decisions_page(ROOT / "docs"),
}


def main() -> None:
    """Write each page whose text has changed. Raises LookupError for a setting without a text."""
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        text = write()
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
