"""What the pages name within a sentence exists: commands with their options, files of the repository, routes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.core.settings import ROOT
from app.main import app
from tests.docs.blocks import PAGES, PARSER, all_blocks
from tests.docs.commands import problems

FILE = re.compile(r"(?:laneway|app|tests|examples|benchmarks|scripts)/[\w./-]+")
ROUTE = re.compile(r"(GET|POST|PUT|DELETE) (/[\w/{}-]+)")
OF_OTHERS = {"/leads", "/contacts", "/hook"}
"""Routes of servers that are not ours: a CRM, a receiver of webhooks."""
PLACE = re.compile(r"\{\w+\}|\b\d+\b")
"""A part of a route that stands for an id."""


def mentions() -> Iterator[tuple[str, str]]:
    """(page, text) of what is written as code within sentences."""
    for page in PAGES:
        for token in PARSER.parse(page.read_text("utf-8")):
            yield from ((page.name, inner.content) for inner in token.children or () if inner.type == "code_inline")


def written_by_pages() -> Iterator[str]:
    """The files that the pages tell a reader to write."""
    for block in all_blocks():
        if "file" in block.notes:
            yield block.notes["file"]


def test_commands_files_and_routes_exist() -> None:
    paths = {PLACE.sub("*", path): item for path, item in app.openapi()["paths"].items()}
    to_be_written = set(written_by_pages())
    wrong: list[str] = []
    found = list(mentions())
    for page, text in found:
        if text.startswith("laneway ") and (unknown := problems(text.replace("…", ""))):
            wrong.append(f"{page}: {unknown[0]}")
        if FILE.fullmatch(text) and text not in to_be_written and not (ROOT / text).exists():
            wrong.append(f"{page}: there is no {text}")
        if (route := ROUTE.match(text)) and route[2] not in OF_OTHERS:
            methods = paths.get(PLACE.sub("*", route[2]), {})
            if route[1].lower() not in methods:
                wrong.append(f"{page}: there is no {text}")

    assert len(found) > 500, "the pages have many mentions"
    assert wrong == []
