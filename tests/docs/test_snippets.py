"""Every snippet of the documentation does what its page says, on one running platform (see tests/docs/blocks.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.settings import ROOT
from tests.docs.blocks import Block, all_blocks, blocks_of
from tests.docs.commands import problems
from tests.docs.data import check_dotenv, check_json, check_toml, check_yaml
from tests.docs.project import DocsProject
from tests.fixtures.platform import Environment
from tests.fixtures.site import running_site

pytestmark = pytest.mark.server

BLOCKS = all_blocks()
DATA = {"toml": check_toml, "yaml": check_yaml, "json": check_json}
UNCLEAR = """# Page

    make up

```
make
```

<!-- not run -->
```bash
make
```

<!-- other: 1 -->
```bash
```
"""
MOST_NOT_RUN = 16
"""A further block that cannot be run needs a reason at the block, and a higher number here."""


@pytest.fixture(scope="module")
def docs_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocsProject]:
    """A running platform whose application has everything that the pages add to it."""
    with running_site(tmp_path_factory.mktemp("docs")) as site:
        project = DocsProject(site)
        try:
            for block in BLOCKS:
                project.write(block)
            project.start()
            yield project
        finally:
            project.close()


def is_run(block: Block) -> bool:
    """Whether this module does something with the block beyond a check of its notes."""
    return block.language != "text" and not {"not run", "tested by"}.intersection(block.notes)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.problem is None, f"{block}: {block.problem}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if "tested by" in block.notes], ids=str)
def test_the_test_of_a_block_names_its_page(block: Block) -> None:
    path = ROOT / block.notes["tested by"]

    assert path.exists(), f"{block}: there is no {block.notes['tested by']}"
    assert block.page in path.read_text("utf-8"), f"{block}: {block.notes['tested by']} does not name {block.page}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in DATA and is_run(block)], ids=str)
def test_data_is_valid(block: Block) -> None:
    DATA[block.language](block)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "dotenv" and is_run(block)], ids=str)
def test_settings_are_valid(block: Block, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    environment()

    check_dotenv(block, monkeypatch)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "commands" in block.notes], ids=str)
def test_commands_exist(block: Block) -> None:
    assert problems(block.text) == []


@pytest.mark.parametrize(
    "block",
    [
        block
        for block in BLOCKS
        if block.language in ("bash", "python") and is_run(block) and "commands" not in block.notes
    ],
    ids=str,
)
def test_a_snippet_runs(block: Block, docs_project: DocsProject) -> None:
    if block.language == "bash":
        docs_project.run_commands(block)
    elif not block.is_part_of_a_file:
        docs_project.run_python(block)


def test_the_application_that_architecture_md_builds_accepts_its_task(docs_project: DocsProject) -> None:
    folder = docs_project.folder / "own-application"
    (folder / "greeter" / "__init__.py").touch()

    accepted = docs_project.run_elsewhere(folder, "laneway", "submit", "greet", "--payload", '{"name": "Ada"}')
    paths = docs_project.run_elsewhere(
        folder, "python", "-c", "from laneway.asgi import app; print(*app.openapi()['paths'])"
    )

    assert accepted.startswith("Accepted: ")
    assert "/tasks/{task_id}" in paths.split()


def test_few_blocks_are_not_run() -> None:
    pages = Counter(block.page for block in BLOCKS if "not run" in block.notes)

    assert pages.total() <= MOST_NOT_RUN, dict(pages)


def test_a_block_without_a_language_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(UNCLEAR, "utf-8")

    found = [(block.line, block.problem) for block in blocks_of(page)]

    assert [line for line, _ in found] == [3, 6, 11, 16]
    assert [str(problem)[:23] for _, problem in found] == [
        "the language 'indented'",
        "the language '' is none",
        "the note `not run` need",
        "the note 'other' is unk",
    ]
