"""The links of the pages that are not in the site lead somewhere; `mkdocs build --strict` checks the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.core.settings import ROOT
from laneway.api.errors import PUBLIC_DETAILS
from tests.docs.blocks import PARSER

OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/pipeline/README.md")


def links(page: Path) -> list[str]:
    """The links of a page to files and headings."""
    tokens = [inner for token in PARSER.parse(page.read_text("utf-8")) for inner in token.children or ()]
    targets = [str(token.attrs["href"]) for token in tokens if token.type == "link_open"]
    return [target for target in targets if "://" not in target]


def headings(page: Path) -> set[str]:
    """The names under which a page's headings can be linked."""
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    page = ROOT / name
    dead: list[str] = []
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            dead.append(link)

    assert dead == []


def test_the_page_on_dependencies_has_what_the_api_answers() -> None:
    page = " ".join((ROOT / "docs" / "when-a-dependency-is-down.md").read_text("utf-8").split())

    assert [detail for detail in PUBLIC_DETAILS.values() if detail not in page] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One title\n[a](other.md) [b](#one-title) [c](https://example.com)\n", "utf-8")

    assert links(page) == ["other.md", "#one-title"]
    assert headings(page) == {"one-title"}
