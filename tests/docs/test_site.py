"""The documentation site: it is built without a warning, needs no other server, and has the whole reference."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from app.core.settings import ROOT, Settings
from laneway.api.errors import problem_kind
from laneway.platform.errors import QueueFull
from laneway.platform.settings import Group
from scripts.reference.commands_page import every_command
from scripts.reference.python_page import PACKAGES
from scripts.reference.settings_page import descriptions
from tests.fixtures.forked import run_forked

LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\s\">]+)|<link[^>]*\shref=\"?([^\s\">]+)")
DOCS = ROOT / "docs"
PAGES = [
    path.relative_to(DOCS).as_posix()
    for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("adr/*.md"), *DOCS.glob("security/*.md")])
]
READ_WITH_TABLES = MarkdownIt("commonmark").enable("table")
COUNTED = {
    "table_open": "table",
    "fence": "pre",
    "code_block": "pre",
    "bullet_list_open": "ul",
    "ordered_list_open": "ol",
    "list_item_open": "li",
}
"""Token of the Markdown parser → the HTML element that it becomes."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    run("-m", "scripts.reference")
    run("-m", "mkdocs", "build", "--strict", "--site-dir", str(folder))
    return folder


def run(*words: str) -> str:
    """Run Python in the project's folder; it must end well. Returns what it printed."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = run_forked(["python", *words], folder=ROOT, environment=environment)
    assert ended.returncode == 0, f"{' '.join(words)}:\n{ended.output}"
    return ended.output


def openapi_of_a_process_without_the_tests() -> Any:
    """What the API says of itself; this process may know tasks of the tests, too."""
    return json.loads(run("-c", "import json; from app.main import app; print(json.dumps(app.openapi()))"))


def text(site: Path, page: str) -> str:
    """The HTML of a page."""
    return (site / page).read_text("utf-8")


def test_a_page_loads_nothing_from_other_servers(site: Path) -> None:
    pages = {page.relative_to(site).as_posix(): page.read_text("utf-8") for page in site.rglob("*.html")}
    loaded = {name: [script or style for script, style in LOADED.findall(page)] for name, page in pages.items()}
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))

    assert sum(map(len, loaded.values())) > len(pages), "the pattern must find what pages load"
    assert {name: urls for name, found in loaded.items() if (urls := [url for url in found if "//" in url])} == {}
    assert not re.search(r"url\(\"?(?:https?:)?//", styles)


def test_search_works_without_a_server(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text("utf-8").removeprefix("var __index = ")

    found = [entry["location"] for entry in json.loads(index)["docs"] if "TASK_LEASE_SECONDS" in entry["text"]]

    assert any(location.startswith("reference/settings.html") for location in found)
    assert (site / "assets" / "iframe-worker.js").exists()


def test_every_setting_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/settings.html")
    names = [
        field.alias for group in Settings.model_fields.values() for field in group.annotation.model_fields.values()
    ]

    assert len(names) > 80
    assert [name for name in names if f"<code>{name}</code>" not in page] == []


def test_a_setting_without_a_text_is_an_error() -> None:
    class ShopSettings(Group):
        """A group of an application."""

        currency: str = "EUR"
        """The currency of prices."""
        country: str = "AT"

    with pytest.raises(LookupError, match=r"ShopSettings\.country$"):
        descriptions(ShopSettings)


def test_every_command_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/commands.html")
    commands = [context.command_path for _, context in every_command()]

    assert len(commands) > 40
    assert [command for command in commands if f">{command}<" not in page] == []
    assert "--max-in-flight" in page


def test_every_operation_of_the_api_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/http.html")
    api = openapi_of_a_process_without_the_tests()
    operations = [f"{method.upper()} {path}" for path, item in api["paths"].items() for method in item]

    assert len(operations) > 50
    assert [operation for operation in operations if f"<code>{operation}</code>" not in page] == []
    assert [name for name in api["components"]["schemas"] if f'id="{name.lower()}"' not in page] == []


def test_every_public_name_of_python_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/python.html")
    names = [f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__]

    assert [name for name in names if f'id="{name}"' not in page] == []


def test_the_errors_are_in_the_reference_with_status_and_retry(site: Path) -> None:
    page = text(site, "reference/errors.html")

    row = re.search(rf"<tr>\s*<td><code>{problem_kind(QueueFull.__name__)}</code></td>(.*?)</tr>", page, re.DOTALL)

    assert row
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["429", QueueFull.__doc__, "yes"]


@pytest.mark.parametrize("name", PAGES)
def test_the_site_shows_a_page_as_other_readers_of_markdown_do(site: Path, name: str) -> None:
    """Python-Markdown wants an empty line before a list, and four spaces inside of its items, where GitHub does not."""
    page = text(site, name.replace(".md", ".html"))
    article = page[page.index("<article") : page.index("</article>")]
    tokens = READ_WITH_TABLES.parse((DOCS / name).read_text("utf-8"))

    expected = Counter(COUNTED[token.type] for token in tokens if token.type in COUNTED)

    assert {tag: len(re.findall(rf"<{tag}[\s>]", article)) for tag in expected} == dict(expected)
