"""Finds the snippets of the documentation: each block of code in README.md, CONTRIBUTING.md and docs/.

The language of a block says what a test does with it. Comments of Markdown right above a block say more, one a line:

    <!-- not run: REASON -->               nothing is done; the reason is for readers of the source
    <!-- tested by: tests/… -->            another test runs it, and names its page
    <!-- commands -->                      only check that the commands and their options exist
    <!-- exit code: 1 -->                  what the last command ends with
    <!-- until: TEXT -->                   the command runs until it has written this; then it is stopped, and ends well
    <!-- runs on after: TEXT -->           the same, but it is not stopped: what follows needs it
    <!-- a new program -->                 Python starts anew, without what the blocks above have made
    <!-- file: app/greeting.py -->         the block is this file of the project
    <!-- add to FILE after: TEXT -->       the block is added to a file of the project, below a line with this text
    <!-- replace in FILE: TEXT -->         the block takes the place of that line
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.core.settings import ROOT

LANGUAGES: Final = ("bash", "python", "toml", "yaml", "json", "dotenv", "text")
"""What a block may be. `text` is for what nobody can run: a drawing, an output, an HTTP exchange."""
NOTE: Final = re.compile(r"<!-- (?P<name>[^:]+?)(?:: (?P<value>.*?))? -->")
NAMES: Final = re.compile(
    r"not run|tested by|commands|exit code|until|runs on after|a new program|file|add to \S+ after|replace in \S+"
)
PARSER: Final = MarkdownIt("commonmark").enable("table")
DOCS: Final = ROOT / "docs"
PAGES: Final = (
    ROOT / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "security").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
)
"""In the order of the tests: CONTRIBUTING.md drafts a migration, which no other page could use."""


@dataclass(frozen=True)
class Block:
    """One block of code. `line` is that of its first line in the page."""

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def problem(self) -> str | None:
        """What is wrong with its language or notes."""
        if self.language not in LANGUAGES:
            return f"the language {self.language!r} is none of {', '.join(LANGUAGES)}: begin the block with ```bash, …"
        unknown = [name for name in self.notes if not NAMES.fullmatch(name)]
        if unknown:
            return f"the note {unknown[0]!r} is unknown: see tests/docs/blocks.py"
        if self.notes.get("not run") == "":
            return "the note `not run` needs a reason"
        return None

    @property
    def is_part_of_a_file(self) -> bool:
        """Whether the block is a file of the project, or is added to one."""
        return any(name.startswith(("file", "add to ", "replace in ")) for name in self.notes)


def all_blocks() -> list[Block]:
    """Every block, page by page, in the order of the pages."""
    return [block for page in PAGES for block in blocks_of(page)]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page."""
    notes: dict[str, str] = {}
    for token in PARSER.parse(page.read_text("utf-8")):
        if token.type in ("fence", "code_block"):
            yield _block(page, token, notes)
        if token.type == "html_block":
            notes |= {note["name"]: note["value"] or "" for note in NOTE.finditer(token.content)}
        else:
            notes = {}


def _block(page: Path, token: Token, notes: dict[str, str]) -> Block:
    assert token.map, "blocks have lines"
    first = token.map[0] + (2 if token.type == "fence" else 1)
    language = token.info.strip() if token.type == "fence" else "indented"
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    return Block(name, first, language, token.content, notes)
