"""The page of decisions: a list of the records in docs/adr."""

from __future__ import annotations

from pathlib import Path


def decisions_page(docs: Path) -> str:
    """The Markdown of the page, with one line per record, the newest first."""
    records = sorted((docs / "adr").glob("*.md"), reverse=True)
    lines = [f"- [{_title(path)}](../adr/{path.name})" for path in records]
    return (
        "# Decisions\n\nEach record says why something was decided, and what was rejected.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _title(path: Path) -> str:
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
