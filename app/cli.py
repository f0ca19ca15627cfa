"""The commands that the application adds to `laneway`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app import webhook_commands
from laneway.cli.base import make_services, out, read_settings, say_error

if TYPE_CHECKING:
    from app.core.settings import Settings
    from app.services.container import Services


def add_commands(cli: typer.Typer) -> None:
    """Add the application's commands to the command line."""
    cli.command()(demo)
    cli.command()(ingest)
    cli.add_typer(webhook_commands.commands)


def demo() -> None:
    """Send real work through the running platform and show the results; start a platform if none runs."""
    settings = cast("Settings", read_settings())
    from app.demo import run

    raise typer.Exit(run(settings, out))


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="PDF, Word, HTML, Markdown or text files, or folders of them.")],
) -> None:
    """Add documents that replies may cite. A document with the same name is replaced."""
    services, refused = cast("Services", make_services()), 0
    from laneway.platform.errors import PermanentError

    for path in documents_in(paths):
        try:
            document = services.documents.ingest_file(path)
        except PermanentError as error:
            refused += 1
            say_error(str(error))
            continue
        passages = "1 passage" if document.passage_count == 1 else f"{document.passage_count} passages"
        out.print(f"{document.document_id}: {passages}" + ("" if document.changed else " (unchanged)"))
        for problem in document.problems:
            say_error(f"{document.document_id}: {problem}")
    if refused:
        raise typer.Exit(1)


def documents_in(paths: Iterable[Path]) -> Iterator[Path]:
    """The given files, and the readable files in the given folders."""
    from app.services.documents.extraction.kinds import SUFFIXES

    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        else:
            yield path
