"""The command new: writes a small, complete project."""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template
from typing import Annotated, Final

import typer

from laneway.cli.base import out

commands = typer.Typer()

SUFFIX: Final = ".template"
PACKAGE: Final = "package"
"""The template's folder that becomes the package of the project."""
TAKEN: Final = {"tests", "workflows"}
"""Other folders of the project."""


@commands.command()
def new(
    name: Annotated[str, typer.Argument(help="The project's name: the folder to write, and the Python package in it.")],
) -> None:
    """Write a small, complete project.

    It has tasks, a workflow, a schedule, tests, settings and containers. It is written into a new or an empty folder of
    this name, in the current folder.
    """
    check_name(name)
    folder = Path.cwd() / name
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise typer.BadParameter(f"{folder} exists and is not empty: choose another name, or empty it.")
        for path in write_project(folder, name):
            out.print(f"  {name}/{path}")
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or folder} cannot be written: {error.strerror}.") from error
    out.print(f"\nNext: cd {name} && laneway up --reload")


def check_name(name: str) -> None:
    """Refuse a name that cannot be that of a package, or that would hide another one. Raises BadParameter."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        better = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name).lower()
        hint = f", such as {better}" if better.isidentifier() and not keyword.iskeyword(better) else ""
        raise typer.BadParameter(
            f"{name!r} cannot be the name of a Python package: take letters, digits and _, no keyword{hint}."
        )
    if name in sys.stdlib_module_names:
        raise typer.BadParameter(f"{name!r} would hide Python's own module {name}: choose another name.")
    if name in TAKEN or _is_installed(name):
        raise typer.BadParameter(f"{name!r} would hide the installed module {name}: choose another name.")


def write_project(folder: Path, name: str) -> Iterator[PurePosixPath]:
    """Write the files of a project; yields the path of each. Raises OSError."""
    for source, relative in _templates(files("laneway.cli") / "project_template", PurePosixPath()):
        path = PurePosixPath(*(name if part == PACKAGE else part for part in relative.parts))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text("utf-8")).substitute(name=name), "utf-8")
        yield path


def _templates(folder: Traversable, prefix: PurePosixPath) -> Iterator[tuple[Traversable, PurePosixPath]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, prefix / entry.name)
        elif entry.name.endswith(SUFFIX):
            yield entry, prefix / entry.name.removesuffix(SUFFIX)


def _is_installed(name: str) -> bool:
    """Whether Python finds a module of this name outside of the current folder."""
    path = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    return PathFinder.find_spec(name, path) is not None
